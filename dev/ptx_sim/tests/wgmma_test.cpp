// wgmma against sums in a loop: every N, both types, A in registers or in shared memory, all layouts there. Then planted faults.
#include "dev/ptx_sim/tests/wgmma_case.h"

namespace ptx::test {
namespace {

std::string list(const std::string& name, int count) {
  std::string all = "{";
  for (int i = 0; i < count; i++) all += (i ? ", " : "") + name + std::to_string(i);
  return all + "}";
}
// Its parameters are Arguments.
std::string text(const Case& c) {
  const std::string type = c.half ? "f16" : "bf16", d = list("%d", c.n / 2);
  std::string loads, stores;
  for (int e = 0; e < c.n / 2; e++) {
    const std::string at = "[%rd9+" + std::to_string(4 * e) + "];\n", name = "%d" + std::to_string(e);
    loads += "ld.global.f32 " + name + ", " + at;
    stores += "st.global.f32 [%rd9+" + std::to_string(4 * e) + "], " + name + ";\n";
  }
  const std::string multiply = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(c.n) + "k16.f32." + type + "." + type + " " +
                               d + ", " + (c.registers ? list("%a", 4) : "%rd10") + ", %rd11, %p1, " + std::to_string(c.scale_a) +
                               ", " + std::to_string(c.scale_b) +
                               (c.registers      ? ""
                                : c.a.transposed ? ", 1"
                                                 : ", 0") +
                               (c.b.transposed ? ", 1" : ", 0") + ";\n";
  return R"(
.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 dynamic[];
.visible .entry kernel(.param .u64 p0, .param .u32 p1, .param .u64 p2, .param .u64 p3, .param .u64 p4, .param .u64 p5, .param .u32 p6)
{
	.reg .pred %p<9>;
	.reg .b32 %r<20>;
	.reg .b64 %rd<20>;
	.reg .b32 %a<4>;
	.reg .f32 %d<128>;
	ld.param.u64 %rd1, [p0];
	ld.param.u32 %r1, [p1];
	ld.param.u64 %rd2, [p2];
	ld.param.u64 %rd3, [p3];
	ld.param.u64 %rd10, [p4];
	ld.param.u64 %rd11, [p5];
	ld.param.u32 %r2, [p6];
	setp.ne.b32 %p1, %r2, 0;
	mov.u32 %r3, %tid.x;
	mov.u32 %r4, dynamic;
	shr.u32 %r5, %r4, 4;
	cvt.u64.u32 %rd4, %r5;
	add.s64 %rd10, %rd10, %rd4;
	add.s64 %rd11, %rd11, %rd4;
	mov.u32 %r6, %r3;
$L_copy:
	setp.ge.u32 %p2, %r6, %r1;
	@%p2 bra $L_copied;
	shl.b32 %r7, %r6, 4;
	cvt.u64.u32 %rd5, %r7;
	add.s64 %rd5, %rd1, %rd5;
	add.s32 %r8, %r4, %r7;
	ld.global.v4.u32 {%r9, %r10, %r11, %r12}, [%rd5];
	st.shared.v4.u32 [%r8], {%r9, %r10, %r11, %r12};
	add.s32 %r6, %r6, 128;
	bra.uni $L_copy;
$L_copied:
	fence.proxy.async.shared::cta;
	bar.sync 0;
	mul.wide.u32 %rd6, %r3, 16;
	add.s64 %rd6, %rd3, %rd6;
	ld.global.v4.u32 {%a0, %a1, %a2, %a3}, [%rd6];
	mul.wide.u32 %rd8, %r3, )" +
         std::to_string(2 * c.n) + ";\n add.s64 %rd9, %rd2, %rd8;\n" + loads + "wgmma.fence.sync.aligned;\n" + multiply +
         "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n" + stores + "ret;\n}\n";
}

Found run(const Case& c, const std::string& kernel, unsigned threads = kThreads, int fewer_pieces = 0) {
  const auto start = [&](const Arguments& arguments, size_t shared) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&arguments);
    launch(*find(load(kernel), "kernel"), {}, {threads}, shared, {raw, raw + sizeof(arguments)});
  };
  return run_case(c, start, fewer_pieces);
}

TEST(PtxWgmma, EveryShapeAndLayout) {
  int number = 0;
  for (int n = 8; n <= 256; n += 8)
    for (int a = 0; a <= 8; a++)
      for (int b = 0; b < 8; b++) {
        // All pairs of layouts with two N. With any other an eighth of them.
        if (n != 24 && n != 64 && (a + b + n / 8) % 8) continue;
        for (const bool half : {false, true}) {
          const Case c = make_case(n, half, a, b, number++);
          const Found found = run(c, text(c));
          ASSERT_EQ(found.reports, "") << name(c);
          ASSERT_EQ(found.wrong, 0) << name(c);
        }
      }
}

TEST(PtxWgmma, PatternsThatBeginElsewhere) {
  for (int which : {1, 2, 3, 5, 6, 7})
    for (int at = 0; at < 8; at++) {
      Case c = make_case(32, true, which, which, at);
      c.pattern_at = at;
      const Found found = run(c, text(c));
      EXPECT_EQ(found.reports, "") << name(c) << at;
      EXPECT_EQ(found.wrong, 0) << name(c) << at;
    }
}

std::string changed(std::string kernel, const std::string& from, const std::string& to) {
  const size_t at = kernel.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return kernel.replace(at, from.size(), to);
}

struct Planted {
  const char *name, *from, *to, *report;
};
constexpr const char* kWait = "wgmma.wait_group.sync.aligned 0;";
constexpr const char* kCommit = "wgmma.commit_group.sync.aligned;";
constexpr const char* kFence = "wgmma.fence.sync.aligned;";
constexpr const char* kProxy = "fence.proxy.async.shared::cta;";
constexpr Planted kPlanted[] = {
    {"no wait", kWait, "", "an accumulator of a wgmma is read before the wgmma was waited for"},
    {"a wait for too few groups", kWait, "wgmma.wait_group.sync.aligned 1;", "an accumulator of a wgmma is read before"},
    {"no group", kCommit, "", "an accumulator of a wgmma is read before"},
    {"an accumulator written in flight", kCommit, "mov.f32 %d3, 0f00000000;\nwgmma.commit_group.sync.aligned;",
     "an accumulator of a wgmma is written before"},
    {"A written in flight", kCommit, "mov.b32 %a2, 0;\nwgmma.commit_group.sync.aligned;",
     "a register of A of a wgmma is written"},
    {"A read in flight", kCommit, "mov.b32 %r9, %a2;\nwgmma.commit_group.sync.aligned;", "a register of A of a wgmma is read"},
    {"no fence", kFence, "", "a wgmma before the first wgmma.fence"},
    {"an accumulator changed after the fence", kFence, "wgmma.fence.sync.aligned;\nmov.f32 %d1, 0f3f800000;",
     "a wgmma accesses a register that was accessed since the latest wgmma.fence"},
    {"A changed after the fence", kFence, "wgmma.fence.sync.aligned;\nadd.s32 %a0, %a0, 0;",
     "accessed since the latest wgmma.fence"},
    {"accumulators used again without a fence", kWait,
     "wgmma.wait_group.sync.aligned 0;\nadd.f32 %d0, %d0, %d0;\n"
     "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%d0, %d1, %d2, %d3, %d4, %d5, %d6, %d7}, %rd10, %rd11, %p1, 1, 1, 0, "
     "0;\n"
     "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;",
     "accessed since the latest wgmma.fence"},
    {"another shape without a fence", kCommit,
     "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%d0, %d1, %d2, %d3}, %rd10, %rd11, %p1, 1, 1, 0, 0;\n"
     "wgmma.commit_group.sync.aligned;",
     "of another shape, with no wgmma.fence"},
    {"a result that is A of the next, in flight", kCommit,
     "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%d9, %d10, %d11, %d12}, {%d0, %d1, %d2, %d3}, %rd11, %p1, 1, 1, 0;\n"
     "wgmma.commit_group.sync.aligned;",
     "as another operand"},
    {"no proxy fence", kProxy, "", "with no fence.proxy.async since it was written"},
    {"a proxy fence of global memory", kProxy, "fence.proxy.async.global;", "with no fence.proxy.async since it was written"},
    {"a proxy fence before the last write", kProxy, "fence.proxy.async;\n@!%p1 bra $L_more;\nst.shared.u32 [%r4], %r3;\n$L_more:",
     "with no fence.proxy.async since it was written"},
    {"a proxy fence of writers alone, after the barrier", "fence.proxy.async.shared::cta;\n\tbar.sync 0;",
     "bar.sync 0;\nsetp.ge.u32 %p3, %r3, 32;\n@%p3 bra $L_fenced;\nfence.proxy.async;\n$L_fenced:",
     "with no fence.proxy.async since it was written"},
    {"a copy without a proxy fence", kProxy,
     "fence.proxy.async;\nshl.b32 %r13, %r3, 4;\nadd.s32 %r13, %r4, %r13;\ncp.async.cg.shared::cta.global [%r13], [%rd1], 16;\n"
     "cp.async.commit_group;\ncp.async.wait_group 0;\n",
     "with no fence.proxy.async since"},
    {"a copy that is not waited for", kProxy,
     "fence.proxy.async;\nshl.b32 %r13, %r3, 4;\nadd.s32 %r13, %r4, %r13;\ncp.async.cg.shared.global [%r13], [%rd1], 16;\n",
     "read before its cp.async was waited for"},
    {"no barrier", "bar.sync 0;", "", "shared memory is read that another warp wrote"},
    {"a write to what is read in flight", kWait,
     "shl.b32 %r13, %r3, 4;\nadd.s32 %r13, %r4, %r13;\nst.shared.u32 [%r13], %r3;\nwgmma.wait_group.sync.aligned 0;",
     "shared memory is written that a wgmma in flight reads"},
    {"a copy to what is read in flight", kWait,
     "shl.b32 %r13, %r3, 4;\nadd.s32 %r13, %r4, %r13;\ncp.async.cg.shared.global [%r13], [%rd1], 16;\n"
     "wgmma.wait_group.sync.aligned 0;",
     "shared memory is written that a wgmma in flight reads"},
    {"a write to what another warp still reads", kWait,
     "wgmma.wait_group.sync.aligned 0;\nxor.b32 %r13, %r3, 96;\nshl.b32 %r13, %r13, 4;\nadd.s32 %r13, %r4, %r13;\n"
     "st.shared.u32 [%r13], %r3;",
     "shared memory is written that a"},  // wgmma in flight, or another warp, reads
    {"a warp that takes no part", kFence, "setp.ge.u32 %p3, %r3, 96;\n@%p3 bra $L_end;\nwgmma.fence.sync.aligned;",
     "a warp does not execute the wgmma of its warpgroup"},
    {"a warp with other descriptors", kFence,
     "setp.lt.u32 %p3, %r3, 96;\n@%p3 bra $L_same;\nadd.s64 %rd11, %rd11, 2;\n$L_same:\nwgmma.fence.sync.aligned;",
     "give a wgmma different descriptors or scale-d"},
    {"a lane with another descriptor", kFence,
     "setp.ne.u32 %p3, %r3, 5;\n@%p3 bra $L_same;\nadd.s64 %rd11, %rd11, 2;\n$L_same:\nwgmma.fence.sync.aligned;",
     "differ between lanes"},
    {"a lane with another scale-d", kFence, "setp.ne.u32 %p1, %r3, 5;\nwgmma.fence.sync.aligned;", "differ between lanes"},
    {"a warp at another wgmma", kFence,
     "setp.lt.u32 %p3, %r3, 96;\n@%p3 bra $L_same;\nwgmma.commit_group.sync.aligned;\n$L_same:\nwgmma.fence.sync.aligned;",
     "the warps of a warpgroup execute different wgmma"},
    {"a lane that has ended", kFence, "setp.ne.u32 %p3, %r3, 5;\n@!%p3 ret;\nwgmma.fence.sync.aligned;", "that is not whole"},
    {"a condition on a wgmma", kFence, "setp.ne.u32 %p3, %r3, 5;\n@%p3 wgmma.fence.sync.aligned;",
     "a condition on an instruction for a whole warp"},
    {"a matrix beyond shared memory", kFence, "add.s64 %rd11, %rd11, 1024;\nwgmma.fence.sync.aligned;",
     "outside of shared memory"},
    {"a bit that means nothing", kFence, "or.b64 %rd11, %rd11, 16384;\nwgmma.fence.sync.aligned;", "bits that mean nothing"},
    {"a module for all of 9.0", ".target sm_90a", ".target sm_90", "wgmma is for .target sm_90a"},
    {"a module for something else", ".target sm_90a", ".target sm_100a", "wgmma is for .target sm_90a"},
    {"an unknown shape", ".m64n16k16", ".m64n16k8", "that ptx_sim does not know"},
    {"too few accumulators", "{%d0, %d1, ", "{%d0, ", "that ptx_sim does not know"},
    {"an unknown sign", "%p1, 1, 1", "%p1, 2, 1", "wgmma's immediate 2"},
};

TEST(PtxWgmma, EachFaultIsSeen) {
  const Case in_shared, in_registers{.registers = true};
  for (uint64_t seed : {0, 1, 2}) {
    options().seed = seed;
    for (const Planted& p : kPlanted) {
      const Case& c = std::string(p.name).starts_with("A ") ? in_registers : in_shared;
      std::string kernel = changed(text(c), p.from, p.to);
      kernel = changed(kernel, "ret;\n}", "$L_end:\n ret;\n}");
      const Found bad = run(c, kernel);
      EXPECT_NE(bad.reports.find(p.report), std::string::npos) << p.name << " with seed " << seed << ": " << bad.reports;
    }
    EXPECT_EQ(run(in_shared, text(in_shared)).reports, "");
    EXPECT_EQ(run(in_registers, text(in_registers)).reports, "");
  }
  options().seed = 0;
}

TEST(PtxWgmma, WithoutAWaitNothingIsThere) {
  const Case c;
  EXPECT_EQ(run(c, changed(text(c), kWait, "")).wrong, kRows * c.n);
}
TEST(PtxWgmma, AWarpThatDoesNotWait) {
  const Case c;
  std::string kernel = changed(text(c), kWait, "ret;");
  EXPECT_NE(run(c, kernel).reports.find("a wgmma that its warp does not wait for"), std::string::npos);
}
TEST(PtxWgmma, WarpgroupsAreFourWarps) {
  const Case c;
  for (unsigned threads : {32u, 64u, 96u, 127u, 160u})
    EXPECT_NE(run(c, text(c), threads).reports.find("a wgmma in a warpgroup that is not whole"), std::string::npos) << threads;
}
TEST(PtxWgmma, SharedMemoryThatNobodyWrote) {
  const Case c;
  EXPECT_NE(run(c, text(c), kThreads, 200).reports.find("is read that nobody wrote"), std::string::npos);
}
// The manual's rule is an order by a fence: whoever reads may fence after the barrier, too.
TEST(PtxWgmma, AProxyFenceOfTheReaders) {
  const Case c;
  const std::string kernel = changed(text(c), "fence.proxy.async.shared::cta;\n\tbar.sync 0;", "bar.sync 0;\nfence.proxy.async;");
  EXPECT_EQ(run(c, kernel).reports, "");
}
// One warpgroup writes, another multiplies. The writers' fence counts if it comes before the barrier.
TEST(PtxWgmma, AProxyFenceOfTheWriters) {
  const Case c;
  const std::string fence = "fence.proxy.async;\n";
  std::string kernel = changed(text(c), "mov.u32 %r6, %r3;", "mov.u32 %r6, %r3;\nsetp.ge.u32 %p3, %r3, 128;\n@%p3 bra $L_wait;");
  kernel = changed(kernel, "$L_copied:\n\tfence.proxy.async.shared::cta;\n\tbar.sync 0;",
                   "$L_copied:\nBEFORE$L_wait:\nbar.sync 0;\n@%p3 bra $L_multiply;\nAFTER bra.uni $L_end;\n$L_multiply:\n"
                   "sub.s32 %r3, %r3, 128;");
  kernel = changed(kernel, "ret;\n}", "$L_end:\n ret;\n}");
  const Found good = run(c, changed(changed(kernel, "BEFORE", fence), "AFTER", ""), 2 * kThreads);
  EXPECT_EQ(good.reports, "");
  EXPECT_EQ(good.wrong, 0);
  const Found late = run(c, changed(changed(kernel, "BEFORE", ""), "AFTER", fence), 2 * kThreads);
  EXPECT_NE(late.reports.find("with no fence.proxy.async since it was written"), std::string::npos) << late.reports;
}
// The layouts tell each other apart, and so do the operands.
TEST(PtxWgmma, WrongOperandsGiveWrongProducts) {
  const Case c;
  const auto wrong = [&](const std::string& from, const std::string& to) { return run(c, changed(text(c), from, to)).wrong; };
  for (const char* mode : {"0x8000000000000000", "0xC000000000000000"})  // the swizzle of the descriptor of B: 1 becomes 3, or 2
    EXPECT_GT(wrong(kFence, std::string("xor.b64 %rd11, %rd11, ") + mode + ";\nwgmma.fence.sync.aligned;"), 0) << mode;
  EXPECT_GT(wrong(kFence, "add.s64 %rd11, %rd11, 2;\nwgmma.fence.sync.aligned;"), 0);
  EXPECT_GT(wrong(kFence, "or.b64 %rd11, %rd11, 0x2000000000000;\nwgmma.fence.sync.aligned;"), 0);  // base offset 1
  EXPECT_GT(wrong("%p1, 1, 1, 0, 0", "%p1, 1, 1, 0, 1"), 0);
  EXPECT_GT(wrong("%p1, 1, 1", "%p1, 1, -1"), 0);
  EXPECT_GT(wrong("%rd10, %rd11, %p1", "%rd11, %rd10, %p1"), 0);
  EXPECT_GT(wrong(".f32.f16.f16", ".f32.bf16.bf16"), 0);
  EXPECT_GT(wrong("{%d0, %d1, %d2", "{%d0, %d2, %d1"), 0);
}
// Two groups in flight, of which the first is used while the second runs; then the second goes on with the first's accumulators.
TEST(PtxWgmma, GroupsEndInOrder) {
  const Case c{.n = 8, .b = {128, false, 8, 64, false}};
  const std::string again = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 ", operands = ", %rd10, %rd11, %p1, 1, ";
  const std::string other = "{%d4, %d5, %d6, %d7}", first = "{%d0, %d1, %d2, %d3}";
  std::string zeros;
  for (int e = 4; e < 8; e++) zeros += "mov.f32 %d" + std::to_string(e) + ", 0f00000000;\n";
  // D + AB; in flight: 0 - AB. D stays D + AB when both are added and the product comes once more.
  std::string kernel = changed(text(c), kFence, zeros + kFence);
  kernel =
      changed(kernel, kWait,
              again + other + operands + "-1, 0, 0;\n" + kCommit +
                  "\nwgmma.wait_group.sync.aligned 1;\nadd.f32 %d0, %d0, 0f00000000;\n" + kFence + "\n" + again + first +
                  operands + "1, 0, 0;\n" + kCommit + "\nwgmma.wait_group.sync.aligned 1;\nadd.f32 %d4, %d4, 0f00000000;\n" +
                  kWait + "\nadd.f32 %d0, %d0, %d4;\nadd.f32 %d1, %d1, %d5;\nadd.f32 %d2, %d2, %d6;\nadd.f32 %d3, %d3, %d7;\n");
  const Found found = run(c, kernel);
  EXPECT_EQ(found.reports, "");
  EXPECT_EQ(found.wrong, 0);
  const Found early =
      run(c, changed(kernel, "wait_group.sync.aligned 1;\nadd.f32 %d0", "wait_group.sync.aligned 2;\nadd.f32 %d0"));
  EXPECT_NE(early.reports.find("an accumulator of a wgmma is read before"), std::string::npos) << early.reports;
}
// Products into the same accumulators need neither a fence nor a wait in between.
TEST(PtxWgmma, ProductsAddUp) {
  Case c;
  const std::string kernel = text(c);
  const size_t at = kernel.find("wgmma.mma_async");
  const std::string multiply = kernel.substr(at, kernel.find('\n', at) + 1 - at);
  const Found found = run(c, changed(kernel, multiply, changed(multiply, "1, 1, 0", "1, -1, 0") + multiply + multiply));
  EXPECT_EQ(found.reports, "");
  EXPECT_EQ(found.wrong, 0);
}

}  // namespace
}  // namespace ptx::test
