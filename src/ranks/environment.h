// Where this process stands among the ranks that a launcher started: read from the environment variables that torchrun, mpirun,
// srun and Kubernetes set, in the order in which Hugging Face accelerate reads them.
//
//   torchrun, or by hand   RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE
//   MPICH, Intel MPI       PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS
//   Open MPI               OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
//   MVAPICH2               MV2_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
//   Slurm                  SLURM_PROCID, SLURM_STEP_NUM_TASKS (or SLURM_NTASKS), SLURM_LOCALID, SLURM_STEP_TASKS_PER_NODE (or
//                          SLURM_NTASKS_PER_NODE); only inside srun, where SLURM_STEP_ID is set
//   Kubeflow TrainJob      PET_NODE_RANK, PET_NNODES, PET_NPROC_PER_NODE: one process for each node
//
// The first row whose rank and size are both set counts. MASTER_ADDR and MASTER_PORT (PET_MASTER_…) say where rank 0 is.
// A variable that is empty or -1 is as good as not set.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace tll {

struct RankPlace {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // among those of this machine
  int to_start = 1;                    // ranks that this process stands for, itself the first: more than 1 with a TrainJob
  std::string master_address;          // empty: not set
  int master_port = 29500;
  bool has_mpi = false;  // MPI_Init would find the other ranks
  std::string run;       // tells this run from others on the machine; of letters that a name of a file may have
  std::string launcher;  // "torchrun", "Open MPI", "Slurm", …: for people

  bool on_one_machine() const { return local_size == size; }
};

using EnvironmentLookup = std::function<const char*(const char* name)>;

// Nothing: no launcher set anything; a Slurm batch script, an salloc shell and a step of one task are no ranks either. Error
// (kExitUsage) if what is set is not whole or contradicts itself.
std::optional<RankPlace> place_from_environment(const EnvironmentLookup& lookup);
std::optional<RankPlace> place_from_environment();

}  // namespace tll
