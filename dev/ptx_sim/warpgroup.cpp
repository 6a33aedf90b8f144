#include "dev/ptx_sim/warpgroup.h"

#include <algorithm>
#include <cstring>

#include "dev/ptx_sim/fragments.h"
#include "dev/ptx_sim/half.h"
#include "dev/ptx_sim/handlers.h"

namespace ptx {

MatrixDescriptor::MatrixDescriptor(uint64_t bits) {
  const auto field = [&](int first, int count) { return bits >> first & ((uint64_t{1} << count) - 1); };
  start = field(0, 14) << 4, leading = field(16, 14) << 4, stride = field(32, 14) << 4;
  base_offset = field(49, 3);
  constexpr uint64_t kRows[] = {16, 128, 64, 32};
  swizzle = kRows[field(62, 2)];
  reserved_set = field(14, 2) || field(30, 2) || field(46, 3) || field(52, 10) || (swizzle == 16 && base_offset);
}

uint64_t MatrixDescriptor::address(bool transposed, uint64_t mn, uint64_t k) const {
  const uint64_t pieces = swizzle / 16;
  uint64_t at = start;
  if (!transposed) {
    // Groups of 8 rows lie `stride` apart. Along K the pieces of a row follow each other, or lie `leading` apart without a
    // swizzle.
    at += mn / 8 * stride + mn % 8 * swizzle + k / 8 * (swizzle == 16 ? leading : 16);
  } else if (swizzle == 16) {
    at += mn / 8 * stride + k / 8 * leading + k % 8 * 16;
  } else {
    at += mn / 8 / pieces * leading + mn / 8 % pieces * 16 + k / 8 * stride + k % 8 * swizzle;
  }
  // The pattern repeats every 8 rows of 128 bytes, 4 or 2 of them; it begins where the base offset says.
  const uint64_t row = (at >> 7) - base_offset;
  return at ^ (row & (pieces - 1)) << 4;
}

namespace {

constexpr int kInner = 16, kRows = 16;  // K, and of D a warp's rows

// ---- registers ------------------------------------------------------------------------------------------------------
WatchedRegister& watched(Block& b, const Operand& o) { return b.warp->watched[static_cast<size_t>(b.kernel.watched[o.index])]; }
void report(Block& b, const char* problem) {
  if (problem) b.report(problem);
}

// Runs an instruction that is no wgmma.
void watch(Block& b, const Instruction& i, Lanes mask) {
  const char* problem = nullptr;
  const auto access = [&](const Operand& o, bool write) {
    if (o.file != File::narrow || b.kernel.watched[o.index] < 0) return;
    WatchedRegister& r = watched(b, o);
    r.touched = b.warp->fences + 1;
    if (r.results)
      problem = write ? "an accumulator of a wgmma is written before the wgmma was waited for"
                      : "an accumulator of a wgmma is read before the wgmma was waited for";
    else if (r.inputs)
      problem = write ? "a register of A of a wgmma is written before the wgmma was waited for"
                      : "a register of A of a wgmma is read before the wgmma was waited for";
  };
  for (size_t n = 0; n < i.outputs; n++) access(i.d[n], true);
  for (size_t n = 0; n < i.inputs; n++) access(i.s[n], false);
  for (const Address& a : i.address) access(a.base, false);
  report(b, problem);
  b.kernel.unwatched[b.at](b, i, mask);
}

// What is wrong with a wgmma's access of a register. columns: of D; 0: of A.
const char* multiply_access(const Block& b, const WatchedRegister& r, int columns) {
  const uint32_t now = b.warp->fences + 1;
  if (columns ? r.inputs : r.results) return "a wgmma accesses registers of another that was not waited for, as another operand";
  if (r.touched == now) return "a wgmma accesses a register that was accessed since the latest wgmma.fence";
  if (r.multiplied == now && r.columns != columns)
    return "a wgmma accesses a register of one of another shape, with no wgmma.fence";
  return nullptr;
}

// ---- the warpgroup --------------------------------------------------------------------------------------------------
void check_warpgroup(Block& b, Lanes mask, const std::array<uint64_t, 2>& descriptor = {}, bool add = false) {
  if (b.kernel.module->arch != 90 || !b.kernel.module->specific) b.fault("wgmma is for .target sm_90a");
  const auto group = static_cast<size_t>(b.warp->id) / 4;
  if (mask != kAllLanes || group * 4 + 4 > b.warps->size()) b.fault("a wgmma in a warpgroup that is not whole");
  const WarpgroupStep step{b.at, descriptor, add};
  std::vector<WarpgroupStep>& steps = b.steps[group];
  const size_t n = b.warp->steps++;
  if (n == steps.size())
    steps.push_back(step);
  else if (steps[n] != step)
    b.fault(steps[n].at == b.at ? "the warps of a warpgroup give a wgmma different descriptors or scale-d"
                                : "the warps of a warpgroup execute different wgmma");
}

uint64_t same_in_warp(Block& b, const Operand& o) {
  const uint64_t value = b.get(o, 0);
  for (int lane = 1; lane < kWarp; lane++)
    if (b.get(o, lane) != value) b.fault("a wgmma whose descriptors or scale-d differ between lanes", lane);
  return value;
}

// ---- matrices in shared memory --------------------------------------------------------------------------------------
// f(address, mn, k) for each piece of matrix 0 (A: the warp's rows) or 1 (B).
template <class F>
void for_pieces(const Block& b, const Multiply& p, int matrix, const F& f) {
  const bool transposed = p.what->transposed[static_cast<size_t>(matrix)];
  const MatrixDescriptor d(p.descriptor[static_cast<size_t>(matrix)]);
  const auto first = static_cast<uint64_t>(matrix ? 0 : b.warp->id % 4 * kRows);
  const auto count = static_cast<uint64_t>(matrix ? p.what->columns : kRows);
  for (uint64_t mn = first; mn < first + count; mn += transposed ? 8 : 1)
    for (uint64_t k = 0; k < kInner; k += transposed ? 1 : 8) f(d.address(transposed, mn, k), mn - first, k);
}
void begin_reading(Block& b, const Multiply& p, int matrix) {
  if (MatrixDescriptor(p.descriptor[static_cast<size_t>(matrix)]).reserved_set)
    b.fault("a matrix descriptor with bits that mean nothing");
  // A fence of the lane that wrote, before the latest barrier if that is in another warp; or of all lanes that read, after it.
  uint32_t own_fence = ~0u;
  for (const auto& epochs : b.warp->proxy_fences) own_fence = std::min(own_fence, epochs.empty() ? 0 : epochs.back());
  const auto fenced = [&](const Written& w) {
    const auto& epochs = (*b.warps)[static_cast<size_t>(w.warp)].proxy_fences[static_cast<size_t>(w.lane)];
    return own_fence > w.epoch || (w.fences < epochs.size() && (w.warp == b.warp->id || epochs[w.fences] < b.epoch));
  };
  const char* problem = nullptr;
  for_pieces(b, p, matrix, [&](uint64_t address, uint64_t, uint64_t) {
    if (address + 16 > b.shared.size()) b.fault("a matrix of wgmma outside of shared memory, at " + std::to_string(address));
    if (const char* wrong = b.shared.multiply_begins(b.accessor(-1), address, 16, fenced)) problem = wrong;
  });
  report(b, problem);
}

float to_float(const WarpgroupMultiply& w, uint16_t bits) { return w.half ? half_to_float(bits) : bf16_to_float(bits); }

// Sets element(mn, k) of a matrix, and ends its use.
template <class F>
void read_matrix(Block& b, const Multiply& p, int matrix, const F& element) {
  const bool transposed = p.what->transposed[static_cast<size_t>(matrix)];
  for_pieces(b, p, matrix, [&](uint64_t address, uint64_t mn, uint64_t k) {
    uint16_t piece[8];
    std::memcpy(piece, b.shared.at(address), sizeof(piece));
    for (uint64_t e = 0; e < 8; e++)
      element(mn + (transposed ? e : 0), k + (transposed ? 0 : e)) = static_cast<double>(to_float(*p.what, piece[e]));
    b.shared.multiply_ends(b.accessor(-1), address, 16);
  });
}

// ---- instructions ---------------------------------------------------------------------------------------------------
void multiply_async(Block& b, const Instruction& i, Lanes mask) {
  const WarpgroupMultiply& w = b.kernel.multiplies[i.number - 1];
  Multiply p{b.at, &w, {}, same_in_warp(b, w.scale_d) != 0, b.warp->multiply_group};
  if (w.a.empty()) p.descriptor[0] = same_in_warp(b, w.descriptor[0]);
  p.descriptor[1] = same_in_warp(b, w.descriptor[1]);
  check_warpgroup(b, mask, p.descriptor, p.add);
  const char* problem = nullptr;
  for (const Operand& o : w.d) {
    WatchedRegister& r = watched(b, o);
    if (const char* wrong = multiply_access(b, r, w.columns)) problem = wrong;
    if (!r.results++) {
      uint32_t* row = b.row<uint32_t>(o);
      std::copy_n(row, kWarp, r.held.begin());
      std::fill_n(row, kWarp, ~0u);
    }
    r.multiplied = b.warp->fences + 1, r.columns = w.columns;
  }
  for (const Operand& o : w.a) {
    WatchedRegister& r = watched(b, o);
    if (const char* wrong = multiply_access(b, r, 0)) problem = wrong;
    r.inputs++;
    r.multiplied = b.warp->fences + 1, r.columns = 0;
  }
  report(b, b.warp->fences ? problem : "a wgmma before the first wgmma.fence");
  if (w.a.empty()) begin_reading(b, p, 0);
  begin_reading(b, p, 1);
  b.warp->multiplies.push_back(p);
}

// The sum is computed in double, which holds every product, and rounded once.
void finish(Block& b, const Multiply& p) {
  const WarpgroupMultiply& w = *p.what;
  double a[kRows][kInner], right[kInner][256], sums[kRows][256];
  if (w.a.empty()) read_matrix(b, p, 0, [&](uint64_t m, uint64_t k) -> double& { return a[m][k]; });
  for (size_t r = 0; r < w.a.size(); r++) {
    const uint32_t* bits = b.row<uint32_t>(w.a[r]);
    for (int lane = 0; lane < kWarp; lane++)
      for (int e = 0; e < 2; e++) {
        const Element at = element_of_a(lane, static_cast<int>(2 * r) + e);
        a[at.row][at.column] = static_cast<double>(to_float(w, static_cast<uint16_t>(bits[lane] >> 16 * e)));
      }
    watched(b, w.a[r]).inputs--;
  }
  read_matrix(b, p, 1, [&](uint64_t n, uint64_t k) -> double& { return right[k][n]; });
  for (int e = 0; e < w.columns / 2; e++) {
    const auto& held = watched(b, w.d[static_cast<size_t>(e)]).held;
    for (int lane = 0; lane < kWarp; lane++) {
      const Element at = element_of_d(lane, e);
      sums[at.row][at.column] = p.add ? static_cast<double>(std::bit_cast<float>(held[static_cast<size_t>(lane)])) : 0;
    }
  }
  for (int m = 0; m < kRows; m++)
    for (int k = 0; k < kInner; k++) {
      const double left = w.negated ? -a[m][k] : a[m][k];
      for (int n = 0; n < w.columns; n++) sums[m][n] += left * right[k][n];
    }
  for (int e = 0; e < w.columns / 2; e++) {
    const Operand& o = w.d[static_cast<size_t>(e)];
    WatchedRegister& r = watched(b, o);
    for (int lane = 0; lane < kWarp; lane++) {
      const Element at = element_of_d(lane, e);
      r.held[static_cast<size_t>(lane)] = std::bit_cast<uint32_t>(static_cast<float>(sums[at.row][at.column]));
    }
    if (--r.results == 0) std::copy_n(r.held.begin(), kWarp, b.row<uint32_t>(o));
  }
}

void fence(Block& b, const Instruction&, Lanes mask) {
  check_warpgroup(b, mask);
  b.warp->fences++;
}
void commit_group(Block& b, const Instruction&, Lanes mask) {
  check_warpgroup(b, mask);
  b.warp->multiply_group++;
}
// All groups but the newest s[0] end.
void wait_group(Block& b, const Instruction& i, Lanes mask) {
  check_warpgroup(b, mask);
  auto& all = b.warp->multiplies;
  const uint64_t open = b.get(i.s[0], 0);
  const auto first_left =
      std::find_if(all.begin(), all.end(), [&](const Multiply& p) { return p.group + open >= b.warp->multiply_group; });
  for (auto p = all.begin(); p != first_left; ++p) finish(b, *p);
  all.erase(all.begin(), first_left);
}

void proxy_fence(Block& b, const Instruction&, Lanes mask) {
  for_lanes(mask, [&](int lane) { b.warp->proxy_fences[static_cast<size_t>(lane)].push_back(b.epoch); });
}
void no_effect(Block&, const Instruction&, Lanes) {}

}  // namespace

Handler warpgroup_handler(Mnemonic& m, Instruction& i) {
  if (m.op == "fence") {  // fence.proxy.async, of all memory or of one space
    if (!m.take("proxy") || !m.take("async")) return nullptr;
    if (m.take("global")) return no_effect;
    m.take_one({"shared", "shared::cluster"});
    return proxy_fence;
  }
  if (m.op != "wgmma" || !m.take("sync") || !m.take("aligned")) return nullptr;
  i.flow = Flow::together;
  if (m.take("fence")) return fence;
  if (m.take("commit_group")) return commit_group;
  return m.take("wait_group") && i.inputs == 1 ? wait_group : nullptr;
}

// wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
Handler warpgroup_multiply_handler(Mnemonic& m, Instruction& i, WarpgroupMultiply& w) {
  if (!m.take("mma_async") || !m.take("sync") || !m.take("aligned") || m.types.size() != 3) return nullptr;
  if (m.types[0] != Type::f32 || m.types[1] != m.types[2]) return nullptr;
  w.half = m.types[1] == Type::f16;
  if (!w.half && m.types[1] != Type::bf16) return nullptr;
  for (int n = 8; n <= 256 && !w.columns; n += 8)
    if (m.take("m64n" + std::to_string(n) + "k16")) w.columns = n;
  if (!w.columns || w.d.size() != static_cast<size_t>(w.columns) / 2 || (!w.a.empty() && w.a.size() != 4)) return nullptr;
  i.flow = Flow::together;
  return multiply_async;
}

void watch_registers(Kernel& kernel) {
  if (kernel.multiplies.empty()) return;
  kernel.watched.assign(kernel.narrow.size(), -1);
  for (const WarpgroupMultiply& w : kernel.multiplies)
    for (const auto* operands : {&w.d, &w.a})
      for (const Operand& o : *operands)
        if (o.file != File::narrow)
          throw Fault(kernel.name + ": a wgmma's register of 64 bits");
        else if (kernel.watched[o.index] < 0)
          kernel.watched[o.index] = static_cast<int32_t>(kernel.watched_count++);
  kernel.unwatched.resize(kernel.code.size());
  for (size_t n = 0; n < kernel.code.size(); n++) {
    Instruction& i = kernel.code[n];
    if (!i.run || i.run == multiply_async) continue;
    const auto is_watched = [&](const Operand& o) { return o.file == File::narrow && kernel.watched[o.index] >= 0; };
    if (std::any_of(i.s.begin(), i.s.begin() + i.inputs, is_watched) ||
        std::any_of(i.d.begin(), i.d.begin() + i.outputs, is_watched) ||
        std::any_of(i.address.begin(), i.address.end(), [&](const Address& a) { return is_watched(a.base); }))
      kernel.unwatched[n] = i.run, i.run = watch;
  }
}

}  // namespace ptx
