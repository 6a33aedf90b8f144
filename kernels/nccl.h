// Collectives between GPUs by NCCL, where it is installed. The library is looked for when it is first asked for, so the program
// starts without it.
//
// NCCL moves bytes here and adds nothing up. So its choice of an algorithm, a protocol or a number of channels changes no bits.
//
// A communicator is not blocking: its calls return at once, and are done, or enqueued, when nccl_state() is no longer `busy`.
// Until then the communicator takes no other call, and its stream must not be waited for. All ranks make the same calls in the
// same order. One thread uses a communicator, with one stream; only nccl_abort may come from another.
//
// Collectives are enqueued on the device's stream and may be captured in a graph. All ranks capture and launch alike. Graphs are
// closed before the communicator: NCCL waits for that.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kernels/device.h"

namespace tll {

// Whether the library is there. If not, why_not says why.
bool nccl_found(std::string& why_not);
// The rest needs the library: the Error of those that throw is exit code 1.
std::string nccl_version();  // "NCCL 2.28.9"

// By which the ranks of a communicator find each other. One rank makes it, and gives it to the others; it must go on until they
// have met. With NCCL_COMM_ID=HOST:PORT in the environment every rank makes the same one, and rank 0 listens there.
struct NcclId {
  char bytes[128];
};
NcclId nccl_unique_id();

// The communicator of this rank, on the current CUDA device, which no other rank may have. `busy` until all ranks have come.
void* nccl_open(int rank, int size, const NcclId& id);

enum class NcclState : uint8_t { ready, busy, failed };
// Of the last call, and of the collectives that run. `error` says why it failed. Then only nccl_abort is of use.
NcclState nccl_state(void* comm, std::string& error);

// Ends the collectives that run, with whatever they have written, and frees the communicator.
void nccl_abort(void* comm) noexcept;
// Waits until all ranks have closed theirs, at most so many seconds, then frees the communicator. Nothing may be enqueued.
void nccl_close(void* comm, double seconds) noexcept;

// As in src/ranks/collectives.h: `bounds` are size + 1 ascending offsets in bytes.
using NcclBounds = std::span<const int64_t>;
void nccl_all_gather(const Device&, void* comm, void* data, NcclBounds bounds);
// Copies this rank's own part as well.
void nccl_exchange(const Device&, void* comm, void* to, const void* from, NcclBounds bounds);
void nccl_broadcast(const Device&, void* comm, void* data, int64_t bytes, int root);

}  // namespace tll
