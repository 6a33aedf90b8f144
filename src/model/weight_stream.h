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
  // make(piece, first, n) fills a piece, in the host's memory, with n elements from element `first` on.
  using Make = std::function<void(void* piece, int64_t first, int64_t n)>;

  ~WeightStream();
  // Places the buffers in pinned memory of the host. With CUDA only.
  void place(Arena& staging);
  // Places what send_through() and quantising need, in the device's memory: a piece, and the scales of the tensor with most
  // blocks. Nothing for 0.
  void place_quantizing(Arena& arena, int64_t most_blocks, Life life = during(StepPhase::load));
  // `to`: count elements of `bytes` each, in memory of the device.
  void send(const Device& device, void* to, int64_t count, size_t bytes, const Make& make);
  // The same of rows of `cols` elements that lie `stride` apart. What lies between them is overwritten.
  void send_rows(const Device& device, void* to, int64_t rows, int64_t cols, int64_t stride, size_t bytes, const Make& make);
  // The same through a piece in the device's memory, which use(piece, first, n) works on before the next one comes. Pieces begin
  // at multiples of 4096 elements.
  void send_through(const Device& device, int64_t count, size_t bytes, const Make& make,
                    const std::function<void(const void* piece, int64_t first, int64_t n)>& use);
  // Waits until everything sent has arrived.
  void finish(const Device& device);

  float* scales() const { return scales_; }            // (most_blocks)
  int32_t* not_finite() const { return not_finite_; }  // (1)

 private:
  static constexpr int64_t kQuantizedPieceBytes = 4 << 20;

  // fill(piece) writes `bytes` bytes.
  template <class Fill>
  void send_piece(const Device& device, void* to, int64_t bytes, const Fill& fill);

  std::array<std::byte*, 2> buffers_{};
  std::array<void*, 2> copied_{};  // events: the last copy from each buffer
  size_t next_ = 0;
  Device device_;
  std::byte* piece_ = nullptr;
  float* scales_ = nullptr;
  int32_t* not_finite_ = nullptr;
};

}  // namespace tll
