// The part of NCCL's interface that is used, as nccl.h has it from version 2.14 on. It is declared here, so that NCCL is needed
// neither to compile nor to start the program. Where nvcc finds nccl.h, nccl.cu compares these declarations with it.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstddef>

namespace tll::nccl_api {

enum Result : int {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
};
enum DataType : int { ncclUint8 = 1 };

struct UniqueId {
  char internal[128];
};

// ncclConfig_t of version 2.14, which later libraries accept: they set what it does not have to their defaults.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeefu, version = 21400;
  int blocking = 0;
  int unset = INT_MIN;
};

// The types of the functions. T has the types that they use: those above, or those of nccl.h.
template <class T>
struct Functions {
  using Result = typename T::Result;
  using Comm = typename T::Comm;
  using UniqueId = typename T::UniqueId;
  using DataType = typename T::DataType;
  using Config = typename T::Config;

  using GetVersion = Result(int* version);
  using GetUniqueId = Result(UniqueId* id);
  using CommInitRankConfig = Result(Comm* comm, int size, UniqueId id, int rank, Config* config);
  using CommFinalize = Result(Comm comm);
  using CommDestroy = Result(Comm comm);
  using CommAbort = Result(Comm comm);
  using CommGetAsyncError = Result(Comm comm, Result* error);
  using GetErrorString = const char*(Result result);
  using GetLastError = const char*(Comm comm);
  using GroupStart = Result();
  using GroupEnd = Result();
  using AllGather = Result(const void* send, void* receive, size_t count, DataType, Comm, cudaStream_t);
  using Broadcast = Result(const void* send, void* receive, size_t count, DataType, int root, Comm, cudaStream_t);
  using Send = Result(const void* send, size_t count, DataType, int peer, Comm, cudaStream_t);
  using Recv = Result(void* receive, size_t count, DataType, int peer, Comm, cudaStream_t);
};

#define TLL_NCCL_FUNCTIONS(X)                                                                                             \
  X(GetVersion)                                                                                                           \
  X(GetUniqueId) X(CommInitRankConfig) X(CommFinalize) X(CommDestroy) X(CommAbort) X(CommGetAsyncError) X(GetErrorString) \
      X(GetLastError) X(GroupStart) X(GroupEnd) X(AllGather) X(Broadcast) X(Send) X(Recv)

using Comm = struct Communicator*;  // opaque
struct Types {
  using Result = nccl_api::Result;
  using Comm = nccl_api::Comm;
  using UniqueId = nccl_api::UniqueId;
  using DataType = nccl_api::DataType;
  using Config = nccl_api::Config;
};

}  // namespace tll::nccl_api
