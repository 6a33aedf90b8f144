// What of NCCL is used: see nccl_api.h. Everything is of type ncclUint8.
#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>

#include "kernels/cuda_device.h"
#include "kernels/nccl.h"
#include "kernels/nccl_api.h"

#if !defined(TLL_EMULATED) && __has_include(<nccl.h>)
#include <nccl.h>
namespace tll::nccl_api {
// ---- the declarations of nccl_api.h, beside those of NVIDIA
// --------------------------------------------------------------------
struct Theirs {
  using Result = ::ncclResult_t;
  using Comm = ::ncclComm_t;
  using UniqueId = ::ncclUniqueId;
  using DataType = ::ncclDataType_t;
  using Config = ::ncclConfig_t;
};
#define TLL_SAME(name) static_assert(std::is_same_v<decltype(::nccl##name), Functions<Theirs>::name>, "nccl" #name);
TLL_NCCL_FUNCTIONS(TLL_SAME)
#undef TLL_SAME
#define TLL_SAME(name) static_assert(int{name} == int{::name}, #name);
TLL_SAME(ncclSuccess)
TLL_SAME(ncclUnhandledCudaError)
TLL_SAME(ncclSystemError)
TLL_SAME(ncclInternalError)
TLL_SAME(ncclInvalidArgument)
TLL_SAME(ncclInvalidUsage)
TLL_SAME(ncclRemoteError)
TLL_SAME(ncclInProgress)
TLL_SAME(ncclUint8)
#undef TLL_SAME
static_assert(sizeof(Result) == sizeof(::ncclResult_t) && sizeof(DataType) == sizeof(::ncclDataType_t));
static_assert(sizeof(UniqueId) == sizeof(::ncclUniqueId) && alignof(UniqueId) == alignof(::ncclUniqueId));
#define TLL_SAME(name) static_assert(offsetof(Config, name) == offsetof(::ncclConfig_t, name), #name);
TLL_SAME(size)
TLL_SAME(magic)
TLL_SAME(version)
TLL_SAME(blocking)
#undef TLL_SAME
static_assert(offsetof(Config, unset) == offsetof(::ncclConfig_t, cgaClusterSize) && NCCL_CONFIG_UNDEF_INT == INT_MIN);
constexpr ::ncclConfig_t kTheirConfig = NCCL_CONFIG_INITIALIZER;
static_assert(Config{}.magic == kTheirConfig.magic && Config{}.version <= kTheirConfig.version &&
              Config{}.size <= kTheirConfig.size);
static_assert(Config{}.version == NCCL_VERSION(2, 14, 0));
}  // namespace tll::nccl_api
#endif

namespace tll {
namespace {

using namespace nccl_api;
using Api = Functions<Types>;

// ---- the library
// ---------------------------------------------------------------------------------------------------------------
struct Library {
#define TLL_POINTER(name) Api::name* name = nullptr;
  TLL_NCCL_FUNCTIONS(TLL_POINTER)
#undef TLL_POINTER
  std::string why_not;  // empty: it is there
};

}  // namespace

#if !defined(TLL_EMULATED) && !defined(__CUDACC__)
#error "compiled neither by nvcc nor for the emulator, which would load the library of a GPU"
#endif
#ifdef TLL_EMULATED
extern "C" {
#define TLL_DECLARE(name) Api::name nccl##name;
TLL_NCCL_FUNCTIONS(TLL_DECLARE)
#undef TLL_DECLARE
}
namespace {
void load(Library& library) {
#define TLL_ADDRESS(name) library.name = &nccl##name;
  TLL_NCCL_FUNCTIONS(TLL_ADDRESS)
#undef TLL_ADDRESS
}
#else
namespace {
constexpr const char* kFiles[] = {"libnccl.so.2", "/usr/local/cuda/lib/libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2"};

// Never unloaded: it has threads.
void load(Library& library) {
  void* file = nullptr;
  const char* found = nullptr;
  for (const char* name : kFiles)
    if (!file && (file = dlopen(name, RTLD_LAZY | RTLD_LOCAL))) found = name;
  if (!file) {
    library.why_not = fmt::format("{} was not found (LD_LIBRARY_PATH may name its folder)", kFiles[0]);
    return;
  }
#define TLL_RESOLVE(name)                                                                                              \
  if (library.why_not.empty()) {                                                                                       \
    library.name = reinterpret_cast<Api::name*>(dlsym(file, "nccl" #name));                                            \
    if (!library.name) library.why_not = fmt::format("{} has no {}: it is older than NCCL 2.14", found, "nccl" #name); \
  }
  TLL_NCCL_FUNCTIONS(TLL_RESOLVE)
#undef TLL_RESOLVE
}
#endif

const Library& library() {
  static const Library loaded = [] {
    Library l;
    load(l);
    return l;
  }();
  return loaded;
}

// A call that is accepted may be done, or in progress.
bool accepted(Result result) { return result == ncclSuccess || result == ncclInProgress; }
std::string error_text(Result result, Comm comm) {
  const char* more = library().GetLastError(comm);
  std::string text = library().GetErrorString(result);
  if (more && *more) text += fmt::format("; {}", more);
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}
void check(Result result, Comm comm, const char* call) {
  if (!accepted(result)) fail(kExitFault, "NCCL failed: {} ({})", call, error_text(result, comm));
}

// ---- communicators
// -------------------------------------------------------------------------------------------------------------
struct Opened {
  Comm comm;
  int rank, size;
};
Opened& opened(void* comm) { return *static_cast<Opened*>(comm); }
cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }
size_t bytes_between(NcclBounds bounds, int part) {
  const size_t r = static_cast<size_t>(part);
  return static_cast<size_t>(bounds[r + 1] - bounds[r]);
}

// Several calls that run together.
class Group {
 public:
  explicit Group(Comm comm) : comm_(comm) { check(library().GroupStart(), comm_, "ncclGroupStart"); }
  void add(Result result, const char* call) {
    if (accepted(result) || call_) return;
    result_ = result, call_ = call;
  }
  void end() {  // also after a call that was refused
    const Result result = library().GroupEnd();
    if (call_) check(result_, comm_, call_);
    check(result, comm_, "ncclGroupEnd");
  }

 private:
  Comm comm_;
  Result result_ = ncclSuccess;
  const char* call_ = nullptr;  // the first that was refused
};

}  // namespace

bool nccl_found(std::string& why_not) {
  why_not = library().why_not;
  return why_not.empty();
}
std::string nccl_version() {
  int v = 0;
  check(library().GetVersion(&v), nullptr, "ncclGetVersion");
  return fmt::format("NCCL {}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}
NcclId nccl_unique_id() {
  UniqueId made;
  check(library().GetUniqueId(&made), nullptr, "ncclGetUniqueId");
  NcclId id;
  static_assert(sizeof(id) == sizeof(made));
  std::memcpy(&id, &made, sizeof(id));
  return id;
}

void* nccl_open(int rank, int size, const NcclId& id) {
  auto made = std::make_unique<Opened>(Opened{nullptr, rank, size});
  UniqueId theirs;
  std::memcpy(&theirs, &id, sizeof(theirs));
  Config config;
  check(library().CommInitRankConfig(&made->comm, size, theirs, rank, &config), nullptr, "ncclCommInitRankConfig");
  return made.release();
}

NcclState nccl_state(void* comm, std::string& error) {
  Result state = ncclSuccess;
  const Result result = library().CommGetAsyncError(opened(comm).comm, &state);
  const Result worse = result == ncclSuccess ? state : result;
  if (accepted(worse)) return worse == ncclSuccess ? NcclState::ready : NcclState::busy;
  error = error_text(worse, opened(comm).comm);
  return NcclState::failed;
}

void nccl_abort(void* comm) noexcept {
  if (!comm) return;
  static_cast<void>(library().CommAbort(opened(comm).comm));
  delete &opened(comm);
}
void nccl_close(void* comm, double seconds) noexcept {
  if (!comm) return;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  Result state = library().CommFinalize(opened(comm).comm);
  while (state == ncclInProgress || state == ncclSuccess) {
    if (const Result r = library().CommGetAsyncError(opened(comm).comm, &state)) state = r;
    if (state == ncclSuccess) {
      static_cast<void>(library().CommDestroy(opened(comm).comm));
      delete &opened(comm);
      return;
    }
    if (Clock::now() >= end) break;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  nccl_abort(comm);
}

// ---- collectives
// ---------------------------------------------------------------------------------------------------------------
void nccl_all_gather(const Device& device, void* comm, void* data, NcclBounds bounds) {
  const auto [handle, rank, size] = opened(comm);
  char* const all = static_cast<char*>(data);
  const size_t own = bytes_between(bounds, rank);
  bool equal = true;
  for (int r = 0; r < size; r++) equal = equal && bytes_between(bounds, r) == own;
  if (equal)
    return check(
        library().AllGather(all + bounds[static_cast<size_t>(rank)], all + bounds[0], own, ncclUint8, handle, stream_of(device)),
        handle, "ncclAllGather");
  Group group(handle);
  for (int r = 0; r < size; r++) {
    char* const part = all + bounds[static_cast<size_t>(r)];
    if (const size_t bytes = bytes_between(bounds, r))
      group.add(library().Broadcast(part, part, bytes, ncclUint8, r, handle, stream_of(device)), "ncclBroadcast");
  }
  group.end();
}

void nccl_exchange(const Device& device, void* comm, void* to, const void* from, NcclBounds bounds) {
  const auto [handle, rank, size] = opened(comm);
  const size_t own = bytes_between(bounds, rank);
  const auto source = [&](int r) { return static_cast<const char*>(from) + bounds[static_cast<size_t>(r)]; };
  const auto target = [&](int r) { return static_cast<char*>(to) + own * static_cast<size_t>(r); };
  if (own > 0) copy_within_cuda(device, target(rank), source(rank), own);
  Group group(handle);
  for (int step = 1; step < size; step++) {  // each rank begins with another one
    const int to_rank = (rank + step) % size, from_rank = (rank + size - step) % size;
    if (const size_t bytes = bytes_between(bounds, to_rank))
      group.add(library().Send(source(to_rank), bytes, ncclUint8, to_rank, handle, stream_of(device)), "ncclSend");
    if (own > 0) group.add(library().Recv(target(from_rank), own, ncclUint8, from_rank, handle, stream_of(device)), "ncclRecv");
  }
  group.end();
}

void nccl_broadcast(const Device& device, void* comm, void* data, int64_t bytes, int root) {
  const Comm handle = opened(comm).comm;
  check(library().Broadcast(data, data, static_cast<size_t>(bytes), ncclUint8, root, handle, stream_of(device)), handle,
        "ncclBroadcast");
}

}  // namespace tll
