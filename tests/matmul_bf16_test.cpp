// The bf16 GEMM by each kind of instructions that this processor has, against sums in double.
#include "kernels/matmul_bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "src/base/parallel.h"

namespace tll {
namespace {

struct Shape {
  int rows, cols, inner;
  bool transposed_a, transposed_b, accumulate, out_float;
  double alpha;
};

// Operands whose rows lie apart, and what lies between the rows of the result.
struct Product {
  Shape s;
  int64_t stride_a, stride_b, stride_out;
  std::vector<bf16> a, b, out;
  std::vector<float> out_float;

  Product(const Shape& shape, std::mt19937& random)
      : s(shape),
        stride_a((s.transposed_a ? s.rows : s.inner) + random() % 3),
        stride_b((s.transposed_b ? s.inner : s.cols) + random() % 3),
        stride_out(s.cols + random() % 3),
        a(static_cast<size_t>((s.transposed_a ? s.inner : s.rows) * stride_a)),
        b(static_cast<size_t>((s.transposed_b ? s.cols : s.inner) * stride_b)),
        out(static_cast<size_t>(s.rows * stride_out)),
        out_float(out.size()) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::vector<bf16>* values : {&a, &b, &out})
      for (bf16& x : *values) x = round_to_bf16(uniform(random));
    for (size_t i = 0; i < out.size(); i++) out_float[i] = to_acc(out[i]);
  }
  float a_at(int i, int k) const { return to_acc(a[static_cast<size_t>(s.transposed_a ? k * stride_a + i : i * stride_a + k)]); }
  float b_at(int k, int j) const { return to_acc(b[static_cast<size_t>(s.transposed_b ? j * stride_b + k : k * stride_b + j)]); }
  float result(int i, int j) const {
    const size_t at = static_cast<size_t>(i * stride_out + j);
    return s.out_float ? out_float[at] : to_acc(out[at]);
  }

  void run(Bf16Instructions with, int threads) {
    set_cpu_threads(threads);
    std::vector<float> scratch(static_cast<size_t>(Matmul<float>::scratch_floats(threads)) + 1024, -1);
    const ConstMatrix a_stored =
        matrix(std::as_const(a).data(), s.transposed_a ? s.inner : s.rows, s.transposed_a ? s.rows : s.inner, stride_a);
    const ConstMatrix b_stored =
        matrix(std::as_const(b).data(), s.transposed_b ? s.cols : s.inner, s.transposed_b ? s.inner : s.cols, stride_b);
    const Matmul<float> op{.out = s.out_float ? matrix(out_float.data(), s.rows, s.cols, stride_out)
                                              : matrix(out.data(), s.rows, s.cols, stride_out),
                           .a = s.transposed_a ? a_stored.t() : a_stored,
                           .b = s.transposed_b ? b_stored.t() : b_stored,
                           .alpha = s.alpha,
                           .accumulate = s.accumulate,
                           .scratch = {scratch.data(), static_cast<int64_t>(scratch.size()) - 1024}};
    op.check();
    ASSERT_TRUE(matmul_bf16(op, with));
    for (size_t i = scratch.size() - 1024; i < scratch.size(); i++) ASSERT_EQ(scratch[i], -1) << "behind the scratch";
    set_cpu_threads(1);
  }
};

struct MatmulBf16 : testing::TestWithParam<Bf16Instructions> {
  void SetUp() override {
    if (GetParam() > bf16_instructions()) GTEST_SKIP() << "this processor has no " << bf16_instructions_name(GetParam());
  }
};

std::vector<Shape> shapes(std::mt19937& random) {
  // Sums in memory that all threads share, for which neither all rows nor all columns are taken at once.
  std::vector<Shape> found{{1030, 300, 2100, false, true, true, false, 1.0}};
  const auto any = [&](int most) { return 1 + static_cast<int>(random() % static_cast<unsigned>(most)); };
  for (int i = 0; i < 200; i++) {
    const int rows = any(i % 5 == 0 ? 1100 : 70), cols = any(i % 7 == 0 ? 300 : 70),
              inner = any(i % 11 == 0 ? 5000
                          : i % 3     ? 100
                                      : 700);
    if (int64_t{rows} * cols * inner > 100'000'000) continue;
    found.push_back({rows, cols, inner, random() % 2 == 0, random() % 2 == 0, random() % 2 == 0, random() % 2 == 0,
                     random() % 2 ? 1.0 : -0.75});
  }
  return found;
}

TEST_P(MatmulBf16, AsSumsInDouble) {
  std::mt19937 random(7);
  for (const Shape& s : shapes(random)) {
    Product product(s, random);
    const Product before = product;
    product.run(GetParam(), 2);
    for (int i = 0; i < s.rows; i++) {
      for (int64_t j = 0; j < product.stride_out; j++) {
        if (j >= s.cols) {  // between the rows
          ASSERT_EQ(product.result(i, static_cast<int>(j)), before.result(i, static_cast<int>(j)));
          continue;
        }
        double sum = 0, absolute = 0;
        for (int k = 0; k < s.inner; k++) {
          const double p = static_cast<double>(product.a_at(i, k)) * static_cast<double>(product.b_at(k, static_cast<int>(j)));
          sum += p, absolute += std::abs(p);
        }
        const double start = s.accumulate ? static_cast<double>(before.result(i, static_cast<int>(j))) : 0;
        const double expected = s.alpha * sum + start;
        // Each of `inner` additions, alpha and += round by 2^-24 of what is no more than the sum of absolute values; the products
        // of two bf16 are exact. What is written is the rounding of a number so near, and rounding keeps the order of numbers.
        const double error = (s.inner + 2) * 0x1p-24 * (std::abs(s.alpha) * absolute + std::abs(start));
        const auto written = [&](double x) {
          const auto single = static_cast<float>(x);
          return s.out_float ? single : to_acc(round_to_bf16(single));
        };
        const float result = product.result(i, static_cast<int>(j));
        ASSERT_TRUE(result >= written(expected - error) && result <= written(expected + error))
            << result << ", not " << expected << " ± " << error << ": " << s.rows << " x " << s.cols << " x " << s.inner << " at "
            << i << ", " << j;
      }
    }
  }
}

TEST_P(MatmulBf16, TheSameBitsForAnyNumberOfThreads) {
  std::mt19937 random(8);
  for (const Shape& s : shapes(random)) {
    const Product start(s, random);
    Product one = start;
    one.run(GetParam(), 1);
    for (const int threads : {2, 4, 7}) {
      Product other = start;
      other.run(GetParam(), threads);
      ASSERT_EQ(std::memcmp(other.out.data(), one.out.data(), one.out.size() * sizeof(bf16)), 0) << threads << " threads";
      ASSERT_EQ(std::memcmp(other.out_float.data(), one.out_float.data(), one.out_float.size() * sizeof(float)), 0) << threads;
    }
  }
}

// A product of two bf16 is exact in fp32, so of inner 1 the results are known to the bit, ties among them.
TEST_P(MatmulBf16, RoundsTiesToEven) {
  std::mt19937 random(10);
  Product product({130, 120, 1, false, true, false, false, 1.0}, random);
  product.run(GetParam(), 2);
  int ties = 0;
  for (int i = 0; i < 130; i++) {
    for (int j = 0; j < 120; j++) {
      const float exact = product.a_at(i, 0) * product.b_at(0, j);
      ties += (std::bit_cast<uint32_t>(exact) & 0xffffu) == 0x8000u;
      ASSERT_EQ(product.result(i, j), to_acc(round_to_bf16(exact))) << exact << " at " << i << ", " << j;
    }
  }
  EXPECT_GT(ties, 10);
}

// What is padded may not meet what is not finite.
TEST_P(MatmulBf16, NotFiniteStaysInItsRowOrColumn) {
  std::mt19937 random(9);
  for (const bool transposed_a : {false, true}) {
    for (const bool transposed_b : {false, true}) {
      Product product({45, 39, 77, transposed_a, transposed_b, false, false, 1.0}, random);
      constexpr int kRow = 44, kColumn = 3;
      product.a[static_cast<size_t>(transposed_a ? 76 * product.stride_a + kRow : kRow * product.stride_a + 76)] =
          round_to_bf16(INFINITY);
      product.b[static_cast<size_t>(transposed_b ? kColumn * product.stride_b + 5 : 5 * product.stride_b + kColumn)] =
          round_to_bf16(NAN);
      product.run(GetParam(), 2);
      for (int i = 0; i < 45; i++) {
        for (int j = 0; j < 39; j++) {
          const float y = product.result(i, j);
          if (j == kColumn)
            EXPECT_TRUE(std::isnan(y)) << i << ", " << j;
          else if (i == kRow)
            EXPECT_FALSE(std::isfinite(y)) << i << ", " << j;
          else
            EXPECT_TRUE(std::isfinite(y)) << i << ", " << j;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Instructions, MatmulBf16, testing::Values(Bf16Instructions::avx512, Bf16Instructions::amx),
                         [](const auto& info) { return info.param == Bf16Instructions::amx ? "amx" : "avx512"; });

}  // namespace
}  // namespace tll
