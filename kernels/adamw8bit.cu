// Memory-bound, and rich in look-ups: a warp updates a block, a lane eight consecutive values of it. Both maps lie in shared
// memory.
#include "kernels/adamw8bit_rules.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 256, kOwn = 8, kCodes = 256;
static_assert(kOwn * kWarp == AdamW8bit::kBlock, "a warp's values are a block");

// The lane's codes. Those beyond the end of a tensor are there, and 0.
TLL_DEVICE Vec<uint8_t, kOwn> load_codes(const uint8_t* codes) {
  if (vec_aligned<kOwn>(codes, 0)) return load_vec<kOwn>(codes);
  Vec<uint8_t, kOwn> x;
#pragma unroll
  for (int j = 0; j < kOwn; j++) x[j] = codes[j];
  return x;
}
TLL_DEVICE void store_codes(uint8_t* codes, const Vec<uint8_t, kOwn>& x) {
  if (vec_aligned<kOwn>(codes, 0)) return store_vec(codes, x);
#pragma unroll
  for (int j = 0; j < kOwn; j++) codes[j] = x[j];
}

// m and v of the lane's values, from codes and back to codes.
TLL_DEVICE void update_codes(const AdamW8bit& op, const MomentConstants& k, const float* maps, float grad_scale, int64_t row,
                             int64_t valid, const float (&g)[kOwn], float (&m)[kOwn], float (&v)[kOwn]) {
  const float *signed_map = maps, *unsigned_map = maps + kCodes;
  const int64_t own = row * AdamW8bit::kBlock + lane_id() * kOwn;
  Vec<uint8_t, kOwn> m_codes = load_codes(op.m_codes + own), v_codes = load_codes(op.v_codes + own);
  const float m_before = op.m_absmax[row], v_before = op.v_absmax[row];
  float largest_m = 0, largest_v = 0;
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    const bool used = j < valid && g[j] - g[j] == 0;
    m[j] = used ? first_moment(g[j] * grad_scale, signed_map[m_codes[j]], m_before, k) : 0.0f;
    v[j] = used ? second_moment(g[j] * grad_scale, unsigned_map[v_codes[j]], v_before, k) : 0.0f;
    largest_m = fmaxf(largest_m, fabsf(m[j]));
    largest_v = fmaxf(largest_v, v[j]);
  }
  largest_m = warp_max(largest_m), largest_v = warp_max(largest_v);
  const float m_inverse = reciprocal(largest_m), v_inverse = reciprocal(largest_v);
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    m_codes[j] = static_cast<uint8_t>(j < valid ? first_code(signed_map, nearest_code(signed_map, m[j] * m_inverse), m[j]) : 0);
    v_codes[j] = static_cast<uint8_t>(j < valid ? second_code(nearest_code(unsigned_map, v[j] * v_inverse), v[j], op.guard) : 0);
  }
  store_codes(op.m_codes + own, m_codes);
  store_codes(op.v_codes + own, v_codes);
  __syncwarp();  // every lane has read what is written now
  if (lane_id() == 0) op.m_absmax[row] = largest_m, op.v_absmax[row] = largest_v;
}

template <class Float>
__global__ void __launch_bounds__(kThreads)
    adamw8bit_kernel(const __grid_constant__ AdamW8bit op, const __grid_constant__ MomentConstants k) {
  __shared__ float maps[2 * kCodes];
  const AdamWFactors f = *op.factors;
  if (f.apply == 0) return;
  if (op.with_codes()) {
    for (int i = threadIdx.x; i < 2 * kCodes; i += kThreads) maps[i] = op.maps[i];
    __syncthreads();
  }
  const int64_t block = op.first + int64_t{blockIdx.x} * (kThreads / kWarp) + warp_id();
  if (block >= op.first + op.blocks) return;
  const TrainedSpan span = span_of(op, block);
  const int64_t inside = (block - span.first_block) * AdamW8bit::kBlock + lane_id() * kOwn, valid = span.count - inside;
  Float* param = static_cast<Float*>(op.param) + span.offset + inside;
  const Float* grad = static_cast<const Float*>(op.grad) + span.gradient + inside;
  const bool vector_p = vec_aligned<kVec<Float>>(param, 0), codes = block < op.code_blocks;
  float p[kOwn], g[kOwn], m[kOwn], v[kOwn];
  load_floats(p, param, valid, vector_p);
  load_floats(g, grad, valid, vec_aligned<kVec<Float>>(grad, 0));
  if (codes) {
    update_codes(op, k, maps, f.grad_scale, block - op.first, valid, g, m, v);
  } else {
    const int64_t own = (block - op.code_blocks) * AdamW8bit::kBlock + lane_id() * kOwn;
    const bool vector = vec_aligned<4>(op.m, 0) && vec_aligned<4>(op.v, 0);
    load_floats(m, op.m + own, valid, vector);
    load_floats(v, op.v + own, valid, vector);
#pragma unroll
    for (int j = 0; j < kOwn; j++) {
      m[j] = first_moment(g[j] * f.grad_scale, m[j], k);
      v[j] = second_moment(g[j] * f.grad_scale, v[j], k);
    }
    store_floats(op.m + own, m, valid, vector);
    store_floats(op.v + own, v, valid, vector);
  }
#pragma unroll
  for (int j = 0; j < kOwn; j++)
    if (!codes || g[j] - g[j] == 0) p[j] = to_float(from_float<Float>(moved(p[j], m[j], v[j], f, k))) * f.decay;
  store_floats(param, p, valid, vector_p);
}

}  // namespace

void AdamW8bit::cuda(const Device& device) const {
  if (blocks == 0) return;
  with_storage_type(dtype, [&](auto type) {
    launch<adamw8bit_kernel<decltype(type)>>(blocks_for(blocks, kThreads / kWarp), kThreads, 0, stream_of(device), *this,
                                             moment_constants(*this));
  });
}

}  // namespace tll
