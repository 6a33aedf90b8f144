#include "src/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "src/base/check.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  size_t entries() const { return size_t(std::distance(fs::directory_iterator(dir), fs::directory_iterator())); }

  const TemporaryDirectory temporary;
  const fs::path& dir = temporary.path();
};

std::string as_text(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

TEST_F(FileTest, ReadsAndMapsTheSameBytes) {
  std::string content;
  for (int i = 0; i < 3'000'000; ++i) content += char(i * 7 + i / 251);
  write_file_atomic(dir / "a", content);
  EXPECT_EQ(read_file(dir / "a"), content);
  const MappedFile mapped(dir / "a");
  EXPECT_EQ(as_text(mapped.bytes()), content);
  mapped.forget(1, content.size() - 1);
  EXPECT_EQ(as_text(mapped.bytes()), content);
  write_file_atomic(dir / "empty", "");
  EXPECT_EQ(read_file(dir / "empty"), "");
  EXPECT_TRUE(MappedFile(dir / "empty").bytes().empty());
}

TEST_F(FileTest, MappingMoves) {
  write_file_atomic(dir / "a", "first");
  write_file_atomic(dir / "b", "second");
  MappedFile a(dir / "a"), b(dir / "b");
  a = std::move(b);
  EXPECT_EQ(as_text(a.bytes()), "second");
  const MappedFile c(std::move(a));
  EXPECT_EQ(as_text(c.bytes()), "second");
}

TEST_F(FileTest, SaysWhyItCannotRead) {
  for (auto open : {+[](const fs::path& path) { read_file(path); }, +[](const fs::path& path) { MappedFile mapped(path); }}) {
    EXPECT_EQ(message_of([&] { open(dir / "none"); }, kExitBadFile), (dir / "none").string() + ": no such file");
    EXPECT_EQ(message_of([&] { open(dir); }, kExitBadFile), dir.string() + ": expected a file, found a directory");
    EXPECT_NE(message_of([&] { open("/dev/zero"); }, kExitBadFile), "");
  }
  write_file_atomic(dir / "file", "x");
  EXPECT_NE(message_of([&] { read_file(dir / "file" / "below"); }, kExitBadFile), "");
}

TEST_F(FileTest, ReadsAPipe) {
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(dir / "pipe") << std::string(100'000, 'p'); });
  EXPECT_EQ(read_file(dir / "pipe"), std::string(100'000, 'p'));
  writer.join();
}

TEST_F(FileTest, DoesNotWaitForAPipeThatItCannotMap) {
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(says(message_of([&] { MappedFile mapped(dir / "pipe"); }, kExitBadFile), "expected a regular file"));
}

TEST_F(FileTest, NothingIsSeenBeforeCommit) {
  write_file_atomic(dir / "a", "old");
  {
    AtomicFile file(dir / "a");
    file.write("new");
    EXPECT_EQ(read_file(dir / "a"), "old");
    EXPECT_EQ(entries(), 2u);
  }
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_EQ(entries(), 1u);  // the temporary file is gone
  AtomicFile file(dir / "a");
  file.write("ne");
  file.write("w");
  file.commit();
  EXPECT_EQ(read_file(dir / "a"), "new");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, ADirectoryThatCameInBetweenIsNotReplaced) {
  {
    AtomicFile file(dir / "a");
    file.write("new");
    std::filesystem::create_directory(dir / "a");
    EXPECT_TRUE(says(message_of([&] { file.commit(); }, kExitFault), "cannot be renamed"));
  }
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, TwoWritersDoNotShareATemporaryFile) {
  AtomicFile one(dir / "a"), two(dir / "a");
  one.write("one");
  two.write("two");
  two.commit();
  EXPECT_EQ(read_file(dir / "a"), "two");
  one.commit();
  EXPECT_EQ(read_file(dir / "a"), "one");
}

TEST_F(FileTest, WritesThroughLinksAndDevices) {
  write_file_atomic(dir / "target", "old");
  fs::create_symlink("target", dir / "link");
  write_file_atomic(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_file(dir / "target"), "new");
  write_file_atomic("/dev/null", "nothing");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(FileTest, SaysWhyItCannotWrite) {
  EXPECT_NE(message_of([&] { write_file_atomic(dir / "no" / "a", "x"); }, kExitBadFile), "");
  EXPECT_NE(message_of([&] { write_file_atomic(dir, "x"); }, kExitBadFile), "");
  EXPECT_NE(message_of([&] { write_file_atomic("/dev/full", "x"); }, kExitFault), "");
}

TEST_F(FileTest, RelativePathsWork) {
  const fs::path before = fs::current_path();
  fs::current_path(dir);
  write_file_atomic("plain", "x");
  EXPECT_EQ(read_file("plain"), "x");
  fs::current_path(before);
  EXPECT_EQ(entries(), 1u);
}

}  // namespace
}  // namespace tll
