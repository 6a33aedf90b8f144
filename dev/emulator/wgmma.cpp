// Emulated wgmma (sm_90a), from the formulas of the PTX manual: descriptors of operands in shared memory, fragments, and what
// orders its reads and its results.
//
// An operand is read when the instruction is issued and checked again at the wait: until then nobody may write its bytes. Results
// arrive at the wait; until then the accumulators hold a pattern that is a NaN. All of wgmma.fence, commit_group and wait_group
// are calls of the whole warpgroup here, and a fence is needed after each commit_group, which is stricter than the manual.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "dev/emulator/block.h"
#include "dev/emulator/mma_model.h"
#include "dev/emulator/symbols.h"

namespace emulator {
namespace {

constexpr uint32_t kPattern = 0xffdeadbeu;  // of accumulators in flight
constexpr uint32_t kThreads = Warpgroup::kThreads;

struct WgmmaArguments {
  float* d;
  WgmmaOperands operands;
};

Warpgroup& group_of(Worker& w, const Thread& thread) { return w.warpgroups[thread.id / kThreads]; }
Thread& thread_of(Worker& w, const Warpgroup& group, uint32_t i) {
  return w.threads[static_cast<size_t>(&group - w.warpgroups) * kThreads + i];
}

// Suspends the current thread until all 128 of its warpgroup are at this call. The last one completes it.
template <class Complete>
void warpgroup_call(const void* site, const char* name, void* payload, const Complete& complete) {
  Worker& w = *running;
  Thread& self = *w.current;
  Warpgroup& group = group_of(w, self);
  if (arch() != 900)
    w.fail({.fault = Fault::launch,
            .text = fmt::format("uses {}, which sm_90 alone has, the architecture is sm_{}", name, arch() / 10),
            .site = site});
  const uint32_t first = self.id / kThreads * kThreads;
  if (first + kThreads > w.thread_count)
    w.fail({.fault = Fault::collective,
            .text = fmt::format("calls {}, which needs the 128 threads of a warpgroup, the block ends with thread {}", name,
                                w.thread_count - 1),
            .site = site});
  if (group.arrived > 0 && group.site != site && !same_source(group.site, site))
    w.fail({.fault = Fault::collective,
            .text = fmt::format("calls {} while other threads of its warpgroup are at another call", name),
            .site = site,
            .other_site = group.site});
  self.wait = Wait::warpgroup;
  self.site = group.site = site;
  self.payload = payload;
  if (++group.arrived == kThreads) {
    complete(w, group);
    group.arrived = 0;
    for (uint32_t i = 0; i < kThreads; i++) {
      thread_of(w, group, i).wait = Wait::none;
      w.make_runnable(thread_of(w, group, i));
    }
  }
  w.yield();
}

// ---- operands in shared memory ------------------------------------------------------------------------------------------------
// The 64 bits of a descriptor, in bytes.
struct Descriptor {
  uint32_t start, leading, stride, base_offset, span;  // span: bytes of a row of the swizzle's pattern
};
Descriptor decode(Worker& w, uint64_t bits, const void* site) {
  const auto field = [&](int first) { return static_cast<uint32_t>(bits >> first & 0x3fffu) << 4; };
  constexpr uint32_t kSpans[] = {0, 128, 64, 32};
  const Descriptor d{field(0), field(16), field(32), static_cast<uint32_t>(bits >> 49 & 7u), kSpans[bits >> 62]};
  const auto refuse = [&](std::string why) {
    w.fail({.fault = Fault::misaligned, .text = fmt::format("gives wgmma the descriptor {:#x}: {}", bits, why), .site = site});
  };
  if (d.span == 0) refuse("the emulator knows the swizzled layouts only");
  if (d.base_offset != 0 || d.start % (8 * d.span) >= d.span)
    refuse(fmt::format("the swizzle's pattern begins at multiples of {} bytes, the operand at byte {:#x}", 8 * d.span, d.start));
  return d;
}

// Window address of eight elements, 16 bytes: of row mn from column k on, or with mn_major of column k from row mn on.
uint32_t chunk_address(const Descriptor& d, bool mn_major, uint32_t mn, uint32_t k) {
  const uint32_t elements = d.span / 2;
  const uint32_t a = mn_major ? d.start + mn / elements * d.leading + k / 8 * d.stride + k % 8 * d.span + mn % elements * 2
                              : d.start + mn / 8 * d.stride + mn % 8 * d.span + k * 2;
  return (a ^ (a >> 7 & (d.span / 16 - 1)) << 4) & 0x3ffffu;
}

// Two warps read on behalf of all four, so that a write by any thread that no barrier orders is a race with one of them.
void check_chunk(Worker& w, const Warpgroup& group, const uint8_t* p, const void* site) {
  for (const uint32_t reader : {0u, 32u}) {
    const ActAs other(w, thread_of(w, group, reader));
    check_access(w, p, 16, Access::read, site);
  }
}

// The latest clock before which this thread's writes are known to the async proxy: of a fence that a block barrier followed.
uint32_t fenced_until(const Worker& w, const Thread& thread) {
  return thread.proxy_fence < w.warps[thread.id / 32].block_clock ? thread.proxy_fence : thread.proxy_ordered;
}
void check_proxy(Worker& w, const uint8_t* p, const void* site) {
  if (!w.races) return;
  const size_t offset = reinterpret_cast<uintptr_t>(p) - w.dynamic.base;
  for (size_t i = 0; i < 16; i++) {
    const Cell& word = w.dynamic.words[(offset + i) / 4];
    const Cell& c = word.flags & kSplit ? w.dynamic.singles[offset + i] : word;
    if (c.write_stamp != w.stamp) continue;
    const Thread& writer = w.threads[c.write_who & 1023u];
    if (c.write_who >> 10 > fenced_until(w, writer))
      fail_at(w, Fault::race, p + i, "reads ",
              fmt::format(" with wgmma, which thread {} wrote with no fence.proxy.async and barrier after it",
                          index_text(writer.index)),
              site, reinterpret_cast<const void*>(program_base() + c.write_pc));
  }
}

// Reads an operand of `count` rows and 16 columns.
std::vector<float> read_operand(Worker& w, const Warpgroup& group, PendingWgmma& pending, uint64_t bits, bool mn_major,
                                uint32_t count, Operand type, const void* site) {
  const Descriptor d = decode(w, bits, site);
  const uint32_t rows = mn_major ? 16 : count, chunks = mn_major ? count / 8 : 2;
  if (d.stride % (8 * d.span) != 0 || (mn_major && count > d.span / 2 && d.leading % (8 * d.span) != 0) ||
      d.start % d.span + (mn_major ? std::min(2 * count, d.span) : 32) > d.span)
    w.fail({.fault = Fault::misaligned,
            .text = fmt::format("gives wgmma the descriptor {:#x}, which leaves the rows of its swizzle", bits),
            .site = site});
  std::vector<float> values(count * 16);
  for (uint32_t row = 0; row < rows; row++)
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
      const uint32_t address = mn_major ? chunk_address(d, true, 8 * chunk, row) : chunk_address(d, false, row, 8 * chunk);
      const uint8_t* p = w.dynamic_memory + (static_cast<int64_t>(address) - kSharedWindow);
      check_chunk(w, group, p, site);
      check_proxy(w, p, site);
      PendingWgmma::Chunk& kept = pending.chunks.emplace_back();
      kept.at = p;
      std::memcpy(kept.bytes, p, 16);
      for (uint32_t i = 0; i < 8; i++) {
        uint16_t value;
        std::memcpy(&value, p + 2 * i, 2);
        values[mn_major ? (8 * chunk + i) * 16 + row : row * 16 + 8 * chunk + i] =
            type == Bf16 ? bf16_to_float(value) : f16_to_float(value);
      }
    }
  return values;
}

// ---- issue and completion -----------------------------------------------------------------------------------------------------
bool holds_pattern(const float* d, size_t count) {
  return std::all_of(d, d + count, [](const float& x) { return std::memcmp(&x, &kPattern, 4) == 0; });
}
void need_pattern(Worker& w, const Warpgroup& group, const PendingWgmma& pending) {
  for (uint32_t i = 0; i < kThreads; i++)
    if (!holds_pattern(pending.d[i], pending.columns / 2))
      w.fail({.fault = Fault::wgmma,
              .text = "changes accumulators of a wgmma before it has waited for it",
              .thread = &thread_of(w, group, i),
              .site = pending.site});
}

void issue(Worker& w, Warpgroup& group) {
  const auto arguments = [&](uint32_t i) -> const WgmmaArguments& {
    return *static_cast<const WgmmaArguments*>(thread_of(w, group, i).payload);
  };
  const WgmmaOperands& o = arguments(0).operands;
  const void* site = group.site;
  if (!group.fenced)
    w.fail({.fault = Fault::wgmma,
            .text = "calls wgmma with no wgmma.fence since its warpgroup may have used the registers",
            .site = site});
  for (uint32_t i = 1; i < kThreads; i++)
    if (arguments(i).operands.a != o.a || arguments(i).operands.b != o.b || arguments(i).operands.accumulate != o.accumulate)
      w.fail({.fault = Fault::collective,
              .text = "calls wgmma with other operands than thread 0 of its warpgroup",
              .thread = &thread_of(w, group, i),
              .site = site});
  const auto columns = static_cast<uint32_t>(o.columns);
  PendingWgmma pending{.group = group.groups, .columns = columns, .site = site, .d = {}, .result = {}, .chunks = {}};
  const std::vector<float> b = read_operand(w, group, pending, o.b, o.b_mn_major, columns, o.type, site);
  std::vector<float> a;
  if (o.a_in_registers) {
    a.resize(64 * 16);
    for (uint32_t i = 0; i < kThreads; i++)
      for (uint32_t r = 0; r < 4; r++)
        for (uint32_t h = 0; h < 2; h++) {
          const auto bits = static_cast<uint16_t>(arguments(i).operands.a_registers[r] >> (16 * h));
          const uint32_t lane = i % 32, row = i / 32 * 16 + lane / 4 + 8 * (r & 1), k = lane % 4 * 2 + h + 8 * (r >> 1);
          a[row * 16 + k] = o.type == Bf16 ? bf16_to_float(bits) : f16_to_float(bits);
        }
  } else {
    a = read_operand(w, group, pending, o.a, o.a_mn_major, 64, o.type, site);
  }
  // The accumulators are those of an earlier wgmma in flight, or registers.
  const PendingWgmma* earlier = nullptr;
  for (const PendingWgmma& other : group.pending)
    if (other.d[0] == arguments(0).d) earlier = &other;
  if (earlier) need_pattern(w, group, *earlier);
  if (earlier && earlier->columns != columns)
    w.fail({.fault = Fault::wgmma, .text = "uses accumulators of a wgmma in flight that has another shape", .site = site});
  pending.d.resize(kThreads);
  pending.result.resize(kThreads * columns / 2);
  const MmaSum mode = options().mma;
  const int target = arch();
  for (uint32_t i = 0; i < kThreads; i++) {
    float* d = pending.d[i] = arguments(i).d;
    const uint32_t lane = i % 32;
    for (uint32_t e = 0; e < columns / 2; e++) {
      const uint32_t at = i * (columns / 2) + e, row = i / 32 * 16 + lane / 4 + 8 * (e / 2 % 2),
                     column = e / 4 * 8 + lane % 4 * 2 + e % 2;
      const float c = !o.accumulate ? 0.0f : earlier ? earlier->result[at] : d[e];
      pending.result[at] = mma_dot(&a[row * 16], &b[column * 16], c, 16, o.type, mode, target);
      if (options().wrong_wgmma) pending.result[at] = (c + pending.result[at]) / 2;
      std::memcpy(d + e, &kPattern, 4);
    }
  }
  group.pending.push_back(std::move(pending));
}

void complete(Worker& w, Warpgroup& group, uint32_t unfinished) {
  size_t done = 0;
  while (done < group.pending.size() && group.pending[done].group + unfinished < group.groups) done++;
  for (size_t i = 0; i < done; i++) {
    const PendingWgmma& p = group.pending[i];
    for (const PendingWgmma::Chunk& chunk : p.chunks) {
      check_chunk(w, group, chunk.at, p.site);
      if (std::memcmp(chunk.at, chunk.bytes, 16) != 0)
        fail_at(w, Fault::copy_in_flight, chunk.at, "waits for a wgmma that reads ", ", which was overwritten meanwhile", p.site);
    }
    const auto later = std::find_if(group.pending.begin() + static_cast<ptrdiff_t>(i) + 1, group.pending.end(),
                                    [&](const PendingWgmma& other) { return other.d[0] == p.d[0]; });
    if (later != group.pending.end()) continue;  // these accumulators are still in use, or get the sum of a later one
    need_pattern(w, group, p);
    for (uint32_t t = 0; t < kThreads; t++) std::copy_n(&p.result[t * p.columns / 2], p.columns / 2, p.d[t]);
  }
  group.pending.erase(group.pending.begin(), group.pending.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace

void wgmma(float* d, const WgmmaOperands& operands) {
  WgmmaArguments arguments{d, operands};
  warpgroup_call(__builtin_return_address(0), "wgmma", &arguments, issue);
}
void wgmma_fence() {
  warpgroup_call(__builtin_return_address(0), "wgmma.fence", nullptr, [](Worker&, Warpgroup& group) { group.fenced = true; });
}
void wgmma_commit() {
  warpgroup_call(__builtin_return_address(0), "wgmma.commit_group", nullptr, [](Worker&, Warpgroup& group) {
    group.groups++;
    group.fenced = false;
  });
}
void wgmma_wait(int unfinished) {
  warpgroup_call(__builtin_return_address(0), "wgmma.wait_group", nullptr, [unfinished](Worker& w, Warpgroup& group) {
    complete(w, group, static_cast<uint32_t>(unfinished));
    group.fenced = false;
  });
}
void proxy_fence() {
  Worker& w = *running;
  Thread& self = *w.current;
  if (self.proxy_fence < w.warp->block_clock) self.proxy_ordered = self.proxy_fence;
  self.proxy_fence = w.warp->clock++;  // later accesses of the thread come after the fence
  w.update_clock();
}

size_t shared_window(const void* p) {
  Worker& w = *running;
  const uintptr_t a = reinterpret_cast<uintptr_t>(p);
  if (!w.dynamic.contains(a))
    w.fail({.fault = Fault::misaligned,
            .text = "asks for the shared address of what is no dynamic shared memory",
            .site = __builtin_return_address(0)});
  return a - w.dynamic.base + kSharedWindow;
}

}  // namespace emulator
