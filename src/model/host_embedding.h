// The token embedding in memory of the host beside a GPU: a pass reads few of its rows, so the table need not lie on the device.
// The host gathers the rows of a batch and sends them; the pass itself then has no embedding to do.
#pragma once

#include "src/model/arena.h"
#include "src/model/device_memory.h"
#include "src/model/weight.h"

namespace tll {

template <class Float>
class HostEmbedding {
 public:
  HostEmbedding() = default;
  ~HostEmbedding();
  HostEmbedding(const HostEmbedding&) = delete;
  HostEmbedding& operator=(const HostEmbedding&) = delete;

  // `table` (V, C) lies in memory of the host. Room for `rows` rows at once, pinned.
  void place(Arena& staging, const Weight& table, int rows);
  bool used() const { return table_ != nullptr; }
  // Enqueued: out (N, C), in the device's memory, from the table and tokens (N), in the host's.
  void send(const Device& device, Float* out, const int32_t* tokens, int N);

 private:
  const Weight* table_ = nullptr;
  Float* rows_ = nullptr;  // (rows, C)
  Device device_;
  void* sent_ = nullptr;  // event: the last copy
};

}  // namespace tll
