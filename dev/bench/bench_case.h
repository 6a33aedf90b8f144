// What bench_ops times: one pass of an op's case (tests/op_cases.h) at one shape.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/op_case.h"

namespace tll::bench {

// Notes the ops of a pass, and the tensors that it uses, and runs nothing.
struct Recorder : test::Tensors {
  using Tensors::Tensors;
  std::map<std::string, Matrix> tensors;
  std::vector<test::Launch> launches;
  std::set<std::string> used;
  Matrix at(const std::string& name) override {
    used.insert(name);
    return tensors.at(name);
  }
  void copy(const std::string&, const std::string&) override {}
  void launch(const test::Launch& op) override { launches.push_back(op); }
  void place(const test::TensorSpec& spec, void* data) {
    tensors[spec.name] = {data, dtype_for(spec.kind, type), static_cast<int>(spec.rows), static_cast<int>(spec.width),
                          spec.stride()};
  }
};

struct BenchCase {
  std::string op, shape;
  DType dtype;
  std::vector<test::TensorSpec> tensors;  // those that the pass uses
  test::Pass pass;                        // of one op
  Cost cost;
  double least_tflops = 0;  // a target, where there is one in absolute terms
};

// One model's sizes, under the names of the field: rows N of C channels, H query and G key/value heads of D, F, V.
struct ModelShape {
  const char* name;
  int C, H, G, D, F, V;
};
inline constexpr ModelShape kModels[] = {{"135M", 576, 9, 3, 64, 1536, 49152},
                                         {"1B", 2048, 32, 8, 64, 8192, 128256},
                                         {"3B", 3072, 24, 8, 128, 8192, 128256},
                                         {"8B", 4096, 32, 8, 128, 14336, 128256}};
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
