// The copy stream beside the device's stream: with the events in place results are right, also in a captured graph; without one
// of them the emulator reports a race.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/elementwise.h"
#include "src/model/device_memory.h"

namespace tll::test {
namespace {

constexpr int kValues = 512, kRounds = 3;
constexpr size_t kBytes = kValues * sizeof(float);

// Two chunks of pinned memory go through one buffer of the device, where 1 is added to each value.
struct CopyStream : testing::Test {
  OpenDevice device;
  Device copies;
  float *pinned = nullptr, *buffer = nullptr, *ones = nullptr;
  void* arrived = nullptr;  // events
  void* used = nullptr;
  bool wait_for_arrival = true, wait_for_use = true, wait_at_end = true;

  void SetUp() override {
    if (!cuda_emulated()) GTEST_SKIP() << "needs the emulator";
    device.open();
    copies = on_copy_stream(device);
    pinned = static_cast<float*>(cuda_allocate_host(device, 2 * kBytes));
    buffer = static_cast<float*>(cuda_allocate(device, kBytes));
    ones = static_cast<float*>(cuda_allocate(device, kBytes));
    arrived = cuda_open_event(device), used = cuda_open_event(device);
    std::fill_n(pinned, 2 * kValues, 0.0f);
    const std::vector<float> one(kValues, 1.0f);
    upload(device, ones, one.data(), kBytes);
    cuda_fill(device, buffer, 0, kBytes);
    cuda_synchronize(device);
  }
  void TearDown() override {
    if (!device.stream) return;
    faults();
    for (void* event : {arrived, used}) cuda_close_event(device, event);
    cuda_free_host(device, pinned);
    for (float* p : {buffer, ones}) cuda_free(device, p);
  }

  void round() const {
    cuda_record_event(device, used);
    cuda_come_after(copies, used);
    for (float* chunk : {pinned, pinned + kValues}) {
      copy_to_cuda(copies, buffer, chunk, kBytes);
      cuda_record_event(copies, arrived);
      if (wait_for_arrival) cuda_come_after(device, arrived);
      run(device, BiasForward<float>{.out = buffer, .bias = ones, .N = 1, .C = kValues});
      cuda_record_event(device, used);
      if (wait_for_use) cuda_come_after(copies, used);
      copy_from_cuda(copies, chunk, buffer, kBytes);
    }
    cuda_record_event(copies, arrived);
    if (wait_at_end) cuda_come_after(device, arrived);
  }
  std::string faults() const {
    for (const Device& d : {static_cast<const Device&>(device), copies}) {
      try {
        cuda_synchronize(d);
      } catch (const Error&) {  // a kernel that races fails
      }
    }
    return cuda_faults(device);
  }
  void expect_rounds(int rounds) const {
    for (int i = 0; i < 2 * kValues; i++) ASSERT_EQ(pinned[i], static_cast<float>(rounds)) << i;
  }
};

TEST_F(CopyStream, GivesTheSameWithAndWithoutAGraph) {
  for (int i = 0; i < kRounds; i++) round();
  EXPECT_EQ(faults(), "");
  expect_rounds(kRounds);
  void* graph = cuda_capture(device, [&] { round(); });
  expect_rounds(kRounds);
  for (int i = 0; i < kRounds; i++) cuda_launch_graph(device, graph);
  EXPECT_EQ(faults(), "");
  expect_rounds(2 * kRounds);
  cuda_close_graph(device, graph);
}

TEST_F(CopyStream, AMissingWaitIsAFault) {
  for (bool CopyStream::*wait : {&CopyStream::wait_for_arrival, &CopyStream::wait_for_use}) {
    this->*wait = false;
    round();
    EXPECT_NE(faults().find("nothing orders the two"), std::string::npos);
    void* graph = cuda_capture(device, [&] { round(); });
    cuda_launch_graph(device, graph);
    EXPECT_NE(faults().find("nothing orders the two"), std::string::npos);
    cuda_close_graph(device, graph);
    this->*wait = true;
  }
}

TEST_F(CopyStream, TheNextRoundMustComeAfterTheCopies) {
  wait_at_end = false;
  round();
  cuda_fill(device, buffer, 0, kBytes);
  EXPECT_NE(faults().find("nothing orders the two"), std::string::npos);
  EXPECT_THROW(cuda_capture(device, [&] { round(); }), Error);  // the copy stream has not joined
}

}  // namespace
}  // namespace tll::test
