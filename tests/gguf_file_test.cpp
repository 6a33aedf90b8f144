#include "src/files/gguf_file.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/gguf_bytes.h"
#include "tests/mutated_bytes.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

using std::string_literals::operator""s;

class GgufFileTest : public testing::Test {
 protected:
  static GgufBytes small() {
    GgufBytes g;
    g.text("general.architecture", "llama");
    g.u32("llama.block_count", 7);
    g.f32("llama.rope.freq_base", 1e5F);
    g.flag("tokenizer.ggml.add_bos_token", true);
    g.texts("tokenizer.ggml.tokens", {"a", "", "▁b"});
    g.i32s("tokenizer.ggml.token_type", {1, -2, 3});
    g.f32s("tokenizer.ggml.scores", {0.5F, -1});
    g.tensor("a", {2, 3}, GgufType::F32, raw_of(std::vector<float>{1, 2, 3, 4, 5, 6}));
    g.tensor("b.weight", {64}, GgufType::Q8_0, std::string(68, 'x'));
    return g;
  }
  GgufFile open(const std::string& bytes) const { return GgufFile(dir.write("m.gguf", bytes) / "m.gguf"); }
  std::string refusal(const std::string& bytes) const {
    return refusal_of([&] { open(bytes); });
  }
  std::string refusal(const GgufBytes& g) const { return refusal(g.bytes()); }

  TemporaryDirectory dir;
};

TEST_F(GgufFileTest, ReadsPairsAndTensors) {
  const GgufFile file = open(small().bytes());
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 7);
  EXPECT_EQ(file.number("llama.rope.freq_base"), 1e5);
  EXPECT_EQ(file.number("llama.block_count"), 7);
  EXPECT_EQ(file.flag("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(file.texts("tokenizer.ggml.tokens"), (std::vector<std::string_view>{"a", "", "▁b"}));
  EXPECT_EQ(file.integers("tokenizer.ggml.token_type"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file.floats("tokenizer.ggml.scores"), (std::vector<float>{0.5F, -1}));
  EXPECT_EQ(file.text("none"), std::nullopt);
  EXPECT_TRUE(file.texts("none").empty());
  ASSERT_EQ(file.tensors().size(), 2u);
  ASSERT_NE(file.find("a"), nullptr);
  EXPECT_EQ(file.find("a")->shape, (std::vector<int64_t>{2, 3}));
  float last = 0;
  std::memcpy(&last, file.bytes(*file.find("a")).data() + 20, 4);
  EXPECT_EQ(last, 6);
  EXPECT_EQ(file.find("b.weight")->type, GgufType::Q8_0);
  EXPECT_EQ(file.bytes(*file.find("b.weight"))[67], std::byte{'x'});
  EXPECT_EQ(file.find("b.weight")->begin % 32, 0u);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST_F(GgufFileTest, OtherAlignmentsAndVersion2) {
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufBytes g = small();
    g.alignment = alignment;
    g.version = 2;
    g.u32("general.alignment", alignment);
    const GgufFile file = open(g.bytes());
    EXPECT_EQ(file.find("b.weight")->begin % alignment, 0u);
    EXPECT_EQ(file.bytes(*file.find("b.weight"))[0], std::byte{'x'});
  }
}

TEST_F(GgufFileTest, ValuesOfOtherKindsAreRefused) {
  const GgufFile file = open(small().bytes());
  EXPECT_TRUE(says(refusal_of([&] { (void)file.text("llama.block_count"); }), "expected a string of UTF-8, found 7"));
  EXPECT_TRUE(
      says(refusal_of([&] { (void)file.integer("tokenizer.ggml.tokens"); }), "expected an integer, found an array of 3 string"));
  EXPECT_TRUE(says(refusal_of([&] { (void)file.integer("llama.rope.freq_base"); }), "expected an integer, found 100000"));
  EXPECT_TRUE(says(refusal_of([&] { (void)file.flag("llama.block_count"); }), "true or false"));
  EXPECT_TRUE(says(refusal_of([&] { (void)file.texts("tokenizer.ggml.scores"); }), "expected an array of strings"));
  EXPECT_TRUE(says(refusal_of([&] { (void)file.floats("tokenizer.ggml.token_type"); }), "expected an array of f32"));
  GgufBytes g = small();
  g.texts("tokenizer.ggml.tokens", {"a", "\xFF"});
  g.text("general.name", "\xC3");
  g.f32("llama.rope.freq_base", std::numeric_limits<float>::infinity());
  g.put("llama.block_count", gguf_raw(10u) + gguf_raw(~uint64_t{0}));
  const GgufFile bad = open(g.bytes());
  EXPECT_TRUE(says(refusal_of([&] { (void)bad.texts("tokenizer.ggml.tokens"); }), "string 1 is not UTF-8"));
  EXPECT_TRUE(says(refusal_of([&] { (void)bad.text("general.name"); }), "UTF-8"));
  EXPECT_TRUE(says(refusal_of([&] { (void)bad.number("llama.rope.freq_base"); }), "finite"));
  EXPECT_TRUE(says(refusal_of([&] { (void)bad.integer("llama.block_count"); }), "an integer above 2^63"));
}

TEST_F(GgufFileTest, BadHeadersAreRefused) {
  EXPECT_TRUE(says(refusal("no"), "expected a GGUF file"));
  EXPECT_TRUE(says(refusal("GGUF"), "truncated"));
  EXPECT_TRUE(says(refusal("GGUF\0\0\0\3"s + std::string(16, '\0')), "other byte order"));
  EXPECT_TRUE(says(refusal("GGUF\1\0\0\0"s + std::string(16, '\0')), "version 1: expected 2 or 3; convert it again"));
  EXPECT_TRUE(says(refusal("GGUF\4\0\0\0"s + std::string(16, '\0')), "version 4"));
  EXPECT_TRUE(says(refusal("GGUF\3\0\0\0"s + gguf_raw(~uint64_t{0}) + gguf_raw(uint64_t{1})), "do not fit"));
  EXPECT_TRUE(says(refusal("GGUF\3\0\0\0"s + gguf_raw(uint64_t{0}) + gguf_raw(uint64_t{1} << 60)), "do not fit"));
}

TEST_F(GgufFileTest, BadPairsAreRefused) {
  const auto with = [&](const std::string& key, const std::string& value) {
    GgufBytes g = small();
    g.pairs.emplace_back(key, value);
    return refusal(g);
  };
  EXPECT_TRUE(says(with("", gguf_raw(7u) + "\1"), "a key"));
  EXPECT_TRUE(says(with("\xFF", gguf_raw(7u) + "\1"), "UTF-8"));
  EXPECT_TRUE(says(with("k", gguf_raw(13u)), "the type 13 is not known"));
  EXPECT_TRUE(says(with("k", gguf_raw(7u) + "\2"), "2 is neither true nor false"));
  EXPECT_TRUE(says(with("llama.block_count", gguf_raw(7u) + "\1"), "the key appears twice"));
  EXPECT_TRUE(says(with("k", gguf_raw(9u) + gguf_raw(9u) + gguf_raw(uint64_t{0})), "an array of arrays"));
  EXPECT_TRUE(says(with("k", gguf_raw(9u) + gguf_raw(5u) + gguf_raw(uint64_t{1} << 62)), "do not fit"));
  EXPECT_TRUE(says(with("k", gguf_raw(9u) + gguf_raw(8u) + gguf_raw(uint64_t{1}) + gguf_raw(uint64_t{1} << 63)), "does not fit"));
  EXPECT_TRUE(says(with("k", gguf_raw(8u) + gguf_raw(uint64_t{5000})), "does not fit"));
  for (const uint32_t alignment : {0u, 3u, 33u, 1u << 31}) {
    GgufBytes g = small();
    g.u32("general.alignment", alignment);
    EXPECT_TRUE(says(refusal(g), "a power of two"));
  }
}

TEST_F(GgufFileTest, BadTensorsAreRefused) {
  const auto with = [&](GgufBytes::Tensor tensor) {
    GgufBytes g = small();
    g.tensors.push_back(std::move(tensor));
    return refusal(g);
  };
  EXPECT_TRUE(says(with({"a", {1}, 0, "1234"}), "appears twice"));
  EXPECT_TRUE(says(with({"", {1}, 0, "1234"}), "a tensor's name"));
  EXPECT_TRUE(says(with({std::string(64, 'n'), {1}, 0, "1234"}), "1 to 63 bytes"));
  EXPECT_TRUE(says(with({"c", {}, 0, "1234"}), "1 to 4 dimensions, found 0"));
  EXPECT_TRUE(says(with({"c", {1, 1, 1, 1, 1}, 0, "1234"}), "found 5"));
  EXPECT_TRUE(says(with({"c", {0}, 0, ""}), "a size of 0"));
  EXPECT_TRUE(says(with({"c", {int64_t{1} << 62, 4}, 0, "1234"}), "does not fit"));
  EXPECT_TRUE(says(with({"c", {int64_t{1} << 20, 1 << 20}, 0, "1234"}), "does not fit"));
  EXPECT_TRUE(says(with({"c", {-1}, 0, "1234"}), "does not fit"));
  EXPECT_TRUE(says(with({"c", {32}, 23, "1234"}), "its type is IQ4_XS, which is not read; take a file of another quantisation"));
  EXPECT_TRUE(says(with({"c", {32}, 99, "1234"}), "its type is 99, which is not known"));
  EXPECT_TRUE(says(with({"c", {40}, 8, std::string(34, 'x')}), "no multiple of 32, the block of Q8_0"));
  EXPECT_TRUE(says(with({"c", {320}, 12, std::string(144, 'x')}), "no multiple of 256"));
  EXPECT_TRUE(says(with({"c", {32, 32}, 0, "1234"}), "truncated"));
  const std::string whole = small().bytes(), offset = gguf_raw(uint64_t{32});
  std::string hole = whole;
  hole[hole.rfind(offset, whole.size() - 128)] = 64;  // b.weight's, behind 24 bytes of a
  EXPECT_TRUE(says(refusal(hole), "a hole or an overlap"));
}

// The padding behind the last tensor may be missing, and nothing else.
TEST_F(GgufFileTest, EveryTruncationIsRefused) {
  const std::string whole = small().bytes();
  const size_t least = whole.size() - (96 - 68);
  EXPECT_NO_THROW(open(whole.substr(0, least)));
  for (size_t size = 0; size < least; size++) EXPECT_NE(refusal(whole.substr(0, size)), "") << size;
}

TEST_F(GgufFileTest, AnyDamageIsReadOrRefused) {
  std::mt19937 random(3);
  const std::vector<Edit> edits = {[&](std::string& b, size_t at) { b[at] = static_cast<char>(random()); },
                                   [&](std::string& b, size_t at) { b[at] = "\0\1\x7F\xFF"[random() % 4]; },
                                   [](std::string& b, size_t at) { b.erase(at, 1); },
                                   [](std::string& b, size_t at) { b.insert(at, 8, '\0'); }};
  const std::string whole = small().bytes();
  int read = 0;
  for (int i = 0; i < 3000; i++) {
    const std::string bytes = mutated(whole, random, 3, edits);
    read += message_of([&] {
              const GgufFile file = open(bytes);
              size_t size = 0;
              for (const GgufTensor& t : file.tensors()) size += file.bytes(t).size();
              ASSERT_LE(size, bytes.size());
              for (const std::string_view key : file.keys()) EXPECT_LT(file.shown(key).size(), 500u);
            }) == "";
  }
  EXPECT_GT(read, 100);
  EXPECT_LT(read, 2900);
}

}  // namespace
}  // namespace tll
