// Open MPI's library, opened at run time: the program builds without MPI's headers and runs without its library.
//
// What an MPI program is otherwise compiled with stands here: the functions' types, a few constants, and the names of the objects
// to which Open MPI's handles point. They are the same in all versions whose library is libmpi.so.40 (Open MPI 3 to 5).
// tests/mpi_header_test.cpp compares them with Open MPI's own mpi.h.
#pragma once

#include <string>

// Open MPI's own names, so that the types are those of mpi.h. MPI_Comm is ompi_communicator_t*, and so on.
struct ompi_communicator_t;
struct ompi_datatype_t;
struct ompi_errhandler_t;
struct ompi_request_t;
struct ompi_status_public_t;

namespace tll {

// X(NAME, types of the arguments...) for each function MPI_NAME. All return an int, 0 (MPI_SUCCESS) or an error.
// clang-format off
#define TLL_MPI_FUNCTIONS(X)                                                                                                     \
  X(Get_library_version, char*, int*)                                                                                            \
  X(Init_thread, int*, char***, int, int*)                                                                                       \
  X(Finalize, void)                                                                                                              \
  X(Abort, ompi_communicator_t*, int)                                                                                            \
  X(Error_string, int, char*, int*)                                                                                              \
  X(Comm_rank, ompi_communicator_t*, int*)                                                                                       \
  X(Comm_size, ompi_communicator_t*, int*)                                                                                       \
  X(Comm_dup, ompi_communicator_t*, ompi_communicator_t**)                                                                       \
  X(Comm_set_errhandler, ompi_communicator_t*, ompi_errhandler_t*)                                                               \
  X(Isend, const void*, int, ompi_datatype_t*, int, int, ompi_communicator_t*, ompi_request_t**)                                 \
  X(Irecv, void*, int, ompi_datatype_t*, int, int, ompi_communicator_t*, ompi_request_t**)                                       \
  X(Ibcast, void*, int, ompi_datatype_t*, int, ompi_communicator_t*, ompi_request_t**)                                           \
  X(Ibarrier, ompi_communicator_t*, ompi_request_t**)                                                                            \
  X(Test, ompi_request_t**, int*, ompi_status_public_t*)                                                                         \
  X(Testall, int, ompi_request_t**, int*, ompi_status_public_t*)
// X(NAME, type, symbol) for each handle: a pointer to the library's object `symbol`.
#define TLL_MPI_HANDLES(X)                                                                                                       \
  X(COMM_WORLD, ompi_communicator_t*, ompi_mpi_comm_world)                                                                       \
  X(BYTE, ompi_datatype_t*, ompi_mpi_byte)                                                                                       \
  X(ERRORS_RETURN, ompi_errhandler_t*, ompi_mpi_errors_return)
// clang-format on

struct OpenMpi {
#define TLL_POINTER(name, ...) int (*name)(__VA_ARGS__) = nullptr;
  TLL_MPI_FUNCTIONS(TLL_POINTER)
#undef TLL_POINTER
#define TLL_HANDLE(name, type, symbol) type name = nullptr;
  TLL_MPI_HANDLES(TLL_HANDLE)
#undef TLL_HANDLE
  static constexpr int kSuccess = 0;                           // MPI_SUCCESS
  static constexpr int kThreadMultiple = 3;                    // MPI_THREAD_MULTIPLE
  static constexpr int kVersionLength = 256;                   // MPI_MAX_LIBRARY_VERSION_STRING
  static constexpr int kErrorLength = 256;                     // MPI_MAX_ERROR_STRING
  static constexpr ompi_status_public_t* kNoStatus = nullptr;  // MPI_STATUS_IGNORE, MPI_STATUSES_IGNORE

  std::string version;  // "4.1.4"

  // "MPI_ERR_TRUNCATE: message truncated"
  std::string text(int error) const;
};

// Never unloaded. Error (kExitFault) if the library is not there, is another MPI's (MPICH), or is older than Open MPI 4.
OpenMpi load_open_mpi(const char* file = "libmpi.so.40");

// "4.1.4" of "Open MPI v4.1.4, package: ...". Error (kExitFault) if it is another library's, or older than 4.
std::string open_mpi_version(const std::string& library_version);

}  // namespace tll
