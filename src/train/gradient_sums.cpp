#include "src/train/gradient_sums.h"

#include "kernels/reduce.h"

namespace tll {

namespace {

// Bytes that a rank gets of an exchange, or of a gather.
double from_others(const std::vector<int64_t>& bounds) {
  const double ranks = static_cast<double>(bounds.size() - 1);
  return static_cast<double>(bounds.back()) * (ranks - 1) / ranks;
}

}  // namespace

template <class Float>
GradientSums<Float>::~GradientSums() {
  for (void* event : {added_[0], added_[1], computed_, all_added_})
    if (event) close_event(device_, event);
}

template <class Float>
void GradientSums<Float>::place(Arena& arena) {
  const Shards& shards = trained_.shards;
  const int size = ranks().size;
  if (micro_batches() > 1) arena.place(losses_, "step.losses", {size, grad_accum_}, Category::scratch);
  const bool split = ranks().splits();
  buckets_.clear(), loss_bounds_.clear();
  int64_t own = 0;
  for (const Bucket& b : shards.buckets()) {
    const size_t r = static_cast<size_t>(ranks().rank);
    buckets_.push_back({shards.byte_bounds(b, dtype_bytes(trained_.dtype)),
                        shards.byte_bounds(b, dtype_bytes(shared_dtype())),
                        {b.bounds[r], b.bounds[r + 1] - b.bounds[r], own}});
    own += buckets_.back().own.count;
  }
  for (int r = 0; r <= size; r++) loss_bounds_.push_back(int64_t{r} * grad_accum_ * static_cast<int64_t>(sizeof(double)));
  // Where each rank's sums of squares begin, and for each block of each bucket where its sum is.
  blocks_ = 0;
  square_bounds_ = {0};
  square_places_.clear(), loss_places_.clear();
  for (int r = 0; r < size; r++) {
    int64_t blocks = 0;
    for (const Bucket& b : shards.buckets()) blocks += SumOfSquares::blocks(b.bounds[size_t(r) + 1] - b.bounds[size_t(r)]);
    blocks_ += blocks;
    square_bounds_.push_back(blocks_ * static_cast<int64_t>(sizeof(double)));
  }
  arena.place(squares_, "norm.partial", {blocks_}, Category::scratch, during(StepPhase::update));
  if (size == 1) return;
  arena.place(loss_order_, "step.loss_order", {size, grad_accum_}, Category::scratch);
  for (int m = 0; m < grad_accum_; m++)
    for (int r = 0; r < size; r++) loss_places_.push_back(r * grad_accum_ + m);
  received_ = static_cast<std::byte*>(arena.place_bytes("received", {size, shards.largest_piece()}, trained_.dtype,
                                                        Category::scratch, {StepPhase::batch, StepPhase::backward_qkv}));
  if (!split) return;
  std::vector<int64_t> next(square_bounds_.begin(), square_bounds_.end() - 1);
  for (const Bucket& b : shards.buckets())
    for (size_t r = 0; r < next.size(); r++)
      for (int64_t i = SumOfSquares::blocks(b.bounds[r + 1] - b.bounds[r]); i > 0; i--, next[r] += sizeof(double))
        square_places_.push_back(static_cast<int32_t>(next[r] / static_cast<int64_t>(sizeof(double))));
  arena.place(square_order_, "norm.order", {blocks_}, Category::scratch);
}

template <class Float>
void GradientSums<Float>::initialize(const Device& device) const {
  const auto fill = [&](int32_t* to, const std::vector<int32_t>& from) {
    if (to) upload(device, to, from.data(), from.size() * sizeof(int32_t));
  };
  fill(loss_order_, loss_places_);
  fill(square_order_, square_places_);
  synchronize(device);
}

template <class Float>
void* GradientSums<Float>::sum_of(const OwnedPiece& piece) const {
  return static_cast<std::byte*>(trained_.gradients) + (ranks().splits() ? piece.own : piece.first) * width();
}

// sum += of this rank's piece of a bucket, as each rank has it.
template <class Float>
void GradientSums<Float>::add_parts(const Device& device, const OfBucket& bucket, const void* parts) const {
  if (bucket.own.count > 0)
    run(device,
        AddParts{
            .sum = sum_of(bucket.own), .parts = parts, .count = ranks().size, .n = bucket.own.count, .dtype = trained_.dtype});
}

template <class Float>
void GradientSums<Float>::order(const Device& before, const Device& after, void*& event) {
  if (!event) device_ = before, event = open_event(before);
  record_event(before, event);
  come_after(after, event);
}

template <class Float>
void GradientSums<Float>::begin_step(const Device& device) const {
  trained_.clear_gradients(device);
  if (losses_) set_zero(device, losses_, static_cast<size_t>(micro_batches()) * sizeof(double));
}

template <class Float>
void GradientSums<Float>::begin(const Device& device, size_t bucket) {
  const Bucket& b = trained_.shards.buckets()[bucket];
  if (const size_t slot = static_cast<size_t>(b.layer) % 2; !on_host(device) && b.layer >= 0 && pending_[slot]) {
    come_after(device, added_[slot]);
    pending_[slot] = false;
  }
  set_zero(device, trained_.bucket_gradients[bucket], static_cast<size_t>(b.count * width()));
}

template <class Float>
void GradientSums<Float>::complete(const Device& device, size_t bucket) {
  const Bucket& b = trained_.shards.buckets()[bucket];
  const void* const gradient = trained_.bucket_gradients[bucket];
  const OfBucket& of = buckets_[bucket];
  if (ranks().size == 1) return add_parts(device, of, gradient);
  if (device.dry || on_host(device)) {
    if (device.dry)
      pass_link_time(device, kGradientTraffic, from_others(of.gradient_bounds));
    else
      collectives_->exchange(device, received_, gradient, of.gradient_bounds);
    return add_parts(device, of, received_);
  }
  const Device copies = on_copy_stream(device);
  order(device, copies, computed_);
  collectives_->exchange(copies, received_, gradient, of.gradient_bounds);
  add_parts(copies, of, received_);
  if (b.layer < 0) return order(copies, device, all_added_);
  const size_t slot = static_cast<size_t>(b.layer) % 2;
  if (!added_[slot]) device_ = device, added_[slot] = open_event(device);
  record_event(copies, added_[slot]);
  pending_[slot] = true;
}

template <class Float>
void GradientSums<Float>::end_micro_batch(const Device& device) {
  for (const size_t slot : {0u, 1u})
    if (pending_[slot]) come_after(device, added_[slot]), pending_[slot] = false;
}

template <class Float>
void GradientSums<Float>::keep_loss(const Device& device, const double* loss, int m) const {
  copy_within(device, losses_ + ranks().rank * grad_accum_ + m, loss, sizeof(double));
}

template <class Float>
void GradientSums<Float>::gather(const Device& device, void* data, const std::vector<int64_t>& bounds) {
  if (device.dry) return pass_link_time(device, kGatherTraffic, from_others(bounds));
  if (on_host(device)) return collectives_->all_gather(device, data, bounds);
  const Device copies = on_copy_stream(device);
  order(device, copies, computed_);
  collectives_->all_gather(copies, data, bounds);
  order(copies, device, all_added_);
}

template <class Float>
void GradientSums<Float>::finish(const Device& device, double* loss, double* norm_squared) {
  const int size = ranks().size;
  if (size > 1) gather(device, losses_, loss_bounds_);
  if (losses_) run(device, AddDoubles{.out = loss, .x = losses_, .order = loss_order_, .n = micro_batches()});
  double* squares = squares_;
  const auto add_squares = [&](const void* gradients, int64_t n) {
    run(device, SumOfSquares{.partial = squares, .x = gradients, .n = n, .dtype = trained_.dtype});
    squares += SumOfSquares::blocks(n);
  };
  if (ranks().splits()) {
    squares = reinterpret_cast<double*>(reinterpret_cast<std::byte*>(squares_) + square_bounds_[size_t(ranks().rank)]);
    for (const OfBucket& of : buckets_)
      if (of.own.count > 0) add_squares(sum_of(of.own), of.own.count);
    gather(device, squares_, square_bounds_);
  } else {
    for (size_t b = 0; b < buckets_.size(); b++) {
      const Bucket& bucket = trained_.shards.buckets()[b];
      std::byte* const sums = static_cast<std::byte*>(trained_.gradients) + bucket.first * width();
      if (size > 1) gather(device, sums, buckets_[b].gradient_bounds);
      add_squares(sums, bucket.count);
    }
  }
  run(device, AddDoubles{.out = norm_squared, .x = squares_, .order = square_order_, .n = blocks_});
}

template <class Float>
void GradientSums<Float>::share_values(const Device& device) {
  if (!ranks().splits()) return;
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(shared_dtype()));
  std::byte* const all = static_cast<std::byte*>(trained_.splits_values ? trained_.compute : trained_.values);
  for (size_t b = 0; b < buckets_.size(); b++)
    gather(device, all + trained_.shards.buckets()[b].first * bytes, buckets_[b].value_bounds);
}

template class GradientSums<float>;
template class GradientSums<bf16>;
template class GradientSums<half>;

}  // namespace tll
