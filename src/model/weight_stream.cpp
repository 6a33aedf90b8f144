#include "src/model/weight_stream.h"

#include <algorithm>

namespace tll {

WeightStream::~WeightStream() {
  for (void* event : copied_)
    if (event) cuda_close_event(device_, event);
}

void WeightStream::place(Arena& staging) {
  for (size_t i = 0; i < buffers_.size(); i++)
    buffers_[i] =
        static_cast<std::byte*>(staging.place_bytes("weights." + std::to_string(i), {kPieceBytes}, DType::u8, Category::scratch));
}

void WeightStream::send(const Device& device, void* to, int64_t count, size_t bytes,
                        const std::function<void(void* piece, int64_t first, int64_t n)>& make) {
  if (on_host(device)) return make(to, 0, count);
  device_ = device;
  const int64_t most = kPieceBytes / static_cast<int64_t>(bytes);
  for (int64_t first = 0; first < count; first += most) {
    const int64_t n = std::min(most, count - first);
    void*& event = copied_[next_];
    if (!event) event = cuda_open_event(device);
    cuda_wait_event(device, event);
    make(buffers_[next_], first, n);
    upload(device, static_cast<std::byte*>(to) + first * static_cast<int64_t>(bytes), buffers_[next_],
           static_cast<size_t>(n) * bytes);
    cuda_record_event(device, event);
    next_ = 1 - next_;
  }
}

void WeightStream::finish(const Device& device) { synchronize(device); }

}  // namespace tll
