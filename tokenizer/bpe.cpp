#include "tokenizer/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <functional>
#include <limits>
#include <memory>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr uint32_t kNoMerge = std::numeric_limits<uint32_t>::max();
constexpr size_t kShort = 32;  // up to this length, looking at every pair is faster than a heap

// Finds the best pair by looking at all of them. O(n²) with a small constant.
void merge_short(const MergeTable& merges, std::vector<int32_t>& symbols) {
  uint32_t rank[kShort];
  int32_t result[kShort];
  size_t count = symbols.size();
  const auto look = [&](size_t i) {
    const MergeTable::Merge* merge = merges.find(symbols[i], symbols[i + 1]);
    rank[i] = merge ? merge->rank : kNoMerge;
    result[i] = merge ? merge->result : 0;
  };
  for (size_t i = 0; i + 1 < count; ++i) look(i);
  while (count > 1) {
    const size_t best = size_t(std::min_element(rank, rank + count - 1) - rank);
    if (rank[best] == kNoMerge) break;
    symbols[best] = result[best];
    --count;
    for (size_t i = best + 1; i < count; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = best + 1; i + 1 < count; ++i) rank[i] = rank[i + 1], result[i] = result[i + 1];
    if (best > 0) look(best - 1);
    if (best + 1 < count) look(best);
  }
  symbols.resize(count);
}

// A linked list of symbols and a heap of (rank, position). An entry is stale if the pair at its position has another rank now.
void merge_long(const MergeTable& merges, std::vector<int32_t>& symbols, UnusedPieces* unused) {
  TLL_CHECK(symbols.size() < kNoMerge, "{} symbols in one piece", symbols.size());
  struct Node {
    uint32_t previous, next;
    uint32_t rank;  // of the pair (this, next)
    int32_t result;
  };
  const auto count = uint32_t(symbols.size());
  const uint32_t none = count;
  std::vector<Node> nodes(count);
  std::vector<uint64_t> heap;
  heap.reserve(count);
  const auto look = [&](uint32_t i) {
    Node& node = nodes[i];
    const MergeTable::Merge* merge = node.next == none ? nullptr : merges.find(symbols[i], symbols[node.next]);
    node.rank = merge ? merge->rank : kNoMerge;
    if (!merge) return false;
    node.result = merge->result;
    heap.push_back(uint64_t{merge->rank} << 32 | i);
    if (unused && unused->unused[size_t(merge->result)]) {
      unused->parts[merge->result] = {symbols[i], symbols[node.next]};
    }
    return true;
  };
  const auto look_and_push = [&](uint32_t i) {
    if (look(i)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (uint32_t i = 0; i < count; ++i) {
    nodes[i].previous = i == 0 ? none : i - 1;
    nodes[i].next = i + 1;
    look(i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto at = uint32_t(heap.back());
    const auto rank = uint32_t(heap.back() >> 32);
    heap.pop_back();
    Node& node = nodes[at];
    if (node.rank != rank) continue;
    const uint32_t gone = node.next;
    symbols[at] = node.result;
    node.next = nodes[gone].next;
    nodes[gone].rank = kNoMerge;
    if (node.next != none) nodes[node.next].previous = at;
    if (node.previous != none) look_and_push(node.previous);
    look_and_push(at);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i != none; i = nodes[i].next) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace

void MergeTable::reserve(size_t merges) {
  const size_t slots = std::bit_ceil(merges * 5 / 3 + 16);
  if (slots > slots_.size()) grow(slots);
}

void MergeTable::grow(size_t slots) {
  std::vector<Merge> old(slots, kEmpty);
  old.swap(slots_);
  shift_ = 64 - std::countr_zero(slots);
  count_ = 0;
  for (const Merge& m : old) {
    if (m.key != kEmpty.key) insert(int32_t(m.key >> 32), int32_t(m.key & 0xFFFFFFFFu), m.rank, m.result);
  }
}

void MergeTable::insert(int32_t left, int32_t right, uint32_t rank, int32_t result) {
  if ((count_ + 1) * 5 > slots_.size() * 3) grow(slots_.size() * 2);
  const uint64_t key = key_of(left, right);
  size_t i = slot_of(key);
  while (slots_[i].key != key && slots_[i].key != kEmpty.key) i = (i + 1) & (slots_.size() - 1);
  count_ += slots_[i].key == kEmpty.key;
  slots_[i] = {key, rank, result};
}

void merge_symbols(const MergeTable& merges, std::vector<int32_t>& symbols, UnusedPieces* unused) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort && !unused) return merge_short(merges, symbols);
  merge_long(merges, symbols, unused);
}

uint32_t PieceCache::new_owner() {
  static std::atomic<uint32_t> last = 0;
  return ++last;
}

PieceCache::Entry* PieceCache::thread_table() {
  thread_local const std::unique_ptr<Entry[]> table = std::make_unique<Entry[]>(kSlots);
  return table.get();
}

}  // namespace tll
