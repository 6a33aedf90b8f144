#include "dev/ptx_sim/shared_memory.h"

namespace ptx {

void SharedMemory::mark_read(Cell& c, const Accessor& who) {
  const Lanes lanes = who.lane < 0 ? kAllLanes : Lanes{1} << who.lane;
  if (c.read_epoch != who.epoch) c.read_epoch = who.epoch, c.reading_warps = 0, c.reading_lanes = 0;
  c.reading_warps |= Lanes{1} << who.warp;
  if (c.reading_warp != who.warp || c.read_sync != who.sync) c.reading_lanes = 0;
  c.reading_warp = static_cast<uint8_t>(who.warp), c.read_sync = who.sync, c.reading_lanes |= lanes;
}
const char* SharedMemory::read(const Accessor& who, uint64_t address, size_t bytes) {
  const char* problem = nullptr;
  for_cells(address, bytes, [&](Cell& c) {
    if (c.state == State::unwritten)
      problem = "shared memory is read that nobody wrote";
    else if (c.state == State::copying)
      problem = "shared memory is read before its cp.async was waited for";
    else if (c.write_epoch == who.epoch && c.writing_warp != who.warp)
      problem = "shared memory is read that another warp wrote, with no barrier in between";
    else if (c.write_epoch == who.epoch && c.write_sync == who.sync && c.writing_lane != who.lane)
      problem = "shared memory is read that another lane wrote, with no __syncwarp in between";
    mark_read(c, who);
  });
  return problem;
}

const char* SharedMemory::write_cell(Cell& c, const Accessor& who) const {
  const Lanes warp = Lanes{1} << who.warp, lane = Lanes{1} << who.lane;
  if (!async_.empty() && async_[static_cast<size_t>(&c - cells_.data())].readers)
    return "shared memory is written that a wgmma in flight reads";
  if (c.state == State::copying) return "shared memory is written before its cp.async was waited for";
  if (c.write_epoch == who.epoch && c.writing_warp != who.warp)
    return "shared memory is written that another warp wrote, with no barrier in between";
  if (c.write_epoch == who.epoch && c.write_sync == who.sync && c.writing_lane != who.lane)
    return "shared memory is written that another lane wrote, with no __syncwarp in between";
  if (c.read_epoch == who.epoch && (c.reading_warps & ~warp))
    return "shared memory is written that another warp reads, with no barrier in between";
  if (c.read_epoch == who.epoch && c.reading_warp == who.warp && c.read_sync == who.sync && (c.reading_lanes & ~lane))
    return "shared memory is written that another lane reads, with no __syncwarp in between";
  return nullptr;
}
void SharedMemory::mark_written(Cell& c, const Accessor& who, State state) {
  c.write_epoch = who.epoch, c.write_sync = who.sync, c.state = state;
  c.writing_warp = static_cast<uint8_t>(who.warp), c.writing_lane = static_cast<uint8_t>(who.lane);
  if (!async_.empty()) async_[static_cast<size_t>(&c - cells_.data())].fences = who.fences;
}

const char* SharedMemory::write_as(State state, const Accessor& who, uint64_t address, size_t bytes) {
  const char* problem = nullptr;
  for_cells(address, bytes, [&](Cell& c) {
    if (const char* wrong = write_cell(c, who)) problem = wrong;
    mark_written(c, who, state);
  });
  return problem;
}
void SharedMemory::copy_ends(const Accessor& who, uint64_t address, size_t bytes) {
  for_cells(address, bytes, [&](Cell& c) { mark_written(c, who, State::written); });
}
void SharedMemory::multiply_ends(const Accessor& who, uint64_t address, size_t bytes) {
  for_cells(address, bytes, [&](Cell& c) {
    mark_read(c, who);
    async_[static_cast<size_t>(&c - cells_.data())].readers--;
  });
}

}  // namespace ptx
