// How what is trained is divided among the ranks of a run.
//
// The flat range of trained values (src/model/trained.h) is a row of buckets: the tensors of one block, or those outside the
// blocks. The gradient of a bucket is complete at one moment of the backward pass. Each bucket is cut into as many pieces as
// there are ranks, and rank r owns piece r of each.
//
//   flat range   | outside | block 0     | block 1     | … |      a bucket   | piece 0 | piece 1 | … |
//
// The owner of a piece adds up its gradients: micro-batch after micro-batch, and within one rank after rank. This is the order in
// which a single rank with as many micro-batches adds them, so the sums have the same bits with any number of ranks.
//
// What else is divided (ZeRO, Rajbhandari et al. 2020): with Shard::optimizer and Shard::gradients a rank holds of sums,
// optimizer states and master values its own pieces alone. (The two are the same here: a sum is made where it is needed.) With
// Shard::weights the frozen weights of the blocks are divided too.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tll {

enum class Shard : uint8_t { none, optimizer, gradients, weights };

// A rank's place in a run, and what it shares.
struct RankOptions {
  int rank = 0, size = 1;
  Shard shard = Shard::none;
  bool splits() const { return size > 1 && shard != Shard::none; }
  bool splits_weights() const { return size > 1 && shard == Shard::weights; }
};

struct Bucket {
  int layer;  // -1: outside the blocks; a layer has several where its tensors are many
  int64_t first, count;
  std::vector<int64_t> bounds;  // (ranks + 1)  rank r owns elements bounds[r] … bounds[r+1]-1 of the flat range
};

// Elements first … first+count-1 of the flat range, which an owner's own array holds from `own` on.
struct OwnedPiece {
  int64_t first, count, own;
};

class Shards {
 public:
  Shards() = default;
  // Buckets without bounds. An inner bound is at a multiple of `unit` from its bucket's first element, where `may_cut` allows it.
  Shards(const RankOptions& ranks, std::vector<Bucket> buckets, int64_t unit, const std::function<bool(int64_t)>& may_cut);

  const std::vector<Bucket>& buckets() const { return buckets_; }
  const RankOptions& ranks() const { return ranks_; }
  int size() const { return ranks_.size; }
  // The pieces of a rank in ascending order; one after another where they touch.
  std::vector<OwnedPiece> pieces_of(int rank) const;
  const std::vector<OwnedPiece>& own() const { return own_; }
  // The most elements that a rank owns, and of one bucket. Every rank plans for as many.
  int64_t most_owned() const;
  int64_t largest_piece() const;
  // The bounds of a bucket in bytes, for elements of `bytes` each, from its first element on.
  std::vector<int64_t> byte_bounds(const Bucket& bucket, size_t bytes) const;
  // The bucket that holds an element.
  size_t bucket_of(int64_t element) const;

 private:
  RankOptions ranks_;
  std::vector<Bucket> buckets_;
  std::vector<OwnedPiece> own_;
};

struct Device;

// What the backward pass tells of its gradients, where they are added up apart.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // The backward pass will write the gradients of a bucket, which must be zero; they are complete. In the same order on all
  // ranks.
  virtual void begin(const Device&, size_t bucket) = 0;
  virtual void complete(const Device&, size_t bucket) = 0;
};

}  // namespace tll
