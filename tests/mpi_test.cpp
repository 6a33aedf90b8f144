// Ranks that mpirun starts: what they carry, and how they end. build/mpi_check (dev/ranks) is what runs as a rank.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "src/base/file.h"
#include "src/ranks/open_mpi_library.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class Mpi : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("mpirun --version 2>&1 | grep -q 'Open MPI'") != 0) GTEST_SKIP() << "there is no mpirun of Open MPI";
    const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();  // build/ or build/one/
    for (const fs::path& directory : {here, here.parent_path()})
      if (fs::exists(directory / "mpi_check")) check_ = directory / "mpi_check";
    if (check_.empty()) GTEST_SKIP() << "mpi_check has not been built";
  }

  // Runs `task` on so many ranks; returns mpirun's exit code, or -1 if it was still running after a minute.
  int run(int ranks, const std::string& task) {
    const auto began = std::chrono::steady_clock::now();
    directory_.write(
        "command.sh",
        fmt::format("timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -np {} {} {} > {} 2>&1", ranks,
                    check_.string(), task, (directory_ / "printed").string()));
    const int status = std::system(("bash " + (directory_ / "command.sh").string()).c_str());
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    printed_ = read_file(directory_ / "printed");
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return code == 124 ? -1 : code;
  }
  int count(const std::string& part) const {
    int n = 0;
    for (size_t at = printed_.find(part); at != std::string::npos; at = printed_.find(part, at + 1)) n++;
    return n;
  }

  const TemporaryDirectory directory_;
  fs::path check_;
  std::string printed_;
  double seconds_ = 0;
};

TEST_F(Mpi, CollectivesBringWhatTheyShould) {
  for (const int ranks : {1, 2, 3, 4}) {
    EXPECT_EQ(run(ranks, "operations"), 0) << printed_;
    EXPECT_TRUE(says(printed_, fmt::format("500 operations of {} ranks by Open MPI", ranks)));
  }
}

TEST_F(Mpi, ARankThatLeavesEndsAllWithItsCode) {
  for (const int rank : {0, 1, 2}) {
    EXPECT_EQ(run(3, fmt::format("leave {} 4", rank)), 4) << printed_;
    EXPECT_TRUE(says(printed_, fmt::format("error: rank {}: an error", rank)));
    EXPECT_LT(seconds_, 10);
  }
}

TEST_F(Mpi, AnErrorOfAllRanksIsPrintedOnce) {
  EXPECT_EQ(run(4, "leave all 5"), 5) << printed_;
  EXPECT_EQ(count("error: rank"), 1) << printed_;
}

TEST_F(Mpi, AnErrorThatIsNotToldEndsAll) {
  for (const int rank : {0, 1}) {
    EXPECT_EQ(run(2, fmt::format("throw {}", rank)), 4) << printed_;
    EXPECT_TRUE(says(printed_, fmt::format("error: rank {} has an error", rank)));
    EXPECT_LT(seconds_, 10);
  }
}

TEST_F(Mpi, ARankThatIsKilledEndsAll) {
  for (const int rank : {0, 2}) {
    EXPECT_GT(run(3, fmt::format("die {}", rank)), 0) << printed_;
    EXPECT_TRUE(says(printed_, fmt::format("rank {}", rank)) && says(printed_, "signal 9")) << printed_;
    EXPECT_LT(seconds_, 10);
  }
}

TEST_F(Mpi, ARankThatIsStoppedIsNamed) {
  for (const int rank : {0, 1}) {
    EXPECT_EQ(run(2, fmt::format("stop {}", rank)), 1) << printed_;
    const std::string line = fmt::format("rank {} is process ", rank);
    const size_t at = printed_.find(line);
    ASSERT_NE(at, std::string::npos) << printed_;
    const std::string process = printed_.substr(at + line.size(), printed_.find('\n', at) - at - line.size());
    char host[200] = {};
    ASSERT_EQ(gethostname(host, sizeof(host) - 1), 0);
    EXPECT_TRUE(
        says(printed_, fmt::format("error: rank {} (host {}, process {}) has not answered for 2 seconds; the last checkpoint "
                                   "stands, go on with --resume\n",
                                   rank, host, process)));
    EXPECT_LT(seconds_, 15);
  }
}

TEST_F(Mpi, ARankThatIsBusyIsNotSilent) { EXPECT_EQ(run(3, "idle"), 0) << printed_; }

TEST_F(Mpi, RanksThatAnotherLauncherStartedAreRefused) {
  const std::string alone = "OMPI_COMM_WORLD_SIZE=2 " + check_.string() + " operations 2> " + (directory_ / "printed").string();
  EXPECT_EQ(WEXITSTATUS(std::system(alone.c_str())), kExitFault);
  EXPECT_TRUE(says(read_file(directory_ / "printed"), "the launcher started 2 ranks, but Open MPI"));
}

TEST(OpenMpiLibrary, IsNamedIfItIsMissing) {
  const std::string missing = refusal_of([] { load_open_mpi("libmpi.so.none"); }, kExitFault);
  EXPECT_TRUE(says(missing, "libmpi.so.none: cannot open shared object file")) << missing;
  EXPECT_TRUE(says(refusal_of([] { load_open_mpi("libc.so.6"); }, kExitFault), "libc.so.6 has no MPI_Get_library_version"));
}

TEST(OpenMpiLibrary, IsOpenMpi4OrLater) {
  EXPECT_EQ(open_mpi_version("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022"), "4.1.4");
  EXPECT_EQ(open_mpi_version("Open MPI v5.0.7rc1"), "5.0.7rc1");
  EXPECT_TRUE(says(refusal_of([] { open_mpi_version("Open MPI v3.1.6, package: x"); }, kExitFault), "Open MPI 3.1.6 is too old"));
  EXPECT_TRUE(says(refusal_of([] { open_mpi_version("MPICH Version:\t4.0.2\nMPICH Release date: 2022"); }, kExitFault),
                   "MPICH Version:\t4.0.2\""));
}

}  // namespace
}  // namespace tll
