#include "dev/ptx_sim/block.h"

#include <algorithm>

#include "dev/ptx_sim/reports.h"

namespace ptx {

void Block::fault(const std::string& what, int lane) const {
  std::string where = place_text(kernel, at);
  where += ", block (" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
  if (warp) where += " warp " + std::to_string(warp->id);
  if (warp && lane >= 0) where += " thread " + std::to_string(warp->id * kWarp + lane);
  throw Fault(what + ": " + where);
}
void Block::report(const std::string& what) const { add_report(what + ": " + place_text(kernel, at)); }

uint64_t Block::by_chance() {  // xorshift
  random ^= random << 13, random ^= random >> 7, random ^= random << 17;
  return random;
}

// Lanes that arrive at an instruction for several. false: they wait for others.
bool Block::step_together(const Instruction& i, Lanes& mask, uint32_t& pc) {
  Warp& w = *warp;
  for (Lanes rest = w.blocked; rest; rest &= rest - 1)
    if (const int lane = std::countr_zero(rest); w.pc[static_cast<size_t>(lane)] == pc) mask |= Lanes{1} << lane;
  w.blocked &= ~mask;
  Lanes needed = w.live;
  if (i.mask_at >= 0) needed &= static_cast<Lanes>(get(i.s[static_cast<size_t>(i.mask_at)], std::countr_zero(mask)));
  if (needed & ~mask) {
    w.blocked |= mask;
    return false;
  }
  if (mask & ~needed) fault("a lane is not in the mask that it gives", std::countr_zero(mask & ~needed));
  i.run(*this, i, mask);
  pc++;
  if (i.flow == Flow::barrier) w.at_barrier |= mask, w.barrier = pc - 1;
  return i.flow != Flow::barrier;
}

// Runs a warp until all its lanes wait at a barrier or have ended, or until another one's turn comes.
void Block::run(Warp& w) {
  warp = &w;
  uint64_t turn = random ? by_chance() % 300 + 1 : ~uint64_t{0};
  const auto leave = [&](Lanes lanes, uint32_t pc) {
    for (; lanes; lanes &= lanes - 1) w.pc[static_cast<size_t>(std::countr_zero(lanes))] = pc;
  };
  for (;;) {
    const Lanes runnable = w.live & ~w.at_barrier & ~w.blocked;
    if (!runnable) {
      if (w.blocked & w.live) {
        at = w.pc[static_cast<size_t>(std::countr_zero(w.blocked & w.live))];
        fault("a deadlock: lanes of the warp wait for others that do not come", std::countr_zero(w.blocked & w.live));
      }
      return;
    }
    // The lanes that are least far run, until they have caught up with others.
    uint32_t pc = ~0u, others_at = ~0u;
    Lanes mask = 0;
    for (Lanes rest = runnable; rest; rest &= rest - 1) pc = std::min(pc, w.pc[static_cast<size_t>(std::countr_zero(rest))]);
    for (Lanes rest = runnable; rest; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      if (const uint32_t there = w.pc[static_cast<size_t>(lane)]; there == pc)
        mask |= Lanes{1} << lane;
      else
        others_at = std::min(others_at, there);
    }
    while (pc < others_at) {
      if (turn-- == 0) return leave(mask, pc);
      at = pc;
      const Instruction& i = kernel.code[pc];
      executed[pc]++;
      Lanes active = mask;
      if (i.guarded) active &= condition(i.guard);
      if (i.flow == Flow::next) {
        if (active) i.run(*this, i, active);
        pc++;
      } else if (i.flow == Flow::branch) {
        if (active == 0) {
          pc++;
        } else if (active == mask && others_at == ~0u) {
          pc = static_cast<uint32_t>(i.target);
        } else {
          leave(mask & ~active, pc + 1), leave(active, static_cast<uint32_t>(i.target));
          break;
        }
      } else if (i.flow == Flow::leave) {
        w.live &= ~active;
        if (active == mask) break;
        mask &= ~active, pc++;
      } else {
        if (active != mask) fault("a condition on an instruction for a whole warp");
        if (step_together(i, mask, pc)) continue;
        leave(mask, pc);
        break;
      }
    }
    if (pc >= others_at) leave(mask, pc);
  }
}

// At a barrier and at the end: the warps of a warpgroup have executed the same wgmma.
void Block::check_warpgroups() {
  for (Warp& w : *warps) {
    std::vector<WarpgroupStep>& all = steps[static_cast<size_t>(w.id) / 4];
    if (w.steps < all.size()) warp = &w, at = all[w.steps].at, fault("a warp does not execute the wgmma of its warpgroup");
  }
  for (Warp& w : *warps) w.steps = 0;
  for (auto& all : steps) all.clear();
}

void Block::run(std::vector<Warp>& all) {
  warps = &all;
  steps.resize((all.size() + 3) / 4);
  for (;;) {
    bool all_wait = false;
    while (!all_wait) {
      all_wait = true;
      const size_t first = random ? by_chance() % all.size() : 0;
      for (size_t n = 0; n < all.size(); n++) {
        Warp& w = all[(first + n) % all.size()];
        if (w.live & ~w.at_barrier) run(w);
        all_wait = all_wait && !(w.live & ~w.at_barrier);
      }
    }
    const Warp* other = nullptr;
    for (Warp& w : all) {
      if (!w.live) continue;
      warp = &w, at = w.barrier;
      if (other && other->barrier != w.barrier) fault("warps wait at different barriers");
      other = &w;
    }
    check_warpgroups();
    if (!other) break;
    epoch++;
    for (Warp& w : all) w.at_barrier = 0, w.sync++;
  }
  for (Warp& w : all)
    if (!w.multiplies.empty()) warp = &w, at = w.multiplies.back().at, report("a wgmma that its warp does not wait for");
}

}  // namespace ptx
