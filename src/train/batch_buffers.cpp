#include "src/train/batch_buffers.h"

#include <algorithm>
#include <bit>

#include "kernels/attention.h"
#include "src/model/device_memory.h"

namespace tll {

void BatchBuffers::place(Arena& arena, Arena* staging, int64_t tokens) {
  const auto both = [&](int32_t*& device, int32_t*& host, const std::string& name, int64_t n) {
    arena.place(device, name, {n}, Category::activations);
    host = device;
    if (staging) staging->place(host, name, {n}, Category::activations);
  };
  both(tokens_, view.tokens, "batch.tokens", tokens);
  both(targets_, view.targets, "batch.targets", tokens);
  both(positions_, view.positions, "batch.positions", tokens);
  both(cu_seqlens_, view.cu_seqlens, "batch.cu_seqlens", staging ? 2 * tokens + 1 : tokens + 1);
  const auto key = [](Arena& a) {
    return static_cast<uint64_t*>(a.place_bytes("batch.dropout_key", {sizeof(uint64_t)}, DType::u8, Category::activations));
  };
  key_ = key(arena);
  host_key_ = staging ? key(*staging) : key_;
}

BatchBuffers::~BatchBuffers() {
  if (copied_) cuda_close_event(device_, copied_);
}

void BatchBuffers::wait(const Device& device) {
  if (copied_) cuda_wait_event(device, copied_);
}

Batch BatchBuffers::upload(const Device& device, int64_t capacity, uint64_t dropout_key) {
  constexpr int64_t kMultiple = 64;
  const auto round_up = [&](int64_t n) {
    return static_cast<int>(std::min(capacity, (n + kMultiple - 1) / kMultiple * kMultiple));
  };
  const int n = round_up(std::max(view.token_count, 1));  // a pass without tokens takes a document of padding
  Batch batch{n, view.documents, tokens_, targets_, positions_, cu_seqlens_};
  if (n > view.token_count) view.cu_seqlens[++batch.docs] = n;  // the padding that is kept is a document of its own
  for (int d = 0; d < view.documents; d++)
    if (const int first = rope_.first_row(view.cu_seqlens[d + 1] - view.cu_seqlens[d]); first > 0)
      for (int i = view.cu_seqlens[d]; i < view.cu_seqlens[d + 1]; i++) view.positions[i] += first;
  batch.pairs = visible_pairs(view.cu_seqlens, batch.docs, 0);
  batch.window_pairs = visible_pairs(view.cu_seqlens, batch.docs, window_);
  *host_key_ = dropout_key;
  if (dropout_key != 0) batch.dropout_key = key_;
  batch.read = RowsRead::targets, batch.target_rows = view.target_count;
  if (on_host(device)) return batch;
  // Few different shapes make few graphs. The number of documents is rounded up to a power of two with empty ones at the end.
  batch.target_rows = round_up(view.target_count);
  const int documents = static_cast<int>(std::bit_ceil(static_cast<unsigned>(batch.docs)));
  std::fill(view.cu_seqlens + batch.docs + 1, view.cu_seqlens + documents + 1, n);
  batch.docs = documents;
  if (!copied_) device_ = device, copied_ = cuda_open_event(device);
  const size_t bytes = static_cast<size_t>(n) * sizeof(int32_t);
  tll::upload(device, tokens_, view.tokens, bytes);
  tll::upload(device, targets_, view.targets, bytes);
  tll::upload(device, positions_, view.positions, bytes);
  tll::upload(device, cu_seqlens_, view.cu_seqlens, (static_cast<size_t>(documents) + 1) * sizeof(int32_t));
  tll::upload(device, key_, host_key_, sizeof(uint64_t));
  cuda_record_event(device, copied_);
  return batch;
}

Batch BatchBuffers::full(int rows, int length) const {
  const int32_t one[] = {0, length};
  return {.N = rows * length,
          .docs = rows,
          .tokens = tokens_,
          .targets = targets_,
          .positions = positions_,
          .cu_seqlens = cu_seqlens_,
          .read = RowsRead::targets,
          .target_rows = rows * length,
          .pairs = rows * visible_pairs(one, 1, 0),
          .window_pairs = rows * visible_pairs(one, 1, window_),
          .dropout_key = key_};
}

}  // namespace tll
