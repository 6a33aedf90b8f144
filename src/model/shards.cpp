#include "src/model/shards.h"

#include <algorithm>

#include "src/base/check.h"

namespace tll {

Shards::Shards(const RankOptions& ranks, std::vector<Bucket> buckets, int64_t unit, const std::function<bool(int64_t)>& may_cut)
    : ranks_(ranks), buckets_(std::move(buckets)) {
  for (Bucket& b : buckets_) {
    b.bounds = {b.first};
    for (int r = 1; r < ranks.size; r++) {
      int64_t cut = b.count * r / ranks.size / unit * unit;
      while (cut > 0 && !may_cut(b.first + cut)) cut -= unit;
      b.bounds.push_back(std::max(b.bounds.back(), b.first + std::max<int64_t>(cut, 0)));
    }
    b.bounds.push_back(b.first + b.count);
  }
  own_ = pieces_of(ranks.rank);
}

std::vector<OwnedPiece> Shards::pieces_of(int rank) const {
  std::vector<OwnedPiece> pieces;
  int64_t own = 0;
  for (const Bucket& b : buckets_) {
    const size_t r = static_cast<size_t>(rank);
    const OwnedPiece piece{b.bounds[r], b.bounds[r + 1] - b.bounds[r], own};
    own += piece.count;
    if (piece.count == 0) continue;
    if (!pieces.empty() && pieces.back().first + pieces.back().count == piece.first)
      pieces.back().count += piece.count;
    else
      pieces.push_back(piece);
  }
  return pieces;
}

int64_t Shards::most_owned() const {
  int64_t most = 0;
  for (int r = 0; r < ranks_.size; r++) {
    int64_t sum = 0;
    for (const OwnedPiece& piece : pieces_of(r)) sum += piece.count;
    most = std::max(most, sum);
  }
  return most;
}

int64_t Shards::largest_piece() const {
  int64_t most = 0;
  for (const Bucket& b : buckets_)
    for (size_t r = 1; r < b.bounds.size(); r++) most = std::max(most, b.bounds[r] - b.bounds[r - 1]);
  return most;
}

std::vector<int64_t> Shards::byte_bounds(const Bucket& bucket, size_t bytes) const {
  std::vector<int64_t> bounds = bucket.bounds;
  for (int64_t& bound : bounds) bound = (bound - bucket.first) * static_cast<int64_t>(bytes);
  return bounds;
}

size_t Shards::bucket_of(int64_t element) const {
  for (size_t b = 0; b < buckets_.size(); b++)
    if (element >= buckets_[b].first && element < buckets_[b].first + buckets_[b].count) return b;
  TLL_CHECK(false, "element {} is in no bucket", element);
  return 0;
}

}  // namespace tll
