// Adds up the gradients of a step's micro-batches, on this rank and on others, and brings together what ranks hold apart.
//
// A step has micro_batches() = --grad-accum · ranks of them. Micro-batch m of rank r is number m · ranks + r of the step, and
// sums run in that order (src/model/shards.h). So for each bucket that a backward pass completes:
//
//   exchange    each rank gets its piece of the bucket from all ranks                     bytes · (ranks - 1) / ranks, out and in
//   AddParts    sum += the piece of rank 0, then that of rank 1, …
//
// Once a step, all_gather brings the sums to all ranks, or the updated values where the optimizer is split: as many bytes again.
//
// On a GPU all collectives run on the copy stream: the first two beside the backward pass of the next block.
#pragma once

#include <array>
#include <vector>

#include "src/model/trained.h"
#include "src/ranks/collectives.h"

namespace tll {

template <class Float>
class GradientSums : public GradientSink {
 public:
  GradientSums(const TrainedRange<Float>& trained, int grad_accum) : trained_(trained), grad_accum_(grad_accum) {}
  ~GradientSums() override;
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;

  // Null, as without this call: a single rank, or a plan.
  void connect(Collectives* collectives) { collectives_ = collectives; }
  void place(Arena& arena);
  // Fills the tables, after the second place().
  void initialize(const Device& device) const;

  int micro_batches() const { return grad_accum_ * ranks().size; }
  int number_of(int m) const { return m * ranks().size + ranks().rank; }  // of this rank's micro-batch m in the step

  // ---- a step's parts, all enqueued.
  void begin_step(const Device& device) const;
  void begin(const Device& device, size_t bucket) override;
  void complete(const Device& device, size_t bucket) override;
  void begin_micro_batch() { pending_ = {}; }
  void end_micro_batch(const Device& device);
  void keep_loss(const Device& device, const double* loss, int m) const;  // of this rank's micro-batch m
  // The step's loss (1) and Σ gradient² (1), the same bits on all ranks. Afterwards each rank has the gradients that it updates.
  void finish(const Device& device, double* loss, double* norm_squared);
  // After an update of split states: every rank gets the values of all, or where those are split too, their compute copy.
  void share_values(const Device& device);

 private:
  const RankOptions& ranks() const { return trained_.shards.ranks(); }
  int64_t width() const { return static_cast<int64_t>(dtype_bytes(trained_.dtype)); }
  DType shared_dtype() const { return trained_.splits_values ? trained_.compute_dtype() : trained_.dtype; }
  void* sum_of(const OwnedPiece& piece) const;
  void gather(const Device& device, void* data, const std::vector<int64_t>& bounds);
  // What is known of a bucket beforehand, so that a step allocates nothing.
  struct OfBucket {
    std::vector<int64_t> gradient_bounds, value_bounds;  // bytes
    OwnedPiece own;
  };
  void add_parts(const Device& device, const OfBucket& bucket, const void* parts) const;
  void order(const Device& before, const Device& after, void*& event);

  const TrainedRange<Float>& trained_;
  int grad_accum_;
  Collectives* collectives_ = nullptr;
  std::byte* received_ = nullptr;    // (ranks, largest piece)
  double* losses_ = nullptr;         // (ranks, grad_accum)  of micro-batches
  double* squares_ = nullptr;        // (blocks)  sums of squares: bucket after bucket, or where split rank after rank
  int32_t* loss_order_ = nullptr;    // (ranks, grad_accum)  where the loss of each micro-batch is, in the order of the step
  int32_t* square_order_ = nullptr;  // (blocks)  where split: where those of each bucket are
  int64_t blocks_ = 0;
  std::vector<int64_t> square_bounds_, loss_bounds_;  // (ranks + 1)  bytes
  std::vector<OfBucket> buckets_;
  std::vector<int32_t> loss_places_, square_places_;
  // On a GPU.
  Device device_;
  std::array<void*, 2> added_ = {};  // events: what was in a slot is added
  std::array<bool, 2> pending_ = {};
  void *computed_ = nullptr, *all_added_ = nullptr;
};

}  // namespace tll
