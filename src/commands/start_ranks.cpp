#include "src/commands/start_ranks.h"

#include "kernels/cuda_device.h"
#include "src/options/resolve.h"
#include "src/ranks/mpi.h"
#include "src/report/memory_probe.h"

namespace tll {

RankStart rank_start(const Options& options) {
  RankStart start;
  start.wanted = options.given("ranks") ? static_cast<int>(options.ranks) : 0;
  start.open_mpi = [] { return open_mpi(); };
  start.gpus_may_meet = options.device != DeviceOption::kCpu;
  return start;
}

void take_place(Options& options, const Ranks& ranks) {
  const RankPlace& place = ranks.place();
  options.ranks = place.size;
  options.process_rank = place.rank, options.local_rank = place.local_rank, options.local_ranks = ranks.sharing_cores();
  if (place.size > 1) options.meeting_place = fmt::format("{}:{}", place.master_address, place.master_port + 1);
  if (place.size > 1) options.memory_share = machine_memory().available / place.local_size;  // no rank has taken any yet
  if (options.device != DeviceOption::kCpu && place.local_rank < cuda_device_count() && !cuda_emulated())
    choose_cuda_device(place.local_rank);
  Collectives* const collectives = ranks.collectives();
  if (!collectives || options.dtype != DtypeOption::kAuto) return;
  DtypeOption chosen = options.dtype;
  if (collectives->is_first()) {
    Options resolved = options;
    resolved.quiet = true;  // it is said when all resolve theirs
    resolve_options(resolved);
    chosen = resolved.dtype;
  }
  collectives->broadcast_host(&chosen, sizeof(chosen), 0);
  options.dtype = chosen;
}

}  // namespace tll
