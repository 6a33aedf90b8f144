// Instructions that the lanes of a warp execute together: barriers, shfl, vote, ldmatrix, mma.
#include <cstring>

#include "dev/ptx_sim/fragments.h"
#include "dev/ptx_sim/half.h"
#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

void block_barrier(Block& b, const Instruction& i, Lanes mask) {
  if (b.get(i.s[0], std::countr_zero(mask)) != 0) b.fault("a barrier other than 0");
}
void warp_barrier(Block& b, const Instruction&, Lanes) { b.warp->sync++; }

// shfl.sync d|p, a, b, c, mask. c holds the last lane of a segment (clamp) and which bits of a lane's number name its segment.
void shuffle(Block& b, const Instruction& i, Lanes mask) {
  std::array<uint64_t, kWarp> values{};
  Lanes in_range = 0;
  for_lanes(mask, [&](int lane) {
    const auto by = static_cast<int>(b.get(i.s[1], lane) & 0x1f);
    const auto c = static_cast<int>(b.get(i.s[2], lane));
    const int segment = c >> 8 & 0x1f, clamp = c & 0x1f;
    const int first = lane & segment, last = first | (clamp & ~segment);
    int from = lane;
    bool inside = true;
    switch (i.form) {
      case 'u':
        from = lane - by, inside = from >= last;
        break;
      case 'd':
        from = lane + by, inside = from <= last;
        break;
      case 'b':
        from = lane ^ by, inside = from <= last;
        break;
      default:
        from = first | (by & ~segment), inside = from <= last;
    }
    if (!inside) from = lane;
    if (!(mask >> from & 1)) b.fault("a shuffle from lane " + std::to_string(from) + ", which does not take part", lane);
    values[static_cast<size_t>(lane)] = b.get(i.s[0], from);
    in_range |= Lanes{inside} << lane;
  });
  for_lanes(mask, [&](int lane) { b.put(i.d[0], lane, values[static_cast<size_t>(lane)]); });
  if (i.outputs > 1) b.set(i.d[1], mask, in_range);
}

void vote(Block& b, const Instruction& i, Lanes mask) {
  const Lanes votes = b.condition(i.s[0]) & mask;
  if (i.form == 'b') return for_lanes(mask, [&](int lane) { b.put(i.d[0], lane, votes); });
  const bool result = i.form == 'a' ? votes == mask : votes != 0;
  b.set(i.d[0], mask, result ? kAllLanes : 0);
}

void check_whole(Block& b, Lanes mask) {
  if (mask != kAllLanes) b.fault("part of a warp at an instruction of tensor cores; lanes have ended");
}

// Lanes 8m … 8m + 7 give the addresses of the rows of matrix m.
template <bool kTransposed>
void load_matrices(Block& b, const Instruction& i, Lanes mask) {
  check_whole(b, mask);
  for (int m = 0; m < i.outputs; m++) {
    uint16_t matrix[8][8];
    for (int row = 0; row < 8; row++) {
      const int lane = 8 * m + row;
      const uint64_t address = b.address(i.address[0], lane);
      if (address % 16) b.fault("a misaligned row of ldmatrix", lane);
      if (address + 16 > b.shared.size()) b.fault("a row of ldmatrix outside of shared memory", lane);
      if (const char* problem = b.shared.read(b.accessor(-1), address, 16)) b.report(problem);
      std::memcpy(matrix[row], b.shared.at(address), 16);
    }
    uint32_t* out = b.row<uint32_t>(i.d[static_cast<size_t>(m)]);
    for (int lane = 0; lane < kWarp; lane++) {
      const Element low = element_of_ldmatrix(lane, 0, kTransposed), high = element_of_ldmatrix(lane, 1, kTransposed);
      out[lane] = matrix[low.row][low.column] | static_cast<uint32_t>(matrix[high.row][high.column]) << 16;
    }
  }
}

// The sum is computed in double, which holds every product, and rounded once.
template <int kInner, float (*kToFloat)(uint16_t)>
void multiply(Block& b, const Instruction& i, Lanes mask) {
  check_whole(b, mask);
  constexpr size_t kA = kInner / 4, kB = kInner / 8;
  double a_matrix[16][kInner], b_matrix[kInner][8], sums[16][8];
  for (size_t r = 0; r < kA; r++) {
    const uint32_t* bits = b.row<uint32_t>(i.s[r]);
    for (int lane = 0; lane < kWarp; lane++)
      for (int e = 0; e < 2; e++) {
        const Element at = element_of_a(lane, static_cast<int>(2 * r) + e);
        a_matrix[at.row][at.column] = static_cast<double>(kToFloat(static_cast<uint16_t>(bits[lane] >> 16 * e)));
      }
  }
  for (size_t r = 0; r < kB; r++) {
    const uint32_t* bits = b.row<uint32_t>(i.s[kA + r]);
    for (int lane = 0; lane < kWarp; lane++)
      for (int e = 0; e < 2; e++) {
        const Element at = element_of_b(lane, static_cast<int>(2 * r) + e);
        b_matrix[at.row][at.column] = static_cast<double>(kToFloat(static_cast<uint16_t>(bits[lane] >> 16 * e)));
      }
  }
  for (size_t e = 0; e < 4; e++) {
    const uint32_t* bits = b.row<uint32_t>(i.s[kA + kB + e]);
    for (int lane = 0; lane < kWarp; lane++) {
      const Element at = element_of_c(lane, static_cast<int>(e));
      sums[at.row][at.column] = static_cast<double>(value_of<float>(bits[lane]));
    }
  }
  for (int m = 0; m < 16; m++)
    for (int k = 0; k < kInner; k++)
      for (int n = 0; n < 8; n++) sums[m][n] += a_matrix[m][k] * b_matrix[k][n];
  for (size_t e = 0; e < 4; e++) {
    uint32_t* out = b.row<uint32_t>(i.d[e]);
    for (int lane = 0; lane < kWarp; lane++) {
      const Element at = element_of_c(lane, static_cast<int>(e));
      out[lane] = bits_of<float>(static_cast<float>(sums[at.row][at.column]));
    }
  }
}
// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
Handler multiply_handler(Mnemonic& m, Instruction& i) {
  if (!m.take("row") || !m.take("col") || m.types.size() != 4) return nullptr;
  if (m.types[0] != Type::f32 || m.types[3] != Type::f32 || m.types[1] != m.types[2]) return nullptr;
  const bool half = m.types[1] == Type::f16;
  if (!half && m.types[1] != Type::bf16) return nullptr;
  const int inner = m.take("m16n8k16") ? 16 : m.take("m16n8k8") ? 8 : 0;
  if (!inner || i.outputs != 4 || i.inputs != inner / 4 + inner / 8 + 4) return nullptr;
  if (inner == 16) return half ? multiply<16, half_to_float> : multiply<16, bf16_to_float>;
  return half ? multiply<8, half_to_float> : multiply<8, bf16_to_float>;
}

}  // namespace

Handler warp_handler(Mnemonic& m, Instruction& i) {
  const bool barrier = m.op == "bar" || m.op == "barrier";
  if (!barrier && m.op != "shfl" && m.op != "vote" && m.op != "ldmatrix" && m.op != "mma") return nullptr;
  i.flow = Flow::together;
  const bool of_warp = barrier && m.take("warp");
  if (!m.take("sync")) return nullptr;
  m.take("aligned");
  if (of_warp) {
    i.mask_at = 0;
    return warp_barrier;
  }
  if (barrier) {
    if (i.inputs != 1) return nullptr;  // for part of the block
    i.flow = Flow::barrier;
    return block_barrier;
  }
  if (m.op == "shfl") {
    i.mask_at = 3;
    const std::string form = m.take_one({"up", "down", "bfly", "idx"});
    i.form = form.empty() ? 0 : form[0];
    return i.form ? shuffle : nullptr;
  }
  if (m.op == "vote") {
    i.mask_at = 1;
    const std::string form = m.take_one({"all", "any", "ballot"});
    i.form = form == "any" ? 'y' : form.empty() ? 0 : form[0];
    return i.form ? vote : nullptr;
  }
  if (m.op == "mma") return multiply_handler(m, i);
  const std::string count = m.take_one({"x1", "x2", "x4"});
  if (!m.take("m8n8") || !m.take("shared") || count.empty() || i.outputs != count[1] - '0') return nullptr;
  return m.take("trans") ? load_matrices<true> : load_matrices<false>;
}

}  // namespace ptx
