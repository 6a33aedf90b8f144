#include "src/ranks/shared_block.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <thread>

#include "src/base/check.h"

namespace tll {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free &&
                  std::atomic<int32_t>::is_always_lock_free,
              "processes share these");

constexpr int64_t kLeastWindow = 16 << 10;

int64_t start_of_windows(int size) {
  const int64_t table = static_cast<int64_t>(sizeof(BlockOfAll)) + size * static_cast<int64_t>(sizeof(BlockOfRank));
  return (table + 4095) / 4096 * 4096;
}
int64_t bytes_of_block(int size, int64_t window) { return start_of_windows(size) + 2 * size * window; }

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return number_; }

 private:
  int number_;
};

// What a file says of the process that made it, without trust in its content. Nothing to wait for: a pid of 0.
struct FoundFile {
  ProcessIdentity creator;
  int size = 0;
  bool whole = false;
};
FoundFile look_at(int file) {
  struct stat status;
  alignas(BlockOfAll) char bytes[sizeof(BlockOfAll)];
  if (fstat(file, &status) != 0 || status.st_uid != geteuid() || !S_ISREG(status.st_mode)) return {};
  if (pread(file, bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) return {};
  const BlockOfAll& all = *std::launder(reinterpret_cast<const BlockOfAll*>(bytes));
  if (all.layout.load() != BlockOfAll::kLayout || all.size < 1 || all.window < 64) return {};
  if (status.st_size != bytes_of_block(all.size, all.window)) return {};
  return {.creator = all.creator, .size = all.size, .whole = true};
}

[[noreturn]] void no_shared_memory(const std::string& path) {
  fail(kExitFault, "{}: shared memory for the ranks of this machine could not be made: {}; --ranks N does without /dev/shm", path,
       std::strerror(errno));
}

}  // namespace

void BlockOfRank::set(const ProcessIdentity& process) {
  started = process.started;
  numbering = process.numbering;
  pid = process.pid;
}
ProcessIdentity BlockOfRank::process() const {
  const int32_t number = pid;
  return {.pid = number, .started = started, .numbering = numbering};
}

BlockOfRank& SharedBlock::of(int rank) const {
  return *std::launder(reinterpret_cast<BlockOfRank*>(static_cast<char*>(memory_) + sizeof(BlockOfAll)) + rank);
}
char* SharedBlock::window(int rank, int half) const {
  return static_cast<char*>(memory_) + start_of_windows(size()) + (2 * rank + half) * window_bytes();
}

std::string SharedBlock::path_of(const std::string& run) {
  return fmt::format("/dev/shm/train_llama_lora-{}-{}", geteuid(), run);
}

void SharedBlock::map(int file, int64_t bytes) {
  void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_SHARED | (file < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0), file, 0);
  if (memory == MAP_FAILED)
    fail(kExitFault, "{} MiB of memory shared by the ranks could not be had: {}", bytes >> 20, std::strerror(errno));
  memory_ = memory;
  bytes_ = bytes;
}

void SharedBlock::set_up(int size, int64_t window) {
  BlockOfAll& all = *new (memory_) BlockOfAll;
  all.size = size;
  all.window = window;
  all.creator = ProcessIdentity::self();
  for (int rank = 0; rank < size; rank++)
    new (static_cast<char*>(memory_) + sizeof(BlockOfAll) + rank * sizeof(BlockOfRank)) BlockOfRank;
  all.layout = BlockOfAll::kLayout;
}

std::shared_ptr<SharedBlock> SharedBlock::anonymous(int size, int64_t window) {
  TLL_CHECK(size >= 1 && window >= 64 && window % 64 == 0, "{} ranks, windows of {} bytes", size, window);
  std::shared_ptr<SharedBlock> block(new SharedBlock);
  block->map(-1, bytes_of_block(size, window));
  block->set_up(size, window);
  block->all().are_children = 1;
  return block;
}

// The file has no name before it is set up: no other rank finds it half made, and none is left if this process is killed.
std::shared_ptr<SharedBlock> SharedBlock::create_named(const std::string& run, int size, int64_t window) {
  const std::string path = path_of(run);
  const Descriptor file(open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file < 0) no_shared_memory(path);
  while (const int error = posix_fallocate(file, 0, bytes_of_block(size, window))) {
    if (error == EINTR) continue;
    errno = error;
    if (error != ENOSPC || window / 2 < kLeastWindow) no_shared_memory(path);
    window = window / 2 / 64 * 64;
  }
  std::shared_ptr<SharedBlock> block(new SharedBlock);
  if (ftruncate(file, bytes_of_block(size, window)) != 0) no_shared_memory(path);  // a larger one may have been begun
  block->map(file, bytes_of_block(size, window));
  block->set_up(size, window);
  struct stat status;
  if (fstat(file, &status) != 0) no_shared_memory(path);

  const std::string unnamed = fmt::format("/proc/self/fd/{}", static_cast<int>(file));
  while (linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    if (errno != EEXIST) no_shared_memory(path);
    const Descriptor old(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    const FoundFile found = old < 0 ? FoundFile{} : look_at(old);
    if (found.whole && !has_ended(found.creator))
      fail(kExitUsage,
           "another run with the same MASTER_PORT is starting on this machine (process {}): set another MASTER_PORT; if there is "
           "none, remove {}",
           found.creator.pid, path);
    if (unlink(path.c_str()) != 0 && errno != ENOENT) no_shared_memory(path);
  }
  block->file_ = path;
  block->file_number_ = status.st_ino;
  return block;
}

// Null: rank 0 has not made it yet.
std::shared_ptr<SharedBlock> SharedBlock::open_named(const std::string& run, int size) {
  const std::string path = path_of(run);
  const Descriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (file < 0) {
    if (errno != ENOENT) no_shared_memory(path);
    return nullptr;
  }
  const FoundFile found = look_at(file);
  if (!found.whole || has_ended(found.creator)) return nullptr;  // of an earlier run; rank 0 replaces it
  if (found.size != size)
    fail(kExitUsage, "rank 0 was started as one of {} ranks, and this one as one of {}: start all with the same WORLD_SIZE",
         found.size, size);
  struct stat status;
  if (fstat(file, &status) != 0) no_shared_memory(path);
  std::shared_ptr<SharedBlock> block(new SharedBlock);
  block->map(file, status.st_size);
  block->file_ = path;
  block->file_number_ = status.st_ino;
  return block;
}

std::shared_ptr<SharedBlock> SharedBlock::named(const std::string& run, int rank, int size, int64_t window,
                                                std::chrono::milliseconds patience) {
  TLL_CHECK(rank >= 0 && rank < size && window >= 64 && window % 64 == 0, "rank {} of {}, windows of {} bytes", rank, size,
            window);
  std::shared_ptr<SharedBlock> block;
  if (rank == 0) block = create_named(run, size, window);
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!block && !(block = open_named(run, size))) {
    if (std::chrono::steady_clock::now() > end)
      fail(kExitFault, "rank 0 has not come within {} seconds: start all {} ranks on this machine, with the same MASTER_PORT",
           std::chrono::duration_cast<std::chrono::seconds>(patience).count(), size);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  int32_t holder = 0;
  if (!block->of(rank).claimed.compare_exchange_strong(holder, getpid())) {
    block->file_.clear();  // the other ranks still look for it
    fail(kExitUsage, "two processes ({} and {}) are rank {}: give each its own RANK, and each run its own MASTER_PORT", holder,
         getpid(), rank);
  }
  return block;
}

void SharedBlock::remove_file() noexcept {
  if (file_.empty()) return;
  struct stat status;
  if (lstat(file_.c_str(), &status) == 0 && status.st_ino == file_number_) unlink(file_.c_str());
  file_.clear();
}

SharedBlock::~SharedBlock() {
  remove_file();
  if (memory_) munmap(memory_, static_cast<size_t>(bytes_));
}

}  // namespace tll
