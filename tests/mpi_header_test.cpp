// What src/ranks/open_mpi_library.h says of Open MPI's binary interface, against Open MPI's own mpi.h. The Makefile looks for it.
#include <gtest/gtest.h>

#include "src/ranks/open_mpi_library.h"
#if __has_include(<mpi.h>)
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#endif

#include <string>
#include <type_traits>

#include "tests/refusal.h"

namespace tll {
namespace {

TEST(OpenMpiHeader, SaysWhatTheProgramAssumes) {
#ifndef OPEN_MPI
  GTEST_SKIP() << "there is no mpi.h of Open MPI";
#else
#define TLL_SAME(name, ...) static_assert(std::is_same_v<decltype(&MPI_##name), decltype(OpenMpi::name)>);
  TLL_MPI_FUNCTIONS(TLL_SAME)
#undef TLL_SAME
#define TLL_SAME(name, type, symbol)                                            \
  static_assert(std::is_same_v<decltype(MPI_##name), decltype(OpenMpi::name)>); \
  EXPECT_TRUE(says(TLL_TEXT(MPI_##name), "(" #symbol ")"));
#define TLL_TEXT(...) TLL_QUOTED(__VA_ARGS__)
#define TLL_QUOTED(...) #__VA_ARGS__
  TLL_MPI_HANDLES(TLL_SAME)
  EXPECT_EQ(OpenMpi::kSuccess, MPI_SUCCESS);
  EXPECT_EQ(OpenMpi::kThreadMultiple, MPI_THREAD_MULTIPLE);
  EXPECT_GE(OpenMpi::kVersionLength, MPI_MAX_LIBRARY_VERSION_STRING);
  EXPECT_GE(OpenMpi::kErrorLength, MPI_MAX_ERROR_STRING);
  EXPECT_EQ(OpenMpi::kNoStatus, MPI_STATUS_IGNORE);
  EXPECT_EQ(OpenMpi::kNoStatus, MPI_STATUSES_IGNORE);
  EXPECT_GE(OMPI_MAJOR_VERSION, 4) << "the oldest that the program takes";
#endif
}

}  // namespace
}  // namespace tll
