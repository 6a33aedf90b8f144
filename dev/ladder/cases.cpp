#include "dev/ladder/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "dev/ladder/target.h"

namespace tll::ladder {
namespace {

constexpr double kFloatRoundoff = 0x1p-24, kBf16Roundoff = 0x1p-8;

// Error bound of an fp32 sum of n products, relative to the sum of their absolute values. fma: n·2^-24. Tensor cores truncate
// addends toward zero: 11·2^-24 for every 8 products (the model of the older ones). The second bound is the larger one.
double sum_error(int n) { return 11.0 * ((n + 7) / 8) * kFloatRoundoff; }

std::vector<bf16> random_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<bf16> values(count);
  for (bf16& v : values) v = round_to_bf16(static_cast<float>(static_cast<int64_t>(random() >> 40)) * 0x1p-23f - 1.0f);
  return values;
}

template <class T, class Problem>
T* add(Case<Problem>& c, size_t count, const char* name) {
  c.memory.push_back(std::make_unique<Memory>(count * sizeof(T), name));
  return static_cast<T*>(c.memory.back()->data);
}
template <class Problem>
const bf16* upload(Case<Problem>& c, const std::vector<bf16>& values, const char* name) {
  bf16* p = add<bf16>(c, values.size(), name);
  cuda_must(cudaMemcpy(p, values.data(), values.size() * sizeof(bf16), cudaMemcpyHostToDevice), "copying to the device");
  return p;
}
template <class T, class Problem>
std::vector<double> download(const Case<Problem>& c) {
  std::vector<T> values(c.memory[0]->bytes / sizeof(T));
  cuda_must(cudaMemcpy(values.data(), c.memory[0]->data, c.memory[0]->bytes, cudaMemcpyDeviceToHost), "copying from the device");
  std::vector<double> result;
  for (const T v : values) result.push_back(to_acc(v));
  return result;
}

}  // namespace

void cuda_must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "error: {}: {}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

Memory::Memory(size_t n, const char* name) : bytes(n) {
  cuda_must(cudaMalloc(&data, bytes), "allocating device memory");
  target::name(data, bytes, name);
}
Memory::~Memory() {
  target::forget(data);
  cuda_must(cudaFree(data), "freeing device memory");
}

// In each row one value makes up most of the sum, each time at another place, in row 0 the last. A row without it would be far
// off.
Case<Rmsnorm> rmsnorm_case(int N, int C, bool expect) {
  Case<Rmsnorm> c{.shape = fmt::format("N {} C {}", N, C)};
  const size_t columns = static_cast<size_t>(C), count = static_cast<size_t>(N) * columns;
  std::vector<bf16> x = random_values(count, 1), w = random_values(columns, 2);
  for (size_t n = 0; n < static_cast<size_t>(N); n++) x[(n + 1) * columns - 1 - n * 37 % columns] = round_to_bf16(64.0f);
  c.problem = {add<bf16>(c, count, "out"), upload(c, x, "x"), upload(c, w, "w"), N, C};
  for (size_t n = 0; expect && n < static_cast<size_t>(N); n++) {
    double sum = 0;
    for (size_t i = 0; i < columns; i++) sum += std::pow(to_acc(x[n * columns + i]), 2);
    const double r = 1 / std::sqrt(sum / C + static_cast<double>(Rmsnorm::kEps));
    for (size_t i = 0; i < columns; i++) {
      c.expected.push_back(to_acc(x[n * columns + i]) * r * to_acc(w[i]));
      // Of the C + 1 roundings in a sum of squares the square root keeps half. Eight more follow, and the result is rounded to
      // bf16.
      c.tolerance.push_back(std::abs(c.expected.back()) * (kBf16Roundoff + (0.5 * C + 8) * kFloatRoundoff));
    }
  }
  return c;
}

Case<Matmul> matmul_case(int M, int N, int K, bool expect) {
  Case<Matmul> c{.shape = fmt::format("M {} N {} K {}", M, N, K)};
  const size_t rows = static_cast<size_t>(M), cols = static_cast<size_t>(N), inner = static_cast<size_t>(K);
  const std::vector<bf16> a = random_values(rows * inner, 3), b = random_values(cols * inner, 4);
  c.problem = {add<float>(c, rows * cols, "c"), upload(c, a, "a"), upload(c, b, "b"), M, N, K};
  for (size_t m = 0; expect && m < rows; m++) {
    for (size_t n = 0; n < cols; n++) {
      double sum = 0, absolute = 0;
      for (size_t k = 0; k < inner; k++) {
        const double product = static_cast<double>(to_acc(a[m * inner + k])) * to_acc(b[n * inner + k]);
        sum += product, absolute += std::abs(product);
      }
      c.expected.push_back(sum);
      c.tolerance.push_back(absolute * sum_error(K));
    }
  }
  return c;
}

// Each query points at a key, whose weight is then large: its own, the last one that it sees; the next one, which it must not
// see; or an earlier one.
Case<Attention> attention_case(int H, int N, int D, bool expect) {
  Case<Attention> c{.shape = fmt::format("H {} N {} D {}", H, N, D)};
  const size_t keys = static_cast<size_t>(N), columns = static_cast<size_t>(D), count = static_cast<size_t>(H) * keys * columns;
  std::vector<bf16> q = random_values(count, 5), k = random_values(count, 6), v = random_values(count, 7);
  for (size_t i = 0; i < count / columns; i++) {
    const size_t row = i % keys, head = i - row;
    const size_t aim = row % 4 == 1 ? std::min(row + 1, keys - 1) : row % 4 == 2 ? 7 * row % (row + 1) : row;
    for (size_t d = 0; d < columns; d++)
      q[i * columns + d] = round_to_bf16(to_acc(q[i * columns + d]) + 1.5f * to_acc(k[(head + aim) * columns + d]));
  }
  c.problem.out = add<bf16>(c, count, "out");
  c.problem.q = upload(c, q, "q"), c.problem.k = upload(c, k, "k"), c.problem.v = upload(c, v, "v");
  c.problem.scores = add<float>(c, static_cast<size_t>(H) * keys * keys, "scores");
  c.problem.H = H, c.problem.N = N, c.problem.D = D;
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  for (size_t i = 0; expect && i < count / columns; i++) {
    const size_t row = i % keys, head = i - row;
    std::vector<double> s(row + 1);
    double top = -INFINITY, score_error = 0, sum = 0;
    for (size_t j = 0; j <= row; j++) {
      double absolute = 0;
      for (size_t d = 0; d < columns; d++) {
        const double product = static_cast<double>(to_acc(q[i * columns + d])) * to_acc(k[(head + j) * columns + d]) * scale;
        s[j] += product, absolute += std::abs(product);
      }
      top = std::max(top, s[j]);
      // Scaling before or after, converting to powers of two, subtracting the maximum: 8 roundings of at most that size.
      score_error = std::max(score_error, absolute * (sum_error(D) + 8 * kFloatRoundoff));
    }
    for (double& x : s) sum += x = std::exp(x - top);
    // Errors of the weights: e^±score_error in numerator and denominator, 2^-20 for exp2f, and the rounding to bf16 for tensor
    // cores. Numerator and denominator each add N terms and are rescaled up to N times.
    const double weight_error = 2 * score_error + 0x1p-20 + kBf16Roundoff + 2 * (sum_error(N) + 2 * N * kFloatRoundoff);
    for (size_t d = 0; d < columns; d++) {
      double out = 0, absolute = 0;
      for (size_t j = 0; j <= row; j++) {
        const double term = s[j] / sum * to_acc(v[(head + j) * columns + d]);
        out += term, absolute += std::abs(term);
      }
      c.expected.push_back(out);
      c.tolerance.push_back(absolute * weight_error + (std::abs(out) + absolute * weight_error) * kBf16Roundoff);
    }
  }
  return c;
}

std::vector<double> result(const Case<Rmsnorm>& c) { return download<bf16>(c); }
std::vector<double> result(const Case<Matmul>& c) { return download<float>(c); }
std::vector<double> result(const Case<Attention>& c) { return download<bf16>(c); }

}  // namespace tll::ladder
