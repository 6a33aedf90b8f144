// The residual stream between the blocks of a training pass: kept on the device, or with `offload` in pinned memory of the host.
//
// Offloaded (with full recomputation, which keeps nothing else; ZeRO-Offload: Ren et al. 2021), the device has three buffers, and
// resid(l) lies in number l mod 3. In the forward pass each is copied to the host as soon as it is written, while the blocks that
// follow are computed. In the backward pass, resid(l-2) is copied back while block l is computed. The last three need no copies.
#pragma once

#include <array>
#include <vector>

#include "src/files/config.h"
#include "src/model/arena.h"
#include "src/model/device_memory.h"
#include "src/model/model_options.h"

namespace tll {

template <class Float>
class ResidualStream {
 public:
  ResidualStream(const LlamaConfig& config, const ModelOptions& options);
  ~ResidualStream();
  ResidualStream(const ResidualStream&) = delete;
  ResidualStream& operator=(const ResidualStream&) = delete;

  // `staging`: pinned memory of the host beside a CUDA device; needed where it is offloaded.
  void place(Arena& arena, Arena* staging);

  // (N, C)  before block l; l = L: after the last.
  Float* at(int l) const { return resid_[static_cast<size_t>(l)]; }
  // Enqueued, around what writes resid(l) in the forward pass, and before block l of the backward pass. `first`: the lowest block
  // that the backward pass will run. Without offloading they do nothing.
  void before_write(const Device& device, int l, int first);
  void after_write(const Device& device, int l, int first, int N);
  void before_backward(const Device& device, int l, int first, int N);

 private:
  static constexpr int kBuffers = 3;
  int offloaded() const { return offload_ ? layers_ + 1 - kBuffers : 0; }  // resid(0) … resid(offloaded()-1) go to the host
  Float* on_host(int l) const { return host_ + l * tokens_ * hidden_; }
  void* copied(int l) const { return copied_[static_cast<size_t>(l % kBuffers)]; }
  Device copies_after(const Device& device);  // the copy stream, after what the device's stream has got
  void open(const Device& device);

  int layers_;
  int64_t tokens_, hidden_;
  bool offload_;
  std::vector<Float*> resid_;  // (L + 1)
  Float* host_ = nullptr;      // (offloaded(), N, C)
  Device device_;
  void* reached_ = nullptr;               // event: where the device's stream is
  std::array<void*, kBuffers> copied_{};  // events: the last copy from or to each buffer
};

}  // namespace tll
