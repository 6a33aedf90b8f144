// Forward (FlashAttention-2) for sm_90: a block of two warpgroups owns a tile of 128 queries of one head, each warpgroup 64 of
// them. Tiles of keys and values stream by, with two stages: one is filled while the other is used. S = Q·Kᵀ reads both from
// shared memory; for O += P·V the warpgroup keeps P in registers. Two blocks share an SM: while one warpgroup waits for its
// products, others compute exponentials.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/attention_tiles.cuh"
#include "kernels/attention_wgmma.h"
#include "kernels/cuda_device.h"
#include "kernels/wgmma_tiles.cuh"

namespace tll {
namespace {

// 96 keys where a thread has 32 sums, 64 where it has 64: two blocks of 256 threads leave 128 registers each. Of 64 queries alone
// the tiles' way through shared memory (128 bytes a clock) would take longer than the products.
template <class Float, int kD_>
struct ForwardTiles {
  static constexpr int kD = kD_, kThreads = 2 * kWarpgroup, kOwn = 128, kKeys = kD <= 64 ? 96 : 64;
  using Queries = PanelTile<Float, kOwn, kD, kThreads>;
  using Keys = PanelTile<Float, kKeys, kD, kThreads>;
  static constexpr size_t kShared = kPanelAlign - 16 + (Queries::kElements + 4 * Keys::kElements) * sizeof(Float);
};

template <class Float, int kD>
__global__ void __launch_bounds__(2 * kWarpgroup, 2)
    attention_wgmma_kernel(const __grid_constant__ AttentionForward<Float> op, float scale, bool vector) {
#ifdef TLL_WGMMA
  using T = ForwardTiles<Float, kD>;
  using Queries = typename T::Queries;
  using Keys = typename T::Keys;
  constexpr int kKeys = T::kKeys, kScores = kKeys / 2, kSums = kD / 2, kStage = 2 * Keys::kElements;
  Float* q_tile = panel_begin(dynamic_shared<Float>());
  Float* stages = q_tile + Queries::kElements;  // each: keys, values
  const Documents documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window};
  const int N = op.sizes.N, D = op.sizes.D, h = blockIdx.x, g = h / (op.sizes.H / op.sizes.G);
  const int64_t stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const int i0 = static_cast<int>(gridDim.y - 1 - blockIdx.y) * T::kOwn;  // the last tile has the most keys
  const int rows = N - i0 < T::kOwn ? N - i0 : T::kOwn;
  const int begin = documents.first_key(i0), end = i0 + rows;
  const auto load = [&](int j0, int stage) {
    Float* tile = stages + stage * kStage;
    Keys::load(tile, op.k + g * D + j0 * qk_stride, qk_stride, end - j0, D, vector);
    Keys::load(tile + Keys::kElements, op.v + g * D + j0 * stride, stride, end - j0, D, vector);
  };

  // The first key that each row sees. The last one is its own. Rows beyond the end are computed and not stored.
  __shared__ int first[T::kOwn];
  for (int i = static_cast<int>(threadIdx.x); i < T::kOwn; i += T::kThreads)
    first[i] = i < rows ? documents.first_key(i0 + i) : begin;
  // The warpgroup's rows of the tile; the last tile may have none.
  const int group_row = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpgroup, 0) * 64;
  const int last_row = group_row >= rows ? -1 : rows < group_row + 64 ? rows - 1 : group_row + 63;
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {}, out[kSums] = {};

  Queries::load(q_tile, op.q + i0 * qk_stride + h * D, qk_stride, rows, D, vector);
  load(begin, 0);
  cp_async_commit();
  const float factor = scale * kLog2e;  // e^(scale·x) = 2^(factor·x)
  const uint64_t queries = Queries::k_major(q_tile) + static_cast<uint64_t>(Queries::rows_on(group_row));
  for (int j0 = begin, stage = 0; j0 < end; j0 += kKeys, stage ^= 1) {
    cp_async_wait_group<0>();
    proxy_fence();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (j0 + kKeys < end) load(j0 + kKeys, stage ^ 1);
    cp_async_commit();
    if (last_row < 0 || j0 > i0 + last_row || j0 + kKeys <= first[group_row]) continue;  // the other warpgroup's alone

    float s[kScores];
    const uint64_t keys = Keys::k_major(stages + stage * kStage);
    wgmma_fence();
#pragma unroll
    for (int c = 0; c < kD; c += 16) wgmma_ss<Float>(s, queries + Queries::columns_on(c), keys + Keys::columns_on(c), c > 0);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_results(s);

    if (j0 + kKeys - 1 > i0 + group_row || j0 < first[last_row]) {
      const int thread = thread_again(), row0 = accumulator_row(thread, 0), column0 = j0 + accumulator_column(thread, 0);
      const int from[2] = {first[row0], first[row0 + 8]};
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int r = e / 2 % 2, j = column0 + e / 4 * 8 + e % 2;
        s[e] = j > i0 + row0 + 8 * r || j < from[r] ? -INFINITY : s[e];
      }
    }
    float base[2], shrink[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float highest = top[r];
#pragma unroll
      for (int e = 0; e < kScores; e++)
        if (e / 2 % 2 == r) highest = Max()(highest, s[e]);
      highest = warp_max<4>(highest);
      base[r] = highest == -INFINITY ? 0.0f : highest * factor;  // a row that has seen no key yet
      shrink[r] = exp2_approx(fmaf(top[r], factor, -base[r]));
      top[r] = highest;
      sum[r] *= shrink[r];
    }
    if (__any_sync(kFullWarp, shrink[0] != 1.0f || shrink[1] != 1.0f)) {  // later tiles seldom hold a new maximum
#pragma unroll
      for (int e = 0; e < kSums; e++) out[e] *= shrink[e / 2 % 2];
    }
    uint32_t p[kScores / 2];
#pragma unroll
    for (int e = 0; e < kScores; e += 2) {
      const int r = e / 2 % 2;
      const float p0 = exp2_approx(fmaf(s[e], factor, -base[r])), p1 = exp2_approx(fmaf(s[e + 1], factor, -base[r]));
      sum[r] += p0;
      sum[r] += p1;
      p[e / 2] = pack2<Float>(p0, p1);
    }
    const uint64_t values = Keys::mn_major(stages + stage * kStage + Keys::kElements);
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < kKeys; j += 16) {
      const uint32_t a[4] = {p[j / 4], p[j / 4 + 1], p[j / 4 + 2], p[j / 4 + 3]};
      wgmma_rs<Float>(out, a, values + Keys::rows_on(j));
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_results(out);
  }
  const int row0 = accumulator_row(static_cast<int>(threadIdx.x), 0);
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float total = warp_sum<4>(sum[r]);
    inverse[r] = 1.0f / total;
    if (row0 + 8 * r < rows && lane_id() % 4 == 0)
      op.lse[static_cast<int64_t>(h) * N + i0 + row0 + 8 * r] = top[r] * scale + logf(total);
  }
  __syncthreads();  // nobody reads the queries any more
  const int64_t out_stride = op.sizes.out_row();
  Queries::store(op.out + i0 * out_stride + h * D, out_stride, rows, D, out, q_tile, vector, [&](int r) { return inverse[r]; });
#endif
}

bool allowed = false;  // by check_wgmma
bool used = true;      // by use_wgmma

// ---- the check at start -----------------------------------------------------------------------------------------------------

// Memory of the device, while this lives.
template <class T>
struct DeviceArray {
  const Device& device;
  T* data;
  DeviceArray(const Device& d, size_t count) : device(d), data(static_cast<T*>(cuda_allocate(d, count * sizeof(T)))) {
    if (!data) fail(kExitFault, "there is no device memory for the check");
  }
  DeviceArray(const Device& d, const std::vector<T>& values) : DeviceArray(d, values.size()) {
    copy_to_cuda(device, data, values.data(), values.size() * sizeof(T));
    cuda_synchronize(device);
  }
  ~DeviceArray() { cuda_free(device, data); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  std::vector<T> host(size_t count) const {
    std::vector<T> values(count);
    copy_from_cuda(device, values.data(), data, count * sizeof(T));
    cuda_synchronize(device);
    return values;
  }
};

// Largest norm of a row, of the difference and of a.
template <class Float>
std::pair<double, double> largest_rows(const std::vector<Float>& a, const std::vector<Float>& b, int width) {
  double difference = 0, size = 0;
  for (size_t row = 0; row < a.size(); row += static_cast<size_t>(width)) {
    double squares = 0, own = 0;
    for (size_t i = row; i < row + static_cast<size_t>(width); i++) {
      const double x = to_acc(a[i]), d = x - to_acc(b[i]);
      squares += d * d, own += x * x;
    }
    if (!(squares <= difference)) difference = squares;  // a NaN, too
    size = std::max(size, own);
  }
  return {std::sqrt(difference), std::sqrt(size)};
}

// Whether both kinds of kernels give the same, of two documents, a window, two heads of a group, and tiles of which the last is
// cut.
template <class Float>
bool agree(const Device& device, int D) {
  constexpr int N = 150, H = 2, G = 1;
  const int width = (H + 2 * G) * D;
  const size_t count = static_cast<size_t>(N * H * D), sums = H * N;
  uint32_t state = 1;
  const auto values = [&](int n) {  // -1 … 1 in steps of 1/64, which both types hold
    std::vector<Float> all(static_cast<size_t>(n));
    for (Float& x : all) {
      state = state * 1664525u + 1013904223u;
      x = from_acc<Float>(static_cast<float>(static_cast<int>(state >> 16) % 129 - 64) / 64.0f);
    }
    return all;
  };
  const DeviceArray<Float> qkv(device, values(N * width)), dout(device, values(N * H * D));
  const DeviceArray<int32_t> documents(device, std::vector<int32_t>{0, 40, N});
  const DeviceArray<Float> out(device, count), other_out(device, count), gradients(device, static_cast<size_t>(N * width));
  const DeviceArray<float> lse(device, sums), other_lse(device, sums),
      scratch(device, static_cast<size_t>(AttentionBackward<Float>::cuda_scratch_floats(N, H, G, D)));
  const AttentionSizes sizes{.cu_seqlens = documents.data,
                             .docs = 2,
                             .N = N,
                             .H = H,
                             .G = G,
                             .D = D,
                             .stride = width,
                             .qk_stride = width,
                             .window = 100,
                             .scale = 1 / std::sqrt(static_cast<double>(D))};
  const Float *k = qkv.data + H * D, *v = k + G * D;
  std::vector<Float> outs[2], grads[2];
  std::vector<float> lses[2];
  for (const bool with : {false, true}) {
    const DeviceArray<Float>& out_here = with ? other_out : out;
    const DeviceArray<float>& lse_here = with ? other_lse : lse;
    cuda_fill(device, out_here.data, 0xff, count * sizeof(Float));  // NaN
    cuda_fill(device, lse_here.data, 0xff, sums * sizeof(float));
    cuda_fill(device, gradients.data, 0xff, static_cast<size_t>(N * width) * sizeof(Float));
    const AttentionForward<Float> forward{out_here.data, lse_here.data, qkv.data, k, v, nullptr, sizes};
    const AttentionBackward<Float> backward{gradients.data,
                                            gradients.data + H * D,
                                            gradients.data + (H + G) * D,
                                            dout.data,
                                            out.data,
                                            lse.data,
                                            qkv.data,
                                            k,
                                            v,
                                            scratch.data,
                                            sizes};
    allowed = with;
    forward.cuda(device);
    backward.cuda(device);
    allowed = false;
    outs[with] = out_here.host(count);
    lses[with] = lse_here.host(sums);
    grads[with] = gradients.host(static_cast<size_t>(N * width));
  }
  // Both round p, with errors u relative to it, so that their averages of values up to 1 differ by up to 2·u, and round the
  // result: 4·u. The scores, sums of D products up to 1, differ by up to D·D·2^-23 before they are scaled, which moves p and lse
  // as much; the exponentials and the logarithm add less than 2^-18.
  const double u = std::is_same_v<Float, bf16> ? 0x1p-8 : 0x1p-11, moved = 2 * sizes.scale * D * D * 0x1p-23 + 0x1p-18;
  for (size_t i = 0; i < count; i++)
    if (!(std::abs(to_acc(outs[0][i]) - to_acc(outs[1][i])) <= 4 * u + moved)) return false;
  for (size_t i = 0; i < sums; i++)
    if (!(std::abs(lses[0][i] - lses[1][i]) <= moved)) return false;
  // A gradient is a sum of up to 100 terms a head whose rounded factor both have with an error u: 2·u of the sum of the absolute
  // terms. Their signs are by chance, so that this is up to √n of the size of the sum; the result is rounded twice.
  const auto [difference, size] = largest_rows(grads[0], grads[1], D);
  return difference <= (2 * u * std::sqrt(100.0 * H) + 2 * u + moved) * size;
}

}  // namespace

bool wgmma_allowed(const Device& device) { return device.arch == 900 && allowed && used; }
void use_wgmma(bool use) { used = use; }

template <class Float>
bool attention_with_wgmma(const Device& device, const AttentionForward<Float>& op) {
  if constexpr (std::is_same_v<Float, float>) {
    return false;
  } else {
    if (!wgmma_allowed(device)) return false;
    const AttentionSizes& s = op.sizes;
    with_panels(s.D, [&](auto d) {
      using T = ForwardTiles<Float, decltype(d)::value>;
      const bool vector = vector_heads(op.q, s.qk_stride, s.D) && vector_heads(op.k, s.qk_stride, s.D) &&
                          vector_heads(op.v, s.stride, s.D) && vector_heads(op.out, s.out_row(), s.D);
      launch<attention_wgmma_kernel<Float, T::kD>>(attention_grid(s.H, s.N, T::kOwn), T::kThreads, T::kShared, stream_of(device),
                                                   op, static_cast<float>(s.scale), vector);
    });
    return true;
  }
}
template bool attention_with_wgmma(const Device&, const AttentionForward<float>&);
template bool attention_with_wgmma(const Device&, const AttentionForward<bf16>&);
template bool attention_with_wgmma(const Device&, const AttentionForward<half>&);

std::string check_wgmma(const Device& device) {
  allowed = false;
  if (device.arch != 900) return {};
  try {
    for (const int D : {64, 128}) {
      if (!agree<bf16>(device, D) || !agree<half>(device, D))
        return fmt::format("the kernels with wgmma and those with mma differ at head size {}", D);
    }
  } catch (const Error& error) {
    allowed = false;
    static_cast<void>(cudaGetLastError());
    if (cudaStreamSynchronize(stream_of(device)) != cudaSuccess)  // the GPU refuses everything from now on
      fail(kExitFault, "{}, in the check of the kernels with wgmma; a build with CUDA_ARCH=80 does without them", error.what());
    return error.what();
  }
  allowed = true;
  return {};
}

}  // namespace tll
