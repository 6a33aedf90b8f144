// Warp collectives: lanes wait until all lanes of the mask are at the same call.
#include <fmt/format.h>

#include <algorithm>

#include "dev/emulator/block.h"
#include "dev/emulator/symbols.h"

namespace emulator {
namespace {

std::string lanes_text(uint32_t lanes) {
  std::string text;
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u) {
      uint32_t last = i;
      while (last + 1 < 32 && lanes >> (last + 1) & 1u) last++;
      text += fmt::format("{}{}{}", text.empty() ? "" : ",", i, last > i ? fmt::format("-{}", last) : "");
      i = last;
    }
  return text;
}
struct ShuffleArguments {
  uint64_t value, result;
  Shuffle kind;
  unsigned operand;
  int width;
};
struct BallotArguments {
  bool predicate;
  uint32_t result;
};
struct AddArguments {
  unsigned value, result;
};

template <class T>
T& payload(Worker& worker, Warp& warp, uint32_t lane) {
  return *static_cast<T*>(lane_thread(worker, warp, lane).payload);
}

}  // namespace

// In the order of Wait: its name, and what completes it when it is a collective.
constexpr struct {
  const char* name;
  Finish* finish;
} kWaits[] = {{"nothing", nullptr},          {"__syncthreads", nullptr},    {"__syncwarp", finish_warp_barrier},
              {"a shuffle", finish_shuffle}, {"a vote", finish_ballot},     {"__reduce_sync", finish_add},
              {"mma", finish_mma},           {"ldmatrix", finish_ldmatrix}, {"wgmma", nullptr},
              {"its end", nullptr}};
const char* wait_name(Wait wait) { return kWaits[static_cast<int>(wait)].name; }

void Worker::collective(Wait wait, const void* site, uint32_t mask, void* payload) {
  Thread& self = *current;
  const uint32_t bit = 1u << lane();
  if (!(mask & bit))
    fail({.fault = Fault::collective,
          .text = fmt::format("calls {} with mask {:#010x}, which lacks its own lane {}", wait_name(wait), mask, lane()),
          .thread = &self,
          .site = site});
  if (const uint32_t gone = mask & warp->exited)
    missing_lane({wait, site, mask, bit}, static_cast<uint32_t>(std::countr_zero(gone)));
  self.wait = wait;
  self.site = site;
  self.mask = mask;
  self.payload = payload;
  WarpGroup* group = nullptr;
  for (WarpGroup& g : warp->groups)
    if (g.wait == wait && g.mask == mask && (g.site == site || same_source(g.site, site))) group = &g;
  if (!group) group = &warp->groups.emplace_back(WarpGroup{wait, site, mask, 0});
  group->arrived |= bit;
  complete_groups(*warp);
  yield();
}

void Worker::complete_groups(Warp& w) {
  for (size_t i = 0; i < w.groups.size(); i++) {
    const WarpGroup g = w.groups[i];
    if ((g.mask & w.present & ~g.arrived) != 0) continue;
    w.groups.erase(w.groups.begin() + static_cast<ptrdiff_t>(i--));
    complete(w, g);
  }
}

void Worker::complete(Warp& w, const WarpGroup& g) {
  kWaits[static_cast<int>(g.wait)].finish(*this, w, g.arrived);
  for (uint32_t i = 0; i < 32; i++)
    if (g.arrived >> i & 1u) {
      Thread& t = lane_thread(*this, w, i);
      t.wait = Wait::none;
      make_runnable(t);
    }
}

// A thread that has returned can no longer arrive. (A GPU ignores one that returned before the others arrived, but nothing
// guarantees that order.)
void Worker::missing_lane(const WarpGroup& g, uint32_t lane) {
  const Thread& waiting = lane_thread(*this, *warp, static_cast<uint32_t>(std::countr_zero(g.arrived)));
  fail(
      {.fault = Fault::collective,
       .text = fmt::format("calls {} with mask {:#010x}, whose lane {} has returned without it", wait_name(g.wait), g.mask, lane),
       .thread = &waiting,
       .site = g.site});
}

// Deadlock: a barrier or collective waits for threads that will not arrive.
void Worker::diagnose() {
  const auto where = [](const Thread& t) {
    const SourceLine at = source_line(t.site);
    return at.line ? fmt::format(" ({}:{})", at.file, at.line) : "";
  };
  for (uint32_t i = 0; i < (thread_count + 31) / 32; i++) {
    Warp& w = warps[i];
    if (w.groups.empty()) continue;
    const WarpGroup& g = w.groups.front();
    const uint32_t missing = g.mask & w.present & ~g.arrived;
    const Thread& first = lane_thread(*this, w, static_cast<uint32_t>(std::countr_zero(g.arrived)));
    const Thread& other = lane_thread(*this, w, static_cast<uint32_t>(std::countr_zero(missing)));
    const std::string its_mask = other.wait == g.wait ? fmt::format(" with mask {:#010x}", other.mask) : "";
    failure = std::make_unique<Failure>(
        Failure{.fault = Fault::collective,
                .text = fmt::format("waits at {} with mask {:#010x} for lanes {}; lane {} waits at {}{}{}", wait_name(g.wait),
                                    g.mask, lanes_text(missing), other.id % 32, wait_name(other.wait), its_mask, where(other)),
                .thread = &first,
                .site = first.site,
                .other_site = other.site});
    return;
  }
  for (const Warpgroup& group : warpgroups) {
    if (group.arrived == 0) continue;
    const size_t first = static_cast<size_t>(&group - warpgroups) * Warpgroup::kThreads;
    const auto at_call = [](const Thread& t) { return t.wait == Wait::warpgroup; };
    const auto begin = threads.begin() + static_cast<ptrdiff_t>(first), end = begin + Warpgroup::kThreads;
    const Thread &waiting = *std::find_if(begin, end, at_call), &other = *std::find_if_not(begin, end, at_call);
    failure = std::make_unique<Failure>(
        Failure{.fault = Fault::collective,
                .text = fmt::format("waits at wgmma for all threads of its warpgroup; thread {} waits at {}{}",
                                    index_text(other.index), wait_name(other.wait), where(other)),
                .thread = &waiting,
                .site = group.site,
                .other_site = other.site});
    return;
  }
  const Thread* gone = nullptr;
  for (uint32_t i = 0; i < thread_count && !gone; i++)
    if (threads[i].wait == Wait::exited) gone = &threads[i];
  failure = std::make_unique<Failure>(
      Failure{.fault = Fault::barrier,
              .text = fmt::format("exited while {} threads of its block wait at __syncthreads{}, {} have exited", barrier_waiting,
                                  where(*barrier_first), exited),
              .thread = gone,
              .site = barrier_first->site});
}

// ---- shuffles -----------------------------------------------------------------------------------------------------------------
void finish_shuffle(Worker& worker, Warp& warp, uint32_t lanes) {
  for (uint32_t lane = 0; lane < 32; lane++) {
    if (!(lanes >> lane & 1u)) continue;
    auto& p = payload<ShuffleArguments>(worker, warp, lane);
    const uint32_t width = static_cast<uint32_t>(p.width), base = lane - lane % width, operand = p.operand % 32;
    const uint32_t last = base + width - 1;
    uint32_t from = lane;
    if (p.kind == Shuffle::index) from = base + operand % width;
    if (p.kind == Shuffle::up && lane >= base + operand) from = lane - operand;
    if (p.kind == Shuffle::down && lane + operand <= last) from = lane + operand;
    if (p.kind == Shuffle::exclusive_or && (lane ^ operand) <= last) from = lane ^ operand;
    if (!(lanes >> from & 1u)) {
      const Thread& self = lane_thread(worker, warp, lane);
      const char* why = !(warp.present >> from & 1u) ? ", which does not exist in this warp"
                        : warp.exited >> from & 1u   ? ", which has exited"
                                                     : ", which the mask does not name";
      worker.fail({.fault = Fault::collective,
                   .text = fmt::format("shuffles from lane {}{} (mask {:#010x})", from, why, self.mask),
                   .thread = &self,
                   .site = self.site});
    }
    p.result = payload<ShuffleArguments>(worker, warp, from).value;
  }
}

uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, unsigned operand, int width, int bytes) {
  Worker& w = *running;
  const void* site = __builtin_return_address(0);
  if (width < 1 || width > 32 || (width & (width - 1)) || bytes == 1)
    w.fail({.fault = Fault::collective,
            .text = fmt::format("shuffles with width {} and values of {} bytes", width, bytes),
            .site = site});
  ShuffleArguments arguments{value, 0, kind, operand, width};
  w.collective(Wait::shuffle, site, mask, &arguments);
  return arguments.result;
}

// ---- votes, reductions, __syncwarp --------------------------------------------------------------------------------------------
void finish_ballot(Worker& worker, Warp& warp, uint32_t lanes) {
  uint32_t votes = 0;
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u && payload<BallotArguments>(worker, warp, i).predicate) votes |= 1u << i;
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u) payload<BallotArguments>(worker, warp, i).result = votes;
}
uint32_t warp_ballot(uint32_t mask, bool predicate) {
  BallotArguments arguments{predicate, 0};
  running->collective(Wait::ballot, __builtin_return_address(0), mask, &arguments);
  return arguments.result;
}

void finish_add(Worker& worker, Warp& warp, uint32_t lanes) {
  unsigned sum = 0;
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u) sum += payload<AddArguments>(worker, warp, i).value;
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u) payload<AddArguments>(worker, warp, i).result = sum;
}
int warp_add(uint32_t mask, int value) {
  Worker& w = *running;
  if (arch() < 800)
    w.fail({.fault = Fault::launch, .text = "calls __reduce_sync, which begins with sm_80", .site = __builtin_return_address(0)});
  AddArguments arguments{static_cast<unsigned>(value), 0};
  w.collective(Wait::add, __builtin_return_address(0), mask, &arguments);
  return static_cast<int>(arguments.result);
}

void finish_warp_barrier(Worker&, Warp& warp, uint32_t lanes) {
  if (lanes == warp.present) {
    warp.all_lanes_clock = ++warp.clock;
    return;
  }
  // A barrier of some lanes: each learns what the others know, and their accesses up to here.
  warp.known.resize(32 * 32);
  warp.clock++;
  uint32_t joined[32] = {};
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u)
      for (uint32_t k = 0; k < 32; k++) joined[k] = std::max(joined[k], lanes >> k & 1u ? warp.clock : warp.known[32 * i + k]);
  for (uint32_t i = 0; i < 32; i++)
    if (lanes >> i & 1u) std::copy(joined, joined + 32, warp.known.begin() + 32 * i);
}
void warp_barrier(uint32_t mask) { running->collective(Wait::warp_barrier, __builtin_return_address(0), mask, nullptr); }

}  // namespace emulator
