// Collectives by Open MPI, for ranks that mpirun, srun or the MPI Operator started, on one host or several.
//
// Open MPI is opened at run time (open_mpi_library.h). It moves memory of the host: on a GPU only the calls for the host's memory
// are made, and NCCL does the rest.
//
// A rank that dies is noticed by mpirun, which names it and ends the others. A rank that is silent is noticed by the others
// (mpi_watch.h), which needs an Open MPI that several threads may call (MPI_THREAD_MULTIPLE); without, a note says so.
//
// After leave() the object's destructor ends all ranks, with leave()'s code, which is then mpirun's. If an exception destroys it
// without leave(), the process must end too: mpirun sees that it ended without MPI_Finalize and ends the others.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "src/ranks/collectives.h"

namespace tll {

struct MpiSettings {
  int ranks = 0;                                    // as many as the launcher said that it started; 0: not known
  std::chrono::milliseconds silence{30'000};        // of a rank, until it counts as gone
  int64_t most_bytes_a_message = int64_t{1} << 30;  // even, below 2^31; more is sent in several
};

// To be called once in a process, on all ranks. Error (kExitFault) if Open MPI is not there or is not what started the ranks.
std::unique_ptr<Collectives> open_mpi(const MpiSettings& settings = {});

}  // namespace tll
