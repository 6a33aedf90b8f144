// A batch on its way from the loader to the device.
#pragma once

#include "data/loader.h"
#include "src/model/arena.h"
#include "src/model/model_options.h"

namespace tll {

// Room for one batch of the loader: `view` is the host's, for the loader to fill; on a CUDA device there is a copy on the device.
class BatchBuffers {
 public:
  BatchView view;
  // `staging` is memory of the host beside a CUDA device, null on the CPU, where there is one copy.
  void place(Arena& arena, Arena* staging, int64_t tokens);
  ~BatchBuffers();
  // Waits until the device has its copy of the last batch, and view may change.
  void wait(const Device& device);
  // The batch without the padding behind it, on the device (enqueued). Rounded up to a few padding tokens, so that the shapes of
  // products repeat from step to step. dropout_key 0: no dropout.
  Batch used(const Device& device, int64_t capacity, uint64_t dropout_key = 0);

 private:
  int32_t *tokens_ = nullptr, *targets_ = nullptr, *positions_ = nullptr, *cu_seqlens_ = nullptr;  // of the device
  uint64_t *key_ = nullptr, *host_key_ = nullptr;                                                  // (1)
  Device device_;
  void* copied_ = nullptr;  // CUDA: the event after the last copy
};

}  // namespace tll
