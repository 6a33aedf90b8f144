// Checkpoints: what was written is read back, damage of any file is found before it is believed, other settings are refused.
#include "src/train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <new>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/files/safetensors.h"
#include "src/model/device_memory.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  // AdamW's state of three values.
  static std::vector<StateTensor> state(float* m, float* v) { return {{"m", DType::f32, 3, m}, {"v", DType::f32, 3, v}}; }
  void write(int64_t step, const std::string& run = "a") const {
    const RunPosition position{run, {step, step - 1, 1}, {42, 3, 17}, settings_, {2, 0.1, 1, 4}};
    float m[] = {1, 2, 3}, v[] = {4, 5, 6};
    write_checkpoint(output_, position, Device{}, state(m, v),
                     [](const fs::path& directory) { write_file_atomic(directory / "values", "1234"); });
  }
  // The message that the checkpoint is refused with; empty if it is accepted.
  std::string refusal(const Json& settings) const {
    return message_of([&] {
      check_checkpoint(output_ / "checkpoint-5");
      float m[3], v[3];
      const RunPosition position = read_position(output_ / "checkpoint-5");
      read_optimizer(output_ / "checkpoint-5", Device{}, state(m, v));
      if (const auto change = changed_setting(position, settings))
        bad_file("{} was {} and is {} now", change->name, change->then, change->now);
    });
  }

  const TemporaryDirectory output_;
  const Json settings_ = {{"lr", 1e-3}, {"seed", 42}, {"adapters", {{0, "q_proj", 4, 0.5}}}};
};

TEST_F(CheckpointTest, ReadsWhatItWrote) {
  write(5);
  check_checkpoint(output_ / "checkpoint-5");
  float m[3], v[3];
  const RunPosition p = read_position(output_ / "checkpoint-5");
  read_optimizer(output_ / "checkpoint-5", Device{}, state(m, v));
  EXPECT_EQ(p.run, "a");
  EXPECT_EQ(p.settings, settings_);
  EXPECT_EQ(std::vector(m, m + 3), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(std::vector(v, v + 3), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(p.trainer.step, 5);
  EXPECT_EQ(p.trainer.updates, 4);
  EXPECT_EQ(p.trainer.skipped_in_a_row, 1);
  EXPECT_EQ(p.loader, (LoaderState{42, 3, 17}));
  EXPECT_EQ(p.best.step, 2);
  EXPECT_EQ(p.best.loss, 0.1) << "every bit of it";
  EXPECT_EQ(p.best.without_better, 1);
  EXPECT_EQ(p.best.evaluated, 4);
}

// The host has no room for two of the device's tensors.
TEST_F(CheckpointTest, CopiesTheDevicesStateInPieces) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  OpenDevice device;
  device.open();
  constexpr int64_t kCount = 8 << 20;
  std::vector<StateTensor> state = {{"m", DType::f32, kCount, nullptr}, {"v", DType::f32, kCount, nullptr}};
  for (StateTensor& t : state) {
    t.data = cuda_allocate(device, t.bytes());
    cuda_fill(device, t.data, t.name[0], t.bytes());
  }
  cuda_synchronize(device);
  std::ifstream statm("/proc/self/statm");
  int64_t pages[6] = {};  // the last: of private writable memory
  for (int64_t& n : pages) statm >> n;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_DATA, &before), 0);
  const rlimit tight{static_cast<rlim_t>(pages[5] * sysconf(_SC_PAGESIZE) + (40 << 20)), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_DATA, &tight), 0);
  const std::string failed = message_of([&] {
    try {
      write_checkpoint(output_, {"a", {5, 4, 0}, {42, 3, 17}, settings_}, device, state, [](const fs::path&) {});
    } catch (const std::bad_alloc&) {
      bad_file("no memory");
    }
  });
  setrlimit(RLIMIT_DATA, &before);
  EXPECT_EQ(failed, "");
  const SafetensorsFile file(output_ / "checkpoint-5/optimizer.safetensors");
  for (const StateTensor& t : state) {
    const auto data = file.bytes(t.name);
    EXPECT_EQ(data.size(), t.bytes());
    EXPECT_TRUE(std::all_of(data.begin(), data.end(), [&](std::byte b) { return b == std::byte(t.name[0]); }));
    cuda_free(device, t.data);
  }
}

TEST_F(CheckpointTest, FindsEveryFlippedBitAndEveryCut) {
  write(5);
  const fs::path directory = output_ / "checkpoint-5";
  ASSERT_EQ(refusal(settings_), "");
  for (const char* name : {"values", "optimizer.safetensors", "state.json"}) {
    const std::string whole = read_file(directory / name);
    for (size_t i = 0; i < whole.size(); i++) {
      std::string damaged = whole;
      damaged[i] ^= char(1 << (i % 8));
      std::ofstream(directory / name, std::ios::binary) << damaged;
      const bool blank = std::isspace(uint8_t(whole[i])) && std::isspace(uint8_t(damaged[i]));  // of the layout of state.json
      if (!blank) {
        EXPECT_NE(refusal(settings_), "") << name << " byte " << i;
      }
    }
    for (size_t size : {size_t(0), size_t(1), whole.size() / 2, whole.size() - 2}) {
      std::ofstream(directory / name, std::ios::binary) << whole.substr(0, size);
      EXPECT_NE(refusal(settings_), "") << name << " cut to " << size;
    }
    fs::remove(directory / name);
    EXPECT_NE(refusal(settings_), "") << name << " missing";
    std::ofstream(directory / name, std::ios::binary) << whole;
  }
  EXPECT_EQ(refusal(settings_), "");
}

TEST_F(CheckpointTest, NamesTheSettingThatDiffers) {
  write(5);
  Json other = settings_;
  other["lr"] = 2e-3;
  EXPECT_TRUE(says(refusal(other), "lr was 0.001 and is 0.002 now"));
  other = settings_;
  other["clip"] = 1;
  EXPECT_TRUE(says(refusal(other), "clip was not set"));
}

TEST_F(CheckpointTest, RefusesAStateThatNoRunWrote) {
  write(5);
  const fs::path file = output_ / "checkpoint-5/state.json";
  const Json written = Json::parse(read_file(file));
  const std::pair<Json, const char*> changes[] = {
      {{{"version", 1e308}}, "checkpoint version 1e+308"},
      {{{"step", 1e300}}, "\"step\": expected a whole number of at least 0, found 1e+300"},
      {{{"updates", -1}}, "\"updates\""},
      {{{"updates", 6}}, "step 5 with 6 updates cannot be"},
      {{{"skipped_in_a_row", "many"}}, "\"skipped_in_a_row\""},
      {{{"steady", INT64_MAX}}, "\"steady\""},
      {{{"loss_scale", "x"}}, "not the state of a checkpoint"},
      {{{"loss_scale", 0.5}}, "a loss scale of 0.5 cannot be"},
      {{{"loader", {{"row", 0.5}}}}, "\"row\""},
      {{{"loader", {{"epoch", INT64_MAX}}}}, "\"epoch\""},
      {{{"loader", {{"seed", -1}}}}, "\"seed\""},
      {{{"best", {{"step", 5}}}}, "a lowest loss of 0.1 in step 5, evaluated until step 4, cannot be"},
      {{{"best", {{"evaluated", 6}}}}, "cannot be"},
      {{{"best", {{"loss", nullptr}}}}, "not the state of a checkpoint"},
      {{{"best", nullptr}}, "not the state of a checkpoint"},
      {{{"settings", 3}}, "the settings are not an object"},
      {{{"run", nullptr}}, "not the state of a checkpoint"},
      {{{"xxh3_64", {{"a\nb", "0"}}}}, "is not a file name"},
      {{{"xxh3_64", {{std::string(5000, 'a'), "0"}}}}, "is not a file name"},
  };
  for (const auto& [change, expected] : changes) {
    Json state = written;
    state.merge_patch(change);
    state.erase("xxh3_64_of_this");
    const std::string text = state.dump();
    state["xxh3_64_of_this"] = fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
    std::ofstream(file) << state;
    const std::string message = refusal(settings_);
    EXPECT_TRUE(says(message, expected)) << change;
    EXPECT_LT(message.size(), 400u) << change;
  }
}

TEST_F(CheckpointTest, ADamagedStateIsOfNoRun) {
  write(5);
  std::ofstream(output_ / "checkpoint-5/state.json") << "{";
  ASSERT_EQ(checkpoints(output_).size(), 1u);
  EXPECT_EQ(checkpoints(output_)[0].run, "");
}

TEST_F(CheckpointTest, TheOptimizersStateMustFit) {
  write(5);
  float values[4];
  for (const StateTensor& other : {StateTensor{"m", DType::f32, 4, values}, StateTensor{"w", DType::f32, 3, values},
                                   StateTensor{"m", DType::u8, 12, values}})
    EXPECT_TRUE(says(message_of([&] { read_optimizer(output_ / "checkpoint-5", Device{}, {other}); }),
                     fmt::format("expected {} of {} values in {}", other.name, other.count, dtype_name(other.dtype))));
}

TEST_F(CheckpointTest, ALongSettingIsShownInShort) {
  const RunPosition position{"a", {5, 4, 1}, {42, 3, 17}, {{"adapters", std::vector<int>(10000, 7)}}};
  const auto change = changed_setting(position, {{"adapters", std::vector<int>(10000, 8)}});
  ASSERT_TRUE(change);
  EXPECT_TRUE(change->then.starts_with("[7,7,") && change->now.starts_with("[8,8,"));
  EXPECT_LT(change->then.size() + change->now.size(), 300u);
}

TEST_F(CheckpointTest, TheNewestIsByNumber) {
  EXPECT_FALSE(newest_checkpoint(output_));
  EXPECT_FALSE(newest_checkpoint(output_ / "none"));
  for (const int64_t step : {9, 10, 100, 20}) write(step);
  fs::create_directories(output_ / "checkpoint-999x");
  fs::create_directories(output_ / ".checkpoint-1000.tmp");
  EXPECT_EQ(newest_checkpoint(output_)->path, output_ / "checkpoint-100");
  remove_unfinished_files(output_);
  EXPECT_FALSE(fs::exists(output_ / ".checkpoint-1000.tmp"));
  remove_old_checkpoints(output_, 2, "a");
  EXPECT_FALSE(fs::exists(output_ / "checkpoint-9") || fs::exists(output_ / "checkpoint-10"));
  EXPECT_TRUE(fs::exists(output_ / "checkpoint-20") && fs::exists(output_ / "checkpoint-100"));
}

TEST_F(CheckpointTest, ACheckpointIsOfOneRun) {
  for (const int64_t step : {5, 10}) write(step);
  for (const int64_t step : {3, 20, 30}) write(step, "b");
  EXPECT_EQ(newest_checkpoint(output_, "a")->step, 10);
  EXPECT_EQ(newest_checkpoint(output_, "b")->step, 30);
  EXPECT_FALSE(newest_checkpoint(output_, "c"));
  remove_old_checkpoints(output_, 1, "b");
  std::vector<int64_t> left;
  for (const CheckpointEntry& c : checkpoints(output_)) left.push_back(c.step);
  EXPECT_EQ(left, (std::vector<int64_t>{5, 10, 30}));
}

TEST_F(CheckpointTest, WhatCannotBeWrittenLeavesNothing) {
  write(5);
  const std::string before = read_file(output_ / "checkpoint-5/state.json");
  const RunPosition position{"a", {5, 4, 1}, {42, 3, 17}, settings_};
  float m[3], v[3];
  EXPECT_THROW(write_checkpoint(output_, position, Device{}, state(m, v),
                                [](const fs::path& directory) {
                                  write_file_atomic(directory / "values", "half");
                                  fail(kExitFault, "no space left");
                                }),
               Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(output_.path()), fs::directory_iterator()), 1);
  EXPECT_EQ(read_file(output_ / "checkpoint-5/state.json"), before);
}

TEST_F(CheckpointTest, OneWriterADirectory) {
  {
    const OutputLock lock(output_);
    EXPECT_THROW(OutputLock second(output_), Error);
  }
  const OutputLock third(output_);
}

}  // namespace
}  // namespace tll
