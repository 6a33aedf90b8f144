// cp.async with a length, fmaxf, conversions, and the errors of elementary functions.
#include <algorithm>
#include <bit>
#include <climits>
#include <cmath>
#include <mutex>
#include <random>
#include <thread>

#include "dev/gpu/probe.h"
#include "kernels/numeric.h"
#include "src/base/parallel.h"

namespace tll::probe {
namespace {

Line check_copy(int bytes, bool null_source) {
  std::vector<uint8_t> expected(16, 0);
  for (int i = 0; i < bytes; i++) expected[static_cast<size_t>(i)] = static_cast<uint8_t>(i + 1);
  const std::vector<uint8_t> found = cp_async(bytes, null_source, 0);
  return line(fmt::format("4 cp.async n = {}", bytes), found == expected,
              fmt::format("{}{}, the rest zeros expected", hexadecimal(found), null_source ? " from a null source" : ""));
}

Line check_fmaxf() {
  const float nan = std::bit_cast<float>(0x7fc00001u), inf = INFINITY;
  const std::vector<float> a = {nan, 1, nan, 0.0f, -0.0f, -inf}, b = {1, nan, nan, -0.0f, 0.0f, nan};
  const std::vector<float> expected = {1, 1, nan, 0.0f, 0.0f, -inf};  // the number beside a NaN; of two zeros the positive one
  const std::vector<float> found = fmaxf_of(a, b);
  for (size_t i = 0; i < a.size(); i++) {
    const bool same = std::isnan(expected[i]) ? std::isnan(found[i])
                                              : std::bit_cast<uint32_t>(expected[i]) == std::bit_cast<uint32_t>(found[i]);
    // The emulator uses the host's fmaxf, which may return either zero.
    if (!same && !(is_emulated() && expected[i] == 0 && found[i] == 0))
      return line("4 fmaxf", false, fmt::format("fmaxf({}, {}) is {}, not {}", a[i], b[i], found[i], expected[i]));
  }
  return line("4 fmaxf", true, "the number beside a NaN, +0 beside -0");
}

// The expected conversions. Every NaN becomes 0x7fff.
uint16_t bf16_of(float x) { return std::isnan(x) ? uint16_t{0x7fff} : round_to_bf16(x).bits; }
uint16_t half_of(float x) { return std::isnan(x) ? uint16_t{0x7fff} : round_to_half(x).bits; }
int32_t int_of(float x) { return std::isnan(x) ? 0 : x >= 0x1p31f ? INT_MAX : x <= -0x1p31f ? INT_MIN : static_cast<int32_t>(x); }

struct Differences {
  int64_t count = 0;
  uint32_t first = UINT32_MAX;  // the smallest of the inputs' bits
  void add(uint32_t input) { count++, first = std::min(first, input); }
};

std::vector<Line> check_conversions(bool quick) {
  const uint32_t chunk = quick ? 1u << 10 : 1u << 24;
  const uint64_t step = quick ? (uint64_t{1} << 27) - 512 : chunk;  // quick: around 33 floats of all magnitudes
  Converter converter(chunk);
  Differences differences[3];
  uint64_t floats = 0;
  set_cpu_threads(static_cast<int>(std::thread::hardware_concurrency()));
  for (uint64_t begin = 0; begin + chunk <= uint64_t{1} << 32; begin += step, floats += chunk) {
    const uint32_t first = static_cast<uint32_t>(begin);
    const Conversion* found = converter.run(first);
    std::mutex adding;
    parallel_ranges(chunk, 8, [&](int64_t begin_piece, int64_t end_piece) {
      Differences mine[3];
      for (int64_t i = begin_piece; i < end_piece; i++) {
        const uint32_t bits = first + static_cast<uint32_t>(i);
        const float x = std::bit_cast<float>(bits);
        if (found[i].to_bf16 != bf16_of(x)) mine[0].add(bits);
        if (found[i].to_half != half_of(x)) mine[1].add(bits);
        if (found[i].to_int != int_of(x)) mine[2].add(bits);
      }
      const std::lock_guard lock(adding);
      for (int k = 0; k < 3; k++)
        differences[k].count += mine[k].count, differences[k].first = std::min(differences[k].first, mine[k].first);
    });
  }
  std::vector<Line> lines;
  const char* names[] = {"bf16", "half", "int32"};
  for (int k = 0; k < 3; k++) {
    std::string text = fmt::format("{} of {} floats differ", differences[k].count, floats);
    if (differences[k].count) text += fmt::format(", the first is {:#010x}", differences[k].first);
    lines.push_back(line(fmt::format("5 float to {}", names[k]), differences[k].count == 0, text));
  }
  return lines;
}

struct Function {
  double (*exact)(double);
  float low, high;
  double (*bound)(double x);  // in ulp, from NVIDIA's documentation
};
const Function kExact[] = {
    {[](double x) { return std::exp(x); }, -103, 88, [](double) { return 2.0; }},
    {[](double x) { return std::exp2(x); }, -149, 127, [](double) { return 2.0; }},
    {[](double x) { return std::log(x); }, 1e-37f, 1e37f, [](double) { return 1.0; }},
    {[](double x) { return 1 / std::sqrt(x); }, 1e-37f, 1e37f, [](double) { return 2.0; }},
    {[](double x) { return std::exp(x); }, -80, 80, [](double x) { return 2 + std::floor(1.173 * std::abs(x)); }},
};
static_assert(std::size(kExact) == std::size(kFunctions));

double ulp(double x) { return std::ldexp(1.0, std::max(x == 0 ? -126 : std::ilogb(x), -126) - 23); }

Line check_function(int function, int count) {
  const Function& f = kExact[function];
  std::mt19937 random(static_cast<unsigned>(17 + function));
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); i++) {
    // Half are uniform, half of all magnitudes: random bits until they are a number in range.
    std::uniform_real_distribution<float> uniform(f.low, f.high);
    if (i % 2) {
      x[i] = uniform(random);
    } else {
      do x[i] = std::bit_cast<float>(static_cast<uint32_t>(random()));
      while (!(x[i] >= f.low && x[i] <= f.high));
    }
  }
  const std::vector<float> y = function_of(function, x);
  double worst = 0, worst_share = 0;
  size_t at = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double exact = f.exact(static_cast<double>(x[i])), error = std::abs(y[i] - exact) / ulp(exact);
    // Plus half an ulp: the bounds are on the error beyond that of a correctly rounded result.
    const double share = std::isnan(y[i]) ? HUGE_VAL : error / (f.bound(x[i]) + 0.5);
    worst = std::max(worst, error);
    if (share > worst_share) worst_share = share, at = i;
  }
  return line(
      fmt::format("5 {}", kFunctions[function]), worst_share <= 1,
      fmt::format("at most {:.2f} ulp of {} arguments; {:.2f} of its bound, at {:.9g}", worst, count, worst_share, x[at]));
}

}  // namespace

std::vector<Line> check_numbers(const Settings& settings) {
  std::vector<Line> lines = {check_fmaxf()};
  for (const Line& l : check_conversions(settings.quick)) lines.push_back(l);
  for (int function = 0; function < static_cast<int>(std::size(kFunctions)); function++)
    lines.push_back(check_function(function, settings.quick ? 1 << 12 : 1 << 22));
  return lines;
}

std::vector<Line> check_copies(const Properties& p) {
  std::vector<Line> lines;
  for (int bytes : {16, 5, 0})
    if (p.arch >= 800) lines.push_back(check_copy(bytes, bytes == 0));
  return lines;
}

}  // namespace tll::probe
