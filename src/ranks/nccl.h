// Collectives between GPUs by NCCL: one rank, one process, one GPU.
//
// What is of the host goes by another carrier, `host`: shared memory within a machine, MPI between machines. Without one, as
// between machines that torchrun or srun has started, NCCL alone meets at HOST:PORT, and what is of the host goes through a
// buffer of the GPU.
//
// A collective is enqueued when its call returns. A rank that waits for it by cuda_synchronize() waits for ever when another rank
// has ended, so wait() is to be called in its place: it gives up when NCCL reports an error, when `look` does, or after `limit`
// without an answer. Then the communicator is aborted, which frees the stream, and every later call but leave() is an Error.
//
// Graphs that hold collectives are closed before this object. The constructor and all collectives of device memory use the stream
// of the device that the constructor is given, which captures only where the caller has begun it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/nccl.h"
#include "src/ranks/collectives.h"

namespace tll {

struct NcclSetup {
  Collectives* host = nullptr;  // null: without. Lives longer than this
  // Called about ten times a second by a rank that waits. It throws the Error of a rank that has ended, and does not wait for
  // any. Empty: only NCCL says so.
  std::function<void()> look{};
  std::string meeting_place{};  // without `host`: HOST:PORT of rank 0, the same on all ranks. Goes into NCCL_COMM_ID
  // Seconds of one wait after which the other ranks are given up. 0: a minute, or ten times the longest wait that ended well.
  double limit = 0;
};

class NcclCollectives : public Collectives {
 public:
  static constexpr int64_t kBuffer = 1 << 20;  // bytes that the constructor allocates on the GPU; NCCL itself takes more

  // Waits for all ranks, and makes one collective of each kind, after which NCCL has its connections and its memory. Error
  // (kExitFault) if NCCL is not there.
  NcclCollectives(const Device& device, int rank, int size, NcclSetup setup);
  ~NcclCollectives() override;

  void all_gather(const Device& device, void* data, Bounds bounds) override;
  void exchange(const Device& device, void* to, const void* from, Bounds bounds) override;
  void broadcast(const Device& device, void* data, int64_t bytes, int root) override;
  void all_gather_host(void* data, int64_t bytes) override;
  void broadcast_host(void* data, int64_t bytes, int root) override;
  void barrier() override;
  // Without `host` the other ranks learn only that this one is gone, and each prints its own error.
  bool leave(int code, const std::string& message) noexcept override;
  std::string name() const override { return nccl_version(); }

  void wait(const Device& device) override;

 private:
  template <class Done>
  void poll(const Done& done);
  void settle();
  void make_one_of_each();
  void require_open(const Device& device, Bounds bounds) const;
  void finish(const Device& device);
  void abort() noexcept;
  [[noreturn]] void give_up(const std::string& error);
  double limit() const;

  const Device device_;
  const NcclSetup setup_;
  void* comm_ = nullptr;  // null: aborted
  char* buffer_ = nullptr;
  std::vector<char> staging_;  // of the host, as large
  std::string failure_;        // why it was aborted
  double longest_wait_ = 0;    // seconds
};

}  // namespace tll
