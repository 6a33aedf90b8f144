// What the emulator computes, against independent formulas: collectives, fragment layouts, number types, streams.
#include "emulator/emulator.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <string>

#include "dev/emulator/tests/collectives.h"
#include "dev/gpu/probe.h"
#include "kernels/numeric.h"

namespace emulator {
float mma_dot(const float* a, const float* b, float c, int inner, Operand type, MmaSum mode, int arch);
}

namespace {

template <class T>
struct DeviceArray {
  T* p = nullptr;
  size_t n;
  explicit DeviceArray(size_t count) : n(count) { EXPECT_EQ(cudaMalloc(&p, n * sizeof(T)), cudaSuccess); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(p, values.data(), n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(p); }
  std::vector<T> host() const {
    std::vector<T> values(n);
    EXPECT_EQ(cudaMemcpy(values.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
};

struct Emulator : testing::Test {
  const emulator::Options before = emulator::options();
  ~Emulator() override {
    for (const emulator::Report& r : emulator::take_reports()) ADD_FAILURE() << r.message;
    emulator::options() = before;
  }
};

// ---- collectives --------------------------------------------------------------------------------------------------------------
TEST_F(Emulator, ShufflesReadTheLaneOfTheirFormula) {
  DeviceArray<int> out(collectives::kShuffles);
  collectives::shuffles(out.p);
  const std::vector<int> got = out.host();
  size_t at = 0;
  for (int kind = 0; kind < 4; kind++)
    for (int width = 1; width <= 32; width *= 2)
      for (int operand = 0; operand < 64; operand++)
        for (int lane = 0; lane < 32; lane++) {
          const int base = lane / width * width, o = operand % 32;
          int from = base + o % width;
          if (kind == 1) from = lane - o >= base ? lane - o : lane;
          if (kind == 2) from = lane + o <= base + width - 1 ? lane + o : lane;
          if (kind == 3) from = (lane ^ o) <= base + width - 1 ? lane ^ o : lane;
          ASSERT_EQ(got[at++], from) << "kind " << kind << " width " << width << " operand " << operand << " lane " << lane;
        }
}

TEST_F(Emulator, VotesCountTheLanesOfTheMask) {
  for (const unsigned mask : {0xffffffffu, 0x0000ffffu, 0x80000001u, 0x00f0f000u})
    for (const unsigned predicates : {0u, 0xffffffffu, 0x5a5a1234u, mask}) {
      DeviceArray<unsigned> out(std::vector<unsigned>(96, 99u));
      collectives::votes(out.p, mask, predicates);
      const std::vector<unsigned> got = out.host();
      for (unsigned lane = 0; lane < 32; lane++) {
        const bool in = mask >> lane & 1u;
        EXPECT_EQ(got[lane], in ? predicates & mask : 99u);
        EXPECT_EQ(got[32 + lane], in ? (predicates & mask) != 0 : 99u);
        EXPECT_EQ(got[64 + lane], in ? (~predicates & mask) == 0 : 99u);
      }
    }
  for (int threshold : {0, 1, 50, 96}) {
    DeviceArray<int> out(3 * 96);
    collectives::block_votes(out.p, threshold);
    const std::vector<int> got = out.host();
    for (size_t i = 0; i < 96; i++) {
      EXPECT_EQ(got[3 * i], threshold);
      EXPECT_EQ(got[3 * i + 1] != 0, threshold == 96);
      EXPECT_EQ(got[3 * i + 2] != 0, threshold > 0);
    }
  }
}

// The additions have the order of the butterfly, whatever the order of the threads.
TEST_F(Emulator, ReductionsGiveEveryThreadTheSameBits) {
  std::mt19937 random(7);
  std::vector<float> in(256);
  for (float& x : in) x = std::normal_distribution<float>()(random);
  std::vector<float> warp(8);
  const auto butterfly = [](std::vector<float> v) {
    for (size_t d = v.size() / 2; d > 0; d /= 2)
      for (size_t i = 0; i < d; i++) v[i] += v[i + d];
    return v[0];
  };
  for (size_t w = 0; w < 8; w++)
    warp[w] = butterfly({in.begin() + static_cast<long>(32 * w), in.begin() + static_cast<long>(32 * w + 32)});
  std::vector<float> partial(32, 0.0f);
  std::copy(warp.begin(), warp.end(), partial.begin());
  const float sum = butterfly(partial), largest = *std::max_element(in.begin(), in.end());
  for (uint64_t seed = 1; seed <= 4; seed++) {
    emulator::options().seed = seed;
    DeviceArray<float> out(768), data(in);
    collectives::reductions(out.p, data.p);
    const std::vector<float> got = out.host();
    for (size_t i = 0; i < 256; i++) {
      EXPECT_EQ(got[i], sum);
      EXPECT_EQ(got[256 + i], largest);
      EXPECT_EQ(got[512 + i], warp[i / 32]);
    }
  }
}

TEST_F(Emulator, IntegerAtomicsCountEveryThread) {
  for (int workers : {1, 2}) {
    emulator::options().workers = workers;
    DeviceArray<int> sum(std::vector<int>{0}), largest(std::vector<int>{-1});
    DeviceArray<unsigned long long> bits(std::vector<unsigned long long>{0});
    collectives::atomics(sum.p, largest.p, bits.p, 10);
    EXPECT_EQ(sum.host()[0], 640 * 639 / 2);
    EXPECT_EQ(largest.host()[0], 639 | 5);
    EXPECT_EQ(bits.host()[0], ~0ull);
  }
}

// ---- tensor cores -------------------------------------------------------------------------------------------------------------
using tll::probe::Form;
using tll::probe::Place;
using Layout = std::vector<Place>;  // [lane · elements + element]

constexpr Form kForms[] = {Form::half_k16, Form::bf16_k16, Form::half_k8};
int inner_of(Form form) { return form == Form::half_k8 ? 8 : 16; }
int elements_of(char matrix, int inner) { return matrix == 'A' ? inner / 2 : matrix == 'B' ? inner / 4 : 4; }

Layout formula(char matrix, int inner) {
  const auto place = matrix == 'A' ? tll::probe::place_a : matrix == 'B' ? tll::probe::place_b : tll::probe::place_c;
  Layout layout;
  for (int lane = 0; lane < 32; lane++)
    for (int e = 0; e < elements_of(matrix, inner); e++) layout.push_back(place(lane, e));
  return layout;
}

// Integer matrices, with registers filled as the layouts say. The result is exact, so one wrong index shows.
void check_mma(Form form, const Layout& a, const Layout& b, const Layout& c) {
  std::mt19937 random(11);
  const auto small = [&] { return static_cast<float>(static_cast<int>(random() % 17) - 8); };
  std::vector<float> A(16 * 16), B(8 * 16), C(16 * 8);
  for (auto* m : {&A, &B, &C})
    for (float& x : *m) x = small();
  const auto bits = [&](float x) -> uint32_t {
    return form == Form::bf16_k16 ? tll::round_to_bf16(x).bits : tll::round_to_half(x).bits;
  };
  const auto pack = [&](const Layout& layout, const std::vector<float>& m) {
    std::vector<uint32_t> registers(layout.size() / 2);
    for (size_t i = 0; i < layout.size(); i++)
      registers[i / 2] |= bits(m[static_cast<size_t>(16 * layout[i].row + layout[i].column)]) << (16 * (i % 2));
    return registers;
  };
  std::vector<float> accumulators;
  for (const Place& f : c) accumulators.push_back(C[static_cast<size_t>(8 * f.row + f.column)]);
  const std::vector<float> got = tll::probe::mma(form, {pack(a, A), pack(b, B), accumulators});
  for (size_t i = 0; i < c.size(); i++) {
    const auto [row, column] = c[i];
    float expected = C[static_cast<size_t>(8 * row + column)];
    for (int k = 0; k < inner_of(form); k++)
      expected += A[static_cast<size_t>(16 * row + k)] * B[static_cast<size_t>(16 * column + k)];
    ASSERT_EQ(got[i], expected) << "row " << row << " column " << column;
  }
}

TEST_F(Emulator, MmaFragmentsFollowTheFormula) {
  for (int arch : {750, 800, 900})  // 750: two k8, and no bf16
    for (auto mode : {emulator::MmaSum::exact, emulator::MmaSum::hardware}) {
      emulator::options().arch = arch;
      emulator::options().mma = mode;
      for (Form form : kForms) {
        if (arch == 750 && form == Form::bf16_k16) continue;
        const int inner = inner_of(form);
        check_mma(form, formula('A', inner), formula('B', inner), formula('C', inner));
      }
    }
}

std::vector<std::vector<std::string>> read_csv(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields;
    std::stringstream stream(line);
    for (std::string field; std::getline(stream, field, ',');) fields.push_back(field);
    rows.push_back(fields);
  }
  return rows;
}
constexpr const char* kTables = "../shared/spec/";

TEST_F(Emulator, MmaFragmentsAgreeWithTheTable) {
  const auto rows = read_csv(std::string(kTables) + "mma-fragments.csv");
  if (rows.empty()) GTEST_SKIP() << kTables << "mma-fragments.csv is not there";
  const char* names[] = {"mma.m16n8k16.f32.f16", "mma.m16n8k16.f32.bf16", "mma.m16n8k8.f32.f16"};
  for (int type = 0; type < 3; type++) {
    Layout layouts[3];
    for (int m = 0; m < 3; m++) {
      const int elements = elements_of("ABC"[m], inner_of(kForms[type]));
      layouts[m].resize(static_cast<size_t>(32 * elements), {-1, -1});
      for (const auto& row : rows)
        if (row[0] == names[type] && row[1][0] == "ABC"[m])
          layouts[m].at(static_cast<size_t>(std::stoi(row[2]) * elements + std::stoi(row[3]))) = {std::stoi(row[4]),
                                                                                                  std::stoi(row[5])};
      for (const Place& f : layouts[m]) ASSERT_GE(f.row, 0) << names[type] << " lacks an element";
    }
    check_mma(kForms[type], layouts[0], layouts[1], layouts[2]);
  }
}

std::vector<uint32_t> run_ldmatrix(int matrices, bool transposed) {
  std::vector<uint16_t> values(256);
  std::iota(values.begin(), values.end(), uint16_t{0});
  std::vector<int> row(32);
  for (int lane = 0; lane < 32; lane++) row[static_cast<size_t>(lane)] = 8 * (lane % (8 * matrices));
  return tll::probe::ldmatrix(matrices, transposed, values, row);
}
uint32_t half_of(const std::vector<uint32_t>& r, int matrices, int lane, int half) {
  return r[static_cast<size_t>(lane * matrices + half / 2)] >> (16 * (half % 2)) & 0xffffu;
}

TEST_F(Emulator, LdmatrixFollowsTheFormula) {
  for (int matrices : {1, 2, 4})
    for (bool transposed : {false, true}) {
      const auto r = run_ldmatrix(matrices, transposed);
      for (int lane = 0; lane < 32; lane++)
        for (int half = 0; half < 2 * matrices; half++) {
          const int g = lane >> 2, c = 2 * (lane & 3) + half % 2,
                    position = 64 * (half / 2) + (transposed ? 8 * c + g : 8 * g + c);
          ASSERT_EQ(half_of(r, matrices, lane, half), static_cast<uint32_t>(position));
        }
    }
}

TEST_F(Emulator, LdmatrixAgreesWithTheTable) {
  const auto rows = read_csv(std::string(kTables) + "ldmatrix-fragments.csv");
  if (rows.empty()) GTEST_SKIP() << kTables << "ldmatrix-fragments.csv is not there";
  int compared = 0;
  for (int matrices : {1, 2, 4})
    for (bool transposed : {false, true}) {
      const auto r = run_ldmatrix(matrices, transposed);
      const std::string name = "ldmatrix.x" + std::to_string(matrices) + (transposed ? ".trans" : "");
      for (const auto& row : rows) {
        if (row[0] != name) continue;
        const int lane = std::stoi(row[2]), half = std::stoi(row[3]), position = std::stoi(row[4]);
        if (row[1] == "src") {
          ASSERT_EQ(8 * (lane % (8 * matrices)) + half, position);
        } else {
          ASSERT_EQ(half_of(r, matrices, lane, half), static_cast<uint32_t>(position));
        }
        compared++;
      }
    }
  EXPECT_EQ(compared, 2432);
}

TEST_F(Emulator, MmaCutsTowardZeroAsTheHardwareDoes) {
  for (const tll::probe::ProbeSum& v : tll::probe::kProbeSums) {
    float a[16] = {}, b[16] = {};
    for (const auto& [k, product] : v.products) {
      a[k] = product;
      b[k] = 1;
    }
    EXPECT_EQ(emulator::mma_dot(a, b, v.c, 16, emulator::Bf16, emulator::MmaSum::hardware, 800), v.before_sm90);
    EXPECT_EQ(emulator::mma_dot(a, b, v.c, 16, emulator::Bf16, emulator::MmaSum::hardware, 900), v.from_sm90);
  }
}

// ---- number types -------------------------------------------------------------------------------------------------------------
TEST_F(Emulator, HalfTypesConvertAsTheCpuCodeDoes) {
  for (uint32_t bits = 0; bits < 0x10000; bits++) {
    const auto u = static_cast<uint16_t>(bits);
    const float h = static_cast<float>(__ushort_as_half(u)), b = static_cast<float>(__ushort_as_bfloat16(u));
    EXPECT_TRUE(h == tll::to_acc(tll::half{u}) || (std::isnan(h) && std::isnan(tll::to_acc(tll::half{u})))) << bits;
    EXPECT_TRUE(b == tll::to_acc(tll::bf16{u}) || (std::isnan(b) && std::isnan(tll::to_acc(tll::bf16{u})))) << bits;
    EXPECT_EQ(__half_as_ushort(__float2half_rn(h)), std::isnan(h) ? 0x7fff : u);
    EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(b)), std::isnan(b) ? 0x7fff : u);
  }
  std::mt19937 random(3);
  for (int i = 0; i < 2000000; i++) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(x)) continue;
    ASSERT_EQ(__half_as_ushort(__float2half_rn(x)), tll::round_to_half(x).bits) << x;
    ASSERT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(x)), tll::round_to_bf16(x).bits) << x;
  }
}

// The product of two halves has 22 bits, and its sum with a half fits in 80. long double is exact where the exponents are near.
TEST_F(Emulator, FusedHalfArithmeticRoundsOnce) {
  std::mt19937 random(5);
  int differs = 0;
  for (int i = 0; i < 200000; i++) {
    const auto draw = [&] { return __ushort_as_half(static_cast<uint16_t>((random() & 0x83ffu) | (10 + random() % 10) << 10)); };
    const __half a = draw(), b = draw(), c = draw();
    const long double exact = static_cast<long double>(static_cast<float>(a)) * static_cast<float>(b) + static_cast<float>(c);
    const __half fused = __hfma(a, b, c);
    // No neighbour is nearer.
    const auto distance = [&](unsigned short bits) {
      return std::abs(static_cast<long double>(static_cast<float>(__ushort_as_half(bits))) - exact);
    };
    const unsigned short bits = __half_as_ushort(fused);
    ASSERT_LE(distance(bits), distance(static_cast<unsigned short>(bits + 1)));
    if (bits & 0x7fffu) {
      ASSERT_LE(distance(bits), distance(static_cast<unsigned short>(bits - 1)));
    }
    differs += __half_as_ushort(a * b + c) != bits;
  }
  EXPECT_GT(differs, 0);  // rounding twice gives other results
}

// ---- streams ------------------------------------------------------------------------------------------------------------------
TEST_F(Emulator, AsynchronousCopiesHappenWhenTheyAreWaitedFor) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  std::vector<float> from(1000, 1.0f), to(1000, 0.0f);
  DeviceArray<float> a(1000), b(1000);
  cudaMemcpyAsync(a.p, from.data(), 4000, cudaMemcpyHostToDevice, stream);
  collectives::scale(stream, b.p, a.p, 2.0f, 1000);
  cudaMemcpyAsync(to.data(), b.p, 4000, cudaMemcpyDeviceToHost, stream);
  EXPECT_TRUE(std::isnan(to[0]));  // nothing that could be taken for a result
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(to, std::vector<float>(1000, 2.0f));
  cudaStreamDestroy(stream);
}

TEST_F(Emulator, EventsOrderStreamsThatDoNotBlock) {
  for (uint64_t seed = 1; seed <= 8; seed++) {
    emulator::options().seed = seed;
    cudaStream_t one, two;
    cudaEvent_t event;
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    cudaEventCreate(&event);
    DeviceArray<float> a(std::vector<float>(64, 3.0f)), b(64), c(64);
    collectives::scale(one, b.p, a.p, 2.0f, 64);
    cudaEventRecord(event, one);
    EXPECT_EQ(cudaStreamWaitEvent(two, event), cudaSuccess);
    collectives::scale(two, c.p, b.p, 2.0f, 64);  // reads what nobody wrote, if it runs first
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
    EXPECT_EQ(c.host(), std::vector<float>(64, 12.0f));
    cudaEventDestroy(event);
    cudaStreamDestroy(one);
    cudaStreamDestroy(two);
  }
}

TEST_F(Emulator, TheDefaultStreamWaitsForBlockingStreams) {
  cudaStream_t stream;
  cudaStreamCreate(&stream);
  DeviceArray<float> a(std::vector<float>(64, 3.0f)), b(64);
  collectives::scale(stream, b.p, a.p, 2.0f, 64);
  collectives::scale(nullptr, a.p, b.p, 2.0f, 64);
  collectives::scale(stream, b.p, a.p, 2.0f, 64);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(b.host(), std::vector<float>(64, 24.0f));
  cudaStreamDestroy(stream);
}

TEST_F(Emulator, TellsWhatItIs) {
  emulator::options().arch = 860;
  int major = 0, minor = 0, shared = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  EXPECT_EQ(major, 8);
  EXPECT_EQ(minor, 6);
  EXPECT_EQ(shared, 99 * 1024);
  size_t free_before = 0, free_after = 0, total = 0;
  cudaMemGetInfo(&free_before, &total);
  const DeviceArray<float> a(1000);
  cudaMemGetInfo(&free_after, &total);
  EXPECT_EQ(free_before - free_after, 4000u);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, total), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
}

TEST_F(Emulator, EveryThreadPassesEveryBarrier) {
  const uint64_t switches = emulator::counters().switches;
  for (int workers : {1, 2}) {
    emulator::options().workers = workers;
    DeviceArray<int> out(4);
    collectives::barriers(out.p, 4, 8);
    for (int sum : out.host()) EXPECT_EQ(sum, 4 * 256);
  }
  EXPECT_GT(emulator::counters().switches - switches, 2u * 4 * 8 * 255);
}

}  // namespace
