#include "src/train/step_graphs.h"

#include <algorithm>

#include "src/model/device_memory.h"

namespace tll {

StepGraphs::~StepGraphs() {
  for (const auto& [shape, graph] : graphs_)
    if (graph) cuda_close_graph(device_, graph);
}

// A profile waits for the device after each op, which is not possible in a capture.
bool StepGraphs::wanted(const Device& device) { return !on_host(device) && !device.profile; }

void* StepGraphs::graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body) {
  auto seen = std::find_if(graphs_.begin(), graphs_.end(), [&](const auto& g) { return g.first == shape; });
  if (seen == graphs_.end()) {
    if (graphs_.size() < kMost) graphs_.emplace_back(shape, nullptr);
    return nullptr;  // runs directly the first time: libraries then load their kernels, which a capture forbids
  }
  if (!seen->second) device_ = device, seen->second = cuda_capture(device, body);
  return seen->second;
}

}  // namespace tll
