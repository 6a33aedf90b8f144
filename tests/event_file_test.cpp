#include "src/report/event_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <csignal>
#include <ctime>
#include <map>
#include <vector>

#include "src/base/file.h"
#include "src/report/crc32c.h"
#include "tests/allocations.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

// RFC 3720, appendix B.4; "123456789" is the usual check value of the polynomial.
TEST(Crc32c, KnownVectors) {
  std::string ascending(32, '\0'), descending(32, '\0');
  for (int i = 0; i < 32; i++) ascending[size_t(i)] = char(i), descending[size_t(i)] = char(31 - i);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
  EXPECT_EQ(crc32c(descending), 0x113fdb5cu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
}

// A file that torch.utils.tensorboard 2.x wrote begins with a record of 0x48 bytes; after its length stand fe 92 48 9d.
TEST(Crc32c, MaskedAsInTensorBoardsFiles) { EXPECT_EQ(masked_crc32c(std::string_view("\x48\0\0\0\0\0\0\0", 8)), 0x9d4892feu); }

template <class Unsigned>
Unsigned take(std::string_view& bytes) {
  Unsigned value = 0;
  EXPECT_GE(bytes.size(), sizeof value);
  if (bytes.size() < sizeof value) return bytes = {}, 0;
  for (size_t i = 0; i < sizeof value; i++) value |= Unsigned(static_cast<unsigned char>(bytes[i])) << (8 * i);
  bytes.remove_prefix(sizeof value);
  return value;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    value |= uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  ADD_FAILURE() << "a varint without an end";
  return value;
}

// A message's fields by number. Numbers are in `bits`, what has a length in `bytes`.
struct Field {
  uint64_t bits = 0;
  std::string bytes;
};
std::multimap<uint64_t, Field> fields_of(std::string_view bytes) {
  std::multimap<uint64_t, Field> fields;
  while (!bytes.empty()) {
    const uint64_t key = take_varint(bytes);
    Field field;
    switch (key & 7) {
      case 0:
        field.bits = take_varint(bytes);
        break;
      case 1:
        field.bits = take<uint64_t>(bytes);
        break;
      case 2: {
        const uint64_t size = take_varint(bytes);
        EXPECT_LE(size, bytes.size());
        field.bytes = bytes.substr(0, size);
        bytes.remove_prefix(std::min<uint64_t>(size, bytes.size()));
        break;
      }
      case 5:
        field.bits = take<uint32_t>(bytes);
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
    fields.emplace(key >> 3, field);
  }
  return fields;
}
Field only(const std::multimap<uint64_t, Field>& fields, uint64_t number) {
  EXPECT_EQ(fields.count(number), 1u) << "field " << number;
  const auto found = fields.find(number);
  return found == fields.end() ? Field{} : found->second;
}

// The events of a file, after their checksums were found right.
std::vector<std::multimap<uint64_t, Field>> events_of(const fs::path& file) {
  const std::string text = read_file(file);
  std::string_view bytes = text;
  std::vector<std::multimap<uint64_t, Field>> events;
  while (!bytes.empty()) {
    const std::string_view head = bytes.substr(0, 8);
    const auto size = take<uint64_t>(bytes);
    EXPECT_EQ(take<uint32_t>(bytes), masked_crc32c(head));
    if (size > bytes.size()) return ADD_FAILURE() << "a record of " << size << " bytes", events;
    const std::string_view event = bytes.substr(0, size);
    bytes.remove_prefix(size);
    EXPECT_EQ(take<uint32_t>(bytes), masked_crc32c(event));
    events.push_back(fields_of(event));
  }
  return events;
}

float as_float(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

class EventFileTest : public testing::Test {
 protected:
  const TemporaryDirectory directory_;
};

TEST_F(EventFileTest, ScalarsByStep) {
  EventFile file(directory_ / "runs" / "one", std::nullopt);
  const std::string long_tag(300, 't');  // its length takes two bytes
  file.scalars(1, std::vector<Scalar>{{"train/loss", 2.5}, {"train/learning_rate", 2e-4}});
  file.scalars(int64_t{1} << 40, std::vector<Scalar>{{long_tag, -1e300}});
  ASSERT_EQ(file.failure(), "");
  EXPECT_NE(file.path().filename().string().find(".tfevents."), std::string::npos) << "readers know files by this";

  const auto events = events_of(file.path());  // while it is open: every event is on its way
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(only(events[0], 3).bytes, "brain.Event:2");
  EXPECT_NEAR(std::bit_cast<double>(only(events[0], 1).bits), double(std::time(nullptr)), 60);
  EXPECT_EQ(only(events[1], 2).bits, 1u);
  EXPECT_EQ(only(events[2], 2).bits, uint64_t{1} << 40);
  const auto summary = fields_of(only(events[1], 5).bytes);
  ASSERT_EQ(summary.count(1), 2u);
  const auto loss = fields_of(summary.find(1)->second.bytes), rate = fields_of(std::next(summary.find(1))->second.bytes);
  EXPECT_EQ(only(loss, 1).bytes, "train/loss");
  EXPECT_EQ(as_float(only(loss, 2).bits), 2.5f);
  EXPECT_EQ(only(rate, 1).bytes, "train/learning_rate");
  EXPECT_EQ(as_float(only(rate, 2).bits), 2e-4f);
  const auto far = fields_of(only(fields_of(only(events[2], 5).bytes), 1).bytes);
  EXPECT_EQ(only(far, 1).bytes, long_tag);
  EXPECT_EQ(as_float(only(far, 2).bits), -INFINITY);
}

TEST_F(EventFileTest, TextIsABlockOfCode) {
  EventFile file(directory_.path(), std::nullopt);
  file.text(7, "sample", "one\r\n<b>two</b>\n" + std::string(1000, 'x'));
  const auto events = events_of(file.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(only(events[1], 2).bits, 7u);
  const auto value = fields_of(only(fields_of(only(events[1], 5).bytes), 1).bytes);
  EXPECT_EQ(only(value, 1).bytes, "sample");
  const auto tensor = fields_of(only(value, 8).bytes);
  EXPECT_EQ(only(tensor, 1).bits, 7u) << "DT_STRING";
  EXPECT_EQ(only(tensor, 2).bytes, "") << "a scalar's shape";
  EXPECT_EQ(only(tensor, 8).bytes, "    one\n    <b>two</b>\n    " + std::string(1000, 'x'));
  EXPECT_EQ(only(fields_of(only(fields_of(only(value, 9).bytes), 1).bytes), 1).bytes, "text");
}

TEST_F(EventFileTest, AResumedRunHasAFileOfItsOwn) {
  const EventFile first(directory_.path(), std::nullopt);
  const EventFile second(directory_.path(), 8);
  ASSERT_LT(first.path().filename(), second.path().filename()) << "read in this order";
  EXPECT_EQ(events_of(first.path()).size(), 1u);
  const auto events = events_of(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(only(events[1], 2).bits, 8u);
  EXPECT_EQ(only(fields_of(only(events[1], 7).bytes), 1).bits, 1u) << "a session's start";
}

TEST_F(EventFileTest, AStepAllocatesNothing) {
  if (!allocations_are_counted()) GTEST_SKIP() << "the sanitizer's operator new is in place of the counting one";
  EventFile file(directory_.path(), std::nullopt);
  const Scalar scalars[] = {{"train/loss", 1}, {"train/grad_norm", 2}, {"train/learning_rate", 3}};
  file.scalars(int64_t{1} << 60, scalars);
  const int64_t before = allocations;
  for (int64_t step = 1; step < 1000; step++) file.scalars(step, scalars);
  EXPECT_EQ(allocations, before);
}

TEST_F(EventFileTest, WhatCannotBeWrittenEndsNothing) {
  write_file_atomic(directory_ / "file", "");
  EventFile nowhere(directory_ / "file" / "runs", std::nullopt);
  EXPECT_NE(nowhere.failure().find("file/runs"), std::string::npos) << nowhere.failure();
  nowhere.scalars(1, {});
  nowhere.text(1, "sample", "x");

  // A file that may grow no more, as on a full disk.
  EventFile full(directory_ / "full", std::nullopt);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{200, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const Scalar scalar[] = {{"train/loss", 1}};
  for (int64_t step = 1; step <= 20; step++) full.scalars(step, scalar);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(full.failure().find("File too large"), std::string::npos) << full.failure();
  const auto size = fs::file_size(full.path());
  full.scalars(21, scalar);
  EXPECT_EQ(fs::file_size(full.path()), size) << "nothing follows a record without its end";
}

}  // namespace
}  // namespace tll
