// What the machine and the processes in it use of memory and processors, read from directories that this test writes.
#include "src/report/memory_probe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/temporary_directory.h"

namespace tll {
namespace {

constexpr int64_t kMiB = 1 << 20;
const std::string kVersion2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string kVersion1 =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:3 master:1 - cgroup cgroup rw,memory\n";

class MemoryProbe : public testing::Test {
 protected:
  MemoryProbe() { path_.write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"); }

  // This process's groups, and where they are mounted.
  void groups(const std::string& own, const std::string& mounts) const {
    path_.write("proc/self/cgroup", own);
    path_.write("proc/self/mountinfo", mounts);
  }
  // A group of version 2 or 1: its limit and what it uses in MiB, and memory.stat.
  void version2(const std::string& group, int64_t max, int64_t used, const std::string& stat = "") const {
    path_.write("sys/fs/cgroup" + group + "/memory.max", std::to_string(max * kMiB) + "\n");
    path_.write("sys/fs/cgroup" + group + "/memory.current", std::to_string(used * kMiB) + "\n");
    path_.write("sys/fs/cgroup" + group + "/memory.stat", stat);
  }
  void version1(const std::string& group, int64_t limit, int64_t used, const std::string& stat = "") const {
    path_.write("sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes", std::to_string(limit * kMiB) + "\n");
    path_.write("sys/fs/cgroup/memory" + group + "/memory.usage_in_bytes", std::to_string(used * kMiB) + "\n");
    path_.write("sys/fs/cgroup/memory" + group + "/memory.stat", stat);
  }
  int64_t total() const { return machine_memory(path_).total / kMiB; }
  int64_t available() const { return machine_memory(path_).available / kMiB; }

  const TemporaryDirectory path_;
};

TEST_F(MemoryProbe, ThisProcess) {
  const ProcessMemory before = process_memory();
  EXPECT_GT(before.resident, 1 << 20);
  EXPECT_GE(before.peak, before.resident - (1 << 20));  // the two are read at slightly different times
  const std::string held(64 << 20, 'x');
  const ProcessMemory after = process_memory();
  EXPECT_GE(after.resident - before.resident, 60 << 20) << held[5];
  EXPECT_GE(after.peak, after.resident - (1 << 20));
}

TEST_F(MemoryProbe, ThisMachine) {
  const MachineMemory memory = machine_memory();
  EXPECT_GT(memory.available, 64 << 20);
  EXPECT_LE(memory.available, memory.total);
  EXPECT_GE(processor().threads, 1);
}

TEST_F(MemoryProbe, WithoutGroupsTheMachineIsTheLimit) {
  EXPECT_EQ(total(), 16384);
  EXPECT_EQ(available(), 8192);
  groups("0::/a\n", kVersion2);
  path_.write("sys/fs/cgroup/a/memory.max", "max\n");
  path_.write("sys/fs/cgroup/a/memory.high", "max\n");
  EXPECT_EQ(available(), 8192);
}

TEST_F(MemoryProbe, PageCacheIsFreeButNotWhatIsNotWrittenYet) {
  groups("0::/a\n", kVersion2);
  // 300 MiB used: 100 anonymous, 120 active and 60 inactive cache, of which 30 are not written yet, and 20 of tmpfs.
  version2("/a", 1000, 300,
           "anon 104857600\nfile 209715200\nshmem 20971520\nfile_dirty 20971520\nfile_writeback 10485760\n"
           "inactive_anon 20971520\nactive_anon 104857600\ninactive_file 62914560\nactive_file 125829120\n"
           "slab_reclaimable 5242880\nslab_unreclaimable 5242880\n");
  EXPECT_EQ(available(), 1000 - 300 + 120 + 60 + 5 - 30);
  version2("/a", 1000, 300, "inactive_file 10485760\nactive_file 0\nfile_dirty 20971520\n");
  EXPECT_EQ(available(), 700) << "what is not written yet does not count twice";
  version2("/a", 1000, 1200);
  EXPECT_EQ(available(), 0) << "a limit that was lowered below what is used";
}

TEST_F(MemoryProbe, PageCacheInVersion1) {
  groups("3:memory:/a\n", kVersion1);
  // The lines without total_ leave out the groups below.
  version1("/a", 300, 250,
           "cache 1\nactive_file 1\ninactive_file 1\ndirty 1\nhierarchical_memory_limit 314572800\ntotal_cache 209715200\n"
           "total_active_file 125829120\ntotal_inactive_file 62914560\ntotal_dirty 10485760\ntotal_writeback 0\n");
  EXPECT_EQ(total(), 300);
  EXPECT_EQ(available(), 300 - 250 + 120 + 60 - 10);
  path_.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  path_.write("sys/fs/cgroup/memory/a/memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
  EXPECT_EQ(total(), 16384) << "that number means no limit";
}

TEST_F(MemoryProbe, TheTightestGroupAboveCounts) {
  groups("0::/outer/middle/own\n", kVersion2);
  version2("/outer", 4000, 3000, "inactive_file 1048576000\n");
  EXPECT_EQ(total(), 4000);
  EXPECT_EQ(available(), 2000);
  version2("/outer/middle", 5000, 4500);
  EXPECT_EQ(total(), 4000);
  EXPECT_EQ(available(), 500) << "less is left of the larger limit";
  version2("/outer/middle/own", 600, 200);
  EXPECT_EQ(total(), 600);
  EXPECT_EQ(available(), 400);
  version2("/outer/other", 1, 1);
  EXPECT_EQ(total(), 600) << "not a group of this process";
}

TEST_F(MemoryProbe, BeyondHighProcessesAreSlowedDown) {
  groups("0::/a\n", kVersion2);
  version2("/a", 1000, 100);
  path_.write("sys/fs/cgroup/a/memory.high", "524288000\n");
  EXPECT_EQ(total(), 500);
  EXPECT_EQ(available(), 400);
  path_.write("sys/fs/cgroup/a/memory.max", "max\n");
  EXPECT_EQ(total(), 500);
}

TEST_F(MemoryProbe, GroupsOfVersion1MayStandAlone) {
  groups("3:memory:/outer/own\n", kVersion1);
  version1("/outer", 100, 90);
  version1("/outer/own", 1000, 10);
  EXPECT_EQ(available(), 10);
  path_.write("sys/fs/cgroup/memory/outer/memory.use_hierarchy", "0\n");
  EXPECT_EQ(available(), 990) << "the group above does not count those below";
  version1("/outer/own", 1000, 10, "hierarchical_memory_limit 524288000\n");
  EXPECT_EQ(total(), 500) << "a limit of a group that is not visible here";
  EXPECT_EQ(available(), 490);
}

TEST_F(MemoryProbe, BothVersionsAtOnce) {
  const std::string unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
  groups("4:cpu,cpuacct:/x\n3:memory:/a\n0::/\n", kVersion1 + unified);
  path_.write("sys/fs/cgroup/unified/cgroup.procs", "1\n");
  version1("/a", 200, 50);
  EXPECT_EQ(available(), 150);
  groups("3:memory:/a\n0::/b\n", kVersion1 + unified);
  path_.write("sys/fs/cgroup/unified/b/memory.max", std::to_string(100 * kMiB));
  EXPECT_EQ(available(), 100) << "no usage is known";
}

TEST_F(MemoryProbe, AContainerSeesItsOwnGroupAtTheMount) {
  // Without a namespace of its own the paths are the host's, and the mount shows the container's group.
  groups("3:memory:/docker/abc\n", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  version1("", 200, 50);
  EXPECT_EQ(available(), 150);
  groups("3:memory:/docker/abc/sub\n", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  version1("/sub", 100, 20);
  EXPECT_EQ(available(), 80);
  // With one, both are "/".
  groups("0::/\n", kVersion2);
  version2("", 300, 100);
  EXPECT_EQ(available(), 200);
  // A group beside the namespace's root, which the mount does not show.
  groups("0::/../sibling\n", kVersion2);
  path_.write("sys/fs/sibling/memory.max", "1\n");
  EXPECT_EQ(available(), 200);
}

TEST_F(MemoryProbe, AMountThatShowsMoreThanTheNamespace) {
  groups("0::/\n", "31 24 0:27 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  version2("/pods/one", 100, 0);
  path_.write("sys/fs/cgroup/pods/one/cgroup.procs", "1\n");
  version2("/pods/two", 200, 50);
  path_.write("sys/fs/cgroup/pods/two/cgroup.procs", "7\n" + std::to_string(getpid()) + "\n");
  EXPECT_EQ(total(), 200);
  EXPECT_EQ(available(), 150);
  version2("/pods", 120, 40);
  EXPECT_EQ(available(), 80);
  groups("0::/../pods/own\n", "31 24 0:27 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  version2("/pods/own", 60, 0);
  EXPECT_EQ(available(), 60) << "of the mount's group both paths know";
}

TEST_F(MemoryProbe, AMountPointWithABlank) {
  groups("0::/a\n", "31 24 0:27 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
  path_.write("my groups/a/memory.max", std::to_string(100 * kMiB));
  EXPECT_EQ(total(), 100);
}

TEST_F(MemoryProbe, ProcessorAndQuota) {
  std::string info;
  for (int cpu = 0; cpu < 1024; ++cpu) {  // two threads a core
    info += fmt::format(
        "processor\t: {}\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: {}\ncore id\t\t: {}\nflags\t\t: fpu avx2 avx512f "
        "avx512_bf16 amx_tile\n\n",
        cpu, cpu / 64, cpu / 2);
  }
  path_.write("proc/cpuinfo", info);
  const Processor found = processor(path_);
  EXPECT_EQ(found.model, "A CPU @ 2 GHz");
  EXPECT_EQ(found.features, "avx2 avx512f avx512_bf16 amx_tile");
  EXPECT_EQ(found.threads, processor().threads) << "as many as this process may use";
  path_.write("proc/self/cgroup", "0::/\n");
  path_.write("proc/self/mountinfo", kVersion2);
  path_.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(processor(path_).threads, std::min(2, found.threads));
  path_.write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(processor(path_).threads, found.threads);
}

}  // namespace
}  // namespace tll
