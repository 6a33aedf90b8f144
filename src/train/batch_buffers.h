// A batch on its way from the loader to the device.
#pragma once

#include "data/loader.h"
#include "src/model/arena.h"
#include "src/model/model_options.h"
#include "src/model/rope_frequencies.h"

namespace tll {

// Room for one batch of the loader. `view` is in memory of the host, where the loader fills it. With CUDA there is a copy on the
// device.
class BatchBuffers {
 public:
  BatchView view;
  BatchBuffers() = default;
  // Of a model whose longest documents have so many positions: upload() makes rows of its RoPE table of `view.positions`.
  BatchBuffers(const LlamaConfig& config, int max_positions)
      : rope_(rope_rows(config, max_positions)), window_(config.any_window()) {}
  // `staging`: pinned memory of the host beside a CUDA device; null on the CPU, where there is one copy.
  void place(Arena& arena, Arena* staging, int64_t tokens);
  ~BatchBuffers();
  // Waits until the device has its copy of the last batch, so that `view` may be filled again.
  void wait(const Device& device);
  // The batch on the device (enqueued). N is the number of real tokens, rounded up to a multiple of 64 but at most `capacity`:
  // most of the padding is cut off, and the shapes of GEMMs repeat from step to step. Rows with a target are read
  // (RowsRead::targets). dropout_key 0: no dropout.
  Batch upload(const Device& device, int64_t capacity, uint64_t dropout_key = 0);
  // The batch of a dry run: `rows` documents of `length` tokens each, all of them targets.
  Batch full(int rows, int length) const;

 private:
  int32_t *tokens_ = nullptr, *targets_ = nullptr, *positions_ = nullptr, *cu_seqlens_ = nullptr;  // of the device
  uint64_t *key_ = nullptr, *host_key_ = nullptr;                                                  // (1)
  RopeRows rope_;
  int window_ = 0;
  Device device_;
  void* copied_ = nullptr;  // CUDA: the event after the last copy
};

}  // namespace tll
