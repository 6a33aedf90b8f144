// Moves weights to the device. On the CPU they are written straight to their place. With CUDA they go in pieces through two
// buffers of pinned memory: one piece is made while the one before it is copied.
#pragma once

#include <array>
#include <functional>

#include "src/model/arena.h"
#include "src/model/device_memory.h"

namespace tll {

class WeightStream {
 public:
  static constexpr int64_t kPieceBytes = 16 << 20;
  ~WeightStream();
  // Places the buffers in pinned memory of the host. With CUDA only.
  void place(Arena& staging);
  // `to`: count elements of `bytes` each, in memory of the device. make(piece, first, n) fills n of them, from element `first`
  // on.
  void send(const Device& device, void* to, int64_t count, size_t bytes,
            const std::function<void(void* piece, int64_t first, int64_t n)>& make);
  // Waits until everything sent has arrived.
  void finish(const Device& device);

 private:
  std::array<std::byte*, 2> buffers_{};
  std::array<void*, 2> copied_{};  // events: the last copy from each buffer
  size_t next_ = 0;
  Device device_;
};

}  // namespace tll
