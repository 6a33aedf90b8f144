// What the parts of the simulated CUDA runtime share. Device memory is the host's. Streams have no life of their own: what is
// enqueued runs at once, or joins the graph that is captured.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <vector>

namespace ptx::runtime {

using Work = std::vector<std::function<void()>>;

struct State {
  std::map<std::byte*, size_t> allocations;  // bytes
  std::set<std::byte*> whole;                // allocations without named tensors
  Work* capturing = nullptr;
  bool failed = false;  // a kernel; the next wait says so, and nothing runs until then
};
State& state();

void enqueue(std::function<void()> work);
int architecture();  // 90, …, of the PTX

}  // namespace ptx::runtime
