#include "src/model/residual_stream.h"

namespace tll {

template <class Float>
ResidualStream<Float>::ResidualStream(const LlamaConfig& config, const ModelOptions& options)
    : layers_(config.layers),
      tokens_(options.max_tokens),
      hidden_(config.hidden),
      offload_(options.offload_activations && options.device == DeviceKind::cuda && options.recompute == Recompute::full &&
               config.layers >= kBuffers),
      resid_(static_cast<size_t>(config.layers) + 1) {}

template <class Float>
ResidualStream<Float>::~ResidualStream() {
  for (void* event : {reached_, copied_[0], copied_[1], copied_[2]})
    if (event) close_event(device_, event);
}

template <class Float>
void ResidualStream<Float>::place(Arena& arena, Arena* staging) {
  for (int l = 0; l <= layers_; l++) {
    if (offload_ && l >= kBuffers)
      resid_[static_cast<size_t>(l)] = at(l - kBuffers);
    else
      arena.place(resid_[static_cast<size_t>(l)], "resid." + std::to_string(l), {tokens_, hidden_}, Category::activations,
                  {l == 0 ? StepPhase::batch : StepPhase::forward_attention, StepPhase::backward_qkv});
  }
  if (offloaded() == 0) return;
  TLL_CHECK(staging, "offloading needs memory of the host");
  staging->place(host_, "resid", {offloaded(), tokens_, hidden_}, Category::activations);
}

template <class Float>
void ResidualStream<Float>::open(const Device& device) {
  if (reached_) return;
  device_ = device;
  reached_ = open_event(device);
  for (void*& event : copied_) event = open_event(device);
}

template <class Float>
Device ResidualStream<Float>::copies_after(const Device& device) {
  open(device);
  record_event(device, reached_);
  const Device copies = on_copy_stream(device);
  come_after(copies, reached_);
  return copies;
}

// Its buffer holds resid(l-3), which must have reached the host.
template <class Float>
void ResidualStream<Float>::before_write(const Device& device, int l, int first) {
  if (l - kBuffers >= first && l - kBuffers < offloaded()) come_after(device, copied(l));
}

template <class Float>
void ResidualStream<Float>::after_write(const Device& device, int l, int first, int N) {
  if (l < first || l >= offloaded()) return;
  const Device copies = copies_after(device);
  download(copies, on_host(l), at(l), static_cast<size_t>(N * hidden_) * sizeof(Float));
  record_event(copies, copied(l));
}

// The buffer of resid(l-2) is that of resid(l+1), which the backward pass has left.
template <class Float>
void ResidualStream<Float>::before_backward(const Device& device, int l, int first, int N) {
  if (const int next = l - 2; next >= first && next < offloaded()) {
    const Device copies = copies_after(device);
    upload(copies, at(next), on_host(next), static_cast<size_t>(N * hidden_) * sizeof(Float));
    record_event(copies, copied(next));
  }
  if (l < offloaded()) come_after(device, copied(l));
}

template class ResidualStream<float>;
template class ResidualStream<bf16>;
template class ResidualStream<half>;
template class ResidualStream<double>;
template class ResidualStream<complex>;

}  // namespace tll
