// Floating-point instructions. Each rounds to nearest even unless it says otherwise.
#include <cmath>
#include <limits>

#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Divide {
  template <class T>
  T operator()(T a, T b) const {
    return a / b;
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct Root {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
struct Absolute {
  template <class T>
  T operator()(T a) const {
    return std::fabs(a);
  }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    return -a;
  }
};
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return std::fma(a, b, c);
  }
};
// Rounds towards minus infinity. The product is exact in double; what its sum with c loses is found by Knuth's two-sum. Where the
// nearest float is above the exact value, the one below it is meant.
struct MultiplyAddDown {
  float operator()(float a, float b, float c) const {
    const float nearest = std::fma(a, b, c);
    const double product = static_cast<double>(a) * static_cast<double>(b), sum = product + static_cast<double>(c);
    const double of_c = sum - product, lost = (product - (sum - of_c)) + (static_cast<double>(c) - of_c);
    const bool above = (static_cast<double>(nearest) - sum) - lost > 0;
    return above ? std::nextafter(nearest, -std::numeric_limits<float>::infinity()) : nearest;
  }
};
// -0 is less than +0. Of a NaN and a number the number is the result, with .NaN the NaN.
template <bool kNan, bool kLeast>
struct Extreme {
  template <class T>
  T operator()(T a, T b) const {
    if (std::isnan(a) || std::isnan(b)) {
      if (kNan || (std::isnan(a) && std::isnan(b))) return std::numeric_limits<T>::quiet_NaN();
      return std::isnan(a) ? b : a;
    }
    if (a == b) return std::signbit(a) == kLeast ? a : b;
    return (a < b) == kLeast ? a : b;
  }
};
float flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
struct PowerOfTwo {  // .approx.ftz; a GPU's is off by up to 2 ulp
  float operator()(float a) const { return flush(static_cast<float>(std::exp2(static_cast<double>(flush(a))))); }
};
struct FlushedReciprocal {  // .approx.ftz.f32; a GPU's is off by up to 1 ulp
  float operator()(float a) const { return flush(1.0f / flush(a)); }
};
struct RoughReciprocal {  // .approx.ftz.f64: of the upper half of the bits
  double operator()(double a) const {
    constexpr uint64_t kUpper = ~uint64_t{0xffffffff};
    const double x = std::bit_cast<double>(std::bit_cast<uint64_t>(a) & kUpper);
    const double r = std::bit_cast<double>(std::bit_cast<uint64_t>(1 / x) & kUpper);
    return std::fpclassify(r) == FP_SUBNORMAL ? std::copysign(0.0, r) : r;
  }
};

template <class T>
Handler handler(Mnemonic& m) {
  if (m.take("approx")) {
    if (!m.take("ftz")) return nullptr;
    if (m.op == "ex2" && sizeof(T) == 4) return unary<float, PowerOfTwo>;
    if (m.op == "rcp" && sizeof(T) == 4) return unary<float, FlushedReciprocal>;
    if (m.op == "rcp" && sizeof(T) == 8) return unary<double, RoughReciprocal>;
    return nullptr;
  }
  if (m.op == "fma" && sizeof(T) == 4 && m.take("rm")) return ternary<float, MultiplyAddDown>;
  m.take("rn");
  if (m.op == "add") return binary<T, Add>;
  if (m.op == "sub") return binary<T, Subtract>;
  if (m.op == "mul") return binary<T, Multiply>;
  if (m.op == "div") return binary<T, Divide>;
  if (m.op == "fma") return ternary<T, MultiplyAdd>;
  if (m.op == "rcp") return unary<T, Reciprocal>;
  if (m.op == "sqrt") return unary<T, Root>;
  if (m.op == "abs") return unary<T, Absolute>;
  if (m.op == "neg") return unary<T, Negate>;
  if (m.op == "min") return m.take("NaN") ? binary<T, Extreme<true, true>> : binary<T, Extreme<false, true>>;
  if (m.op == "max") return m.take("NaN") ? binary<T, Extreme<true, false>> : binary<T, Extreme<false, false>>;
  return nullptr;
}

}  // namespace

Handler float_handler(Mnemonic& m, Instruction& i) {
  if (i.type == Type::f32) return handler<float>(m);
  if (i.type == Type::f64) return handler<double>(m);
  return nullptr;
}

}  // namespace ptx
