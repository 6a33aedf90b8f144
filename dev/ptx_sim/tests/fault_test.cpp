// Planted faults: each kernel passes as it stands, and with one change it does what its report says.
#include <gtest/gtest.h>

#include "dev/ptx_sim/tests/small_kernel.h"

namespace ptx::test {
namespace {

// Thread t gets the word of thread 63 - t through shared memory.
constexpr const char* kExchange = R"(
	ld.global.u32 %r3, [%rd4];
	st.shared.u32 [%r5], %r3;
	bar.sync 0;
	xor.b32 %r6, %r2, 252;
	add.s32 %r7, %r4, %r6;
	ld.shared.u32 %r8, [%r7];
	st.global.u32 [%rd5], %r8;
)";
// The same within each warp.
constexpr const char* kExchangeInWarp = R"(
	ld.global.u32 %r3, [%rd4];
	st.shared.u32 [%r5], %r3;
	bar.warp.sync -1;
	xor.b32 %r6, %r2, 124;
	add.s32 %r7, %r4, %r6;
	ld.shared.u32 %r8, [%r7];
	bar.warp.sync -1;
	st.shared.u32 [%r5], %r8;
	st.global.u32 [%rd5], %r8;
)";
// The first, with an asynchronous copy.
constexpr const char* kCopy = R"(
	mov.u32 %r9, 4;
	cp.async.ca.shared.global [%r5], [%rd4], 4, %r9;
	cp.async.commit_group;
	cp.async.wait_group 0;
	bar.sync 0;
	xor.b32 %r6, %r2, 252;
	add.s32 %r7, %r4, %r6;
	ld.shared.u32 %r8, [%r7];
	bar.sync 0;
	st.shared.u32 [%r5], %r8;
	st.global.u32 [%rd5], %r8;
)";
// A butterfly by shuffles, of all lanes.
constexpr const char* kShuffle = R"(
	setp.lt.u32 %p1, %r1, 16;
	ld.global.u32 %r3, [%rd4];
	shfl.sync.bfly.b32 %r8|%p2, %r3, 16, 31, -1;
	vote.sync.any.pred %p3, %p1, -1;
	bar.warp.sync -1;
	st.global.u32 [%rd5], %r8;
)";

struct Planted {
  const char *name, *body, *from, *to, *report;
};
constexpr Planted kPlanted[] = {
    {"no barrier of the block", kExchange, "bar.sync 0;", "", "read that another warp wrote, with no barrier"},
    {"write too early", kExchange, "st.global.u32", "st.shared.u32 [%r5], %r1;\n st.global.u32",
     "written that another warp reads, with no barrier"},
    {"two warps write", kExchange, "st.shared.u32 [%r5]", "st.shared.u32 [%r4]",
     "written that another warp wrote, with no barrier"},
    {"no barrier of the warp", kExchangeInWarp, "bar.warp.sync -1;", "", "read that another lane wrote, with no __syncwarp"},
    {"write too early in a warp", kExchangeInWarp, "ld.shared.u32 %r8, [%r7];\n\tbar.warp.sync -1;", "ld.shared.u32 %r8, [%r7];",
     "written that another lane reads, with no __syncwarp"},
    {"read of what nobody wrote", kExchange, "[%r7]", "[%r7+256]", "is read that nobody wrote"},
    {"beyond the input", kExchange, "[%rd4]", "[%rd4+772]", "a read of 4 bytes at 0x"},
    {"before the output", kExchange, "[%rd5]", "[%rd5+-4]", "a write of 4 bytes at 0x"},
    {"beyond shared memory", kExchange, "st.shared.u32 [%r5]", "st.shared.u32 [%r5+1024]", "of 1024 bytes of shared memory"},
    {"misaligned in global memory", kExchange, "[%rd4]", "[%rd4+2]", "a misaligned access of 4 bytes"},
    {"misaligned in shared memory", kExchange, "[%r7]", "[%r7+1]", "a misaligned access of 4 bytes"},
    {"a vector, aligned as its elements", kExchange, "ld.global.u32 %r3, [%rd4]", "ld.global.v2.u32 {%r3, %r9}, [%rd4]",
     "a misaligned access of 8 bytes"},
    {"output read as constant", kExchange, "ld.global.u32 %r3, [%rd4];",
     "ld.global.u32 %r3, [%rd4];\n ld.global.nc.u32 %r9, [%rd5];", "read as constant and written"},
    {"no wait for a copy", kCopy, "cp.async.wait_group 0;", "", "read before its cp.async was waited for"},
    {"a wait for too few groups", kCopy, "wait_group 0", "wait_group 1", "read before its cp.async was waited for"},
    {"a copy that is not committed", kCopy, "cp.async.commit_group;", "", "read before its cp.async was waited for"},
    {"no barrier after the wait", kCopy, "wait_group 0;\n\tbar.sync 0;", "wait_group 0;", "read that another warp wrote"},
    {"a write over a copy", kCopy, "cp.async.wait_group 0;", "st.shared.u32 [%r5], %r1;\n cp.async.wait_group 0;",
     "written before its cp.async was waited for"},
    {"a copy from beyond the input", kCopy, "[%rd4], 4", "[%rd4+900], 4", "cp.async of 4 bytes at 0x"},
    {"a copy of too many bytes", kCopy, "mov.u32 %r9, 4", "mov.u32 %r9, 5", "cp.async of 5 of 4 bytes"},
    {"a misaligned copy", kCopy, "[%r5], [%rd4], 4", "[%r5], [%rd4+2], 4", "a misaligned access of 4 bytes"},
    {"lanes at two barriers", kExchange, "bar.sync 0;",
     "setp.lt.u32 %p1, %r1, 16;\n @%p1 bra $other;\n bar.sync 0;\n bra.uni $both;\n$other:\n bar.sync 0;\n$both:",
     "a deadlock: lanes of the warp wait"},
    {"warps at two barriers", kExchange, "bar.sync 0;",
     "setp.lt.u32 %p1, %r1, 32;\n @%p1 bra $other;\n bar.sync 0;\n bra.uni $both;\n$other:\n bar.sync 0;\n$both:",
     "warps wait at different barriers"},
    {"a condition on a barrier", kExchange, "bar.sync 0;", "setp.lt.u32 %p1, %r1, 16;\n @%p1 bar.sync 0;",
     "a condition on an instruction for a whole warp"},
    {"a barrier that some lanes miss", kExchangeInWarp, "bar.warp.sync -1;",
     "setp.lt.u32 %p1, %r1, 16;\n @%p1 bra $wait;\n bra.uni $done;\n$wait:\n bar.warp.sync -1;\n$done:",
     "a deadlock: lanes of the warp wait"},
    {"a lane that its mask leaves out", kShuffle, "16, 31, -1", "16, 31, 65535", "a lane is not in the mask that it gives"},
    {"a shuffle from a lane that is elsewhere", kShuffle, "shfl.sync.bfly.b32 %r8|%p2, %r3, 16, 31, -1;",
     "@!%p1 bra $done;\n shfl.sync.bfly.b32 %r8|%p2, %r3, 16, 31, 65535;\n$done:",
     "a shuffle from lane 16, which does not take part"},
    {"a division by zero", kExchange, "xor.b32 %r6", "div.u32 %r9, %r1, %r1;\n xor.b32 %r6", "a division by zero"},
    {"a trap", kExchange, "bar.sync 0;", "trap;", "a trap"},
    {"an unknown instruction", kExchange, "bar.sync 0;", "dp4a.s32.s32 %r9, %r1, %r1, %r1;", "that ptx_sim does not know"},
    {"an unknown form", kExchange, "bar.sync 0;", "add.sat.s32 %r9, %r1, %r1;", "that ptx_sim does not know"},
};

std::string planted(const Planted& p) {
  std::string body = p.body;
  const size_t at = body.find(p.from);
  EXPECT_NE(at, std::string::npos) << p.name;
  return body.replace(at, std::string(p.from).size(), p.to);
}

TEST(PtxFaults, KernelsWithoutOnePass) {
  for (const char* body : {kExchange, kExchangeInWarp, kCopy, kShuffle}) {
    const Outcome good = run_body(body);
    EXPECT_EQ(good.reports, "") << body;
    const uint32_t by = body == kShuffle ? 16 : body == kExchangeInWarp ? 31 : 63;
    for (uint32_t t = 0; t < 64; t++) ASSERT_EQ(good.out[t], t ^ by) << body << t;
  }
}

TEST(PtxFaults, EachIsSeenAndNamed) {
  for (uint64_t seed : {0, 1, 2}) {
    options().seed = seed;
    for (const Planted& p : kPlanted) {
      const Outcome bad = run_body(planted(p));
      EXPECT_NE(bad.reports.find(p.report), std::string::npos) << p.name << " with seed " << seed << ": " << bad.reports;
    }
  }
  options().seed = 0;
}

TEST(PtxFaults, AReportSaysWhere) {
  const Outcome bad = run_body(planted(kPlanted[0]));
  EXPECT_NE(bad.reports.find("'ld.shared.u32 %r8, [%r7]' of small.cu:7 in kernel"), std::string::npos) << bad.reports;
}

TEST(PtxFaults, Launches) {
  const std::string text = kernel_text(kExchange);
  EXPECT_NE(run_text(text, counting(), 128).reports.find("128 threads in a block of kernel, which is for 64"), std::string::npos);
  EXPECT_NE(run_text(text, counting(), 0).reports.find("0 threads in a block"), std::string::npos);
  EXPECT_NE(run_text(text, counting(), 64, 0).reports.find("the number of blocks"), std::string::npos);
}

TEST(PtxFaults, TextsThatCannotBeRead) {
  const std::pair<const char*, const char*> bad[] = {{"bra $nowhere;", "no label $nowhere"},
                                                     {"mov.u32 %r3, unknown;", "the operand 'unknown'"},
                                                     {"mov.u32 %r3, %clock;", "the register %clock"},
                                                     {"@%p1 call.uni (), f, ();", "a condition on a call"},
                                                     {"ld.param.u32 %r3;", "cannot read 'ld.param.u32 %r3'"}};
  for (const auto& [body, report] : bad) {
    const std::string reports = run_body(body).reports;
    EXPECT_NE(reports.find(report), std::string::npos) << reports;
  }
  EXPECT_THROW(load(".version 9.0\n.entry kernel()\n{\n ret;\n"), Fault);
}

}  // namespace
}  // namespace ptx::test
