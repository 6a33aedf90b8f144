// CUDA graphs of a training step, so that a step costs one launch.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "kernels/cuda_device.h"

namespace tll {

// The key of a graph: which part of a step it is, and the sizes that its launches depend on.
enum class StepPart : uint8_t { whole, micro_batch, update };
struct StepShape {
  StepPart part;
  int N = 0, docs = 0, target_rows = 0;
  bool operator==(const StepShape&) const = default;
};

// One graph for each shape that occurred at least twice. CUDA only. A shape that cannot be captured runs kernel by kernel, with
// the same results; so do all further ones once the graphs take kMostBytes of the device's memory.
class StepGraphs {
 public:
  static constexpr int64_t kMostBytes = 128 << 20;
  StepGraphs() = default;
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;
  // Runs the ops that body enqueues: as a graph if there is one for the shape, else directly.
  // `body` may be called again after a capture of it failed half-way: what it changes on the host it must set first.
  template <class Body>
  void run(const Device& device, const StepShape& shape, const Body& body) {
    if (void* graph = wanted(device) ? graph_of(device, shape, body) : nullptr)
      cuda_launch_graph(device, graph);
    else
      body();
  }
  int64_t bytes() const { return bytes_; }  // of the device's memory
  int count() const;                        // graphs

 private:
  static bool wanted(const Device& device);
  void* graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body);
  static constexpr size_t kMost = 24;  // further shapes are not captured
  struct Graph {
    StepShape shape;
    void* graph = nullptr;  // null: none yet
    bool fails = false;     // to be captured
  };
  Device device_;
  std::vector<Graph> graphs_;
  int64_t bytes_ = 0;
};

}  // namespace tll
