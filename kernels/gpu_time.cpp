#include "kernels/gpu_time.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <queue>
#include <string_view>
#include <tuple>

#include "kernels/adamw8bit.h"
#include "kernels/cross_entropy.h"
#include "kernels/cublas_lt.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/join_adapters.h"
#include "kernels/qk_norm.h"
#include "kernels/quantized_rules.h"
#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "kernels/update.h"

namespace tll {
namespace {

constexpr double kWarpSize = 32, kSchedulers = 4;                          // of an SM
constexpr int64_t kGemmTiles[][2] = {{128, 256}, {256, 128}, {128, 128}};  // of cuBLASLt; it takes what wastes least
constexpr int kLeastSplit = 1024;                                          // of inner, in a part of cuBLASLt's split-K

// The grids of attention as attention.cu and attention_backward.cu launch them. heads_in_x: the blocks of all heads of a tile
// come one after the other, and then the next tile; else all tiles of a head. last_first: the tiles begin with the last rows.
struct AttentionGrid {
  bool heads_in_x, last_first;
};
constexpr AttentionGrid kForwardGrid{true, true}, kKeysGrid{true, false}, kQueriesGrid{true, true};

// ---- what a kernel executes ------------------------------------------------------------------------------------------------

// Of a warp; `shared` are clocks of an SM's shared memory, `bytes` those that a lane moves by vector accesses of global memory.
struct Counts {
  double instructions, fma, alu, xu, shared, flops, bytes;
};
constexpr int kWarps[] = {1, 2, 4, 8};
struct KernelCounts {
  std::string_view kernel;
  int arch, threads, registers;
  int64_t shared;
  Counts once, loop;
  double clocks_once[4], clocks[4];  // with kWarps warps a scheduler
};
constexpr KernelCounts kCounts[] = {
#include "kernels/kernel_counts.inc"
};
constexpr bool in_order(const KernelCounts& a, const KernelCounts& b) {
  return std::pair(a.kernel, a.arch) < std::pair(b.kernel, b.arch);
}
static_assert(std::is_sorted(std::begin(kCounts), std::end(kCounts), in_order), "found by bisection");
static_assert(std::all_of(std::begin(kCounts), std::end(kCounts),
                          [](const KernelCounts& k) { return std::is_sorted(std::begin(k.clocks), std::end(k.clocks)); }),
              "more warps take no less time");

// Of the latest architecture among those counted that the GPU is not older than, or of the oldest. Null: not counted.
const KernelCounts* counts_of(std::string_view kernel, int arch) {
  const int counted = arch < 800 ? 750 : arch < 900 ? 800 : 900;
  const auto before = [](const KernelCounts& a, const std::pair<std::string_view, int>& b) {
    return std::pair(a.kernel, a.arch) < b;
  };
  const auto* const found = std::lower_bound(std::begin(kCounts), std::end(kCounts), std::pair(kernel, counted), before);
  return found != std::end(kCounts) && found->kernel == kernel && found->arch == counted ? found : nullptr;
}

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
int64_t parts(int64_t n, int64_t part) { return (n + part - 1) / part; }

int resident_blocks(const KernelCounts& k, int arch, int64_t dynamic_shared) {
  constexpr int64_t kRegisters = 65536;  // of an SM; a warp takes them in units of 256, a block in multiples of four warps
  const SmLimits sm = sm_limits(arch);
  const int64_t warps = round_up(parts(k.threads, 32), 4);
  return static_cast<int>(std::max<int64_t>(
      1, std::min({int64_t{sm.blocks}, int64_t{sm.threads / k.threads}, kRegisters / (warps * round_up(k.registers, 8) * 32),
                   sm.shared / round_up(k.shared + dynamic_shared + sm.reserved, sm.unit)})));
}

// Between the numbers of warps that were simulated, in a line; more warps than those take as much longer.
double with_warps(const double (&clocks)[4], double warps) {
  if (warps <= kWarps[0]) return clocks[0];
  for (int i = 1; i < 4; i++)
    if (warps <= kWarps[i])
      return clocks[i - 1] + (clocks[i] - clocks[i - 1]) * (warps - kWarps[i - 1]) / (kWarps[i] - kWarps[i - 1]);
  return clocks[3] * warps / kWarps[3];
}

// The published rate of tensor cores bounds what was simulated for the architecture: GeForce parts have less than others.
BlockClocks block_clocks(const KernelCounts& k, const Gpu& gpu, int64_t dynamic_shared) {
  BlockClocks clocks;
  const double per_clock = gpu.tensor_flops / gpu.sms / gpu.clock, block_warps = parts(k.threads, 32);
  for (int n = 1; n <= resident_blocks(k, gpu.arch, dynamic_shared); n++) {
    const double warps = n * block_warps / kSchedulers;
    clocks.once.push_back(with_warps(k.clocks_once, warps));
    clocks.turn.push_back(std::max(with_warps(k.clocks, warps), n * block_warps * k.loop.flops / per_clock));
  }
  return clocks;
}

// Clocks of a block, on an SM that holds n.
double block_time(const BlockClocks& clocks, size_t n, double turns) { return clocks.once[n - 1] + turns * clocks.turn[n - 1]; }

// ---- ops -------------------------------------------------------------------------------------------------------------------

double memory_seconds(const Gpu& gpu, double bytes) { return bytes / (gpu.bandwidth * kMemoryShare); }

OpTime finished(const Gpu& gpu, OpTime t) {
  t.gaps = t.launches * gpu.launch;
  t.seconds += t.gaps;
  return t;
}
// Of parts that follow one another. It is bound by what bounds the longest.
OpTime& operator+=(OpTime& a, const OpTime& b) {
  if (b.seconds > a.seconds) a.bound = b.bound, a.stretch = b.stretch;
  a.seconds += b.seconds, a.gaps += b.gaps, a.launches += b.launches;
  return a;
}
OpTime none(const char* name, Cost cost) { return {.op = name, .cost = cost, .launches = 0}; }

// Work that instructions may bound. `touched`: bytes that its threads move by vector accesses, each as often as it is moved.
OpTime stream_time(const Gpu& gpu, const char* name, Cost cost, std::string_view kernel, double touched) {
  OpTime t{.op = name, .cost = cost, .seconds = memory_seconds(gpu, cost.bytes)};
  if (const KernelCounts* k = counts_of(kernel, gpu.arch); k && k->once.bytes > 0) {
    const Counts& c = k->once;
    const double fp32_lanes = gpu.fp32_flops / 2 / gpu.sms / gpu.clock;  // of an SM
    const double clocks = std::max({c.instructions, c.fma * kWarpSize * kSchedulers / std::max(fp32_lanes, 64.0), 2 * c.alu,
                                    8 * c.xu, kSchedulers * c.shared});
    const double warps = touched / (kWarpSize * c.bytes);
    const double seconds = warps * clocks / (kSchedulers * gpu.sms * gpu.clock * kKernelShare);
    if (seconds > t.seconds) t.seconds = seconds, t.bound = Bound::instructions;
  }
  return finished(gpu, t);
}

// Kernels with a main loop. Memory moves meanwhile.
OpTime loop_time(const Gpu& gpu, const char* name, Cost cost, const GpuLaunch& launch, double bytes) {
  OpTime t{.op = name, .cost = cost, .seconds = memory_seconds(gpu, bytes)};
  const KernelCounts* k = counts_of(launch.kernel, gpu.arch);
  if (k) {
    const BlockClocks clocks = block_clocks(*k, gpu, launch.dynamic_shared);
    const int64_t blocks = launch.grid[0] * launch.grid[1] * launch.grid[2];
    const bool equal = launch.turns.size() == 1;
    const double all = equal ? schedule_equal(gpu.sms, clocks, blocks, launch.turns[0]) : schedule(gpu.sms, clocks, launch.turns);
    double even = 0;  // if all SMs were full to the end
    for (const int turns : launch.turns) even += block_time(clocks, clocks.turn.size(), turns);
    even *= (equal ? static_cast<double>(blocks) : 1) / (static_cast<double>(clocks.turn.size()) * gpu.sms);
    const double seconds = all / (gpu.clock * kKernelShare);
    if (seconds > t.seconds) t.seconds = seconds, t.bound = Bound::instructions, t.stretch = all / even;
  }
  return finished(gpu, t);
}

// A GEMM that is bound by fp32 arithmetic or is cuBLASLt's: whole tiles in whole waves. Where tiles are few, inner is split.
OpTime gemm_time(const Gpu& gpu, const Matmul<float>& op, double peak) {
  const Cost cost = op.cost();
  double waste = 0, partial = 0;
  for (const auto& [rows, cols] : kGemmTiles) {
    const int64_t tiles = parts(op.rows(), rows) * parts(op.cols(), cols);
    const int64_t most = tiles < gpu.sms ? std::max<int64_t>(1, op.inner() / kLeastSplit) : 1;
    for (int64_t splits = 1; splits <= std::min<int64_t>(most, parts(gpu.sms, tiles)); splits++) {
      const double filled = static_cast<double>(op.rows()) * op.cols() / static_cast<double>(rows * cols);
      const double now = static_cast<double>(parts(tiles * splits, gpu.sms) * gpu.sms) / (filled * static_cast<double>(splits));
      if (waste == 0 || now < waste)
        waste = now, partial = splits > 1 ? 8.0 * static_cast<double>(splits) * op.rows() * op.cols() : 0;
    }
  }
  OpTime t{.op = op.role, .cost = cost, .seconds = memory_seconds(gpu, cost.bytes + partial)};
  const double arithmetic = cost.flops / (peak * kGemmShare) * waste;
  if (arithmetic > t.seconds) t.seconds = arithmetic, t.bound = Bound::arithmetic, t.stretch = waste;
  return finished(gpu, t);
}

bool on_tensor_cores(DType type, int arch) { return type == DType::f16 || (type == DType::bf16 && arch >= 800); }

// matmul.cu: the tiles that a product of ours takes, and into how many parts its inner size is split.
struct OwnGemm {
  int rows, cols, warps_m, warps_n, inner;
};
constexpr OwnGemm kLarge{128, 128, 2, 2, 32}, kSmall{64, 64, 2, 2, 64}, kNarrow{128, 32, 4, 1, 64}, kFlat{32, 128, 1, 4, 64};
constexpr int kOldInner = 32;  // of the last two before sm_80
constexpr int kPartUnit = 64, kFewRows = 8, kEnoughBlocks = 128, kLeastInner = 256;
OwnGemm own_gemm(const Matmul<float>& op, int arch) {
  const auto of_arch = [&](OwnGemm tile) {
    if (arch < 800) tile.inner = kOldInner;
    return tile;
  };
  if (op.cols() <= kNarrow.cols) return of_arch(kNarrow);
  if (op.rows() <= kFlat.rows && op.a.transposed) return of_arch(kFlat);
  const bool large = op.rows() > kSmall.rows && op.cols() > kSmall.cols &&
                     parts(op.rows(), kLarge.rows) * parts(op.cols(), kLarge.cols) >= kEnoughBlocks / 2;
  return large ? kLarge : kSmall;
}

OpTime matmul_time(const Gpu& gpu, const Matmul<float>& op) {
  const Cost cost = op.cost();
  const bool same = op.a.dtype == op.b.dtype, tensor_cores = same && on_tensor_cores(op.a.dtype, gpu.arch);
  if (op.rows() == 0 || op.cols() == 0) return none(op.role, cost);
  if (op.rows() <= kFewRows && same && !op.a.transposed && op.b.transposed)
    return gpu_time(gpu, op.role, cost);  // dot_rows_kernel
  if (cublas_serves(op)) return gemm_time(gpu, op, tensor_cores ? gpu.tensor_flops : gpu.fp32_flops);
  if (!tensor_cores || (op.a.transposed && op.b.transposed)) return gemm_time(gpu, op, gpu.fp32_flops);
  const GpuLaunch launch = gpu_launch(op, gpu.arch);
  // Each column of tiles reads all of A, from memory where L2 does not hold it.
  const double a = 1.0 * op.rows() * op.inner() * static_cast<double>(dtype_bytes(op.a.dtype));
  const double again = a > static_cast<double>(gpu.l2) ? static_cast<double>(launch.grid[1] - 1) * a : 0;
  const double partial = launch.grid[2] > 1 ? 4.0 * static_cast<double>(launch.grid[2]) * op.rows() * op.cols() : 0;
  OpTime t = loop_time(gpu, op.role, cost, launch, cost.bytes + again + partial);
  if (partial > 0) t += gpu_time(gpu, op.role, {.bytes = partial});  // add_splits_kernel
  return t;
}

struct HeadTiles {
  const char* suffix;  // of the kernels' names
  int D, forward_own, own, keys, stream;
  int64_t pitch, extra;  // bytes of a row, and of shared memory besides the rows
};
// attention_tiles.cuh, of types of 16 bits; on sm_90 attention_wgmma.cu and attention_backward_wgmma.cu.
HeadTiles head_tiles(int head, int arch) {
  if (arch == 900) {
    const int D = head <= 64 ? 64 : 128;
    return {"wgmma_kernel", D, 128, 64, D <= 64 ? 96 : 64, 64, 2 * D, 1008};
  }
  const int D = head <= 32 ? 32 : head <= 64 ? 64 : head <= 96 ? 96 : 128;
  return {"kernel", D, 128, 64, 48, D > 96 ? 16 : 32, (D + 8) * 2, 0};
}

OpTime attention_time(const Gpu& gpu, const char* name, Cost cost, const AttentionSizes& s, DType type, bool backward) {
  if (s.N == 0) return none(name, cost);
  const double delta_bytes = backward ? 2.0 * s.N * s.H * s.D * static_cast<double>(dtype_bytes(type)) : 0;
  if (!on_tensor_cores(type, gpu.arch)) {
    // With fma: 14·D flops a pair backward, since the scores are computed in both kernels.
    const double flops = (backward ? 14.0 : 4.0) * s.D * s.H * s.pairs;
    return finished(gpu, {.op = name,
                          .cost = cost,
                          .seconds = flops / (gpu.fp32_flops * kGemmShare) + memory_seconds(gpu, delta_bytes),
                          .launches = backward ? 3 : 1,
                          .bound = Bound::arithmetic});
  }
  // A step has the same sizes in every layer, and to follow its blocks takes as long as all else.
  using Key = std::tuple<int, int, double, double, double, double, int, int, int, int, int, int, bool>;
  thread_local std::map<Key, OpTime> seen;
  const Key key{gpu.arch, gpu.sms, gpu.clock, gpu.tensor_flops, gpu.bandwidth, gpu.launch, s.N, s.docs,
                s.H,      s.G,     s.D,       s.window,         backward};
  if (seen.size() > 1000) seen.clear();
  const auto [at, fresh] = seen.try_emplace(key);
  if (fresh) {
    OpTime t = none(name, cost);
    if (backward) t += gpu_time(gpu, name, {.bytes = delta_bytes});
    for (const GpuLaunch& launch : gpu_launches(s, backward, gpu.arch)) t += loop_time(gpu, name, cost, launch, cost.bytes);
    // Keys in parts: add_parts_kernel, and what it reads, which keys_kernel writes meanwhile as it computes.
    if (const GroupParts split = group_parts(s.N, s.H, s.G); backward && split.parts > 1)
      t += gpu_time(gpu, name, {.bytes = 2.0 * split.parts * s.G * s.N * attention_cuda_pad(s.D) * sizeof(float)});
    at->second = t;
  }
  OpTime t = at->second;
  t.op = name, t.cost = cost;
  return t;
}

// ---- an op's kernel; ops without one are bound by memory -------------------------------------------------------------------

template <class Op>
OpTime time_of(const Gpu& gpu, const Op& op) {
  return gpu_time(gpu, op_name(op), op.cost());
}
OpTime time_of(const Gpu& gpu, const Matmul<float>& op) { return matmul_time(gpu, op); }
template <class Float>
OpTime time_of(const Gpu& gpu, const AttentionForward<Float>& op) {
  return attention_time(gpu, op.kName, op.cost(), op.sizes, dtype_of<Float>, false);
}
template <class Float>
OpTime time_of(const Gpu& gpu, const AttentionBackward<Float>& op) {
  return attention_time(gpu, op.kName, op.cost(), op.sizes, dtype_of<Float>, true);
}
OpTime time_of(const Gpu& gpu, const Dequantize& op) {
  // dequantize_kernel once for each part; what is counted moves are its results.
  const bool dense = op.w.part_count > 0 && op.w.parts[0].code == WeightCode::dense;
  const bool int8 = op.w.part_count > 0 && op.w.parts[0].code == WeightCode::int8;
  const double results = 1.0 * op.out.row_count * op.out.col_count * static_cast<double>(dtype_bytes(op.out.dtype));
  return stream_time(gpu, op.kName, op.cost(), dense ? "" : int8 ? "dequantize_kernel<3>" : "dequantize_kernel<1>", results);
}
OpTime time_of(const Gpu& gpu, const QuantizedMatmul& op) {
  const Matmul<float> whole = dense_matmul(op);
  if (whole.rows() <= QuantizedMatmul::kFewRows && op.transposed && !op.a.transposed && !op.extra.data)
    return gpu_time(gpu, op.role, op.cost());  // dot_codes_kernel
  OpTime t = none(op.role, op.cost());
  for_each_piece(op, whole, [&](const FilledPiece& filled, const Matmul<float>& part) {
    t += time_of(gpu, filled.decoded);
    if (const Matrix& to = filled.extra_to; filled.extra_from.data)
      t += gpu_time(gpu, op.role, {.bytes = 2.0 * to.row_count * to.col_count * static_cast<double>(dtype_bytes(to.dtype))});
    t += matmul_time(gpu, part);
  });
  return t;
}

// A row of up to 2048 values stays in registers in one pass, up to 4096 in two; longer ones are read twice.
constexpr const char* row_kernel(int C, const char* one, const char* two, const char* twice) {
  return C <= 2048 ? one : C <= 4096 ? two : twice;
}
template <class Float>
OpTime time_of(const Gpu& gpu, const RmsnormForward<Float>& op) {
  const double passes = op.C > 4096 ? 4 : 3;  // over N·C: x, the weight, out
  return stream_time(gpu, op.kName, op.cost(),
                     row_kernel(op.C, "rmsnorm_forward_kernel<1>", "rmsnorm_forward_kernel<2>", "rmsnorm_forward_kernel<0>"),
                     passes * op.N * op.C * sizeof(Float));
}
template <class Float>
OpTime time_of(const Gpu& gpu, const RmsnormBackward<Float>& op) {
  const double passes = op.C > 4096 ? 8 : 5;  // x, dout, the weight, dx in and out
  OpTime t =
      stream_time(gpu, op.kName, op.cost(),
                  row_kernel(op.C, "rmsnorm_backward_kernel<1>", "rmsnorm_backward_kernel<2>", "rmsnorm_backward_kernel<0>"),
                  passes * op.N * op.C * sizeof(Float));
  if (op.dw) t += gpu_time(gpu, op.kName, {.bytes = 2.0 * op.N * op.C * sizeof(Float)});
  return t;
}
template <class Float>
OpTime time_of(const Gpu& gpu, const Rope<Float>& op) {
  return stream_time(gpu, op.kName, op.cost(), "rope_kernel",  // each angle is read for every head, from cache
                     1.0 * op.N * op.heads * op.R * (2 * sizeof(Float) + sizeof(float)));
}
template <class Float>
OpTime time_of(const Gpu& gpu, const SwigluForward<Float>& op) {
  return stream_time(gpu, op.kName, op.cost(), "swiglu_forward_kernel", op.cost().bytes);
}
template <class Float>
OpTime time_of(const Gpu& gpu, const SwigluBackward<Float>& op) {
  return stream_time(gpu, op.kName, op.cost(), "swiglu_backward_kernel", op.cost().bytes);
}
template <class Float>
OpTime time_of(const Gpu& gpu, const CrossEntropy<Float>& op) {
  const bool in_16_bits = op.logits_dtype != DType::f32;
  return stream_time(gpu, op.kName, op.cost(), in_16_bits ? "cross_entropy_kernel<true>" : "cross_entropy_kernel<false>",
                     op.cost().bytes);
}
template <class Float>
OpTime time_of(const Gpu& gpu, const Dropout<Float>& op) {
  return stream_time(gpu, op.kName, op.cost(), "dropout_kernel", 3.0 * op.N * op.C * sizeof(Float));  // as if it accumulated
}

}  // namespace

// ---- the SMs ---------------------------------------------------------------------------------------------------------------

SmLimits sm_limits(int arch) {
  const auto kib = [](int64_t n) { return n << 10; };
  if (arch < 800) return {1024, 16, kib(64), 0, 256};
  if (arch == 800) return {2048, 32, kib(164), 1024, 128};
  if (arch < 890) return {1536, 16, kib(100), 1024, 128};
  if (arch < 900 || arch >= 1200) return {1536, 24, kib(100), 1024, 128};
  return {2048, 32, kib(228), 1024, 128};
}

double schedule_equal(int sms, const BlockClocks& clocks, int64_t blocks, int turns) {
  const int64_t most = static_cast<int64_t>(clocks.turn.size()), wave = most * sms, last = parts(blocks % wave, sms);
  return static_cast<double>(blocks / wave) * block_time(clocks, static_cast<size_t>(most), turns) +
         (last > 0 ? block_time(clocks, static_cast<size_t>(last), turns) : 0);
}

double schedule(int sms, const BlockClocks& clocks, const std::vector<int>& turns) {
  struct Block {
    double turns, left = 1;  // of it, how much is left to do
  };
  struct Sm {
    std::vector<Block> blocks;
    double now = 0;
  };
  // A block of an SM ends, or the SM has a place for another one. At equal times ends come first, and then the emptiest SM.
  struct Event {
    double at;
    bool offer;
    size_t held;
    int sm;
    bool operator>(const Event& o) const { return std::tie(at, offer, held, sm) > std::tie(o.at, o.offer, o.held, o.sm); }
  };
  constexpr int64_t kFollowed = 8;  // blocks for each place of an SM
  const size_t most = clocks.turn.size();
  const int64_t count = static_cast<int64_t>(turns.size()), places = static_cast<int64_t>(most) * sms;
  size_t next = 0;
  double begin = 0;
  if (count > 2 * kFollowed * places)
    for (; static_cast<int64_t>(next) < count - kFollowed * places; next++)
      begin += block_time(clocks, most, turns[next]) / static_cast<double>(places);

  std::vector<Sm> all(static_cast<size_t>(sms));
  for (size_t layer = 0; layer < most; layer++)
    for (int i = 0; i < sms && next < turns.size(); i++) all[static_cast<size_t>(i)].blocks.push_back({1.0 * turns[next++]});
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
  const auto rate = [&](const Sm& sm, const Block& b) { return 1 / block_time(clocks, sm.blocks.size(), b.turns); };
  const auto announce = [&](int i) {
    Sm& sm = all[static_cast<size_t>(i)];
    if (sm.blocks.size() < most && next < turns.size()) return events.push({sm.now, true, sm.blocks.size(), i});
    if (sm.blocks.empty()) return;
    double soonest = INFINITY;
    for (const Block& b : sm.blocks) soonest = std::min(soonest, sm.now + b.left / rate(sm, b));
    events.push({soonest, false, sm.blocks.size(), i});
  };
  for (Sm& sm : all) sm.now = begin;
  for (int i = 0; i < sms; i++) announce(i);
  double end = begin;
  while (!events.empty()) {
    const Event event = events.top();
    events.pop();
    Sm& sm = all[static_cast<size_t>(event.sm)];
    const double passed = event.at - sm.now;
    std::vector<double> rates;
    for (const Block& b : sm.blocks) rates.push_back(rate(sm, b));
    for (size_t i = 0; i < sm.blocks.size(); i++) sm.blocks[i].left -= passed * rates[i];
    sm.now = end = event.at;
    constexpr double kNothing = 1e-9;
    const auto gone = std::remove_if(sm.blocks.begin(), sm.blocks.end(), [](const Block& b) { return b.left < kNothing; });
    sm.blocks.erase(gone, sm.blocks.end());
    if (event.offer && sm.blocks.size() < most && next < turns.size()) sm.blocks.push_back({1.0 * turns[next++]});
    announce(event.sm);
  }
  return end;
}

// ---- launches --------------------------------------------------------------------------------------------------------------

std::vector<GpuLaunch> gpu_launches(const AttentionSizes& s, bool backward, int arch) {
  const HeadTiles t = head_tiles(s.D, arch);
  const bool wgmma = arch == 900;
  // Documents of equal length, as in a plan.
  const int document = s.docs > 0 ? static_cast<int>(parts(s.N, s.docs)) : s.N;
  const auto first_key = [&](int i) { return std::max(i / document * document, s.window > 0 ? i - s.window + 1 : 0); };
  const auto query_end = [&](int j) {
    const int end = std::min((j / document + 1) * document, s.N);
    return s.window > 0 ? std::min(end, j + s.window) : end;
  };
  const auto launch = [&](const std::string& name, AttentionGrid grid, int heads, int own, int64_t shared_rows,
                          const auto& turns) {
    const int tiles = static_cast<int>(parts(s.N, own));
    std::vector<int> of_tile, all;
    for (int i = 0; i < tiles; i++) {
      const int first = (grid.last_first ? tiles - 1 - i : i) * own;
      of_tile.push_back(static_cast<int>(turns(first, std::min(first + own, s.N))));
    }
    for (int i = 0; i < tiles * heads; i++) all.push_back(of_tile[static_cast<size_t>(grid.heads_in_x ? i / heads : i % tiles)]);
    GpuLaunch made{
        fmt::format("{}_{}<{}>", name, t.suffix, t.D), {tiles, heads, 1}, shared_rows * t.pitch + t.extra, std::move(all)};
    if (grid.heads_in_x) std::swap(made.grid[0], made.grid[1]);
    return made;
  };
  if (!backward)
    return {launch(wgmma ? "attention" : "attention_forward", kForwardGrid, s.H, t.forward_own,
                   t.forward_own + (wgmma ? 4 : 2) * t.keys,
                   [&](int begin, int end) { return parts(end - first_key(begin), t.keys); })};
  const int shared_rows = 2 * t.own + 4 * t.stream;
  const GroupParts split = group_parts(s.N, s.H, s.G);
  // Blocks of a group's parts come one after the other: as if a group's part were a head, of one head's turns.
  GpuLaunch keys = launch("keys", kKeysGrid, s.G * split.parts, t.own, shared_rows,
                          [&](int begin, int end) { return parts(query_end(end - 1) - begin, t.stream); });
  for (size_t i = 0; i < keys.turns.size(); i++) {
    const int part = static_cast<int>(i) / s.G % split.parts;
    keys.turns[i] *= std::min(split.heads, s.H / s.G - part * split.heads);
  }
  keys.grid[0] = s.G;
  keys.grid[2] = keys.grid[1], keys.grid[1] = split.parts;
  return {std::move(keys), launch("queries", kQueriesGrid, s.H, t.own, shared_rows,
                                  [&](int begin, int end) { return parts(end - first_key(begin), t.stream); })};
}

GpuLaunch gpu_launch(const Matmul<float>& op, int arch) {
  const OwnGemm tile = own_gemm(op, arch);
  const int64_t m = parts(op.rows(), tile.rows), n = parts(op.cols(), tile.cols), results = int64_t{op.rows()} * op.cols();
  int64_t splits = 1;
  if (m * n < kEnoughBlocks && op.inner() >= 2 * kLeastInner && op.scratch.size > 0)
    splits = std::min<int64_t>(
        {parts(kEnoughBlocks, m * n), op.inner() / kLeastInner, std::max<int64_t>(1, op.scratch.size / results)});
  const int64_t inner = std::max<int64_t>(round_up(parts(op.inner(), splits), kPartUnit), 1);
  const auto word = [](bool b) { return b ? "true" : "false"; };
  const int stages = arch < 800 ? 2 : 3;
  return {fmt::format("matmul_mma_kernel<Tiling<{},{},{},{},{}>,{},{}>", tile.rows, tile.cols, tile.warps_m, tile.warps_n,
                      tile.inner, word(op.a.transposed), word(op.b.transposed)),
          {m, n, std::max<int64_t>(1, parts(op.inner(), inner))},
          int64_t{2} * stages * (tile.rows + tile.cols) * tile.inner,
          {static_cast<int>(inner / tile.inner)}};
}

OpTime gpu_time(const Gpu& gpu, const char* name, Cost cost) {
  return finished(gpu, {.op = name, .cost = cost, .seconds = memory_seconds(gpu, cost.bytes)});
}
template <class Op>
OpTime gpu_time(const Gpu& gpu, const Op& op) {
  return time_of(gpu, op);
}

#define TLL_GPU_TIME(Op)                                             \
  template OpTime gpu_time<Op<float>>(const Gpu&, const Op<float>&); \
  template OpTime gpu_time<Op<bf16>>(const Gpu&, const Op<bf16>&);   \
  template OpTime gpu_time<Op<half>>(const Gpu&, const Op<half>&);
TLL_GPU_TIME(AddUp)
TLL_GPU_TIME(AttentionBackward)
TLL_GPU_TIME(AttentionDecode)
TLL_GPU_TIME(AttentionForward)
TLL_GPU_TIME(BiasBackward)
TLL_GPU_TIME(BiasForward)
TLL_GPU_TIME(CacheWrite)
TLL_GPU_TIME(CastFromMaster)
TLL_GPU_TIME(Copy)
TLL_GPU_TIME(CopyRows)
TLL_GPU_TIME(CrossEntropy)
TLL_GPU_TIME(Dropout)
TLL_GPU_TIME(EmbeddingBackward)
TLL_GPU_TIME(EmbeddingForward)
TLL_GPU_TIME(GatherRows)
TLL_GPU_TIME(ListTargets)
TLL_GPU_TIME(QkNormBackward)
TLL_GPU_TIME(QkNormForward)
TLL_GPU_TIME(RmsnormBackward)
TLL_GPU_TIME(RmsnormForward)
TLL_GPU_TIME(Rope)
TLL_GPU_TIME(RopeTable)
TLL_GPU_TIME(ScatterRows)
TLL_GPU_TIME(SwigluBackward)
TLL_GPU_TIME(SwigluForward)
#undef TLL_GPU_TIME
template OpTime gpu_time<Matmul<float>>(const Gpu&, const Matmul<float>&);
template OpTime gpu_time<AddDoubles>(const Gpu&, const AddDoubles&);
template OpTime gpu_time<AddParts>(const Gpu&, const AddParts&);
template OpTime gpu_time<AdamW>(const Gpu&, const AdamW&);
template OpTime gpu_time<AdamW8bit>(const Gpu&, const AdamW8bit&);
template OpTime gpu_time<Dequantize>(const Gpu&, const Dequantize&);
template OpTime gpu_time<JoinAdapters>(const Gpu&, const JoinAdapters&);
template OpTime gpu_time<QuantizeBlocks>(const Gpu&, const QuantizeBlocks&);
template OpTime gpu_time<QuantizeScales>(const Gpu&, const QuantizeScales&);
template OpTime gpu_time<QuantizedMatmul>(const Gpu&, const QuantizedMatmul&);
template OpTime gpu_time<SumOfSquares>(const Gpu&, const SumOfSquares&);
template OpTime gpu_time<UpdateDecision>(const Gpu&, const UpdateDecision&);

}  // namespace tll
