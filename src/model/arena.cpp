#include "src/model/arena.h"

#include <sys/mman.h>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr int64_t kAlignment = 64;
constexpr const char* kAlignmentName = "alignment";

}  // namespace

const char* category_name(Category c) {
  constexpr const char* names[] = {"parameters", "gradients", "optimizer", "activations", "scratch"};
  return names[static_cast<int>(c)];
}

Arena::~Arena() {
  if (!base_) return;
  if (device_.kind == DeviceKind::cpu)
    munmap(base_, static_cast<size_t>(capacity_));
  else if (pinned_)
    cuda_free_host(device_, base_);
  else
    cuda_free(device_, base_);
}

void* Arena::place_bytes(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category) {
  int64_t bytes = static_cast<int64_t>(dtype_bytes(dtype));
  for (const int64_t n : shape) {
    TLL_CHECK(n >= 0, "{} has a dimension of {}", name, n);
    if (__builtin_mul_overflow(bytes, n, &bytes) || bytes > (int64_t{1} << 56))
      fail(kExitDoesNotFit, "{} would take more than 2^56 bytes: these sizes cannot be meant", name);
  }
  // The gap is recorded as a tensor, so that the tensors add up to the total.
  const int64_t gap = (kAlignment - cursor_ % kAlignment) % kAlignment;
  if (gap > 0) advance(kAlignmentName, {gap}, DType::u8, Category::scratch, gap);
  const int64_t offset = cursor_;
  advance(name, shape, dtype, category, bytes);
  return base_ ? base_ + offset : nullptr;
}

void Arena::advance(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category, int64_t bytes) {
  if (!base_) {
    tensors_.push_back({name, shape, dtype, category, bytes, cursor_});
  } else {
    TLL_CHECK(next_ < tensors_.size(), "{} was not in the plan", name);
    const TensorRecord& planned = tensors_[next_++];
    TLL_CHECK(planned.name == name && planned.shape == shape && planned.bytes == bytes && planned.offset == cursor_,
              "planned {} of {} bytes at {}, placed {} of {} bytes at {}", planned.name, planned.bytes, planned.offset, name,
              bytes, cursor_);
  }
  if (__builtin_add_overflow(cursor_, bytes, &cursor_))
    fail(kExitDoesNotFit, "the tensors up to {} would take more than 2^63 bytes: these sizes cannot be meant", name);
}

void Arena::allocate(const Device& device, bool pinned) {
  TLL_CHECK(!base_, "allocated twice");
  capacity_ = cursor_ > 0 ? cursor_ : 1;
  cursor_ = 0;
  device_ = device, pinned_ = pinned;
  if (device.kind == DeviceKind::cuda) {
    const size_t bytes = static_cast<size_t>(capacity_);
    base_ = static_cast<std::byte*>(pinned ? cuda_allocate_host(device, bytes) : cuda_allocate(device, bytes));
    if (!base_)
      fail(kExitFault, "{} refused {} bytes{}", pinned ? "the system" : "the GPU", capacity_,
           pinned ? " of pinned memory" : "; another program may have taken memory since this one looked");
    if (!pinned)
      for (const TensorRecord& t : tensors_)
        if (t.name != kAlignmentName) cuda_name_tensor(device, base_ + t.offset, static_cast<size_t>(t.bytes), t.name);
    return;
  }
  void* memory =
      mmap(nullptr, static_cast<size_t>(capacity_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(kExitFault, "the system refused {} bytes of memory", capacity_);
  madvise(memory, static_cast<size_t>(capacity_), MADV_HUGEPAGE);  // fewer TLB misses; a refusal changes nothing
  base_ = static_cast<std::byte*>(memory);
}

void Arena::reserve() {
  TLL_CHECK(!base_, "allocated twice");
  capacity_ = cursor_ > 0 ? cursor_ : 1;
  cursor_ = 0;
  void* addresses = mmap(nullptr, static_cast<size_t>(capacity_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addresses == MAP_FAILED) fail(kExitFault, "the system refused {} bytes of addresses", capacity_);
  base_ = static_cast<std::byte*>(addresses);
}

void Arena::seal() {
  const bool whole = cursor_ == capacity_ || cursor_ == 0;  // an empty arena has allocated one byte
  TLL_CHECK(base_ && next_ == tensors_.size() && whole, "planned {} tensors in {} bytes, placed {} in {}", tensors_.size(),
            capacity_, next_, cursor_);
}

std::array<int64_t, kCategories> Arena::bytes_by_category() const {
  std::array<int64_t, kCategories> sums{};
  for (const TensorRecord& t : tensors_) sums[static_cast<size_t>(t.category)] += t.bytes;
  return sums;
}

Json Arena::json() const {
  Json bytes = Json::object(), list = Json::array();
  const auto sums = bytes_by_category();
  for (int c = 0; c < kCategories; c++) bytes[category_name(static_cast<Category>(c))] = sums[static_cast<size_t>(c)];
  bytes["total"] = total();
  for (const TensorRecord& t : tensors_)
    list.push_back({{"name", t.name},
                    {"shape", t.shape},
                    {"dtype", dtype_name(t.dtype)},
                    {"category", category_name(t.category)},
                    {"bytes", t.bytes},
                    {"offset", t.offset}});
  return {{"bytes", bytes}, {"tensors", list}};
}

}  // namespace tll
