// A block of memory that all ranks of one machine map: where each rank stands, why the run failed, and a window for each rank
// through which tensors are copied. It holds atomics alone and no locks, so a rank that is killed leaves nothing locked.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "src/ranks/peer_process.h"

namespace tll {

struct BlockOfRank {
  alignas(64) std::atomic<uint64_t> arrived{0};  // rounds of collectives
  std::atomic<uint64_t> operation[2] = {};       // what the rank called in the last round with an even number, and an odd one
  alignas(64) std::atomic<uint64_t> beats{0};    // grows while the process runs
  std::atomic<int32_t> claimed{0};               // pid of the process that wants to be this rank
  std::atomic<int32_t> pid{0};                   // set when the two after it are; 0: the rank has not come yet
  std::atomic<uint64_t> started{0}, numbering{0};
  std::atomic<int32_t> ended{0};  // as ended_child() says; written by the parent of the process

  void set(const ProcessIdentity& process);
  ProcessIdentity process() const;
};

struct BlockOfAll {
  std::atomic<uint64_t> layout{0};  // kLayout, once the rest is set
  int32_t size = 0;
  int32_t are_children = 0;  // of rank 0
  int64_t window = 0;
  ProcessIdentity creator;
  alignas(64) std::atomic<uint32_t> news{0};  // a futex; grows when sleepers should look
  std::atomic<int32_t> asleep{0};             // a rank that is killed asleep is counted for ever: it costs a system call a round
  // 2 · (rank + 1), plus 1 once the rest is set, of the rank that failed first. 0: none did.
  alignas(64) std::atomic<uint32_t> failure{0};
  int32_t failure_code = 0;
  uint32_t failure_length = 0;
  char failure_message[512] = {};

  static constexpr uint64_t kLayout = 0x31736b6e61726c74;
};

class SharedBlock {
 public:
  // For threads of this process, and for children that it starts afterwards.
  static std::shared_ptr<SharedBlock> anonymous(int size, int64_t window);
  // For processes that each call this with the same `run`: rank 0 makes the file, the others wait for it `patience`. A file that
  // a run left behind that was killed is not taken for this run's. The window is smaller if /dev/shm has too little room. Error
  // (kExitUsage) if another run of that name is starting, two processes are the same rank, or their sizes differ; Error
  // (kExitFault) if rank 0 does not come, or without /dev/shm.
  static std::shared_ptr<SharedBlock> named(const std::string& run, int rank, int size, int64_t window,
                                            std::chrono::milliseconds patience);
  ~SharedBlock();
  SharedBlock(const SharedBlock&) = delete;
  SharedBlock& operator=(const SharedBlock&) = delete;

  // Of a named block: all ranks have it, so its file is removed.
  void remove_file() noexcept;

  int size() const { return all().size; }
  int64_t window_bytes() const { return all().window; }
  BlockOfAll& all() const { return *static_cast<BlockOfAll*>(memory_); }
  BlockOfRank& of(int rank) const;
  // 0 ≤ half < 2: of two that are filled by turns. A multiple of 64 bytes, and aligned to that.
  char* window(int rank, int half) const;

  static std::string path_of(const std::string& run);

 private:
  SharedBlock() = default;
  static std::shared_ptr<SharedBlock> create_named(const std::string& run, int size, int64_t window);
  static std::shared_ptr<SharedBlock> open_named(const std::string& run, int size);
  void map(int file, int64_t bytes);
  void set_up(int size, int64_t window);

  void* memory_ = nullptr;
  int64_t bytes_ = 0;
  std::string file_;          // empty: it has none, or no more
  uint64_t file_number_ = 0;  // inode
};

}  // namespace tll
