#include "src/train/step_graphs.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/model/device_memory.h"

namespace tll {

StepGraphs::~StepGraphs() {
  for (const Graph& g : graphs_)
    if (g.graph) cuda_close_graph(device_, g.graph);
}

int StepGraphs::count() const {
  return static_cast<int>(std::count_if(graphs_.begin(), graphs_.end(), [](const Graph& g) { return g.graph != nullptr; }));
}

// A profile waits for the device after each op, which is not possible in a capture.
bool StepGraphs::wanted(const Device& device) { return !on_host(device) && !device.profile; }

void* StepGraphs::graph_of(const Device& device, const StepShape& shape, const std::function<void()>& body) {
  auto seen = std::find_if(graphs_.begin(), graphs_.end(), [&](const Graph& g) { return g.shape == shape; });
  if (seen == graphs_.end()) {
    if (graphs_.size() < kMost) graphs_.push_back({shape});
    return nullptr;  // runs directly the first time: libraries then load their kernels, which a capture forbids
  }
  if (seen->graph || seen->fails || bytes_ >= kMostBytes) return seen->graph;
  device_ = device;
  const int64_t free = cuda_free_memory(device);
  try {
    seen->graph = cuda_capture(device, body);
  } catch (const Error& error) {
    seen->fails = true;
    const std::string what = shape.part == StepPart::update ? "updates" : fmt::format("steps of {} tokens", shape.N);
    fmt::print(stderr, "note: {} run kernel by kernel, which is slower: they cannot be captured as a graph ({})\n", what,
               error.what());
  }
  bytes_ += std::max<int64_t>(0, free - cuda_free_memory(device));
  return seen->graph;
}

}  // namespace tll
