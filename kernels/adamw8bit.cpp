#include <algorithm>

#include "kernels/adamw8bit_rules.h"

namespace tll {
namespace {

constexpr int kBlock = AdamW8bit::kBlock;

// A block of n values: p and g are read and converted, and p is written back.
template <class Float>
void update_block(const AdamW8bit& op, const MomentConstants& k, int64_t block, const TrainedSpan& span) {
  const AdamWFactors& f = *op.factors;
  const int64_t inside = (block - span.first_block) * kBlock;
  const int n = static_cast<int>(std::min<int64_t>(kBlock, span.count - inside));
  Float* param = static_cast<Float*>(op.param) + span.offset + inside;
  const Float* grad = static_cast<const Float*>(op.grad) + span.offset + inside;
  const bool codes = block < op.code_blocks;
  const int64_t row = block - (codes ? op.first : op.code_blocks);  // of the state
  float decoded_m[kBlock], decoded_v[kBlock];                       // codes only
  float* m = codes ? decoded_m : op.m + row * kBlock;
  float* v = codes ? decoded_v : op.v + row * kBlock;
  if (codes) {
    uint8_t *m_codes = op.m_codes + row * kBlock, *v_codes = op.v_codes + row * kBlock;
    const float *signed_map = op.maps, *unsigned_map = op.maps + 256;
    const float m_before = op.m_absmax[row], v_before = op.v_absmax[row];
    float largest_m = 0, largest_v = 0;
#pragma omp simd reduction(max : largest_m, largest_v)
    for (int i = 0; i < n; i++) {
      const float raw = to_acc(grad[i]), g = raw * f.grad_scale;
      const bool finite = raw - raw == 0;
      m[i] = finite ? first_moment(g, signed_map[m_codes[i]], m_before, k) : 0.0f;
      v[i] = finite ? second_moment(g, unsigned_map[v_codes[i]], v_before, k) : 0.0f;
      largest_m = std::max(largest_m, std::abs(m[i]));
      largest_v = std::max(largest_v, v[i]);
    }
    op.m_absmax[row] = largest_m, op.v_absmax[row] = largest_v;
    const float m_inverse = reciprocal(largest_m), v_inverse = reciprocal(largest_v);
#pragma omp simd
    for (int i = 0; i < n; i++) {
      m_codes[i] = static_cast<uint8_t>(first_code(signed_map, m[i], m_inverse));
      v_codes[i] = static_cast<uint8_t>(second_code(unsigned_map, v[i], v_inverse, op.guard));
    }
  } else {
#pragma omp simd
    for (int i = 0; i < n; i++) {
      const float g = to_acc(grad[i]) * f.grad_scale;
      m[i] = first_moment(g, m[i], k);
      v[i] = second_moment(g, v[i], k);
    }
  }
#pragma omp simd
  for (int i = 0; i < n; i++) {
    const float raw = to_acc(grad[i]);
    const Float next = from_acc<Float>(moved(to_acc(param[i]), m[i], v[i], f, k));
    const Float decayed = from_acc<Float>(to_acc(next) * f.decay);
    param[i] = codes && raw - raw != 0 ? param[i] : decayed;
  }
}

}  // namespace

template <Isa>
void AdamW8bit::cpu() const {
  if (factors->apply == 0) return;
  const MomentConstants constants = moment_constants(*this);
  with_storage_type(dtype, [&](auto type) {
#pragma omp parallel for schedule(static)
    for (int64_t b = first; b < first + blocks; b++) update_block<decltype(type)>(*this, constants, b, span_of(*this, b));
  });
}

template void AdamW8bit::cpu<kIsa>() const;

}  // namespace tll
