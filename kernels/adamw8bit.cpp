#include <algorithm>

#include "kernels/adamw8bit_rules.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kBlock = AdamW8bit::kBlock;

// nearest_code() of x · inverse for a block, level by level of the search, so that the loops are vectorised.
void nearest_codes(int* codes, const float* map, const float* x, float inverse, int n) {
  int upper[kBlock] = {};  // the first value that is not below, at most 255
  for (int step = 128; step > 0; step /= 2)
#pragma omp simd
    for (int i = 0; i < n; i++) upper[i] += map[upper[i] + step - 1] < x[i] * inverse ? step : 0;
#pragma omp simd
  for (int i = 0; i < n; i++) {
    const int lower = upper[i] > 0 ? upper[i] - 1 : 0;
    const float scaled = x[i] * inverse, middle = 0.5f * (map[lower] + map[upper[i]]);
    const int at_middle = (upper[i] & 1) == 0 ? upper[i] : lower;
    const int not_above = scaled == middle ? at_middle : lower;
    codes[i] = scaled > middle ? upper[i] : not_above;
  }
}

// The moments of n values, from codes and back to codes.
void update_codes(const AdamW8bit& op, const MomentConstants& k, int64_t row, int n, const float* raw, float* m, float* v) {
  uint8_t *m_codes = op.m_codes + row * kBlock, *v_codes = op.v_codes + row * kBlock;
  const float *signed_map = op.maps, *unsigned_map = op.maps + 256, scale = op.factors->grad_scale;
  const bool guard = op.guard;
  const float m_before = op.m_absmax[row], v_before = op.v_absmax[row];
  float largest_m = 0, largest_v = 0;
#pragma omp simd reduction(max : largest_m, largest_v)
  for (int i = 0; i < n; i++) {
    const float g = raw[i] * scale, first = first_moment(g, signed_map[m_codes[i]], m_before, k),
                second = second_moment(g, unsigned_map[v_codes[i]], v_before, k);
    const bool finite = raw[i] - raw[i] == 0;
    m[i] = finite ? first : 0.0f;
    v[i] = finite ? second : 0.0f;
    largest_m = std::max(largest_m, std::abs(m[i]));
    largest_v = std::max(largest_v, v[i]);
  }
  op.m_absmax[row] = largest_m, op.v_absmax[row] = largest_v;
  int codes[kBlock];
  nearest_codes(codes, signed_map, m, reciprocal(largest_m), n);
#pragma omp simd
  for (int i = 0; i < n; i++) m_codes[i] = static_cast<uint8_t>(first_code(signed_map, codes[i], m[i]));
  nearest_codes(codes, unsigned_map, v, reciprocal(largest_v), n);
#pragma omp simd
  for (int i = 0; i < n; i++) v_codes[i] = static_cast<uint8_t>(second_code(codes[i], v[i], guard));
}

template <class Float>
void update_block(const AdamW8bit& op, const MomentConstants& k, int64_t block, const TrainedSpan& span) {
  const AdamWFactors& f = *op.factors;
  const int64_t inside = (block - span.first_block) * kBlock;
  const int n = static_cast<int>(std::min<int64_t>(kBlock, span.count - inside));
  Float* param = static_cast<Float*>(op.param) + span.offset + inside;
  const Float* grad = static_cast<const Float*>(op.grad) + span.gradient + inside;
  float raw[kBlock], decoded_m[kBlock], decoded_v[kBlock];
#pragma omp simd
  for (int i = 0; i < n; i++) raw[i] = to_acc(grad[i]);
  const bool codes = block < op.code_blocks;
  float *m = decoded_m, *v = decoded_v;
  if (codes) {
    update_codes(op, k, block - op.first, n, raw, m, v);
  } else {
    m = op.m + (block - op.code_blocks) * kBlock, v = op.v + (block - op.code_blocks) * kBlock;
#pragma omp simd
    for (int i = 0; i < n; i++) {
      const float g = raw[i] * f.grad_scale;
      m[i] = first_moment(g, m[i], k);
      v[i] = second_moment(g, v[i], k);
    }
  }
#pragma omp simd
  for (int i = 0; i < n; i++) {
    const float p = to_acc(param[i]), next = to_acc(from_acc<Float>(moved(p, m[i], v[i], f, k))) * f.decay;
    param[i] = from_acc<Float>(codes && raw[i] - raw[i] != 0 ? p : next);
  }
}

}  // namespace

template <Isa>
void AdamW8bit::cpu() const {
  if (factors->apply == 0) return;
  const MomentConstants constants = moment_constants(*this);
  with_storage_type(dtype, [&](auto type) {
    parallel_for(blocks, 64 * kBlock,
                 [&](int64_t b) { update_block<decltype(type)>(*this, constants, first + b, span_of(*this, first + b)); });
  });
}

template void AdamW8bit::cpu<kIsa>() const;

}  // namespace tll
