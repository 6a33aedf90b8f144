#include "src/ranks/nccl.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <thread>

#include "kernels/cuda_device.h"
#include "src/base/check.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr double kLeastLimit = 60, kTimesLongest = 10;  // seconds, waits
constexpr auto kSpin = milliseconds(2);                 // after which a wait sleeps between two looks at the GPU
constexpr auto kNap = microseconds(20);
constexpr auto kLook = milliseconds(100);
// The connection of a rank that ends closes before its process is gone.
constexpr auto kUntilItsEndIsSeen = milliseconds(1000);
constexpr double kClosing = 10;  // seconds

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// size + 1 bounds of equal parts.
std::vector<int64_t> equal_parts(int size, int64_t bytes) {
  std::vector<int64_t> bounds(static_cast<size_t>(size) + 1);
  for (size_t r = 0; r < bounds.size(); r++) bounds[r] = static_cast<int64_t>(r) * bytes;
  return bounds;
}

}  // namespace

NcclCollectives::NcclCollectives(const Device& device, int rank, int size, NcclSetup setup)
    : Collectives(rank, size), device_(device), setup_(std::move(setup)), staging_(kBuffer) {
  std::string why_not;
  if (!nccl_found(why_not)) fail(kExitFault, "NCCL is needed for {} GPUs: {}", size, why_not);
  NcclId id = {};
  if (!setup_.host) {
    TLL_CHECK(!setup_.meeting_place.empty(), "rank {} of {} has no place to meet", rank, size);
    setenv("NCCL_COMM_ID", setup_.meeting_place.c_str(), 1);
  }
  if (!setup_.host || rank == 0) id = nccl_unique_id();
  if (setup_.host) setup_.host->broadcast_host(&id, sizeof(id), 0);
  buffer_ = static_cast<char*>(cuda_allocate(device, kBuffer));
  if (!buffer_) fail(kExitFault, "the GPU has no memory for the {} bytes of the collectives' buffer", kBuffer);
  try {
    comm_ = nccl_open(rank, size, id);
    settle();
    make_one_of_each();
  } catch (...) {
    abort();
    cuda_free(device_, buffer_);
    throw;
  }
}

NcclCollectives::~NcclCollectives() {
  try {
    if (comm_ && std::uncaught_exceptions() == 0) wait(device_);
  } catch (const Error&) {  // nobody is left to be told
  }
  if (std::uncaught_exceptions() == 0) nccl_close(std::exchange(comm_, nullptr), kClosing);
  abort();
  cuda_free(device_, buffer_);
}

// ---- waiting
// -------------------------------------------------------------------------------------------------------------------
double NcclCollectives::limit() const {
  return setup_.limit > 0 ? setup_.limit : std::max(kLeastLimit, kTimesLongest * longest_wait_);
}

template <class Done>
void NcclCollectives::poll(const Done& done) {
  const Clock::time_point start = Clock::now();
  Clock::time_point looked = start;
  for (;;) {
    std::string error;
    const NcclState state = nccl_state(comm_, error);
    if (state == NcclState::failed) give_up(error);
    try {
      if (done(state)) break;
    } catch (const Error& failure) {  // of this GPU
      failure_ = failure.what();
      if (nccl_state(comm_, error) == NcclState::failed) failure_ += fmt::format("; NCCL: {}", error);
      abort();
      fail(failure.exit_code, "{}", failure_);
    }
    const Clock::time_point now = Clock::now();
    if (setup_.look && now - looked > kLook) {
      looked = now;
      try {
        setup_.look();
      } catch (const Error& end) {
        failure_ = end.what();
        abort();
        throw;
      }
    }
    if (seconds_since(start) > limit()) {
      failure_ = fmt::format("rank {} has waited {:.0f} seconds for the other ranks: one has ended or hangs", rank(), limit());
      abort();
      fail(kExitFault, "{}", failure_);
    }
    if (now - start > kSpin)
      std::this_thread::sleep_for(kNap);
    else
      std::this_thread::yield();
  }
  longest_wait_ = std::max(longest_wait_, seconds_since(start));
}

void NcclCollectives::settle() {
  poll([](NcclState state) { return state == NcclState::ready; });
}

void NcclCollectives::wait(const Device& device) {
  require_open(device, {});
  poll([&](NcclState) { return cuda_done(device); });
  if (const std::string faults = cuda_faults(device); !faults.empty()) fail(kExitFault, "{}", faults);
}

void NcclCollectives::abort() noexcept { nccl_abort(std::exchange(comm_, nullptr)); }

// After an error of NCCL, which seldom says which rank is the reason.
void NcclCollectives::give_up(const std::string& error) {
  failure_ = fmt::format("NCCL failed: {}", error);
  abort();
  for (const Clock::time_point end = Clock::now() + kUntilItsEndIsSeen; setup_.look && Clock::now() < end;) {
    setup_.look();
    std::this_thread::sleep_for(kLook);
  }
  fail(kExitFault, "{}", failure_);
}

void NcclCollectives::require_open(const Device& device, Bounds bounds) const {
  TLL_CHECK(device.kind == DeviceKind::cuda && !device.dry, "NCCL carries what GPUs hold");
  TLL_CHECK(bounds.empty() || (bounds.size() == static_cast<size_t>(size()) + 1 && std::is_sorted(bounds.begin(), bounds.end())),
            "{} bounds, {} ranks", bounds.size(), size());
  if (!comm_) fail(kExitFault, "NCCL was given up before: {}", failure_);
}

// ---- memory of the device
// ------------------------------------------------------------------------------------------------------
void NcclCollectives::finish(const Device& device) {
  settle();
  if (device.profile) wait(device);
}
void NcclCollectives::all_gather(const Device& device, void* data, Bounds bounds) {
  require_open(device, bounds);
  const ProfileScope scope(device.profile, "all_gather", {.bytes = static_cast<double>(bounds.back() - bounds.front())});
  nccl_all_gather(device, comm_, data, bounds);
  finish(device);
}
void NcclCollectives::exchange(const Device& device, void* to, const void* from, Bounds bounds) {
  require_open(device, bounds);
  const ProfileScope scope(device.profile, "exchange", {.bytes = static_cast<double>(bounds.back() - bounds.front())});
  nccl_exchange(device, comm_, to, from, bounds);
  finish(device);
}
void NcclCollectives::broadcast(const Device& device, void* data, int64_t bytes, int root) {
  require_open(device, {});
  TLL_CHECK(root >= 0 && root < size(), "root {} of {}", root, size());
  const ProfileScope scope(device.profile, "broadcast", {.bytes = static_cast<double>(bytes)});
  nccl_broadcast(device, comm_, data, bytes, root);
  finish(device);
}

void NcclCollectives::make_one_of_each() {
  cuda_fill(device_, buffer_, 0, kBuffer);
  const int64_t part = kBuffer / 2 / (size() + 1) / 256 * 256;
  TLL_CHECK(part > 0, "{} ranks", size());
  std::vector<int64_t> bounds = equal_parts(size(), part);
  all_gather(device_, buffer_, bounds);
  exchange(device_, buffer_ + kBuffer / 2, buffer_, bounds);
  bounds.back() += part;  // not all equal
  all_gather(device_, buffer_, bounds);
  wait(device_);
}

// ---- memory of the host
// --------------------------------------------------------------------------------------------------------
void NcclCollectives::all_gather_host(void* data, int64_t bytes) {
  if (setup_.host) return setup_.host->all_gather_host(data, bytes);
  require_open(device_, {});
  char* const all = static_cast<char*>(data);
  const int64_t most = kBuffer / size();
  for (int64_t done = 0; done < bytes; done += most) {
    const int64_t now = std::min(most, bytes - done);
    copy_to_cuda(device_, buffer_ + rank() * now, all + rank() * bytes + done, static_cast<size_t>(now));
    nccl_all_gather(device_, comm_, buffer_, equal_parts(size(), now));
    settle();
    copy_from_cuda(device_, staging_.data(), buffer_, static_cast<size_t>(size() * now));
    wait(device_);
    for (int r = 0; r < size(); r++)
      if (r != rank()) std::memcpy(all + r * bytes + done, staging_.data() + r * now, static_cast<size_t>(now));
  }
}
void NcclCollectives::broadcast_host(void* data, int64_t bytes, int root) {
  if (setup_.host) return setup_.host->broadcast_host(data, bytes, root);
  for (int64_t done = 0; done < bytes; done += kBuffer) {
    const int64_t now = std::min(kBuffer, bytes - done);
    require_open(device_, {});
    if (rank() == root) copy_to_cuda(device_, buffer_, static_cast<char*>(data) + done, static_cast<size_t>(now));
    nccl_broadcast(device_, comm_, buffer_, now, root);
    settle();
    copy_from_cuda(device_, staging_.data(), buffer_, static_cast<size_t>(now));
    wait(device_);
    if (rank() != root) std::memcpy(static_cast<char*>(data) + done, staging_.data(), static_cast<size_t>(now));
  }
}
void NcclCollectives::barrier() {
  if (setup_.host) return setup_.host->barrier();
  std::vector<char> here(static_cast<size_t>(size()));
  all_gather_host(here.data(), 1);
}

bool NcclCollectives::leave(int code, const std::string& message) noexcept {
  if (comm_) failure_ = "this rank has left";
  const bool first = !setup_.host || setup_.host->leave(code, message);  // before the others see that the connection is closed
  abort();
  return first;
}

}  // namespace tll
