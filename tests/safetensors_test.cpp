#include "src/files/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <fstream>
#include <random>

#include "src/base/check.h"
#include "tests/mutated_bytes.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; i++) bytes += char(value >> (8 * i));
  return bytes;
}

// A file with this header and that many bytes of data.
std::string file_of(const std::string& header, size_t data) {
  return little_endian(header.size()) + header + std::string(data, 'd');
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, uint64_t begin, uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

class SafetensorsTest : public testing::Test {
 protected:
  // The message that a file with these bytes is refused with; empty if it is accepted.
  std::string refusal(const std::string& bytes) const {
    std::ofstream(path, std::ios::binary) << bytes;
    const std::string message = message_of([&] { SafetensorsFile file(path); });
    EXPECT_TRUE(message.empty() || message.starts_with(path.string())) << message;
    return message;
  }
  // Refused, and the message says `why`.
  void expect_refused(const std::string& bytes, const std::string& why) const { EXPECT_TRUE(says(refusal(bytes), why)); }

  const TemporaryDirectory dir;
  const fs::path path = dir / "f.safetensors";
};

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST_F(SafetensorsTest, ReadsWhatItSays) {
  write_file_atomic(path, file_of("{" + entry("b", "F32", "[2,1]", 3, 11) + "," + entry("a", "U8", "[3]", 0, 3) + "} ", 11));
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");  // in the order of the data
  const TensorInfo* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, FileDtype::F32);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(file.bytes("b").size(), 8u);
  EXPECT_EQ(file.bytes("b").data() - file.bytes("a").data(), 3);  // not aligned, and that is allowed
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_THROW(file.bytes("c"), Error);
}

TEST_F(SafetensorsTest, AcceptsWhatTheReferenceAccepts) {
  const std::string u8 = entry("a", "U8", "[1]", 0, 1);
  EXPECT_EQ(refusal(file_of("{}", 0)), "");
  EXPECT_EQ(refusal(file_of(" \n\t{} \r\n", 0)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F32", "[]", 0, 4) + "}", 4)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("z", "F32", "[0]", 1, 1) + "," + u8 + "}", 1)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("z", "F32", "[5,0]", 0, 0) + "," + u8 + "}", 1)), "");  // sorted by begin and end
  EXPECT_EQ(refusal(file_of("{" + entry("z", "F32", "[0,1099511627776,1099511627776]", 0, 0) + "}", 0)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("", "U8", "[1,1,1,1,1,1,1,1,1,1]", 0, 1) + "}", 1)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("\\u00e4\\n\\ud83d\\ude00", "U8", "[1]", 0, 1) + "}", 1)), "");
  EXPECT_EQ(refusal(file_of("{\"__metadata__\":null," + u8 + "}", 1)), "");
  EXPECT_EQ(refusal(file_of("{\"__metadata__\":{}," + u8 + "}", 1)), "");
  EXPECT_EQ(refusal(file_of("{" + u8 + ",\"__metadata__\":{\"dtype\":\"x\",\"\":\"\"}}", 1)), "");
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F4", "[2]", 0, 1) + "}", 1)), "");
  for (const char* extra :
       {"1", "-1.5", "null", "true", "\"s\"", "[]", "{}", "[[1],{\"dtype\":2}]", "{\"shape\":[{}],\"x\":-0}"}) {
    const std::string with_extra = "{\"a\":{\"x\":" + std::string(extra) + ",\"dtype\":\"U8\",\"y\":" + extra +
                                   ",\"shape\":[1],\"data_offsets\":[0,1],\"z\":" + extra + "}}";
    EXPECT_EQ(refusal(file_of(with_extra, 1)), "") << extra;
  }
}

TEST_F(SafetensorsTest, RefusesBadLengths) {
  expect_refused("", "looks like an empty file");
  expect_refused("1234567", "too few");
  expect_refused(little_endian(100'000'001) + "{}", "is above");
  expect_refused(little_endian(UINT64_MAX) + "{}", "is above");
  expect_refused(little_endian(3) + "{}", "exceeds the file");
  expect_refused(little_endian(100'000'000) + "{}", "exceeds the file");
  expect_refused(little_endian(0), "zero bytes");
  expect_refused(little_endian(0) + "x", "expected JSON, found nothing");
  const std::string header = "{" + entry("a", "U8", "[4]", 0, 4) + "}";
  EXPECT_EQ(refusal(file_of(header, 4)), "");
  expect_refused(file_of(header, 3), "truncated");
  expect_refused(file_of(header, 5), "trailing bytes");
  expect_refused(file_of("{}", 1), "trailing bytes");
}

TEST_F(SafetensorsTest, SaysWhatAnotherFileIs) {
  using std::string_literals::operator""s;
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
                 "git-lfs pointer, not the file itself; expected "
                 "a safetensors file; run `git lfs pull`");
  expect_refused("version", "7 bytes are too few");
  expect_refused("{\"error\": \"no such file\"}", "a server's refusal");
  expect_refused("not found, sorry", "looks like text");
  expect_refused("\x1F\x8B\x08\x08 compressed"s, "gzip");
  expect_refused("PK\x03\x04"s + std::string(22, 'x') + "\x10\0\0\0archive/data.pkl and more"s, "PyTorch file");
  expect_refused("<!doctype html><title>", "web page");
  expect_refused("GGUF\x03\0\0\0\x01\0\0\0"s, "GGUF");
  expect_refused("../../blobs/0123456789abcdef", "symbolic link");
  expect_refused(std::string(5000, '\0'), "zero bytes");
  // The length of a header may begin with the signature of another format.
  const std::string header = "{" + entry("a", "U8", "[4]", 0, 4) + "}";
  EXPECT_EQ(refusal(file_of(header + std::string(0x88b1f - header.size(), ' '), 4)), "");
}

TEST_F(SafetensorsTest, RefusesBadHeaders) {
  const auto tensor = [](const std::string& body) { return file_of("{\"a\":{" + body + "}}", 1); };
  const std::string dtype = "\"dtype\":\"U8\"", shape = "\"shape\":[1]", offsets = "\"data_offsets\":[0,1]", c = ",";
  EXPECT_EQ(refusal(tensor(dtype + c + shape + c + offsets)), "");
  expect_refused(tensor(shape + c + offsets), "\"dtype\" is missing");
  expect_refused(tensor(dtype + c + offsets), "\"shape\" is missing");
  expect_refused(tensor(dtype + c + shape), "\"data_offsets\" is missing");
  expect_refused(tensor(""), "missing");
  expect_refused(tensor(dtype + c + dtype + c + shape + c + offsets), "\"dtype\" appears twice");
  expect_refused(tensor(dtype + c + shape + c + shape + c + offsets), "\"shape\" appears twice");
  expect_refused(tensor(dtype + c + shape + c + offsets + c + offsets), "\"data_offsets\" appears twice");
  for (const char* size : {"-1", "-0", "1.0", "1e0", "18446744073709551616", "\"1\"", "null", "true", "[1]", "{}"}) {
    expect_refused(tensor(dtype + c + offsets + ",\"shape\":[" + size + "]"), "tensor \"a\": ");
    expect_refused(tensor(dtype + c + shape + ",\"data_offsets\":[0," + size + "]"), "tensor \"a\": ");
  }
  expect_refused(tensor(dtype + c + offsets + ",\"shape\":null"), "\"shape\": expected a list of integers, found null");
  for (const char* list : {"[]", "[0]", "[0,1,1]", "1", "null", "{}", "\"x\""})
    expect_refused(tensor(dtype + c + shape + ",\"data_offsets\":" + list), "tensor \"a\": ");
  for (const char* name : {"u8", "F33", "", "float32", "BF16 "})
    expect_refused(tensor(shape + c + offsets + ",\"dtype\":\"" + name + "\""), "unknown dtype");
  expect_refused(tensor(shape + c + offsets + ",\"dtype\":5"), "tensor \"a\": ");
  for (const char* value : {"1", "[]", "\"x\"", "null", "true"})
    expect_refused(file_of("{\"a\":" + std::string(value) + "}", 0), "expected an object with dtype, shape and data_offsets");
  for (const char* value : {"[]", "1", "\"x\"", "{\"k\":1}", "{\"k\":null}", "{\"k\":{}}", "{\"k\":[]}", "true"})
    expect_refused(file_of("{\"__metadata__\":" + std::string(value) + "}", 0), "__metadata__");
  expect_refused(file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "appears twice");
  expect_refused(file_of("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0), "appears twice");
  for (const char* text :
       {"[]", "1", "null", "\"x\"", "", "{", "{}}", "{}x", "{\"a\":}", "\xEF\xBB\xBF{}", "{\"\xff\":1}", "{\"\\ud800\":{}}"})
    EXPECT_NE(refusal(file_of(text, 0)), "") << text;
  expect_refused(file_of(std::string("{}\0\0", 4), 0), "NUL");
}

TEST_F(SafetensorsTest, RefusesBadPlaces) {
  const auto two = [](uint64_t b0, uint64_t e0, uint64_t b1, uint64_t e1) {
    return file_of("{" + entry("a", "U8", "[" + std::to_string(e0 - b0) + "]", b0, e0) + "," +
                       entry("b", "U8", "[" + std::to_string(e1 - b1) + "]", b1, e1) + "}",
                   4);
  };
  EXPECT_EQ(refusal(two(0, 2, 2, 4)), "");
  EXPECT_EQ(refusal(two(2, 4, 0, 2)), "");
  expect_refused(two(0, 2, 3, 4), "a hole or an overlap");
  expect_refused(two(0, 3, 2, 4), "a hole or an overlap");
  expect_refused(two(0, 4, 0, 4), "a hole or an overlap");
  expect_refused(two(1, 2, 2, 4), "a hole or an overlap");
  expect_refused(file_of("{" + entry("a", "U8", "[1]", 1, 0) + "}", 1), "a hole or an overlap");
  expect_refused(file_of("{" + entry("a", "U8", "[0]", 0, 0) + "," + entry("a", "U8", "[0]", 0, 0) + "}", 0), "appears twice");
  expect_refused(file_of("{" + entry("a", "F32", "[2]", 0, 4) + "}", 4), "takes 8 bytes");
  expect_refused(file_of("{" + entry("a", "F32", "[]", 0, 0) + "}", 0), "takes 4 bytes");
  expect_refused(file_of("{" + entry("a", "U8", "[1099511627776,1099511627776]", 0, 1) + "}", 1), "2^64 bits");
  expect_refused(file_of("{" + entry("a", "U8", "[1099511627776,1099511627776,0]", 0, 0) + "}", 0), "2^64 bits");
  expect_refused(file_of("{" + entry("a", "F64", "[2305843009213693952]", 0, 0) + "}", 0), "2^64 bits");
  expect_refused(file_of("{" + entry("a", "F4", "[1]", 0, 1) + "}", 1), "whole number of bytes");
  expect_refused(file_of("{" + entry("a", "F6_E2M3", "[2]", 0, 1) + "}", 1), "whole number of bytes");
  expect_refused(file_of("{" + entry("a", "U8", "[1]", 0, 18446744073709551615u) + "}", 1), "takes 1 bytes");
}

TEST_F(SafetensorsTest, DeepNestingAndManyEntries) {
  const std::string open(127 - 2, '['), close(127 - 2, ']');
  const auto nested = [&](const std::string& value) {
    return file_of("{\"a\":{\"x\":" + value + ",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
  };
  EXPECT_EQ(refusal(nested(open + close)), "");
  expect_refused(nested("[" + open + close + "]"), "nested deeper");
  EXPECT_NE(refusal(file_of(std::string(5'000'000, '['), 0)), "");

  constexpr int kEntries = 1'000'000;
  std::string header = "{";
  for (int i = 0; i < kEntries; i++) header += entry(fmt::format("t{}", i), "U8", "[1]", uint64_t(i), uint64_t(i) + 1) + ",";
  header.back() = '}';
  std::ofstream(path, std::ios::binary) << file_of(header, kEntries);
  const std::clock_t start = std::clock();
  const SafetensorsFile file(path);
  const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(file.tensors().size(), size_t(kEntries));
  ASSERT_NE(file.find("t999999"), nullptr);
  EXPECT_EQ(file.find("t999999")->begin, 999'999u);
  EXPECT_LT(seconds, 10) << "about 1 s of processor time in an optimised build";
  RecordProperty("seconds", std::to_string(seconds));
}

// What the reference library writes for these tensors with metadata {"format": "pt"}.
TEST_F(SafetensorsTest, WritesTheBytesOfTheReference) {
  const std::vector<float> f = {1, -2};
  const std::vector<uint16_t> h = {0x3f80};
  const std::vector<uint8_t> u = {7, 8, 9};
  write_safetensors(path, {{{"zeta", FileDtype::BF16, {1, 1}}, bytes_of(h)},
                           {{"b\n\"ä", FileDtype::F32, {2}}, bytes_of(f)},
                           {{"codes", FileDtype::U8, {3}}, bytes_of(u)},
                           {{"a", FileDtype::F16, {}}, bytes_of(h)},
                           {{"B", FileDtype::F32, {0, 4}}, {}}});
  const std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"B\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[0,0]},"
      "\"b\\n\\\"ä\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
      "\"zeta\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[8,10]},"
      "\"a\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[10,12]},"
      "\"codes\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[12,15]}}";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\xc0\x80\x3f\x80\x3f\x07\x08\x09", 15);
  EXPECT_EQ(read_file(path), little_endian(padded.size()) + padded + data);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(std::memcmp(file.bytes("b\n\"ä").data(), f.data(), 8), 0);
}

TEST_F(SafetensorsTest, WritesDtypesByDescendingWidth) {
  std::vector<TensorSpec> specs;
  for (int d = 0; d <= int(FileDtype::U64); d++) specs.push_back({fmt::format("t{}", d), FileDtype(d), {4}});
  SafetensorsWriter writer(path, specs, {});
  std::string names;
  for (const TensorInfo& t : writer.order()) {
    names += std::string(file_dtype_name(t.dtype)) + " ";
    writer.append(std::string(t.end - t.begin, 'x').data(), t.end - t.begin);
  }
  writer.commit();
  EXPECT_EQ(names,
            "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 "
            "F4 BOOL ");
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), specs.size());
  write_safetensors(path, {}, {});
  EXPECT_EQ(read_file(path), little_endian(8) + "{}      ");
}

TEST_F(SafetensorsTest, AnUnfinishedFileIsNotSeen) {
  { SafetensorsWriter writer(path, {{"a", FileDtype::U8, {2}}}); }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_DEATH(
      {
        SafetensorsWriter writer(path, {{"a", FileDtype::U8, {2}}});
        writer.commit();
      },
      "0 of 2 bytes");
}

// Whatever the bytes are: accepted or refused in one line, and an accepted file has every tensor inside it.
TEST_F(SafetensorsTest, MutatedFilesNeverCrash) {
  const std::string good = file_of("{\"__metadata__\":{\"format\":\"pt\"}," + entry("a", "F32", "[2,3]", 0, 24) + "," +
                                       entry("b", "BF16", "[2]", 24, 28) + "}",
                                   28);
  ASSERT_EQ(refusal(good), "");
  std::mt19937 random(1);
  const std::vector<Edit> edits = {
      [&](std::string& bytes, size_t at) { bytes[at] = char(random()); },
      [&](std::string& bytes, size_t at) { bytes[at] = "0123456789{}[],:\"-e. "[random() % 21]; },
      [&](std::string& bytes, size_t at) { bytes.erase(at, 1 + random() % 4); },
      [&](std::string& bytes, size_t at) { bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40)); },
      [](std::string& bytes, size_t at) { bytes.resize(at); }};
  int accepted = 0;
  for (int trial = 0; trial < 2000; trial++) {
    const std::string bytes = mutated(good, random, 3, edits);
    if (refusal(bytes) != "") continue;
    accepted++;
    const SafetensorsFile file(path);
    unsigned sum = 0;
    for (const TensorInfo& t : file.tensors())
      for (const std::byte b : file.bytes(t)) sum += unsigned(b);
    EXPECT_LE(sum, 255u * bytes.size());
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace tll
