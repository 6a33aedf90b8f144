// What instructions compute, against their definitions.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "dev/ptx_sim/fat_binary.h"
#include "dev/ptx_sim/half.h"
#include "dev/ptx_sim/tests/small_kernel.h"

namespace ptx::test {
namespace {

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// Thread t computes %r8 from a = %r3, word t of the input, and b = %r6, word 64 + t of it; %f1 and %f2 are the same bits.
std::vector<uint32_t> compute(const std::string& body, const std::vector<std::pair<uint32_t, uint32_t>>& pairs) {
  std::vector<uint32_t> in(kWords, 1);
  for (size_t i = 0; i < pairs.size(); i++) in[i] = pairs[i].first, in[64 + i] = pairs[i].second;
  const Outcome outcome =
      run_body("ld.global.u32 %r3, [%rd4];\n ld.global.u32 %r6, [%rd4+256];\n mov.b32 %f1, %r3;\n mov.b32 %f2, %r6;\n" + body +
                   "\n st.global.u32 [%rd5], %r8;\n",
               in);
  EXPECT_EQ(outcome.reports, "") << body;
  return {outcome.out.begin(), outcome.out.begin() + static_cast<ptrdiff_t>(pairs.size())};
}
template <class F>
void expect(const std::string& body, const std::vector<std::pair<uint32_t, uint32_t>>& pairs, const F& f) {
  const std::vector<uint32_t> found = compute(body, pairs);
  for (size_t i = 0; i < pairs.size(); i++)
    EXPECT_EQ(found[i], static_cast<uint32_t>(f(pairs[i].first, pairs[i].second)))
        << body << " of " << pairs[i].first << " and " << pairs[i].second;
}

TEST(PtxInstructions, Integers) {
  const std::vector<std::pair<uint32_t, uint32_t>> some{{1, 2},           {0xffffffff, 7}, {0x80000000, 0xffffffff}, {5, 33},
                                                        {0x12345678, 31}, {0xfffffffb, 3}, {0xdeadbeef, 0xfedcba98}};
  const auto s = [](uint32_t x) { return static_cast<int32_t>(x); };
  expect("add.s32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return a + b; });
  expect("sub.s32 %r8, %r3, -7;", some, [](uint32_t a, uint32_t) { return a + 7; });
  expect("mul.lo.s32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return a * b; });
  expect("mul.hi.s32 %r8, %r3, %r6;", some, [&](uint32_t a, uint32_t b) { return int64_t{s(a)} * s(b) >> 32; });
  expect("mul.hi.u32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return uint64_t{a} * b >> 32; });
  expect("mul.wide.s32 %rd6, %r3, %r6;\n shr.u64 %rd6, %rd6, 16;\n cvt.u32.u64 %r8, %rd6;", some,
         [&](uint32_t a, uint32_t b) { return static_cast<uint64_t>(int64_t{s(a)} * s(b)) >> 16; });
  expect("mad.lo.s32 %r8, %r3, %r6, %r6;", some, [](uint32_t a, uint32_t b) { return a * b + b; });
  expect("div.s32 %r8, %r3, %r6;", some, [&](uint32_t a, uint32_t b) { return int64_t{s(a)} / s(b); });
  expect("rem.u32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return a % b; });
  expect("min.s32 %r8, %r3, %r6;", some, [&](uint32_t a, uint32_t b) { return std::min(s(a), s(b)); });
  expect("max.u32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return std::max(a, b); });
  expect("shl.b32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return b > 31 ? 0 : a << b; });
  expect("shr.u32 %r8, %r3, %r6;", some, [](uint32_t a, uint32_t b) { return b > 31 ? 0 : a >> b; });
  expect("shr.s32 %r8, %r3, %r6;", some, [&](uint32_t a, uint32_t b) { return s(a) >> std::min(b, 31u); });
  expect("bfi.b32 %r8, %r3, %r6, 8, 12;", some, [](uint32_t a, uint32_t b) { return (b & ~0xfff00u) | (a & 0xfff) << 8; });
  expect("popc.b32 %r8, %r3;", some, [](uint32_t a, uint32_t) { return std::popcount(a); });
  expect("brev.b32 %r8, %r3;\n brev.b32 %r8, %r8;\n not.b32 %r8, %r8;", some, [](uint32_t a, uint32_t) { return ~a; });
  expect("bfind.shiftamt.u32 %r8, %r3;", some, [](uint32_t a, uint32_t) { return std::countl_zero(a); });
  expect("prmt.b32 %r8, %r3, %r6, 25107;", some,  // 0x6213
         [](uint32_t a, uint32_t b) { return (b >> 16 & 0xff) << 24 | (a >> 16 & 0xff) << 16 | (a >> 8 & 0xff) << 8 | a >> 24; });
  expect("setp.lt.s32 %p1, %r3, %r6;\n setp.gt.or.u32 %p2, %r3, %r6, %p1;\n selp.b32 %r8, 1, 2, %p2;", some,
         [&](uint32_t a, uint32_t b) { return s(a) < s(b) || a > b ? 1 : 2; });
  expect("cvt.u16.u32 %rs1, %r3;\n cvt.s16.s8 %rs2, %rs1;\n cvt.s32.s16 %r8, %rs2;", some,
         [](uint32_t a, uint32_t) { return static_cast<int8_t>(a); });
}

TEST(PtxInstructions, Floats) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::pair<uint32_t, uint32_t>> some;
  for (const auto& [a, b] : std::vector<std::pair<float, float>>{{1.5f, 3}, {0.1f, -0.3f}, {1e30f, 1e-38f}, {7, inf}, {-2.5f, 1}})
    some.emplace_back(bits(a), bits(b));
  const auto f = [](uint32_t x) { return std::bit_cast<float>(x); };
  const auto of = [&](const std::string& body, const auto& g) {
    expect(body + "\n mov.b32 %r8, %f3;", some, [&](uint32_t a, uint32_t b) { return bits(g(f(a), f(b))); });
  };
  of("sub.f32 %f3, %f1, %f2;", [](float a, float b) { return a - b; });
  of("fma.rn.f32 %f3, %f1, %f2, %f1;", [](float a, float b) { return std::fma(a, b, a); });
  of("div.rn.f32 %f3, %f1, %f2;", [](float a, float b) { return a / b; });
  of("ex2.approx.ftz.f32 %f3, %f2;",
     [](float, float b) { return std::exp2(b) < 0x1p-126f ? 0 : static_cast<float>(std::exp2(double{b})); });
  of("rcp.approx.ftz.f32 %f3, %f2;", [&](float, float b) { return b == 1e-38f ? inf : 1 / b; });  // 1e-38 is subnormal
  of("cvt.rni.f32.f32 %f3, %f1;", [](float a, float) { return std::nearbyint(a); });
  of("cvt.sat.f32.f32 %f3, %f1;", [](float a, float) { return std::min(std::max(a, 0.0f), 1.0f); });
  of("cvt.f64.f32 %fd1, %f1;\n add.f64 %fd2, %fd1, 0d3FF0000000000000;\n cvt.rn.f32.f64 %f3, %fd2;",
     [](float a, float) { return static_cast<float>(double{a} + 1); });
  some = {{bits(nan), bits(2)}, {bits(2), bits(nan)}, {bits(-0.0f), bits(0.0f)}, {bits(3), bits(4)}};
  EXPECT_EQ(compute("max.f32 %f3, %f1, %f2;\n mov.b32 %r8, %f3;", some),
            (std::vector<uint32_t>{bits(2), bits(2), bits(0.0f), bits(4)}));
  expect("max.NaN.f32 %f3, %f1, %f2;\n setp.nan.f32 %p1, %f3, %f3;\n selp.b32 %r8, 1, 0, %p1;", some,
         [&](uint32_t a, uint32_t b) { return std::isnan(f(a)) || std::isnan(f(b)); });
  expect("setp.ltu.f32 %p1|%p2, %f1, %f2;\n selp.b32 %r8, 1, 0, %p2;", some,
         [&](uint32_t a, uint32_t b) { return f(a) >= f(b); });
  const std::vector<std::pair<uint32_t, uint32_t>> large{{bits(nan), 0}, {bits(3e9f), 0}, {bits(-3e9f), 0}, {bits(-1.9f), 0}};
  const std::vector<uint32_t> cut = compute("cvt.rzi.s32.f32 %r8, %f1;", large);
  EXPECT_EQ(cut, (std::vector<uint32_t>{0, 0x7fffffff, 0x80000000, 0xffffffff}));
}

TEST(PtxInstructions, FmaRoundedDown) {
  // 2^23 + 0.5 and its like: the neighbours differ by 1, and the nearest even is above or below.
  const std::vector<std::pair<uint32_t, uint32_t>> some{{bits(0x1p23f), bits(0.75f)},  {bits(0x1p23f + 1), bits(0.5f)},
                                                        {bits(-0x1p23f), bits(0.25f)}, {bits(1), bits(0x1p-60f)},
                                                        {bits(1), bits(-0x1p-60f)},    {bits(3), bits(4)}};
  const std::vector<uint32_t> found = compute("fma.rm.f32 %f3, %f1, 0f3F800000, %f2;\n mov.b32 %r8, %f3;", some);
  const std::vector<float> expected{0x1p23f, 0x1p23f + 1, -0x1p23f, 1, std::nextafter(1.0f, 0.0f), 7};
  for (size_t i = 0; i < some.size(); i++) EXPECT_EQ(found[i], bits(expected[i])) << i;
}

TEST(PtxInstructions, HalfPrecision) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const float x = half_to_float(static_cast<uint16_t>(h));
    if (std::isnan(x)) continue;
    ASSERT_EQ(float_to_half(x), h);
    if ((h & 0x7fff) >= 0x7bff) continue;
    const float next = half_to_float(static_cast<uint16_t>(h + 1)), middle = (x + next) / 2;
    ASSERT_EQ(float_to_half(middle), h % 2 ? h + 1 : h);
    ASSERT_EQ(float_to_half(std::nextafter(middle, next)), h + 1);
    ASSERT_EQ(float_to_half(std::nextafter(middle, x)), h);
  }
  EXPECT_EQ(float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(0x1p-25f), 0);
  EXPECT_EQ(float_to_bf16(bf16_to_float(0x3f81) * (1 + 0x1p-9f)), 0x3f81);
  EXPECT_EQ(float_to_bf16(1 + 0x1p-8f), 0x3f80);  // a tie
  EXPECT_EQ(half_to_float(0x3555), 0x1.554p-2f);
}

TEST(PtxInstructions, EachThreadLoopsForItself) {
  const Outcome o = run_body(R"(
	mov.u32 %r8, 0;
	mov.u32 %r9, 0;
$L_loop:
	setp.ge.u32 %p1, %r9, %r1;
	@%p1 bra $L_end;
	add.s32 %r9, %r9, 1;
	and.b32 %r10, %r9, 1;
	setp.eq.s32 %p2, %r10, 0;
	@%p2 bra $L_loop;
	add.s32 %r8, %r8, %r9;
	bra.uni $L_loop;
$L_end:
	bar.warp.sync -1;
	st.global.u32 [%rd5], %r8;
)");
  EXPECT_EQ(o.reports, "");
  for (uint32_t t = 0; t < 64; t++) EXPECT_EQ(o.out[t], (t + 1) / 2 * ((t + 1) / 2)) << t;  // 1 + 3 + 5 + …
}

TEST(PtxInstructions, Shuffles) {
  const auto shuffled = [](const std::string& form) {
    const Outcome o = run_body("shfl.sync." + form + ", -1;\n st.global.u32 [%rd5], %r8;");
    EXPECT_EQ(o.reports, "") << form;
    return o.out;
  };
  const auto bfly = shuffled("bfly.b32 %r8, %r1, 5, 31"), idx = shuffled("idx.b32 %r8, %r1, 3, 6175");  // segments of 8
  const auto up = shuffled("up.b32 %r8, %r1, 2, 0"), down = shuffled("down.b32 %r8, %r1, 2, 31");
  for (uint32_t t = 0; t < 64; t++) {
    EXPECT_EQ(bfly[t], t ^ 5);
    EXPECT_EQ(idx[t], t / 8 * 8 + 3);
    EXPECT_EQ(up[t], t % 32 < 2 ? t : t - 2);
    EXPECT_EQ(down[t], t % 32 > 29 ? t : t + 2);
  }
}

// A call of a function of the same module, and a table of constants.
TEST(PtxInstructions, CallsAndTables) {
  const std::string before = R"(
.global .align 8 .b8 table[8] = {0, 0, 0, 0, 0, 0, 8, 64};
.func (.param .b64 func_retval0) twice(
	.param .b64 twice_param_0
)
{
	.reg .f64 %fd<4>;
	.reg .pred %p<2>;
	ld.param.f64 %fd1, [twice_param_0];
	setp.gt.f64 %p1, %fd1, 0d4024000000000000;
	@%p1 bra $L_large;
	add.f64 %fd2, %fd1, %fd1;
	st.param.f64 [func_retval0+0], %fd2;
	ret;
$L_large:
	st.param.f64 [func_retval0+0], %fd1;
	ret;
}
)";
  const Outcome o = run_text(kernel_text(R"(
	cvt.rn.f64.s32 %fd1, %r1;
	{
	.param .b64 param0;
	st.param.f64 [param0+0], %fd1;
	.param .b64 retval0;
	call.uni (retval0),
	twice,
	(
	param0
	);
	ld.param.f64 %fd2, [retval0+0];
	}
	mov.u64 %rd6, table;
	ld.global.nc.f64 %fd3, [%rd6];
	add.f64 %fd2, %fd2, %fd3;
	cvt.rni.s32.f64 %r8, %fd2;
	st.global.u32 [%rd5], %r8;
)",
                                         before));
  EXPECT_EQ(o.reports, "");
  for (uint32_t t = 0; t < 64; t++) EXPECT_EQ(o.out[t], (t > 10 ? t : 2 * t) + 3) << t;  // the table holds 3.0
}

// 16 blocks, all on one counter. Their order does not matter.
TEST(PtxInstructions, Atomics) {
  const std::string text = kernel_text("atom.global.add.u32 %r8, [%rd2], 1;\n bar.sync 0;");
  EXPECT_EQ(run_text(text, counting(), 64, 16).out[0], 16u * 64);
}

TEST(PtxInstructions, DynamicSharedMemoryFollowsTheStatic) {
  const std::string text = kernel_text(R"(
	mov.u32 %r10, dynamic;
	add.s32 %r11, %r10, %r2;
	st.shared.u32 [%r11], %r1;
	st.shared.u32 [%r5], %r2;
	ld.shared.u32 %r8, [%r11];
	st.global.u32 [%rd5], %r8;
)");
  const Outcome o = run_text(text, counting(), 64, 1, 256);
  EXPECT_EQ(o.reports, "");
  EXPECT_EQ(o.out[63], 63u);
  EXPECT_NE(run_text(text, counting(), 64, 1, 252).reports.find("at 1292 of 1292 bytes of shared memory"), std::string::npos);
}

// ---- tensor cores: D = A · B of 16-bit integers, through ldmatrix, against sums in a loop
// ----------------------------------------- A (16 x 16) and B (16 x 8) lie row by row in the input; rows of A are 32 bytes, rows
// of B 16.
std::string product(const std::string& type, const std::string& load_b = "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16") {
  return R"(
	ld.global.v2.u32 {%r20, %r21}, [%rd1+0];
	mul.wide.u32 %rd6, %r1, 16;
	add.s64 %rd7, %rd1, %rd6;
	setp.ge.u32 %p1, %r1, 48;
	@%p1 bra $L_loaded;
	ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd7];
	shl.b32 %r10, %r1, 4;
	add.s32 %r10, %r4, %r10;
	st.shared.v4.u32 [%r10], {%r20, %r21, %r22, %r23};
$L_loaded:
	bar.sync 0;
	setp.ge.u32 %p2, %r1, 32;
	@%p2 bra $L_end;
	and.b32 %r11, %r1, 15;
	shr.u32 %r12, %r1, 4;
	shl.b32 %r13, %r11, 5;
	shl.b32 %r14, %r12, 4;
	add.s32 %r15, %r4, %r13;
	add.s32 %r15, %r15, %r14;
	ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r24, %r25, %r26, %r27}, [%r15];
	shl.b32 %r16, %r11, 4;
	add.s32 %r16, %r4, %r16;
	)" +
         load_b +
         R"( {%r28, %r29}, [%r16+512];
	mov.f32 %f1, 0f00000000;
	mma.sync.aligned.m16n8k16.row.col.f32.)" +
         type + "." + type + R"(.f32 {%f5, %f6, %f7, %f8}, {%r24, %r25, %r26, %r27}, {%r28, %r29}, {%f1, %f1, %f1, %f1};
	shr.u32 %r30, %r1, 2;
	and.b32 %r31, %r1, 3;
	shl.b32 %r32, %r30, 5;
	shl.b32 %r33, %r31, 3;
	add.s32 %r34, %r32, %r33;
	cvt.u64.u32 %rd8, %r34;
	add.s64 %rd9, %rd2, %rd8;
	st.global.f32 [%rd9], %f5;
	st.global.f32 [%rd9+4], %f6;
	st.global.f32 [%rd9+256], %f7;
	st.global.f32 [%rd9+260], %f8;
$L_end:
)";
}
float a_value(int row, int k) { return static_cast<float>((row * 7 + k * 3) % 11 - 5); }
float b_value(int k, int column) { return static_cast<float>((k * 5 + column * 2) % 7 - 3); }

int wrong_products(const std::string& body, uint16_t (*to_bits)(float)) {
  std::vector<uint32_t> in(kWords);
  auto* values = reinterpret_cast<unsigned char*>(in.data());
  for (int k = 0; k < 16; k++) {
    for (int row = 0; row < 16; row++) {
      const uint16_t x = to_bits(a_value(row, k));
      std::memcpy(values + 32 * row + 2 * k, &x, 2);
    }
    for (int column = 0; column < 8; column++) {
      const uint16_t x = to_bits(b_value(k, column));
      std::memcpy(values + 512 + 16 * k + 2 * column, &x, 2);
    }
  }
  const Outcome o = run_body(body, in);
  EXPECT_EQ(o.reports, "") << body;
  int wrong = 0;
  for (int row = 0; row < 16; row++)
    for (int column = 0; column < 8; column++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += a_value(row, k) * b_value(k, column);
      wrong += std::bit_cast<float>(o.out[static_cast<size_t>(row * 8 + column)]) != sum;
    }
  return wrong;
}

TEST(PtxInstructions, TensorCores) {
  EXPECT_EQ(wrong_products(product("f16"), float_to_half), 0);
  EXPECT_EQ(wrong_products(product("bf16"), float_to_bf16), 0);
}
TEST(PtxInstructions, WrongFragmentsGiveWrongProducts) {
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string body = product("f16");
    const size_t at = body.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return body.replace(at, from.size(), to);
  };
  EXPECT_GT(wrong_products(changed("{%r24, %r25, %r26, %r27}, {%r28", "{%r24, %r26, %r25, %r27}, {%r28"), float_to_half), 0);
  EXPECT_GT(wrong_products(changed("{%r28, %r29}, {%f1", "{%r29, %r28}, {%f1"), float_to_half), 0);
  EXPECT_GT(wrong_products(product("f16", "ldmatrix.sync.aligned.m8n8.x2.shared.b16"), float_to_half), 0);
  EXPECT_GT(wrong_products(product("bf16"), float_to_half), 0);
  const std::string ended = changed("setp.ge.u32 %p2, %r1, 32;\n\t@%p2 bra $L_end;", "setp.ge.u32 %p2, %r1, 31;\n\t@%p2 ret;");
  EXPECT_NE(run_body(ended).reports.find("part of a warp at an instruction of tensor cores"), std::string::npos);
  EXPECT_NE(run_body(changed("[%r16+512]", "[%r16+516]")).reports.find("a misaligned row of ldmatrix"), std::string::npos);
  EXPECT_NE(run_body(changed("[%r16+512]", "[%r16+768]")).reports.find("nobody wrote"), std::string::npos);
}

// ---- the program around it
// ------------------------------------------------------------------------------------------------------
TEST(PtxSim, CountsWhatWasLaunched) {
  run_text(kernel_text("setp.ne.s32 %p1, %r1, %r1;\n @%p1 bra $L_never;\n bra.uni $L_end;\n$L_never:\n trap;\n$L_end:",
                       ".visible .entry other()\n{\n ret;\n}\n"));
  // Ten instructions before the body, a ret after it, and one where the text ends.
  const std::string all = statistics();
  EXPECT_NE(all.find("0 launches, 0 instructions of warps, 0 of 0 lines: other\n"), std::string::npos) << all;
  EXPECT_NE(all.find("1 launches, 28 instructions of warps, 14 of 16 lines: kernel\n"), std::string::npos) << all;
}

TEST(PtxSim, FindsTextsInFatBinaries) {
  const std::string text = ".version 9.0\n.target sm_75\n";
  std::string entries;
  const auto add = [&](const auto& value) { entries.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  for (uint16_t kind : {uint16_t{2}, uint16_t{1}}) {  // machine code, then PTX
    add(kind), add(uint16_t{0x101}), add(uint32_t{24}), add(uint64_t{text.size() + 4}), add(uint64_t{0});
    entries += text + std::string(4, '\0');
  }
  std::string container;
  std::swap(container, entries);
  const std::string body = container;
  add(uint32_t{0xba55ed50}), add(uint16_t{1}), add(uint16_t{16}), add(uint64_t{body.size()});
  container = entries + body;
  const auto* bytes = reinterpret_cast<const std::byte*>(container.data());
  EXPECT_EQ(texts_of(bytes), std::vector<std::string>{text});
  EXPECT_EQ(architecture(load(text)), 75);
  // Which of several is taken: by default the newest, and of two for one architecture the one with its own features.
  const auto of = [](const std::string& target) { return ".version 9.0\n.target sm_" + target + "\n"; };
  const std::vector<std::string> several{of("80"), of("90a"), of("90")};
  EXPECT_EQ(text_for("", several), of("90a"));
  EXPECT_EQ(text_for("90a", several), of("90a"));
  EXPECT_EQ(text_for("90", several), of("90"));
  EXPECT_EQ(text_for("89", several), of("80"));
  EXPECT_EQ(text_for("100", several), of("90"));  // sm_90a runs on nothing else
  EXPECT_EQ(text_for("90", {of("80"), of("90a")}), of("80"));
  EXPECT_EQ(text_for("", {}), "");
  EXPECT_THROW(text_for("75", several), Fault);
  container[0] = 0;
  EXPECT_THROW(texts_of(bytes), Fault);
}

}  // namespace
}  // namespace ptx::test
