// The ranks of a run: those that a launcher started, or processes that this one starts.
//
//   who started the ranks                       what carries between them
//   mpirun, or srun with PMIx                   MPI
//   a launcher, all on one machine              a file in /dev/shm (shared_block.h)
//   --ranks N, or a TrainJob of one node        memory shared with the N - 1 children of this process, which is rank 0
//
//   a launcher, on several machines             nothing until GPUs meet by NCCL; usage error on CPUs
//
// A run of one rank has no carrier.
//
// Ranks other than the first show nothing but errors, each with "rank N: " before it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "src/ranks/collectives.h"
#include "src/ranks/environment.h"
#include "src/ranks/shared_memory.h"

namespace tll {

struct RankStart {
  int wanted = 0;                                        // --ranks; 0: not given
  std::unique_ptr<Collectives> (*open_mpi)() = nullptr;  // null: without MPI
  bool gpus_may_meet = false;                            // on several machines the caller lets GPUs meet by NCCL alone
  EnvironmentLookup environment = {};                    // none: the process's
  RankPatience patience = {};
  std::chrono::milliseconds for_the_end{20000};  // how long rank 0 waits for its children to end
};

class Ranks {
 public:
  // Before any thread is started, a GPU is used, or anything is printed: on return each rank is a process of its own. Waits until
  // all have come. Error (kExitUsage) if --ranks is not the launcher's number, or nothing can carry between the ranks.
  explicit Ranks(const RankStart& start);
  // Children that still run are given `for_the_end`, and then killed.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  const RankPlace& place() const { return place_; }                // local_rank is the number of this rank's GPU
  Collectives* collectives() const { return collectives_.get(); }  // null: a run of one rank, or of GPUs that are still to meet
  // How many ranks, this one among them, may run on this one's cores: the default of --threads is its share of them.
  int sharing_cores() const { return sharing_cores_; }

  // This rank ended with `code`, as all should. Rank 0 waits for its children: Error, with the code of the rank at fault, if one
  // ended otherwise or does not end.
  void finish(int code);
  // This rank ends with an error: the others are told. Then report() prints it, or nothing if another rank prints it. So main()
  // holds the Ranks outside of what may throw:
  //   catch (const Error& error) { ranks.leave(error.exit_code, error.what()); return report(error.exit_code, error.what()); }
  void leave(ExitCode code, const std::string& message) noexcept;

 private:
  void join(const RankStart& start);
  void start_children();
  void show_errors_of_others() const;
  void count_sharing();
  void end_children() noexcept;

  RankPlace place_;
  std::chrono::milliseconds for_the_end_;
  std::vector<pid_t> children_;  // of ranks 1, 2, …; 0: has ended, and was waited for
  std::shared_ptr<SharedBlock> block_;
  std::unique_ptr<Collectives> collectives_;
  int sharing_cores_ = 1;
};

}  // namespace tll
