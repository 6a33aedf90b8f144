#include "src/ranks/environment.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "src/base/check.h"

namespace tll {
namespace {

// The variables of a launcher that starts one process for each rank.
struct Family {
  const char *rank, *size, *local_rank, *local_size, *launcher;
};
constexpr Family kFamilies[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK and WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "Open MPI"},
    {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE", "MVAPICH2"},
};

constexpr int kMostRanks = 1 << 16;

class Environment {
 public:
  explicit Environment(const EnvironmentLookup& lookup) : lookup_(lookup) {}

  std::optional<std::string> text(const char* name) const {
    const char* value = lookup_(name);
    if (!value || !*value || !std::strcmp(value, "-1")) return std::nullopt;
    return value;
  }
  std::optional<int> number(const char* name, int least = 0, int most = kMostRanks) const {
    const std::optional<std::string> value = text(name);
    if (!value) return std::nullopt;
    int number = 0;
    const char* end = value->data() + value->size();
    const auto [last, error] = std::from_chars(value->data(), end, number);
    if (error != std::errc{} || last != end || number < least || number > most)
      fail(kExitUsage, "the environment has {}={}: expected a whole number from {} to {}", name, *value, least, most);
    return number;
  }

 private:
  const EnvironmentLookup& lookup_;
};

void require_below(const char* rank_name, int rank, const char* size_name, int size) {
  if (rank >= size)
    fail(kExitUsage, "the environment has {}={} and {}={}: ranks are counted from 0, so the last one is {}", rank_name, rank,
         size_name, size, size - 1);
}

bool is_this_machine(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

void set_master(const Environment& environment, RankPlace* place) {
  place->master_address = environment.text("MASTER_ADDR").value_or("");
  place->master_port = environment.number("MASTER_PORT", 1, 65535).value_or(29500);
}

// ---- Slurm

// Of "2(x3),1", tasks of nodes 0, 1, …: those of this node. Nothing: not written so.
std::optional<int> tasks_of_node(std::string_view list, int node) {
  while (!list.empty()) {
    const std::string_view entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), entry.size() + 1));
    int tasks = 0, times = 1;
    const char* end = entry.data() + entry.size();
    auto [next, error] = std::from_chars(entry.data(), end, tasks);
    if (error != std::errc{} || tasks < 1) return std::nullopt;
    if (next != end) {
      if (end - next < 4 || std::string_view(next, 2) != "(x" || end[-1] != ')') return std::nullopt;
      const auto [last, times_error] = std::from_chars(next + 2, end, times);
      if (times_error != std::errc{} || last != end - 1 || times < 1) return std::nullopt;
    }
    if (node < times) return tasks;
    node -= times;
  }
  return std::nullopt;
}

// Steps that are no tasks of srun have numbers from here on: an salloc shell, a batch script.
constexpr uint64_t kFirstSpecialStep = 0xfffffff0;

std::optional<RankPlace> slurm_place(const Environment& environment) {
  const auto step = environment.text("SLURM_STEP_ID");
  if (!step || std::strtoull(step->c_str(), nullptr, 10) >= kFirstSpecialStep) return std::nullopt;
  const char* size_name = environment.text("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  const auto size = environment.number(size_name, 1);
  if (!size || *size == 1) return std::nullopt;
  const auto rank = environment.number("SLURM_PROCID");
  const auto local_rank = environment.number("SLURM_LOCALID");
  if (!rank || !local_rank)
    fail(kExitUsage, "the environment has {}={}, but not {}: start the ranks with srun", size_name, *size,
         rank ? "SLURM_LOCALID" : "SLURM_PROCID");
  require_below("SLURM_PROCID", *rank, size_name, *size);

  std::optional<int> local_size;
  if (const auto list = environment.text("SLURM_STEP_TASKS_PER_NODE")) {
    local_size = tasks_of_node(*list, environment.number("SLURM_NODEID").value_or(0));
    if (!local_size)
      fail(kExitUsage, "the environment has SLURM_STEP_TASKS_PER_NODE={}: expected the tasks of each node, as in 2(x3),1", *list);
  } else {
    local_size = environment.number("SLURM_NTASKS_PER_NODE", 1);
  }
  if (!local_size)
    fail(kExitUsage,
         "the environment has {}={}, but neither SLURM_STEP_TASKS_PER_NODE nor SLURM_NTASKS_PER_NODE: start the ranks with "
         "srun --ntasks-per-node",
         size_name, *size);
  local_size = std::min(*local_size, *size);
  require_below("SLURM_LOCALID", *local_rank, "the tasks of this node", *local_size);
  RankPlace place{.rank = *rank,
                  .size = *size,
                  .local_rank = *local_rank,
                  .local_size = *local_size,
                  .master_address = "",
                  .run = environment.text("SLURM_JOB_ID").value_or("") + "." + *step,
                  .launcher = "Slurm"};
  set_master(environment, &place);
  return place;
}

// ---- Kubeflow

constexpr const char* kTrainJob = "Kubeflow TrainJob";

std::optional<RankPlace> train_job_place(const Environment& environment) {
  if (!environment.text("PET_NNODES")) return std::nullopt;
  const int nodes = *environment.number("PET_NNODES", 1);
  const auto each = environment.text("PET_NPROC_PER_NODE");
  const bool counted = each && *each != "auto" && *each != "gpu" && *each != "cpu";
  if (!counted && nodes == 1) return std::nullopt;  // one node, and no number: as many as --ranks says
  if (!counted)
    fail(kExitUsage, "the environment has PET_NNODES={}, but PET_NPROC_PER_NODE{}: set numProcPerNode to the ranks of a node",
         nodes, each ? "=" + *each : " is not set");
  const int per_node = *environment.number("PET_NPROC_PER_NODE", 1, kMostRanks / nodes);
  const auto node = environment.number("PET_NODE_RANK");
  if (!node && nodes > 1) fail(kExitUsage, "the environment has PET_NNODES={}, but not PET_NODE_RANK: set it too", nodes);
  require_below("PET_NODE_RANK", node.value_or(0), "PET_NNODES", nodes);
  return RankPlace{.rank = node.value_or(0) * per_node,
                   .size = nodes * per_node,
                   .local_size = per_node,
                   .to_start = per_node,
                   .master_address = environment.text("PET_MASTER_ADDR").value_or(""),
                   .master_port = environment.number("PET_MASTER_PORT", 1, 65535).value_or(29500),
                   .run = "",
                   .launcher = kTrainJob};
}

// ---- one process for each rank

// Those of this machine, where the launcher does not say both.
void guess_local(const Family& family, std::optional<int> local_rank, std::optional<int> local_size, RankPlace* place) {
  const bool here = place->size == 1 || is_this_machine(place->master_address) || local_size == place->size;
  if (here) {
    place->local_rank = local_rank.value_or(place->rank);
    place->local_size = place->size;
  } else if (local_size == 1 || (!local_rank && !local_size && !place->master_address.empty())) {
    place->local_rank = 0;
    place->local_size = 1;
  } else if (local_rank || local_size) {
    fail(kExitUsage, "the environment has {}={} and {}, but not {}: set it too", family.size, place->size,
         local_rank ? family.local_rank : family.local_size, local_rank ? family.local_size : family.local_rank);
  } else {
    fail(kExitUsage,
         "the environment has {}={}, but not {} and {}, the ranks of this machine: set them too, or MASTER_ADDR=localhost if "
         "all ranks are here",
         family.size, place->size, family.local_rank, family.local_size);
  }
}

std::string launcher_of(const Family& family, const Environment& environment) {
  if (environment.text("TORCHELASTIC_RUN_ID") && &family == kFamilies) return "torchrun";
  return family.launcher;
}

std::optional<RankPlace> family_place(const Family& family, const Environment& environment,
                                      const std::optional<RankPlace>& slurm) {
  const auto size = environment.number(family.size, 1);
  auto rank = environment.number(family.rank);
  if (!rank && size == 1) rank = 0;
  if (!rank || !size) return std::nullopt;
  require_below(family.rank, *rank, family.size, *size);
  RankPlace place{.rank = *rank, .size = *size, .master_address = "", .run = "", .launcher = launcher_of(family, environment)};
  set_master(environment, &place);
  const auto local_rank = environment.number(family.local_rank);
  const auto local_size = environment.number(family.local_size, 1);
  if (local_rank && local_size) {
    place.local_rank = *local_rank;
    place.local_size = *local_size;
  } else if (slurm && slurm->rank == *rank && slurm->size == *size) {
    place.local_rank = slurm->local_rank;
    place.local_size = slurm->local_size;
    place.launcher = slurm->launcher;
  } else {
    guess_local(family, local_rank, local_size, &place);
  }
  require_below(family.local_rank, place.local_rank, family.local_size, place.local_size);
  if (place.local_size > place.size)
    fail(kExitUsage, "the environment has {}={} and {}={}: there are fewer ranks in all than on this machine", family.size,
         place.size, family.local_size, place.local_size);
  return place;
}

// Of two variables that belong together one is there.
void require_whole(const Family& family, const Environment& environment) {
  const auto rank = environment.text(family.rank), size = environment.text(family.size);
  if (rank.has_value() == size.has_value()) return;
  fail(kExitUsage, "the environment has {}={}, but not {}: set both, or for a run of one rank neither (unset {})",
       rank ? family.rank : family.size, rank ? *rank : *size, rank ? family.size : family.rank,
       rank ? family.rank : family.size);
}

std::optional<RankPlace> first_place(const Environment& environment) {
  const std::optional<RankPlace> slurm = slurm_place(environment);
  for (const Family& family : kFamilies)
    if (const auto place = family_place(family, environment, slurm)) return place;
  if (slurm) return slurm;
  if (const auto job = train_job_place(environment)) return job;
  for (const Family& family : kFamilies) require_whole(family, environment);
  return std::nullopt;
}

// The ranks of mpirun, and of an srun that speaks PMIx. Not those that torchrun starts inside one of them.
bool has_mpi(const Environment& environment, const RankPlace& place) {
  if (environment.text("OMPI_COMM_WORLD_SIZE"))
    return environment.number("OMPI_COMM_WORLD_SIZE") == place.size && environment.number("OMPI_COMM_WORLD_RANK") == place.rank;
  return environment.number("PMIX_RANK") == place.rank && place.launcher != kTrainJob;
}

std::string name_of_run(const Environment& environment, const RankPlace& place) {
  std::string run = place.run;
  if (place.has_mpi && run.empty())
    for (const char* name : {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"})
      if (const auto job = environment.text(name); job && run.empty()) run = *job;
  if (run.empty()) run = std::to_string(place.master_port);
  for (const char* name : {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"})
    if (const auto part = environment.text(name); part && place.launcher == "torchrun") run += "-" + *part;
  for (char& c : run)
    if (!std::strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", c)) c = '_';
  return run.substr(0, 150);
}

}  // namespace

std::optional<RankPlace> place_from_environment(const EnvironmentLookup& lookup) {
  const Environment environment(lookup);
  std::optional<RankPlace> place = first_place(environment);
  if (!place) return std::nullopt;
  place->has_mpi = has_mpi(environment, *place);
  if (!place->on_one_machine() && !place->has_mpi && place->master_address.empty())
    fail(kExitUsage,
         "{} ranks on several machines ({} of them here), but {} is not set: set it to the name of the machine of rank 0",
         place->size, place->local_size, place->launcher == kTrainJob ? "PET_MASTER_ADDR" : "MASTER_ADDR");
  place->run = name_of_run(environment, *place);
  return place;
}

std::optional<RankPlace> place_from_environment() {
  return place_from_environment([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace tll
