#include "src/model/host_embedding.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
HostEmbedding<Float>::~HostEmbedding() {
  if (sent_) cuda_close_event(device_, sent_);
}

template <class Float>
void HostEmbedding<Float>::place(Arena& staging, const Weight& table, int rows) {
  table_ = &table;
  staging.place(rows_, "embed.rows", {rows, table.cols}, Category::activations);
}

template <class Float>
void HostEmbedding<Float>::send(const Device& device, Float* out, const int32_t* tokens, int N) {
  if (device.dry) return upload(device, out, rows_, static_cast<size_t>(N * table_->cols) * sizeof(Float));
  if (!sent_) device_ = device, sent_ = cuda_open_event(device);
  cuda_wait_event(device, sent_);
  const int64_t C = table_->cols;
  with_storage_type(table_->dtype, [&](auto type) {
    const auto* table = static_cast<const decltype(type)*>(table_->data);
    parallel_for(N, 2 * C, [&](int64_t n) {
      for (int64_t c = 0; c < C; c++)
        rows_[n * C + c] = from_acc<Float>(static_cast<acc_t<Float>>(to_acc(table[tokens[n] * C + c])));
    });
  });
  upload(device, out, rows_, static_cast<size_t>(N * C) * sizeof(Float));
  cuda_record_event(device, sent_);
}

template class HostEmbedding<float>;
template class HostEmbedding<bf16>;
template class HostEmbedding<half>;
template class HostEmbedding<double>;
template class HostEmbedding<complex>;

}  // namespace tll
