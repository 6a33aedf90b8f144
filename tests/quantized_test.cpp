// Quantised weights bit for bit: published vectors, thresholds and ties; every device has the bytes of the first; a tensor in
// pieces has those of the whole; a product with a quantised matrix has those of a product with the dequantised one.
#include "kernels/quantized.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/cuda_device.h"
#include "src/base/parallel.h"
#include "tests/op_case.h"
#include "tests/sha256.h"

namespace tll {
namespace {

std::vector<Device> devices() {
  std::vector<Device> all;
  for (const test::TestDevice& device : test::devices_here())
    all.insert(all.end(), device.variants.begin(), device.variants.end());
  return all;
}

// A vector in memory of a device.
template <class T>
class Buffer {
 public:
  Buffer(const Device& device, std::vector<T> values) : device_(device), values_(std::move(values)) {
    if (device.kind == DeviceKind::cpu) return;
    memory_ = cuda_allocate(device, std::max<size_t>(1, bytes()));
    copy_to_cuda(device, memory_, values_.data(), bytes());
    cuda_synchronize(device);
    cuda_name_tensor(device, memory_, bytes(), "buffer");
  }
  Buffer(const Device& device, size_t count) : Buffer(device, std::vector<T>(count)) {}
  ~Buffer() {
    if (memory_) cuda_free(device_, memory_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return memory_ ? static_cast<T*>(memory_) : values_.data(); }
  std::vector<T> read() {
    if (memory_) {
      cuda_synchronize(device_);
      EXPECT_EQ(cuda_faults(device_), "");
      copy_from_cuda(device_, values_.data(), memory_, bytes());
      cuda_synchronize(device_);
    }
    return values_;
  }

 private:
  size_t bytes() const { return values_.size() * sizeof(T); }
  const Device& device_;
  std::vector<T> values_;
  void* memory_ = nullptr;
};

struct Encoded {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  int32_t not_finite = 0;
  auto operator<=>(const Encoded&) const = default;
};
template <class In>
Encoded encode(const Device& device, const std::vector<In>& x, WeightCode code = WeightCode::nf4, int block = 64,
               int32_t not_finite = 0) {
  const size_t n = x.size(), size = static_cast<size_t>(block);
  Buffer<In> in(device, x);
  Buffer<uint8_t> codes(device, code == WeightCode::int8 ? n : (n + 1) / 2);
  Buffer<float> scales(device, (n + size - 1) / size);
  Buffer<int32_t> bad(device, std::vector<int32_t>{not_finite});
  run(device,
      QuantizeBlocks{codes.data(), scales.data(), in.data(), bad.data(), static_cast<int64_t>(n), dtype_of<In>, code, block});
  return {codes.read(), scales.read(), bad.read()[0]};
}
std::string hex(const std::vector<uint8_t>& bytes) {
  std::string text;
  for (uint8_t b : bytes) text += fmt::format("{:02x}", b);
  return text;
}
template <class To>
std::vector<To> narrowed(const std::vector<float>& x) {
  std::vector<To> all;
  for (float v : x) all.push_back(from_acc<To>(v));
  return all;
}
// Normal, with outliers, and a block of zeros.
std::vector<float> weights(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) x[i] = i / 64 == 3 ? 0.0f : normal(random) * (i % 97 == 5 ? 40.0f : 1.0f);
  return x;
}

class QuantizedOn : public testing::TestWithParam<Device> {};
INSTANTIATE_TEST_SUITE_P(Devices, QuantizedOn, testing::ValuesIn(devices()), [](const auto& info) {
  return info.param.kind == DeviceKind::cuda ? std::string("on_cuda") : fmt::format("isa{}", static_cast<int>(info.param.isa));
});

// ---- the maps -----------------------------------------------------------------------------------------------------------------

TEST(DynamicMap, HasThePublishedBits) {
  float map[256];
  dynamic_map(true, map);
  EXPECT_EQ(test::sha256(map, sizeof map), "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
  EXPECT_EQ(map[0], -0.992968738079071f);
  EXPECT_EQ(map[127], 0);
  EXPECT_EQ(map[128], 5.500000384017767e-07f);
  EXPECT_EQ(map[255], 1);
  dynamic_map(false, map);
  EXPECT_EQ(test::sha256(map, sizeof map), "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398");
  EXPECT_EQ(map[1], 3.2500003044333425e-07f);
  EXPECT_EQ(map[254], 0.9964843988418579f);
}

TEST(Nf4Book, HasThePublishedBits) {
  const uint32_t bits[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
                             0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
  for (int i = 0; i < 16; i++) EXPECT_EQ(std::bit_cast<uint32_t>(kNf4Book[i]), bits[i]) << i;
}

// ---- encoding -----------------------------------------------------------------------------------------------------------------

TEST_P(QuantizedOn, Nf4HasThePublishedBytes) {
  std::vector<float> w(128);
  for (int i = 0; i < 128; i++) w[static_cast<size_t>(i)] = static_cast<float>((37 * i) % 101 - 50) / 32;
  const Encoded e = encode(GetParam(), w);
  EXPECT_EQ(hex(e.codes),
            "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c1"
            "6d18e3b04c17e29f3b05d17e2af4c06d18e2a04c16e29f3b05d17e29f3c05d18");
  EXPECT_EQ(test::sha256(e.codes.data(), e.codes.size()), "51826b7037ef58de159809d58aac7472f09fc502191aae32700b47509e8d6110");
  EXPECT_EQ(e.scales, (std::vector<float>{1.5625f, 1.5625f}));
  EXPECT_EQ(e.not_finite, 0);
  EXPECT_EQ(encode(GetParam(), narrowed<bf16>(w)), e);  // which holds these numbers exactly
  EXPECT_EQ(encode(GetParam(), narrowed<half>(w)), e);
}

TEST_P(QuantizedOn, Nf4ThresholdsBelongToTheLowerCode) {
  const uint32_t bits[15] = {0xbf591cd8, 0xbf1c5270, 0xbeeb8480, 0xbeadea76, 0xbe703cec, 0xbe0d38bc, 0xbd3a7871, 0x3d22faff,
                             0x3df64862, 0x3e5067e0, 0x3e9582d4, 0x3ec753f9, 0x3f006d04, 0x3f248daf, 0x3f5c89da};
  std::vector<float> x{1};
  for (uint32_t b : bits)
    for (float toward : {-2.0f, 0.0f, 2.0f}) {
      const float t = std::bit_cast<float>(b);
      x.push_back(toward == 0 ? t : std::nextafter(t, toward));
    }
  ASSERT_EQ(x.size(), 46u);
  const Encoded e = encode(GetParam(), x);
  const auto code = [&](size_t i) { return i % 2 ? e.codes[i / 2] & 15 : e.codes[i / 2] >> 4; };
  EXPECT_EQ(code(0), 15);
  for (size_t k = 0; k < 15; k++) {
    EXPECT_EQ(code(1 + 3 * k), static_cast<int>(k));
    EXPECT_EQ(code(2 + 3 * k), static_cast<int>(k)) << "a tie";
    EXPECT_EQ(code(3 + 3 * k), static_cast<int>(k) + 1);
  }
}

TEST_P(QuantizedOn, Nf4OfZerosAndOfWhatIsMissingIsTheCodeOfZero) {
  const Encoded zeros = encode(GetParam(), std::vector<float>{0.0f, -0.0f, 0.0f});
  EXPECT_EQ(hex(zeros.codes), "7777");
  EXPECT_EQ(zeros.scales, std::vector<float>{0});
  const Encoded odd = encode(GetParam(), std::vector<float>{1.0f, -1.0f, 1.0f});
  EXPECT_EQ(hex(odd.codes), "f0f7");
  // Below the floor of 1e-38 the inverse stays 1e38, so that these are small numbers.
  const Encoded tiny = encode(GetParam(), std::vector<float>{1e-40f, -1e-40f, 2e-39f, 0.0f});
  EXPECT_EQ(hex(tiny.codes), "7797");
  EXPECT_EQ(tiny.scales, std::vector<float>{2e-39f});
}

TEST_P(QuantizedOn, CountsWhatIsNotFiniteAndEncodesItAsZero) {
  std::vector<float> x = weights(200, 1), zeroed = x;
  for (size_t i : {0u, 63u, 64u, 199u}) x[i] = i % 2 ? NAN : -INFINITY, zeroed[i] = 0;
  for (WeightCode code : {WeightCode::nf4, WeightCode::int8}) {
    const Encoded e = encode(GetParam(), x, code, 64, 5), expected = encode(GetParam(), zeroed, code);
    EXPECT_EQ(e.not_finite, 9);
    EXPECT_EQ(e.codes, expected.codes);
    EXPECT_EQ(e.scales, expected.scales);
  }
}

TEST_P(QuantizedOn, Int8RoundsTiesToEven) {
  // With the largest 127 the scale is 1.
  const Encoded e =
      encode(GetParam(), std::vector<float>{127, -127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, 0.499f}, WeightCode::int8);
  EXPECT_EQ(e.scales, std::vector<float>{1});
  const std::vector<int8_t> expected{127, -127, 0, 2, 2, 0, -2, 126, 0};
  for (size_t i = 0; i < expected.size(); i++) EXPECT_EQ(static_cast<int8_t>(e.codes[i]), expected[i]) << i;
  const Encoded zeros = encode(GetParam(), std::vector<float>(5), WeightCode::int8);
  EXPECT_EQ(zeros.codes, std::vector<uint8_t>(5));
  // 1e-45 / 127 is no float: all codes are 0. 200 of the least floats: a scale of 2 of them, so that 100 is the code.
  EXPECT_EQ(encode(GetParam(), std::vector<float>{0x1p-149f}, WeightCode::int8).codes, std::vector<uint8_t>{0});
  EXPECT_EQ(encode(GetParam(), std::vector<float>{0x1p-149f * 200}, WeightCode::int8).codes, std::vector<uint8_t>{100});
}

TEST_P(QuantizedOn, HasTheBytesOfTheFirstDevice) {
  const Device first = devices().front();
  for (const size_t n : {1u, 31u, 4096u, 4097u, 9999u})
    for (int block : {32, 64, 512, 4096})
      for (WeightCode code : {WeightCode::nf4, WeightCode::int8}) {
        const std::vector<float> x = weights(n, n);
        EXPECT_EQ(encode(GetParam(), x, code, block), encode(first, x, code, block)) << n << " " << block;
        const std::vector<bf16> b = narrowed<bf16>(x);
        EXPECT_EQ(encode(GetParam(), b, code, block), encode(first, b, code, block)) << n << " " << block;
        const std::vector<half> h = narrowed<half>(x);
        EXPECT_EQ(encode(GetParam(), h, code, block), encode(first, h, code, block)) << n << " " << block;
      }
}

TEST_P(QuantizedOn, PiecesOfWholeBlocksGiveTheBytesOfTheWhole) {
  const std::vector<float> x = weights(3000, 2);
  for (WeightCode code : {WeightCode::nf4, WeightCode::int8}) {
    const Encoded whole = encode(GetParam(), x, code);
    Encoded joined;
    for (size_t begin = 0, blocks = 1; begin < x.size(); blocks = blocks * 3 % 17) {
      const size_t end = std::min(x.size(), begin + blocks * 64);
      const auto at = [&](size_t i) { return x.begin() + static_cast<ptrdiff_t>(i); };
      const Encoded piece = encode(GetParam(), std::vector<float>(at(begin), at(end)), code);
      joined.codes.insert(joined.codes.end(), piece.codes.begin(), piece.codes.end());
      joined.scales.insert(joined.scales.end(), piece.scales.begin(), piece.scales.end());
      begin = end;
    }
    EXPECT_EQ(joined, whole);
  }
}

// ---- nested scales ------------------------------------------------------------------------------------------------------------

struct NestedScales {
  std::vector<uint8_t> codes;
  std::vector<float> absmax, offset;
  auto operator<=>(const NestedScales&) const = default;
};
NestedScales encode_scales(const Device& device, const std::vector<float>& scales) {
  Buffer<float> in(device, scales), absmax(device, (scales.size() + 255) / 256), offset(device, 1), map(device, 256);
  std::vector<float> values(256);
  dynamic_map(true, values.data());
  Buffer<float> signed_map(device, values);
  Buffer<uint8_t> codes(device, scales.size());
  run(device, QuantizeScales{codes.data(), absmax.data(), offset.data(), in.data(), signed_map.data(),
                             static_cast<int64_t>(scales.size())});
  return {codes.read(), absmax.read(), offset.read()};
}

// Every midpoint of the map and its neighbours. Each has its negative beside it and each block a 1, so that the mean is 0 and the
// largest is 1.
TEST_P(QuantizedOn, ScalesTakeTheNearestCodeAndTheEvenOneOfTwo) {
  float map[256];
  dynamic_map(true, map);
  std::vector<float> x;
  std::vector<int> expected;
  const auto add = [&](float v, int code) {
    if (x.size() % 256 == 0) {
      for (float one : {1.0f, -1.0f}) x.push_back(one), expected.push_back(one > 0 ? 255 : 0);
    }
    x.push_back(v), expected.push_back(code);
    x.push_back(-v), expected.push_back(-1);  // what its code is, the map's other half says
  };
  for (int i = 0; i < 255; i++) {
    const float middle = 0.5f * (map[i] + map[i + 1]);
    add(middle, i % 2 ? i + 1 : i);
    add(std::nextafter(middle, -2.0f), i);
    add(std::nextafter(middle, 2.0f), i + 1);
    add(map[i], i);
  }
  while (x.size() % 256 != 0) add(0, 127);
  const NestedScales e = encode_scales(GetParam(), x);
  EXPECT_EQ(e.offset, std::vector<float>{0});
  EXPECT_EQ(e.absmax, std::vector<float>(x.size() / 256, 1.0f));
  for (size_t i = 0; i < x.size(); i++) {
    if (expected[i] >= 0) {
      ASSERT_EQ(e.codes[i], expected[i]) << i << ": " << x[i];
    }
  }
}

TEST_P(QuantizedOn, ScalesHaveTheBytesOfTheFirstDevice) {
  const Device first = devices().front();
  for (const size_t n : {1u, 2u, 100u, 256u, 257u, 1000u, 20000u}) {
    std::vector<float> x = weights(n, n + 5);
    for (float& v : x) v = std::abs(v);
    EXPECT_EQ(encode_scales(GetParam(), x), encode_scales(first, x)) << n;
  }
  const NestedScales alone = encode_scales(GetParam(), {0.3f});  // its own mean
  EXPECT_EQ(alone.codes, std::vector<uint8_t>{0});
  EXPECT_EQ(alone.absmax, std::vector<float>{0});
  EXPECT_EQ(alone.offset, std::vector<float>{0.3f});
}

// ---- products -----------------------------------------------------------------------------------------------------------------

// A matrix of nf4 with nested scales, int8 and a dense part.
struct Mixed {
  Mixed(const Device& device, int cols, int rows_nf4, int rows_int8, int rows_dense)
      : nf4(encode(device, weights(static_cast<size_t>(rows_nf4) * cols, 7))),
        int8(encode(device, weights(static_cast<size_t>(rows_int8) * cols, 8), WeightCode::int8)),
        nested(encode_scales(device, nf4.scales)),
        map(256),
        nf4_codes(device, nf4.codes),
        int8_codes(device, int8.codes),
        scale_codes(device, nested.codes),
        int8_scales(device, int8.scales),
        absmax(device, nested.absmax),
        offset(device, nested.offset),
        map_there(device, signed_map()),
        book(device, std::vector<float>(kNf4Book, kNf4Book + 16)),
        dense(device, narrowed<bf16>(weights(static_cast<size_t>(rows_dense) * cols, 9))) {
    w.parts[0] = {.rows = rows_nf4,
                  .codes = nf4_codes.data(),
                  .scale_codes = scale_codes.data(),
                  .nested_absmax = absmax.data(),
                  .nested_offset = offset.data(),
                  .nested_map = map_there.data(),
                  .book = book.data()};
    w.parts[1] = {.code = WeightCode::int8,
                  .first_row = rows_nf4,
                  .rows = rows_int8,
                  .codes = int8_codes.data(),
                  .scales = int8_scales.data()};
    w.parts[2] = {.code = WeightCode::dense, .first_row = rows_nf4 + rows_int8, .rows = rows_dense, .codes = dense.data()};
    w.part_count = 3, w.rows = rows_nf4 + rows_int8 + rows_dense, w.cols = cols;
  }
  static std::vector<float> signed_map() {
    std::vector<float> values(256);
    dynamic_map(true, values.data());
    return values;
  }
  Encoded nf4, int8;
  NestedScales nested;
  std::vector<float> map;
  Buffer<uint8_t> nf4_codes, int8_codes, scale_codes;
  Buffer<float> int8_scales, absmax, offset, map_there, book;
  Buffer<bf16> dense;
  QuantizedMatrix w;
};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& v) {
  std::vector<std::byte> all(v.size() * sizeof(T));
  if (!all.empty()) std::memcpy(all.data(), v.data(), all.size());
  return all;
}

// y = or += a · B by QuantizedMatmul; and by Matmul with what Dequantize gives, so many columns of the result at a time.
template <class T>
void expect_same_product(const Device& device, const QuantizedMatrix& w, int N, bool transposed, bool accumulate,
                         int64_t piece_size, int columns = 1 << 30) {
  const int cols = transposed ? w.rows : w.cols, inner = transposed ? w.cols : w.rows;
  const auto filled = [&](int rows, int columns, uint64_t seed) {
    return narrowed<T>(weights(static_cast<size_t>(rows) * columns, seed));
  };
  Buffer<T> a(device, filled(N, inner, 10)), y(device, filled(N, cols, 11)), expected(device, filled(N, cols, 11));
  const int64_t floats = device.kind == DeviceKind::cuda ? 1 << 16 : Matmul<float>::scratch_floats(2);
  Buffer<float> scratch(device, static_cast<size_t>(floats));
  Buffer<T> dense(device, static_cast<size_t>(w.rows) * w.cols), piece(device, static_cast<size_t>(piece_size) / sizeof(T));
  const QuantizedMatmul op{.out = matrix(y.data(), N, cols),
                           .a = matrix(a.data(), N, inner),
                           .w = w,
                           .transposed = transposed,
                           .accumulate = accumulate,
                           .scratch = {scratch.data(), floats},
                           .piece = piece_size ? piece.data() : nullptr,
                           .piece_size = piece_size};
  set_cpu_threads(device.threads);
  run(device, op);
  run(device, Dequantize{.out = matrix(dense.data(), w.rows, w.cols), .w = w});
  ConstMatrix b = matrix(dense.data(), w.rows, w.cols);
  std::vector<float> wide;  // without a piece sums are those of float operands, whatever the processor has
  if (device.kind == DeviceKind::cpu && !piece_size && N > 8) {
    for (T v : dense.read()) wide.push_back(to_acc(v));
    b.data = wide.data(), b.dtype = DType::f32;
  }
  if (transposed) b = b.t();
  for (int c = 0; c < cols; c += std::min(columns, cols)) {
    const int count = std::min(columns, cols - c);
    run(device, Matmul<float>{.out = matrix(expected.data(), N, cols).cols(c, count),
                              .a = op.a,
                              .b = b.cols(c, count),
                              .accumulate = accumulate,
                              .scratch = op.scratch});
  }
  EXPECT_EQ(bytes_of(y.read()), bytes_of(expected.read()))
      << N << " rows, " << (transposed ? "transposed, " : "") << dtype_name(dtype_of<T>) << ", piece " << piece_size;
}

TEST_P(QuantizedOn, ProductsAreThoseOfTheDequantisedMatrix) {
  const Device& device = GetParam();
  const bool cuda = device.kind == DeviceKind::cuda;
  for (const auto& [cols, nf4, int8, dense] : {std::tuple{72, 50, 30, 8}, {133, 7, 90, 41}}) {
    Mixed m(device, cols, nf4, int8, dense);
    const int64_t whole = static_cast<int64_t>(m.w.rows) * cols;
    for (bool transposed : {true, false})
      for (bool accumulate : {false, true})
        for (int N : {9, 40}) {
          expect_same_product<float>(device, m.w, N, transposed, accumulate, cuda ? whole * 4 : 0);
          expect_same_product<bf16>(device, m.w, N, transposed, accumulate, cuda ? whole * 2 : 0);
          expect_same_product<bf16>(device, m.w, N, transposed, accumulate, whole * 2);
          if (cuda) expect_same_product<half>(device, m.w, N, transposed, accumulate, whole * 2);
        }
    for (int N : {1, 8}) {
      expect_same_product<float>(device, m.w, N, true, N == 8, 0);
      expect_same_product<bf16>(device, m.w, N, true, N == 8, 0);
      if (cuda) expect_same_product<half>(device, m.w, N, true, N == 8, 0);
    }
  }
}

// One row or column of W at a time, and 128, though there would be room for a few more.
TEST_P(QuantizedOn, PiecesAreWholeTiles) {
  Mixed m(GetParam(), 140, 100, 60, 20);
  for (bool transposed : {true, false}) {
    const int64_t line = 2 * (transposed ? m.w.cols : m.w.rows);
    expect_same_product<bf16>(GetParam(), m.w, 9, transposed, true, line, 1);
    for (int64_t lines : {128, 131}) expect_same_product<bf16>(GetParam(), m.w, 9, transposed, true, lines * line, 128);
  }
}

TEST(PieceBytes, IsTheLargestMatrixOrEnoughOfIt) {
  const DeviceKind cuda = DeviceKind::cuda;
  EXPECT_EQ(QuantizedMatmul::piece_bytes(DeviceKind::cpu, DType::f32, 4096, 4096), 0);
  EXPECT_EQ(QuantizedMatmul::piece_bytes(DeviceKind::cpu, DType::bf16, 64, 32), cpu_has_bf16_matmul() ? 64 * 32 * 2 : 0);
  EXPECT_EQ(QuantizedMatmul::piece_bytes(cuda, DType::bf16, 960, 576), 960 * 576 * 2);
  EXPECT_EQ(QuantizedMatmul::piece_bytes(cuda, DType::f32, 960, 576), 960 * 576 * 4);
  EXPECT_EQ(QuantizedMatmul::piece_bytes(cuda, DType::bf16, 28672, 4096), QuantizedMatmul::kCudaPiece);
  EXPECT_EQ(QuantizedMatmul::piece_bytes(cuda, DType::bf16, 1 << 20, 4096), 128 * 2 << 20);  // 128 columns of it
}

}  // namespace
}  // namespace tll
