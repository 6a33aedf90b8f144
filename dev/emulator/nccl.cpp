// An emulated NCCL for communicators that do not block. A rank is a thread of this process, or a process of this machine; each
// has what is a device of its own to NCCL. It is stricter than the library, which hangs or goes wrong where calls do not match:
//
//   a rank's calls are compared with those of the others; what differs is reported by all of them
//   a collective that waits for another rank longer than Options::nccl_seconds is a fault
//   every byte is checked like an access of a kernel, and buffers are not written between the call and its end
//   a call is enqueued when ncclCommGetAsyncError says ncclSuccess, and not before: no other call and no wait may come earlier
//   one thread, and one stream, for each communicator; groups are not nested
//   ncclCommFinalize comes when everything is done, ncclCommDestroy after it, when no graph has calls of the communicator
#include "dev/emulator/nccl.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "emulator/emulator.h"

using namespace tll::nccl_api;
using emulator::nccl::Call;
using emulator::nccl::Kind;
using emulator::nccl::Unit;

namespace {

using CommPtr = std::shared_ptr<Communicator>;
using Api = Functions<Types>;

// All of this is guarded by the runtime's mutex, but for what a thread has of its own.
std::map<Comm, CommPtr>& communicators() {
  static std::map<Comm, CommPtr> all;
  return all;
}
struct Group {
  int depth = 0;
  CommPtr comm{};
  std::vector<Call> calls{};
  const void* site = nullptr;
  Result refused = ncclSuccess;
};
thread_local Group group;
thread_local std::string last_error;

Result refuse(Result result, const std::string& text, const void* site) {
  last_error = text;
  emulator::misuse("NCCL: " + text, site);
  return result;
}

// Null: *result says why the communicator may not be used.
CommPtr find(Comm handle, const char* call, Result* result, const void* site, bool any_thread = false) {
  *result = ncclInvalidArgument;
  const auto at = communicators().find(handle);
  if (at == communicators().end()) {
    refuse(*result,
           fmt::format("{} of {}", call, handle ? "a communicator that was aborted or destroyed, or never opened" : "null"),
           site);
    return nullptr;
  }
  const CommPtr comm = at->second;
  if (comm->process != getpid()) {
    refuse(*result, fmt::format("{} of a communicator that another process has opened", call), site);
    return nullptr;
  }
  if (!any_thread && comm->thread != std::this_thread::get_id()) {
    refuse(*result, fmt::format("{} by another thread than that which has opened the communicator", call), site);
    return nullptr;
  }
  *result = ncclSuccess;
  return comm;
}

// ---- progress
// ------------------------------------------------------------------------------------------------------------------ A GPU goes
// on by itself. Here operations run when the program waits; a rank that waits for something else would hold the others up. So a
// thread runs what other ranks have been waiting for.
class ProgressThread {
 public:
  ProgressThread() : thread_([this] { loop(); }) {}
  ~ProgressThread() {
    stop_ = true;
    thread_.join();
  }

 private:
  static constexpr auto kPatience = std::chrono::milliseconds(100);
  void loop() {
    while (!stop_) {
      std::this_thread::sleep_for(kPatience / 5);
      EMULATOR_LOCKED;
      for (const auto& [handle, comm] : communicators()) {
        comm->move();
        CUstream_st* stream = comm->stream ? r.find(comm->stream) : nullptr;
        const auto waited_for = [&] {
          for (const auto& peer : comm->peers.all())
            if (!peer.silent()) return true;
          return false;
        };
        if (!stream || emulator::nccl::SteadyClock::now() - comm->tried < kPatience) continue;
        while (!stream->waiting.empty() && waited_for() && r.run_front(stream)) {
        }
      }
    }
  }
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};
void start_progress() {
  static std::unique_ptr<ProgressThread> thread;
  static int process = 0;
  if (process == getpid()) return;
  static_cast<void>(thread.release());  // of the process that this one was forked from
  thread = std::make_unique<ProgressThread>();
  process = getpid();
}

// ---- calls
// ---------------------------------------------------------------------------------------------------------------------
void enqueue(Communicator& comm, emulator::Runtime& r) {
  const std::shared_ptr<Unit> unit = std::exchange(comm.accepted, nullptr);
  const CUstream_st* stream = r.find(comm.stream);
  unit->captured = stream && stream->capture;
  const std::shared_ptr<char> held = unit->captured ? comm.captured : comm.enqueued;
  emulator::Task task;
  task.run = [unit, held](uint64_t, const emulator::Position&) { return unit->finish(); };
  task.ready = [unit] { return unit->ready(); };
  task.uses = unit->uses();
  task.site = unit->site();
  if (r.enqueue(comm.stream, std::move(task)) != cudaSuccess) {
    comm.state = ncclUnhandledCudaError;
    comm.error = "the stream takes no operation";
  }
}
Result accept(const CommPtr& comm, std::vector<Call> calls, const void* site) {
  comm->accepted = std::make_shared<Unit>(comm, std::move(calls), site);
  comm->polls = 0;
  comm->state = ncclInProgress;
  return ncclInProgress;
}

Result call(const char* name, Comm handle, cudaStream_t stream, DataType type, const Call& c, const void* site) {
  EMULATOR_LOCKED;
  const auto wrong = [&](Result result, const std::string& text) {
    refuse(result, fmt::format("{}: {}", name, text), site);
    if (group.depth > 0) group.refused = result;
    return result;
  };
  Result result;
  const CommPtr comm = find(handle, name, &result, site);
  if (!comm) return group.depth > 0 ? group.refused = result : result;
  if (comm->state == ncclInProgress) return wrong(ncclInvalidArgument, "the communicator's last call is in progress");
  if (comm->state != ncclSuccess) return comm->state;
  if (comm->finalizing) return wrong(ncclInvalidArgument, "the communicator is finalized");
  if (type != ncclUint8) return wrong(ncclInvalidArgument, "only ncclUint8 is emulated");
  const bool has_peer = c.kind != Kind::all_gather;
  if (has_peer && (c.peer < 0 || c.peer >= comm->size))
    return wrong(ncclInvalidArgument, fmt::format("rank {} of {}", c.peer, comm->size));
  if ((c.kind == Kind::send || c.kind == Kind::receive) && c.peer == comm->rank)
    return wrong(ncclInvalidUsage, "a rank sends to itself, or receives from itself");
  for (const void* p : {static_cast<const void*>(c.send), static_cast<const void*>(c.receive)}) {
    const bool used =
        p == c.send ? c.kind != Kind::receive && !(c.kind == Kind::broadcast && c.peer != comm->rank) : c.kind != Kind::send;
    if (c.bytes > 0 && used && !emulator::in_device_memory(p))
      return wrong(ncclInvalidArgument, p ? "a buffer that is no device memory" : "a buffer is null");
  }
  if (!r.find(stream)) return wrong(ncclInvalidArgument, "a stream that was destroyed, or never created");
  if (!comm->stream) comm->stream = stream;
  if (comm->stream != stream) return wrong(ncclInvalidUsage, "another stream than that of the communicator's first call");
  if (group.depth == 0) {
    if (c.kind == Kind::send || c.kind == Kind::receive || c.bytes > 0) return accept(comm, {c}, site);
    return ncclSuccess;
  }
  if (group.comm && group.comm != comm) return wrong(ncclInvalidUsage, "a group with calls of two communicators");
  group.comm = comm;
  if (!group.site) group.site = site;
  if (c.kind == Kind::send || c.kind == Kind::receive || c.bytes > 0) group.calls.push_back(c);
  return ncclSuccess;
}

#define SITE __builtin_return_address(0)

}  // namespace

void emulator::check_nccl_wait(const char* call, cudaStream_t stream) {
  if (!group.calls.empty())
    misuse(fmt::format("{} between ncclGroupStart and ncclGroupEnd: nothing of the group is enqueued", call));
  for (const auto& [handle, comm] : communicators())
    if (comm->accepted && comm->thread == std::this_thread::get_id() && (!stream || comm->stream == stream))
      misuse(fmt::format("{} before ncclCommGetAsyncError has said that the calls of NCCL are enqueued", call));
}

extern "C" {

#define TLL_DECLARE(name) Api::name nccl##name;
TLL_NCCL_FUNCTIONS(TLL_DECLARE)
#undef TLL_DECLARE

Result ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
const char* ncclGetErrorString(Result result) {
  constexpr const char* kTexts[] = {"ncclSuccess",         "ncclUnhandledCudaError", "ncclSystemError", "ncclInternalError",
                                    "ncclInvalidArgument", "ncclInvalidUsage",       "ncclRemoteError", "ncclInProgress"};
  return result >= 0 && result <= ncclInProgress ? kTexts[result] : "an unknown code";
}
const char* ncclGetLastError(Comm handle) {
  EMULATOR_LOCKED;
  const auto at = communicators().find(handle);
  if (at != communicators().end() && !at->second->error.empty()) last_error = at->second->error;
  return last_error.c_str();
}

// ---- communicators
// -------------------------------------------------------------------------------------------------------------
Result ncclGetUniqueId(UniqueId* id) {
  EMULATOR_LOCKED;
  if (!id) return refuse(ncclInvalidArgument, "ncclGetUniqueId: no room for the id", SITE);
  static uint64_t made = 0;
  const char* meeting = std::getenv("NCCL_COMM_ID");
  const std::string name =
      meeting ? fmt::format("nccl-{}-{}", getuid(), meeting)
              : fmt::format("nccl-{}-{}-{}", getpid(), ++made, std::chrono::system_clock::now().time_since_epoch().count());
  *id = {};
  std::memcpy(id->internal, name.data(), std::min(name.size(), sizeof(id->internal) - 1));
  return ncclSuccess;
}
Result ncclCommInitRankConfig(Comm* handle, int size, UniqueId id, int rank, Config* config) {
  EMULATOR_LOCKED;
  const auto wrong = [site = SITE](const char* text) {
    return refuse(ncclInvalidArgument, fmt::format("ncclCommInitRankConfig: {}", text), site);
  };
  if (!handle || !config) return wrong("no room for the communicator, or no configuration");
  if (config->magic != Config{}.magic || config->size != sizeof(Config) || config->version != Config{}.version)
    return wrong("a configuration that is not as initialized");
  if (config->blocking != 0) return wrong("a communicator that blocks cannot be aborted at any time");
  if (size < 1 || rank < 0 || rank >= size) return wrong("a rank that is not below the number of ranks");
  if (std::strncmp(id.internal, "nccl-", 5) != 0) return wrong("an id that ncclGetUniqueId has not made");
  const auto comm =
      std::make_shared<Communicator>(std::string(id.internal, strnlen(id.internal, sizeof(id.internal))), rank, size);
  communicators()[comm.get()] = comm;
  *handle = comm.get();
  start_progress();
  return ncclInProgress;
}
Result ncclCommGetAsyncError(Comm handle, Result* error) {
  EMULATOR_LOCKED;
  Result result;
  const CommPtr comm = find(handle, "ncclCommGetAsyncError", &result, SITE, true);
  if (!comm) return result;
  if (!error) return refuse(ncclInvalidArgument, "ncclCommGetAsyncError: no room for the error", SITE);
  comm->move();
  if (comm->accepted && comm->state == ncclInProgress && ++comm->polls >= 2) {
    comm->state = ncclSuccess;
    enqueue(*comm, r);
  }
  *error = comm->state;
  return ncclSuccess;
}
Result ncclCommFinalize(Comm handle) {
  EMULATOR_LOCKED;
  Result result;
  const CommPtr comm = find(handle, "ncclCommFinalize", &result, SITE);
  if (!comm) return result;
  if (comm->state != ncclSuccess && comm->state != ncclInProgress) return comm->state;
  const auto wrong = [site = SITE](const char* text) {
    return refuse(ncclInvalidUsage, fmt::format("ncclCommFinalize: {}", text), site);
  };
  if (group.depth > 0) return wrong("a group was not ended");
  if (comm->finalizing) return wrong("for the second time");
  if (comm->state == ncclInProgress) return wrong("the communicator's last call is in progress");
  if (comm->enqueued.use_count() > 1) return wrong("calls that were enqueued have not been waited for");
  comm->finalizing = true;
  comm->state = ncclInProgress;
  for (int rank = 0; rank < comm->size; rank++)
    if (rank != comm->rank) comm->peers.post(rank, {.kind = Kind::finalize});
  comm->move();
  return comm->state;
}
Result ncclCommDestroy(Comm handle) {
  EMULATOR_LOCKED;
  if (!handle) return ncclSuccess;
  Result result;
  const CommPtr comm = find(handle, "ncclCommDestroy", &result, SITE);
  if (!comm) return result;
  if (!comm->finalized) return refuse(ncclInvalidUsage, "ncclCommDestroy: the communicator is not finalized", SITE);
  if (comm->captured.use_count() > 1)
    refuse(ncclInvalidUsage, "ncclCommDestroy: a graph has calls of the communicator, for which NCCL waits", SITE);
  comm->aborted = true;
  comm->peers.close();
  communicators().erase(handle);
  return ncclSuccess;
}
Result ncclCommAbort(Comm handle) {
  EMULATOR_LOCKED;
  Result result;
  const CommPtr comm = find(handle, "ncclCommAbort", &result, SITE, true);
  if (!comm) return result;
  comm->aborted = true;
  comm->accepted = nullptr;
  comm->peers.close();
  communicators().erase(handle);
  if (group.comm == comm) group = {};
  return ncclSuccess;
}

// ---- groups
// --------------------------------------------------------------------------------------------------------------------
Result ncclGroupStart() {
  EMULATOR_LOCKED;
  if (group.depth++ > 0) refuse(ncclInvalidUsage, "ncclGroupStart: groups are nested", SITE);
  return ncclSuccess;
}
Result ncclGroupEnd() {
  EMULATOR_LOCKED;
  if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd: no group was started", SITE);
  if (--group.depth > 0) return ncclSuccess;
  const Group ended = std::exchange(group, {});
  if (ended.refused != ncclSuccess) return ended.refused;
  return ended.calls.empty() ? ncclSuccess : accept(ended.comm, ended.calls, ended.site);
}

// ---- collectives
// ---------------------------------------------------------------------------------------------------------------
Result ncclAllGather(const void* send, void* receive, size_t count, DataType type, Comm comm, cudaStream_t stream) {
  return call("ncclAllGather", comm, stream, type,
              {Kind::all_gather, static_cast<const char*>(send), static_cast<char*>(receive), count, -1}, SITE);
}
Result ncclBroadcast(const void* send, void* receive, size_t count, DataType type, int root, Comm comm, cudaStream_t stream) {
  return call("ncclBroadcast", comm, stream, type,
              {Kind::broadcast, static_cast<const char*>(send), static_cast<char*>(receive), count, root}, SITE);
}
Result ncclSend(const void* send, size_t count, DataType type, int peer, Comm comm, cudaStream_t stream) {
  return call("ncclSend", comm, stream, type, {Kind::send, static_cast<const char*>(send), nullptr, count, peer}, SITE);
}
Result ncclRecv(void* receive, size_t count, DataType type, int peer, Comm comm, cudaStream_t stream) {
  return call("ncclRecv", comm, stream, type, {Kind::receive, nullptr, static_cast<char*>(receive), count, peer}, SITE);
}

}  // extern "C"
