// CUDA graphs of a training step, so that it costs one launch.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "kernels/cuda_device.h"

namespace tll {

// What a captured part of a step depends on: which part it is, and the sizes that launches are made of.
enum class StepPart : uint8_t { whole, micro_batch, update };
struct StepShape {
  StepPart part;
  int N = 0, docs = 0, target_rows = 0;
  bool operator==(const StepShape&) const = default;
};

// Graphs of steps, one for each shape that occurred twice, so that a step costs one launch (CUDA alone).
class StepGraphs {
 public:
  StepGraphs() = default;
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;
  // Runs what body enqueues: as a graph where graphs are to be had, else as it is.
  template <class Body>
  void run(const Device& device, const StepShape& shape, const Body& body) {
    if (void* graph = wanted(device) ? graph_of(device, shape, body) : nullptr)
      cuda_launch_graph(device, graph);
    else
      body();
  }

 private:
  static bool wanted(const Device& device);
  void* graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body);
  static constexpr size_t kMost = 24;  // shapes beyond these are not captured: a graph takes memory of the device
  Device device_;
  std::vector<std::pair<StepShape, void*>> graphs_;  // null: it occurred once
};

}  // namespace tll
