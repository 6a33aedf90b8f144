#include "src/files/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "src/files/safetensors.h"

namespace tll {
namespace {

// Values that gguf-py made (dev/golden/make_gguf_read.py). NaN is NaN, of whatever bits; all others are equal bit for bit.
TEST(GgufBlocks, EqualTheReference) {
  const SafetensorsFile golden("tests/goldens/gguf/read.safetensors");
  int64_t compared = 0;
  for (const GgufType type : {GgufType::Q4_0, GgufType::Q4_1, GgufType::Q5_0, GgufType::Q5_1, GgufType::Q8_0, GgufType::Q4_K,
                              GgufType::Q5_K, GgufType::Q6_K}) {
    const GgufTypeRow& row = gguf_type_row(type);
    const std::string name(row.name);
    const auto blocks = golden.bytes(name + ".blocks"), values = golden.bytes(name + ".values");
    const size_t count = blocks.size() / static_cast<size_t>(row.bytes);
    ASSERT_EQ(values.size(), count * static_cast<size_t>(row.block) * sizeof(float)) << name;
    for (size_t i = 0; i < count; i++) {
      float out[kLargestGgufBlock];
      gguf_dequantize_block(type, blocks.data() + i * static_cast<size_t>(row.bytes), out);
      for (size_t k = 0; k < static_cast<size_t>(row.block); k++, compared++) {
        float expected = 0;
        std::memcpy(&expected, values.data() + (i * static_cast<size_t>(row.block) + k) * sizeof(float), sizeof(float));
        if (std::isnan(expected))
          ASSERT_TRUE(std::isnan(out[k])) << name << " block " << i << " element " << k;
        else
          ASSERT_EQ(std::memcmp(&out[k], &expected, sizeof(float)), 0)
              << name << " block " << i << " element " << k << ": " << out[k] << " and " << expected;
      }
    }
  }
  EXPECT_EQ(compared, 5 * 48 * 32 + 3 * 12 * 256);
}

}  // namespace
}  // namespace tll
