// The loader: packs the documents of one split into rows, shuffles them by seed, and fills batches that the caller owns.
//
// An epoch is a list of rows of at most seq_len tokens; an optimizer step takes grad_accum x world x rows of them, in this order:
// micro-batch, then rank, then row. So one rank with grad_accum N, N ranks, and a batch of N rows all see the same rows in a
// step. The last step of an epoch takes what is left, and empty rows after it (no tokens, no targets).
//
// packing on, shuffle on    best-fit decreasing over the whole epoch (documents of one length in shuffled order), rows then
//                           shuffled. How many rows that gives depends on the lengths alone: every epoch has as many steps.
// packing on, shuffle off   documents in file order; a row ends where the next document does not fit.
// packing off               one document a row, shuffled or in file order.
//
// Documents stay whole. In a batch they stand one after another, row 0's first, and all padding is at the end, positions
// [token_count, B*T), as documents of its own of at most T tokens. So a document may cross a multiple of T, and only cu_seqlens
// tells where it is. An engine may skip everything from token_count on.
// Source of the rules for packed documents: positions restart, the last position has no target (transformers' padding-free
// collator; torchtune's PackedDataset).
//
// The shuffle is a Fisher-Yates over SplitMix64 (Steele et al. 2014), the same on every machine. The state is three integers.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace tll {

inline constexpr int32_t kNoTarget = -1;

struct LoaderOptions {
  int32_t rows = 1;        // B, --batch-size, of one rank and micro-batch
  int32_t seq_len = 1024;  // T
  int32_t grad_accum = 1;  // micro-batches of a step
  int32_t rank = 0, world = 1;
  bool packing = true, shuffle = true;
  uint64_t seed = 42;
  Split split = Split::kTrain;
  int64_t most_documents = 0;  // of the split, the first ones; 0: all
};

// Where the run is: the next step takes rows from `row` on. Same data and options + this = the same batches.
struct LoaderState {
  uint64_t seed = 0;
  int64_t epoch = 0, row = 0;
  bool operator==(const LoaderState&) const = default;
};

// Buffers belong to the caller: B*T each, and B*T + 1 for cu_seqlens.
struct BatchView {
  int32_t* tokens = nullptr;      // padding: 0
  int32_t* targets = nullptr;     // the label of the next position of the same document; kNoTarget: not trained
  int32_t* positions = nullptr;   // from 0 in each document, padding too
  int32_t* cu_seqlens = nullptr;  // document i is [cu_seqlens[i], cu_seqlens[i+1]); the last entry is B*T
  // Filled in:
  int32_t documents = 0;         // real ones
  int32_t padded_documents = 0;  // with those of the padding; cu_seqlens has one entry more
  int32_t token_count = 0;       // without padding
  int32_t target_count = 0;      // targets != kNoTarget
};

// An optimizer step over all its micro-batches and all ranks: the loss is divided by its target_tokens.
struct StepInfo {
  int64_t epoch = 0;
  int64_t documents = 0, tokens = 0, target_tokens = 0;
};

class Shuffler;

class Loader {
 public:
  // `dataset` must outlive the loader. All memory is taken here. Errors: kExitBadFile if the split has no documents, or one that
  // is longer than seq_len.
  Loader(const Dataset& dataset, const LoaderOptions& options);

  int64_t rows_per_epoch() const { return rows_per_epoch_; }
  int64_t steps_per_epoch() const { return (rows_per_epoch_ + rows_per_step() - 1) / rows_per_step(); }

  // Moves to the next step (to the next epoch if this one has ended). No allocation.
  StepInfo next_step();
  // Micro-batch m (0 <= m < grad_accum) of the current step and this rank. No allocation; may be called again.
  void micro_batch(int m, BatchView& batch) const;

  LoaderState state() const { return {options_.seed, epoch_, next_row_}; }  // after the current step
  void restore(const LoaderState& state);  // Error (kExitBadFile) if it cannot belong to this data set

 private:
  template <class Visit>
  void for_each_member(Visit&& visit) const;
  void plan_epoch();
  void pack_best_fit(Shuffler& shuffler);
  void pack_in_order();
  int32_t length_of(int32_t document) const { return data_.documents[size_t(document)].length; }
  int64_t rows_per_step() const { return int64_t(options_.rows) * options_.grad_accum * options_.world; }

  const Dataset& data_;
  LoaderOptions options_;
  int64_t rows_per_epoch_ = 0;
  int64_t epoch_ = 0;                    // of the current step, and of order_ and row_begin_
  int64_t step_row_ = 0, next_row_ = 0;  // the current step takes the rows from the first to before the second

  std::vector<int32_t> order_;       // the epoch's documents, row after row
  std::vector<uint32_t> row_begin_;  // (rows + 1) into order_
  // Used while an epoch is planned, of fixed size. With the two above these are 16 bytes a document.
  std::vector<int32_t> sorted_;        // documents, longest first
  std::vector<int32_t> of_rows_;       // the next row with as much free space; later the row's place in the epoch
  std::vector<int32_t> bucket_;        // (T + 1) first row with so much free space, or -1
  std::vector<uint64_t> bucket_bits_;  // which of them are not empty
  std::vector<uint32_t> count_;        // (T + 2) counting sort by length
};

}  // namespace tll
