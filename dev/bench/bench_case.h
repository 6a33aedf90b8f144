// What bench_ops times: an op at one shape, the tensors that it works on, and what it costs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace tll::bench {

// How a tensor is filled before anything is timed: random numbers (never zeros, which run faster than data), one number, random
// whole numbers in [0, limit), or exactly these.
struct Fill {
  enum Kind { kNormal, kConstant, kBelow, kExact } kind = kNormal;
  double number = 0;  // the constant, or the limit
  std::string bytes = {};
};
template <class T>
Fill exactly(const std::vector<T>& values) {
  return {Fill::kExact, 0, std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

struct BenchTensor {
  const char* name;
  DType dtype;
  int64_t count;
  Fill fill = {};
};

// The tensors' memory, in the order in which the case lists them.
struct Memory {
  const std::vector<std::byte*>& tensors;
  const std::vector<BenchTensor>& specs;
  template <class T>
  T* at(const std::string& name) const {
    for (size_t i = 0; i < specs.size(); i++) {
      if (name != specs[i].name) continue;
      TLL_CHECK(specs[i].dtype == dtype_of<T>, "{} is {}", name, dtype_name(specs[i].dtype));
      return reinterpret_cast<T*>(tensors[i]);
    }
    check_failed("the case has this tensor", __FILE__, __LINE__, name);
  }
};

struct BenchCase {
  std::string op, shape;
  DType dtype;
  std::vector<BenchTensor> tensors;
  std::function<std::function<void()>(const Device&, const Memory&)> bind;  // pointers resolved once: what remains is run()
  Cost cost;
  double least_tflops = 0;  // a target, where there is one in absolute terms
};

// make(memory) gives the op. It is made once for each set of tensors, and once with addresses that nothing follows, for its cost.
template <class Make>
BenchCase bench_case(std::string shape, DType dtype, std::vector<BenchTensor> tensors, Make make) {
  const std::vector<std::byte*> nowhere(tensors.size(), nullptr);
  const auto op = make(Memory{nowhere, tensors});
  BenchCase c{
      .op = op.kName, .shape = std::move(shape), .dtype = dtype, .tensors = std::move(tensors), .bind = {}, .cost = op.cost()};
  c.bind = [make](const Device& device, const Memory& memory) {
    return std::function<void()>([&device, op = make(memory)] { run(device, op); });
  };
  return c;
}

// One model's sizes, under the names of the field: rows N of C channels, H query and G key/value heads of D, F, V.
struct ModelShape {
  const char* name;
  int C, H, G, D, F, V;
};
inline constexpr ModelShape kModels[] = {
    {"1B", 2048, 32, 8, 64, 8192, 128256}, {"3B", 3072, 24, 8, 128, 8192, 128256}, {"8B", 4096, 32, 8, 128, 14336, 128256}};
inline constexpr ModelShape kTinyModel = {"tiny", 64, 4, 2, 32, 96, 259};

struct Sizes {
  std::vector<ModelShape> models;
  int N;            // tokens of a step
  int seq_len;      // the longest document; documents of half of it are timed as well
  int64_t trained;  // trained values
  int64_t copied;   // elements of the copy that measures bandwidth
  bool cuda;        // this and threads: how much scratch memory the ops get
  int threads;
};

// The ceilings, and every op of kernels/ in `dtype` (bf16 or half: mixed-precision training; float).
BenchCase copy_ceiling(const Sizes&);
BenchCase matmul_ceiling(const Sizes&, DType dtype);
std::vector<BenchCase> all_cases(const Sizes&, DType dtype);

}  // namespace tll::bench
