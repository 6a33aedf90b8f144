// Byte-pair encoding (Sennrich, Haddow and Birch 2016), shared by all formats: a list of symbols, a table of merges pair ->
// (rank, result), and one rule. The pair with the lowest rank merges first; of equal ranks, the leftmost.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tll {

// A flat hash table with linear probing: about 2 slots of 16 bytes per merge.
class MergeTable {
 public:
  struct Merge {
    uint64_t key;
    uint32_t rank;
    int32_t result;
  };

  MergeTable() : slots_(16, kEmpty) {}
  void reserve(size_t merges);
  void insert(int32_t left, int32_t right, uint32_t rank, int32_t result);  // replaces an earlier merge of the same pair

  // nullptr: the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t i = slot_of(key);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].key == key) return &slots_[i];
      if (slots_[i].key == kEmpty.key) return nullptr;
    }
  }

 private:
  static constexpr Merge kEmpty = {~uint64_t{0}, 0, 0};
  static uint64_t key_of(int32_t left, int32_t right) { return uint64_t(left) << 32 | uint32_t(right); }
  size_t slot_of(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }
  void grow(size_t slots);

  std::vector<Merge> slots_;
  int shift_ = 60;
  size_t count_ = 0;
};

// SentencePiece's UNUSED pieces take part in merging. At the end each is split again, into the pair that was looked up last.
struct UnusedPieces {
  std::vector<bool> unused;  // by symbol
  std::unordered_map<int32_t, std::pair<int32_t, int32_t>> parts;
};

// Merges in place until no pair is in the table, in O(n log n). `unused` may be null.
void merge_symbols(const MergeTable& merges, std::vector<int32_t>& symbols, UnusedPieces* unused = nullptr);

// Code point -> symbol, -1 if there is none. A two-level table with pages of 256.
class CodePointMap {
 public:
  CodePointMap() { page_of_.fill(0), pages_.emplace_back().fill(-1); }
  int32_t get(char32_t c) const { return pages_[page_of_[c >> 8]][c & 0xFF]; }
  void set(char32_t c, int32_t symbol) {
    if (page_of_[c >> 8] == 0) {
      page_of_[c >> 8] = uint16_t(pages_.size());
      pages_.emplace_back().fill(-1);
    }
    pages_[page_of_[c >> 8]][c & 0xFF] = symbol;
  }

 private:
  std::array<uint16_t, 0x1100> page_of_;
  std::vector<std::array<int32_t, 256>> pages_;
};

// A cache of the ids of short pieces: one direct-mapped table per thread (1 MiB), shared by all tokenizers. Text repeats its
// words, so nearly every piece is found here and need not be merged.
class PieceCache {
 public:
  // A number that no other tokenizer of this process has.
  static uint32_t new_owner();

  explicit PieceCache(uint32_t owner) : table_(thread_table()), owner_(owner) {}

  // Appends the ids of the piece to `out`, from the cache or by encode(piece, out).
  template <class Encode>
  void append(std::string_view piece, std::vector<int32_t>& out, Encode&& encode) {
    if (piece.size() > kMaxBytes || piece.empty()) return encode(piece, out);
    Key key = {};
    std::memcpy(key.words, piece.data(), piece.size());
    key.words[3] |= uint64_t(piece.size()) << 56;
    Entry& entry = table_[slot_of(key)];
    if (entry.owner == owner_ && entry.key == key) {
      const size_t size = out.size();
      out.resize(size + entry.count);
      std::memcpy(out.data() + size, entry.ids, entry.count * sizeof(int32_t));
      return;
    }
    const size_t size = out.size();
    encode(piece, out);
    const size_t count = out.size() - size;
    if (count == 0 || count > kMaxIds) return;
    entry = {key, owner_, uint32_t(count), {}};
    std::memcpy(entry.ids, out.data() + size, count * sizeof(int32_t));
  }

 private:
  static constexpr size_t kMaxBytes = 31, kMaxIds = 6, kSlots = size_t{1} << 14;
  struct Key {
    uint64_t words[4];
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    uint32_t owner;  // 0: empty
    uint32_t count;
    int32_t ids[kMaxIds];
  };
  static_assert(sizeof(Entry) == 64);
  static Entry* thread_table();
  static size_t slot_of(const Key& k) {
    uint64_t hash = (k.words[0] ^ 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    hash = ((hash ^ hash >> 32) + k.words[1]) * 0xD6E8FEB86659FD93u;
    hash = ((hash ^ hash >> 32) + k.words[2]) * 0xD6E8FEB86659FD93u;
    hash = ((hash ^ hash >> 32) + k.words[3]) * 0xD6E8FEB86659FD93u;
    return hash >> 50;
  }

  Entry* table_;
  uint32_t owner_;
};

}  // namespace tll
