#include "src/model/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr int64_t kAlignment = 64;
constexpr const char* kAlignmentName = "alignment";
constexpr int64_t kMostBytes = int64_t{1} << 62;

int length(const Life& life) { return static_cast<int>(life.last) - static_cast<int>(life.first); }

}  // namespace

const char* category_name(Category c) {
  constexpr const char* names[] = {"parameters", "gradients", "optimizer", "activations", "scratch"};
  return names[static_cast<int>(c)];
}

const char* phase_name(StepPhase p) {
  constexpr const char* names[] = {"load",
                                   "evaluation",
                                   "evaluation: attention",
                                   "evaluation: mlp",
                                   "evaluation: head",
                                   "step",
                                   "batch",
                                   "forward: attention",
                                   "forward: mlp",
                                   "head",
                                   "backward: recompute",
                                   "backward: mlp",
                                   "backward: attention",
                                   "backward: qkv",
                                   "update",
                                   "checkpoint"};
  static_assert(std::size(names) == kStepPhases);
  return names[static_cast<int>(p)];
}

bool is_alignment(const TensorRecord& tensor) { return tensor.name == kAlignmentName; }

Arena::~Arena() {
  if (!base_) return;
  if (device_.kind == DeviceKind::cpu)
    munmap(base_, static_cast<size_t>(std::max<int64_t>(total(), 1)));
  else if (pinned_)
    cuda_free_host(device_, base_);
  else
    cuda_free(device_, base_);
}

// ---- the two walks ------------------------------------------------------------------------------------------------------------

void* Arena::place_bytes(const std::string& name, const std::vector<int64_t>& shape, DType dtype, Category category, Life life) {
  int64_t bytes = static_cast<int64_t>(dtype_bytes(dtype));
  for (const int64_t n : shape) {
    TLL_CHECK(n >= 0, "{} has a dimension of {}", name, n);
    if (__builtin_mul_overflow(bytes, n, &bytes) || bytes > (int64_t{1} << 56))
      fail(kExitDoesNotFit, "{} would take more than 2^56 bytes: these sizes cannot be meant", name);
  }
  if (base_) {
    repeat(name, shape, bytes, life);
    return base_ + tensors_[next_ - 1].offset;
  }
  solved_ = false;
  tensors_.push_back({name, shape, dtype, category, bytes, 0, life});
  if (const int64_t gap = (kAlignment - bytes % kAlignment) % kAlignment; gap > 0)
    tensors_.push_back({kAlignmentName, {gap}, DType::u8, Category::scratch, gap, 0, life});
  return nullptr;
}

void Arena::repeat(const std::string& name, const std::vector<int64_t>& shape, int64_t bytes, Life life) {
  while (next_ < tensors_.size() && tensors_[next_].name == kAlignmentName) next_++;
  TLL_CHECK(next_ < tensors_.size(), "{} was not in the plan", name);
  const TensorRecord& planned = tensors_[next_++];
  TLL_CHECK(planned.name == name && planned.shape == shape && planned.bytes == bytes && planned.life == life,
            "planned {} of {} bytes, placed {} of {} bytes, or another life", planned.name, planned.bytes, name, bytes);
}

void Arena::allocate(const Device& device, bool pinned) {
  TLL_CHECK(!base_, "allocated twice");
  const size_t bytes = static_cast<size_t>(std::max<int64_t>(total(), 1));
  device_ = device, pinned_ = pinned;
  if (device.kind == DeviceKind::cuda) {
    base_ = static_cast<std::byte*>(pinned ? cuda_allocate_host(device, bytes) : cuda_allocate(device, bytes));
    if (!base_)
      fail(kExitFault, "{} refused {} bytes{}", pinned ? "the system" : "the GPU", bytes,
           pinned ? " of pinned memory" : "; another program may have taken memory since this one looked");
    if (!pinned)
      for (const TensorRecord& t : tensors_)
        if (t.life.holds(StepPhase::load) && t.name != kAlignmentName)
          cuda_begin_tensor(device, base_ + t.offset, static_cast<size_t>(t.bytes), t.name);
    return;
  }
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(kExitFault, "the system refused {} bytes of memory", bytes);
  madvise(memory, bytes, MADV_HUGEPAGE);  // fewer TLB misses; a refusal changes nothing
  base_ = static_cast<std::byte*>(memory);
}

void Arena::reserve() {
  TLL_CHECK(!base_, "allocated twice");
  const size_t bytes = static_cast<size_t>(std::max<int64_t>(total(), 1));
  void* addresses = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addresses == MAP_FAILED) fail(kExitFault, "the system refused {} bytes of addresses", bytes);
  base_ = static_cast<std::byte*>(addresses);
}

int64_t Arena::resident() const {
  if (!base_ || device_.kind == DeviceKind::cuda) return base_ ? total() : 0;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = static_cast<size_t>(std::max<int64_t>(total(), 1));
  std::vector<unsigned char> pages((bytes + page - 1) / page);
  if (mincore(base_, bytes, pages.data()) != 0) return 0;
  const auto there = std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; });
  return std::min(total(), there * static_cast<int64_t>(page));
}

void Arena::seal() {
  while (next_ < tensors_.size() && tensors_[next_].name == kAlignmentName) next_++;
  TLL_CHECK(base_ && next_ == tensors_.size(), "planned {} tensors, placed {}", tensors_.size(), next_);
}

// ---- offsets ------------------------------------------------------------------------------------------------------------------

const Arena::Layout& Arena::layout() const {
  if (!solved_) solve();
  return layout_;
}

const std::vector<TensorRecord>& Arena::tensors() const {
  layout();
  return tensors_;
}

// The longest lives first, each at the lowest offset at which it meets nobody. A tensor lies on the highest of those that were
// placed before it and meet it, so offsets per phase are all that must be remembered.
void Arena::solve() const {
  layout_ = {};
  std::vector<uint32_t> order(tensors_.size());
  for (uint32_t i = 0; i < order.size(); i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return length(tensors_[a].life) > length(tensors_[b].life); });
  std::array<int64_t, kStepPhases> top{};
  for (const uint32_t i : order) {
    TensorRecord& t = tensors_[i];
    const size_t first = static_cast<size_t>(t.life.first), last = static_cast<size_t>(t.life.last);
    t.offset = *std::max_element(top.begin() + static_cast<ptrdiff_t>(first), top.begin() + static_cast<ptrdiff_t>(last) + 1);
    if (t.bytes > kMostBytes - t.offset)
      fail(kExitDoesNotFit, "the tensors up to {} would take more than 2^62 bytes: these sizes cannot be meant", t.name);
    for (size_t p = first; p <= last; p++) top[p] = t.offset + t.bytes, layout_.live[p] += t.bytes;
  }
  layout_.total = *std::max_element(top.begin(), top.end());
  layout_.peak = static_cast<StepPhase>(std::max_element(layout_.live.begin(), layout_.live.end()) - layout_.live.begin());
  solved_ = true;
}

std::array<int64_t, kCategories> Arena::bytes_by_category() const {
  std::array<int64_t, kCategories> sums{};
  for (const TensorRecord& t : tensors())
    if (t.life.holds(peak())) sums[static_cast<size_t>(t.category)] += t.bytes;
  sums[static_cast<size_t>(Category::scratch)] += total() - bytes_in(peak());
  return sums;
}

// ---- phases -------------------------------------------------------------------------------------------------------------------

void Arena::enter(const Device& device, StepPhase phase) {
  const bool checked = device.kind == DeviceKind::cuda && cuda_emulated();
  const StepPhase left = std::exchange(phase_, phase);
  if (!base_ || pinned_ || device.dry || !(checked || poison)) return;
  const bool closes_loop = phase <= left;
  const auto again = [&](const Life& life) { return closes_loop && phase <= life.first && life.last <= left; };
  const auto ends = [&](const Life& life) { return life.holds(left) && (!life.holds(phase) || again(life)); };
  const auto begins = [&](const Life& life) { return life.holds(phase) && (!life.holds(left) || again(life)); };
  for (const TensorRecord& t : tensors_)
    if (checked && t.name != kAlignmentName && ends(t.life))
      cuda_end_tensor(device, base_ + t.offset, static_cast<size_t>(t.bytes));
  for (const TensorRecord& t : tensors_)
    if (t.name != kAlignmentName && begins(t.life)) {
      if (checked)
        cuda_begin_tensor(device, base_ + t.offset, static_cast<size_t>(t.bytes), t.name);
      else
        std::memset(base_ + t.offset, 0xff, static_cast<size_t>(t.bytes));
    }
}

Json Arena::json() const {
  Json bytes = Json::object(), list = Json::array(), phases = Json::array();
  const auto sums = bytes_by_category();
  for (int c = 0; c < kCategories; c++) bytes[category_name(static_cast<Category>(c))] = sums[static_cast<size_t>(c)];
  bytes["total"] = total();
  for (int p = 0; p < kStepPhases; p++) phases.push_back(phase_name(static_cast<StepPhase>(p)));
  for (const TensorRecord& t : tensors())
    list.push_back({{"name", t.name},
                    {"shape", t.shape},
                    {"dtype", dtype_name(t.dtype)},
                    {"category", category_name(t.category)},
                    {"bytes", t.bytes},
                    {"offset", t.offset},
                    {"phases", {static_cast<int>(t.life.first), static_cast<int>(t.life.last)}}});
  return {{"bytes", bytes}, {"peak_phase", phase_name(peak())}, {"phase_names", phases}, {"tensors", list}};
}

}  // namespace tll
