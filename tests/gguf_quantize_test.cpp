// Blocks of GGUF: the bits of gguf-py on stored values (dev/golden/make_gguf.py), and what does not fit.
#include "src/files/gguf_quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "src/files/safetensors.h"

namespace tll {
namespace {

std::vector<std::byte> quantized(GgufType type, const std::vector<float>& values, GgufFit& fit) {
  std::vector<std::byte> out(static_cast<size_t>(gguf_bytes(type, static_cast<int64_t>(values.size()))));
  gguf_quantize(type, values.data(), static_cast<int64_t>(values.size()), out.data(), fit);
  return out;
}

TEST(GgufQuantize, HasTheBitsOfTheReference) {
  const SafetensorsFile golden("tests/goldens/gguf/blocks.safetensors");
  const auto stored = golden.bytes("values");
  std::vector<float> values(stored.size() / sizeof(float));
  std::memcpy(values.data(), stored.data(), stored.size());
  ASSERT_GE(values.size(), 32u * 256);
  for (const GgufType type : {GgufType::Q8_0, GgufType::Q4_0, GgufType::F16, GgufType::BF16}) {
    const std::string name(gguf_type_row(type).name);
    GgufFit fit;
    const std::vector<std::byte> made = quantized(type, values, fit);
    const auto want = golden.bytes(name);
    ASSERT_EQ(made.size(), want.size()) << name;
    const auto bytes = static_cast<size_t>(gguf_type_row(type).bytes);
    for (size_t i = 0; i < made.size(); i += bytes)
      ASSERT_EQ(std::memcmp(&made[i], &want[i], bytes), 0) << name << ", block " << i / bytes;
    EXPECT_EQ(fit.not_finite, 0);
    EXPECT_EQ(fit.too_large, 0) << name;
  }
}

TEST(GgufQuantize, SaysWhatDoesNotFit) {
  std::vector<float> values(64, 0.5f);
  values[3] = 65520;  // rounds to infinity in fp16
  GgufFit f16, bf16, q8, q4, nan;
  quantized(GgufType::F16, values, f16);
  EXPECT_EQ(f16.too_large, 1);
  quantized(GgufType::BF16, values, bf16);
  EXPECT_EQ(bf16.too_large, 0);
  values[3] = 8 * 65520.0f, values[40] = 127 * 65520.0f;  // of Q4_0 both scales are too large, of Q8_0 the second
  quantized(GgufType::Q8_0, values, q8);
  EXPECT_EQ(q8.too_large, 1);
  quantized(GgufType::Q4_0, values, q4);
  EXPECT_EQ(q4.too_large, 2);
  values[7] = std::numeric_limits<float>::quiet_NaN(), values[50] = -std::numeric_limits<float>::infinity();
  quantized(GgufType::F32, values, nan);
  EXPECT_EQ(nan.not_finite, 2);
}

// Where 1/d overflows the references leave the block undefined; here it is 0.
TEST(GgufQuantize, ScalesBelowAllMeanZero) {
  GgufFit fit;
  const std::vector<std::byte> q8 = quantized(GgufType::Q8_0, std::vector<float>(32, 1e-38f), fit);
  EXPECT_EQ(q8, std::vector<std::byte>(34, std::byte{0}));
  const std::vector<std::byte> q4 = quantized(GgufType::Q4_0, std::vector<float>(32, 1e-40f), fit);
  EXPECT_EQ(q4[0], std::byte{0});
  EXPECT_EQ(static_cast<uint8_t>(q4[1]) & 0x7f, 0);
  for (size_t i = 2; i < q4.size(); i++) EXPECT_EQ(q4[i], std::byte{0x88});  // q = 8 means 0
}

}  // namespace
}  // namespace tll
