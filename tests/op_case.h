// One declaration of a case of an op serves four times: as a test, as a check of the gradient, as a row of ./test_gradients, and,
// at the sizes of real models, as a row of build/bench_ops.
//
// A case lists its tensors by name and says how to run the op forward and backward on them. The checks follow from that list:
//   - input "x" has the gradient "dx", output "y" has the cotangent "dy" (a constant), so that the complex step needs no more;
//   - every tensor lies between redzones, and gaps between rows of a strided tensor are redzones too;
//   - what the op must write is NaN before, what it must add to ("+=") holds known values before;
//   - inputs and constants must come back unchanged.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/matrix.h"

namespace tll::test {

using Random = std::mt19937_64;
using Values = std::map<std::string, std::vector<double>>;  // (rows · stride) each, gaps included

// saved: an output that backward needs but the loss does not see. scratch: no value is expected in it.
enum class Role { input, constant, output, saved, gradient, scratch };
// storage, acc: Float and acc_t<Float>. The kinds that follow are fixed in training types, and Float in the oracle's; from
// always_f32 on they are the same in all.
enum class Kind { storage, acc, f32, bf16, f16, always_f32, always_f64, i32, u8 };

struct TensorSpec {
  std::string name;
  Role role;
  Kind kind = Kind::storage;
  int64_t rows = 1, width = 1;
  int64_t gap = 0;                  // elements between the end of a row and the next
  bool accumulates = false;         // outputs and gradients: += (or in and out), so it has a value before
  double sigma = 1;                 // of the normal distribution that fills it
  std::vector<double> values = {};  // or these, over and over
  int64_t stride() const { return width + gap; }
  int64_t count() const { return rows == 0 || width == 0 ? 0 : (rows - 1) * stride() + width; }
  bool written() const { return role == Role::output || role == Role::saved || role == Role::gradient; }
};

DType dtype_for(Kind kind, DType type);  // of a tensor, when ops run with storage type `type`

// Where a tensor lies. It converts to a pointer to elements of its own type.
struct Place : Matrix {
  std::string name;
  template <class T>
  operator T*() const {
    if constexpr (!std::is_void_v<T>) {
      constexpr DType asked = dtype_of<std::remove_const_t<T>>;
      TLL_CHECK(dtype == asked, "{} is {}, asked as {}", name, dtype_name(dtype), dtype_name(asked));
    }
    return static_cast<T*>(data);
  }
};

// An op with its arguments: what it is called, what it costs, and how to run it.
struct Launch {
  const char* op;
  Cost cost;
  std::function<void(const Device&)> run;
};

// What a pass of a case sees: the tensors of one run, and where to send its ops.
struct Tensors {
  DType type;  // the storage type
  Device device;
  Tensors(DType storage, const Device& where) : type(storage), device(where) {}
  virtual ~Tensors() = default;
  virtual Matrix at(const std::string& name) = 0;
  virtual void copy(const std::string& to, const std::string& from) = 0;
  virtual void launch(const Launch&) = 0;
  Place operator[](const std::string& name) { return {at(name), name}; }
  template <class Op>
  void run(const Op& op) {
    launch({Op::kName, op.cost(), [op](const Device& on) { tll::run(on, op); }});
  }
};
using Pass = std::function<void(Tensors&)>;

// How far a result may lie from the exact one, as a multiple of its magnitude: `acc` roundings of the accumulation type, and
// `storage` roundings of the tensor's own type where that is narrower; tensor_core: as many more on CUDA, and on processors
// that multiply bf16, where intermediate values are rounded before they are multiplied. First order in the unit roundoff.
struct Tolerance {
  double acc = 0, storage = 0, tensor_core = 0;
};
// What an op means, written by its definition. magnitude: the same sums with every term's absolute value, which is what
// roundings are relative to; |value| where not given. Gradients have no value here: the complex step gives it.
struct Reference {
  Values value, magnitude;
  std::map<std::string, Tolerance> tolerance;
};

struct OpCase {
  std::string op, shape;
  std::vector<TensorSpec> tensors = {};
  Pass forward = {}, backward = {};  // backward may be empty
  std::function<void(const Values&, Reference&)> reference = {};
  std::vector<DType> dtypes = {DType::f32, DType::bf16};  // fp16 as well on CUDA, where there is bf16
  std::string dtype_label = {};                           // where tensors have types of their own
  bool cpu = true;                                        // has types that the CPU has
  bool oracle = true;                                     // exists in double and complex
  size_t alignment = 0;       // bytes: on CUDA the bits are the same wherever all tensors are aligned to so many; 0: to elements
  bool tensor_cores = false;  // on CUDA, 16-bit types run on tensor cores or not at all
  bool each_misaligned = false;  // CUDA: also with one tensor misaligned alone, each in turn
  uint64_t seed = 0;
};

inline constexpr int kMostThreads = 3;  // scratch of a case is for so many

// f: a generic lambda (Float{}, tensors), for each of the types.
template <class F>
Pass typed(F f) {
  return [f](Tensors& t) {
    switch (t.type) {
      case DType::f32:
        return f(float{}, t);
      case DType::bf16:
        return f(bf16{}, t);
      case DType::f16:
        return f(half{}, t);
      case DType::f64:
        return f(double{}, t);
      case DType::c128:
        return f(complex{}, t);
      default:
        TLL_CHECK(false, "no op has storage type {}", dtype_name(t.type));
    }
  };
}

// Where ops run: one of the names that --device takes.
struct TestDevice {
  std::string name;
  std::vector<Device> variants;  // cpu: one for each instruction set of this processor
  // Where the order of threads can be chosen: so many orders, of which choose_order(i) is the i-th. All must give the same bits.
  int orders = 1;
  std::function<void(int)> choose_order = {};
};
std::string variant_name(const TestDevice&, const Device& variant);
std::vector<Isa> supported_isas();
std::vector<TestDevice> devices_here();

// A line of the table. Errors and tolerances are relative to magnitudes; of several tensors, the one nearest to its tolerance.
struct Row {
  std::string op, shape, dtype, device;
  double forward_error = 0, forward_tolerance = 0, backward_error = 0, backward_tolerance = 0;
  bool has_backward = false;
  std::string problem;  // what was wrong, or empty
  std::string skipped;  // why nothing ran, or empty
};
// All of a case's rows. First, if it has an oracle, in double: forward against the definition, backward against the complex step
// of forward, to 1e-12. Then each training type on each device: against the definition and the double run; redzones; the same
// bits again.
std::vector<Row> check(const OpCase& op, const std::vector<TestDevice>& devices);

// Every case of every op; the seed chooses the shapes and values that are not fixed.
std::vector<OpCase> all_cases(uint64_t seed);
void add_attention_cases(std::vector<OpCase>&, Random&);
void add_model_cases(std::vector<OpCase>&, Random&);
void add_linear_cases(std::vector<OpCase>&, Random&);
void add_elementwise_cases(std::vector<OpCase>&, Random&);
void add_adamw8bit_cases(std::vector<OpCase>&, Random&);
void add_quantized_cases(std::vector<OpCase>&, Random&);
inline void add(std::vector<OpCase>& cases, std::initializer_list<OpCase> more) { cases.insert(cases.end(), more); }

// A finished case changed: each tensor misaligned in turn; other values of one tensor; gaps between rows.
OpCase misaligned_in_turn(OpCase c);
OpCase with_values(OpCase c, const std::string& tensor, std::vector<double> values);
OpCase with_sigma(OpCase c, const std::string& tensor, double sigma);
OpCase with_gaps(OpCase c, const std::map<std::string, int64_t>& gaps);              // of tensors whose rows lay together before
OpCase with_mean(OpCase c, const std::string& tensor, double mean, Random& random);  // and sigma 1

inline int between(Random& random, int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
template <class T>
T pick(Random& random, const std::vector<T>& from) {
  return from[static_cast<size_t>(between(random, 0, static_cast<int>(from.size()) - 1))];
}
std::vector<double> random_integers(Random& random, int64_t count, int low, int high);
inline std::vector<double> absolute(std::vector<double> values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

}  // namespace tll::test
