#include "src/model/weight_stream.h"

#include <algorithm>
#include <cstring>

namespace tll {

WeightStream::~WeightStream() {
  for (void* event : copied_)
    if (event) cuda_close_event(device_, event);
}

void WeightStream::place(Arena& staging) {
  for (size_t i = 0; i < buffers_.size(); i++)
    buffers_[i] = static_cast<std::byte*>(staging.place_bytes("weights." + std::to_string(i), {kPieceBytes}, DType::u8,
                                                              Category::scratch, during(StepPhase::load)));
}

void WeightStream::place_quantizing(Arena& arena, int64_t most_blocks, Life life) {
  if (most_blocks == 0) return;
  piece_ =
      static_cast<std::byte*>(arena.place_bytes("loading.piece", {kQuantizedPieceBytes}, DType::u8, Category::scratch, life));
  arena.place(scales_, "loading.scales", {most_blocks}, Category::scratch, life);
  arena.place(not_finite_, "loading.not_finite", {1}, Category::scratch, life);
}

template <class Fill>
void WeightStream::send_piece(const Device& device, void* to, int64_t bytes, const Fill& fill) {
  device_ = device;
  void*& event = copied_[next_];
  if (!event) event = cuda_open_event(device);
  cuda_wait_event(device, event);
  fill(buffers_[next_]);
  upload(device, to, buffers_[next_], static_cast<size_t>(bytes));
  cuda_record_event(device, event);
  next_ = 1 - next_;
}

void WeightStream::send(const Device& device, void* to, int64_t count, size_t bytes, const Make& make) {
  if (on_host(device)) return make(to, 0, count);
  const int64_t width = static_cast<int64_t>(bytes), most = kPieceBytes / width;
  for (int64_t first = 0; first < count; first += most) {
    const int64_t n = std::min(most, count - first);
    send_piece(device, static_cast<std::byte*>(to) + first * width, n * width, [&](std::byte* piece) { make(piece, first, n); });
  }
}

void WeightStream::send_rows(const Device& device, void* to, int64_t rows, int64_t cols, int64_t stride, size_t bytes,
                             const Make& make) {
  const int64_t row_bytes = stride * static_cast<int64_t>(bytes), width = cols * static_cast<int64_t>(bytes);
  // Rows are made together, at the end of their place, and then moved apart: a row's place ends before the next one's source.
  const auto make_rows = [&](std::byte* place, int64_t first, int64_t n) {
    std::byte* const together = place + n * (row_bytes - width);
    make(together, first * cols, n * cols);
    for (int64_t r = 0; r < n; r++) std::memmove(place + r * row_bytes, together + r * width, static_cast<size_t>(width));
  };
  const int64_t most = std::max<int64_t>(1, kPieceBytes / row_bytes);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t n = std::min(most, rows - first);
    std::byte* const place = static_cast<std::byte*>(to) + first * row_bytes;
    if (on_host(device))
      make_rows(place, first, n);
    else
      send_piece(device, place, n * row_bytes, [&](std::byte* piece) { make_rows(piece, first, n); });
  }
}

void WeightStream::send_through(const Device& device, int64_t count, size_t bytes, const Make& make,
                                const std::function<void(const void* piece, int64_t first, int64_t n)>& use) {
  const int64_t width = static_cast<int64_t>(bytes), most = kQuantizedPieceBytes / width;
  for (int64_t first = 0; first < count; first += most) {
    const int64_t n = std::min(most, count - first);
    if (on_host(device))
      make(piece_, first, n);
    else
      send_piece(device, piece_, n * width, [&](std::byte* piece) { make(piece, first, n); });
    use(piece_, first, n);
  }
}

void WeightStream::finish(const Device& device) { synchronize(device); }

}  // namespace tll
