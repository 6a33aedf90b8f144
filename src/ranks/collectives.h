// Collective operations between the ranks of a run: what moves tensors from one rank to another.
//
// A rank is one process with one device (in tests: a thread). Every rank makes the same calls in the same order, with the same
// sizes. No call adds anything up: sums are made by kernels from the parts that exchange() brought, in the order of ranks, so
// that their bits are the same with every carrier, and with any number of ranks.
//
//                  on entry                                     on return
//   all_gather     rank r holds part r of `data`                every rank holds all of it
//   exchange       rank r holds all parts of its own `from`     rank r holds part r of every rank's, one after another in `to`
//   broadcast      rank `root` holds `data`                     every rank holds it
//
// Parts are described by `bounds`, size() + 1 ascending offsets in bytes, the same on all ranks: part r is [bounds[r],
// bounds[r + 1]), and may be empty. Offsets of parts that are not empty are multiples of 2.
//
// Three carriers: memory that the ranks of one machine share (shared_memory.h), Open MPI (mpi.h), and NCCL for GPUs (nccl.h).
//
// A rank that ends, or does not answer, is an Error (kExitFault) that names it, on every other rank, within a minute.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace tll {

// What a plan's list of ops (DryRun::ops) calls them: pieces of gradients, those of sums or values, and frozen weights.
inline constexpr const char* kGradientTraffic = "exchange";
inline constexpr const char* kGatherTraffic = "all_gather";
inline constexpr const char* kWeightTraffic = "gather_weights";

inline constexpr int kMostRanks = 4096;

using Bounds = std::span<const int64_t>;

class Collectives {
 public:
  Collectives(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Collectives() = default;
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_first() const { return rank_ == 0; }

  // ---- memory of the device. On a GPU enqueued on the device's stream, and may be captured in a graph; on the CPU done on
  // return.
  virtual void all_gather(const Device&, void* data, Bounds bounds) = 0;
  // `to` has room for size() parts as large as this rank's own: that of rank q begins at q times its size.
  virtual void exchange(const Device&, void* to, const void* from, Bounds bounds) = 0;
  virtual void broadcast(const Device&, void* data, int64_t bytes, int root) = 0;

  // ---- memory of the host, also beside a GPU. Done on return; a barrier as well.
  // `data` has room for size() times `bytes`; rank r brings those from r · bytes on.
  virtual void all_gather_host(void* data, int64_t bytes) = 0;
  virtual void broadcast_host(void* data, int64_t bytes, int root) = 0;
  virtual void barrier() = 0;

  // Waits for all that is enqueued on the device's stream, as synchronize() does, but not for ranks that have ended. To be called
  // before anything that waits blindly for a GPU on which collectives are enqueued.
  virtual void wait(const Device& device) {
    if (device.kind == DeviceKind::cuda) cuda_synchronize(device);
  }
  // The Error of a rank that has ended, as far as this carrier sees it. Does not wait.
  virtual void require_all_run() {}

  // This rank cannot go on: the others are told at once that it ended with `code`, and why. Returns whether this rank is the one
  // that should print its error (an error that all have is printed once).
  virtual bool leave(int code, const std::string& message) noexcept = 0;

  // Of the carrier, for people: "shared memory", "Open MPI 4.1.4", "NCCL 2.28.9".
  virtual std::string name() const = 0;

 private:
  int rank_, size_;
};

// A text of each rank, on all of them.
std::vector<std::string> gather_texts(Collectives& collectives, const std::string& own);

// The first rank's text, on all.
std::string text_of_first(Collectives& collectives, std::string text);

// stop_requested() (src/base/process.h) is from now on whether a signal to stop has come to any rank.
void agree_to_stop(Collectives& collectives);

}  // namespace tll
