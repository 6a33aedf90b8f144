#include "data/loader.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "src/base/check.h"

namespace tll {

// SplitMix64 (Steele, Lea, Flood 2014), and a Fisher-Yates shuffle with it.
class Shuffler {
 public:
  Shuffler(uint64_t seed, uint64_t epoch) : state_(seed) { state_ = next() + epoch; }

  void shuffle(std::vector<int32_t>& v, size_t size) {
    for (size_t i = size; i > 1; --i) std::swap(v[i - 1], v[below(i)]);
  }

 private:
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  // Uniform below n: numbers of the last, incomplete multiple of n are drawn again.
  uint64_t below(uint64_t n) {
    const uint64_t excess = (0 - n) % n;
    for (;;) {
      const uint64_t x = next();
      if (x >= excess) return x % n;
    }
  }
  uint64_t state_;
};

Loader::Loader(const Dataset& dataset, const LoaderOptions& options) : data_(dataset), options_(options) {
  TLL_CHECK(options.rows >= 1 && options.seq_len >= 1 && options.grad_accum >= 1, "rows {}, seq_len {}, grad_accum {}",
            options.rows, options.seq_len, options.grad_accum);
  TLL_CHECK(int64_t(options.rows) * options.seq_len < INT32_MAX, "rows {} x seq_len {}", options.rows, options.seq_len);
  TLL_CHECK(options.rank >= 0 && options.rank < options.world, "rank {} of {}", options.rank, options.world);
  size_t n = 0;
  for_each_member([&](int32_t i) {
    const Document& d = dataset.documents[size_t(i)];
    if (d.length > options.seq_len) {
      bad_file("document {} of the data set has {} tokens, and a row holds {}; prepare the data with this --seq-len", i, d.length,
               options.seq_len);
    }
    ++n;
  });
  if (n == 0) {
    const std::string left_out = dataset.report.left_out_text(dataset.max_tokens);
    bad_file("the data set has no {} documents{}{}", options.split == Split::kTrain ? "training" : "validation",
             left_out.empty() ? "" : ": ", left_out);
  }
  const size_t t = size_t(options.seq_len);
  order_.resize(n);
  row_begin_.resize(n + 1);
  if (options.packing && options.shuffle) {
    sorted_.resize(n);
    of_rows_.resize(n);
    bucket_.resize(t + 1);
    bucket_bits_.resize(t / 64 + 1);
    count_.resize(t + 2);
  }
  plan_epoch();
}

// The documents of the split, in file order.
template <class Visit>
void Loader::for_each_member(Visit&& visit) const {
  if (data_.documents.size() > size_t(INT32_MAX)) {
    bad_file("the data set has {} documents, and {} is the most of a run; divide it", data_.documents.size(), INT32_MAX);
  }
  int64_t count = 0;
  for (size_t i = 0; i < data_.documents.size(); ++i) {
    if (data_.documents[i].split != options_.split) continue;
    if (options_.most_documents > 0 && count == options_.most_documents) return;
    ++count;
    visit(int32_t(i));
  }
}

void Loader::plan_epoch() {
  Shuffler shuffler(options_.seed, uint64_t(epoch_));
  size_t next = 0;
  for_each_member([&](int32_t i) { order_[next++] = i; });
  if (options_.shuffle) shuffler.shuffle(order_, order_.size());
  if (!options_.packing || !options_.shuffle) return pack_in_order();
  pack_best_fit(shuffler);
}

void Loader::pack_in_order() {
  rows_per_epoch_ = 0;
  int64_t used = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    const int32_t length = length_of(order_[i]);
    if (i == 0 || !options_.packing || used + length > options_.seq_len) {
      row_begin_[size_t(rows_per_epoch_++)] = uint32_t(i);
      used = 0;
    }
    used += length;
  }
  row_begin_[size_t(rows_per_epoch_)] = uint32_t(order_.size());
}

// Best-fit decreasing: the longest document first, each into the row with the least free space that still holds it. Rows are
// kept in one list for each amount of free space, and a bit mask finds the next amount that has a row.
void Loader::pack_best_fit(Shuffler& shuffler) {
  const size_t n = order_.size(), t = size_t(options_.seq_len);
  // Longest first; equal lengths stay in shuffled order (counting sort).
  std::fill(count_.begin(), count_.end(), 0);
  for (const int32_t d : order_) ++count_[t - size_t(length_of(d)) + 1];
  for (size_t i = 1; i <= t; ++i) count_[i] += count_[i - 1];
  for (const int32_t d : order_) sorted_[size_t(count_[t - size_t(length_of(d))]++)] = d;

  std::fill(bucket_.begin(), bucket_.end(), -1);
  std::fill(bucket_bits_.begin(), bucket_bits_.end(), 0);
  std::vector<int32_t>& row_of = order_;  // the documents are in sorted_ now
  int32_t rows = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t length = size_t(length_of(sorted_[i]));
    size_t word = length / 64;
    uint64_t bits = bucket_bits_[word] & (~uint64_t(0) << (length % 64));
    while (bits == 0 && ++word < bucket_bits_.size()) bits = bucket_bits_[word];
    int32_t row;
    size_t space = t;
    if (bits == 0) {
      row = rows++;
    } else {
      space = word * 64 + size_t(std::countr_zero(bits));
      row = bucket_[space];
      bucket_[space] = of_rows_[size_t(row)];
      if (bucket_[space] < 0) bucket_bits_[word] &= ~(uint64_t(1) << (space % 64));
    }
    row_of[i] = row;
    space -= length;
    of_rows_[size_t(row)] = bucket_[space];
    bucket_[space] = row;
    bucket_bits_[space / 64] |= uint64_t(1) << (space % 64);
  }

  // Rows in shuffled order, each with its documents.
  std::iota(of_rows_.begin(), of_rows_.begin() + rows, 0);
  shuffler.shuffle(of_rows_, size_t(rows));
  const auto place = [&](size_t i) { return size_t(of_rows_[size_t(row_of[i])]); };
  std::fill(row_begin_.begin(), row_begin_.end(), 0);
  for (size_t i = 0; i < n; ++i) ++row_begin_[place(i)];
  uint32_t before = 0;  // row_begin_ becomes where each row's next document goes,
  for (int32_t r = 0; r < rows; ++r) before += std::exchange(row_begin_[size_t(r)], before);
  for (size_t i = 0; i < n; ++i) row_of[i] = int32_t(row_begin_[place(i)]++);
  for (size_t i = 0; i < n; ++i) of_rows_[size_t(row_of[i])] = sorted_[i];
  order_.swap(of_rows_);
  // and then where the row after it begins.
  for (int32_t r = rows; r > 0; --r) row_begin_[size_t(r)] = row_begin_[size_t(r) - 1];
  row_begin_[0] = 0;
  rows_per_epoch_ = rows;
}

StepInfo Loader::next_step() {
  if (next_row_ >= rows_per_epoch_) {
    ++epoch_;
    next_row_ = 0;
    plan_epoch();
  }
  step_row_ = next_row_;
  next_row_ = std::min(step_row_ + rows_per_step(), rows_per_epoch_);
  StepInfo info{epoch_, 0, 0, 0};
  for (uint32_t i = row_begin_[size_t(step_row_)]; i < row_begin_[size_t(next_row_)]; ++i) {
    const Document& d = data_.documents[size_t(order_[size_t(i)])];
    ++info.documents;
    info.tokens += d.length;
    info.target_tokens += d.target_tokens;
  }
  return info;
}

void Loader::micro_batch(int m, BatchView& batch) const {
  TLL_CHECK(m >= 0 && m < options_.grad_accum, "micro-batch {} of {}", m, options_.grad_accum);
  const int64_t rows_before = (int64_t(m) * options_.world + options_.rank) * options_.rows;
  const int64_t first = std::min(step_row_ + rows_before, next_row_);
  const int64_t end = std::min(first + options_.rows, next_row_);
  const int32_t size = options_.rows * options_.seq_len;
  batch.documents = batch.token_count = batch.target_count = 0;
  int32_t at = 0, targets = 0;
  for (uint32_t i = row_begin_[size_t(first)]; i < row_begin_[size_t(end)]; ++i) {
    const Document& d = data_.documents[size_t(order_[size_t(i)])];
    const std::span<const int32_t> tokens = data_.tokens_of(d);
    batch.cu_seqlens[batch.documents++] = at;
    for (int32_t t = 0; t < d.length; ++t, ++at) {
      const int32_t label = t + 1 < d.length ? data_.label(d, t + 1) : kNotTrained;
      batch.tokens[at] = tokens[size_t(t)];
      batch.targets[at] = label != kNotTrained ? label : kNoTarget;
      batch.target_count += label != kNotTrained;
      batch.positions[at] = t;
    }
    targets += d.target_tokens;
  }
  if (batch.target_count != targets) {
    bad_file("a micro-batch has {} trained tokens, and the data set says {}; it is damaged, run `prepare` again",
             batch.target_count, targets);
  }
  batch.token_count = at;
  std::fill(batch.tokens + at, batch.tokens + size, 0);
  std::fill(batch.targets + at, batch.targets + size, kNoTarget);
  batch.padded_documents = batch.documents;
  for (; at < size; at += std::min(size - at, options_.seq_len)) {
    batch.cu_seqlens[batch.padded_documents++] = at;
    std::iota(batch.positions + at, batch.positions + std::min(size, at + options_.seq_len), 0);
  }
  batch.cu_seqlens[batch.padded_documents] = size;
}

void Loader::restore(const LoaderState& state) {
  if (state.seed != options_.seed || state.epoch < 0 || state.row < 0 || state.row > rows_per_epoch_) {
    bad_file(
        "the data position of the checkpoint (seed {}, epoch {}, row {}) does not belong to this data set and these options "
        "(seed {}, {} rows an epoch); resume with the options of the first run",
        state.seed, state.epoch, state.row, options_.seed, rows_per_epoch_);
  }
  epoch_ = state.epoch;
  step_row_ = next_row_ = state.row;
  plan_epoch();
}

}  // namespace tll
