// Instructions that move, choose and compare: mov, selp, setp, and the logic of predicates.
#include <cmath>

#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

void move(Block& b, const Instruction& i, Lanes mask) {
  const Operand &to = i.d[0], &from = i.s[0];
  if (to.file != from.file) b.fault("a mov between registers of different width");
  if (to.file == File::predicate) return b.set(to, mask, b.condition(from));
  if (to.file == File::wide) {
    uint64_t* out = b.row<uint64_t>(to);
    const uint64_t* in = b.row<uint64_t>(from);
    for_lanes(mask, [&](int l) { out[l] = in[l]; });
  } else {
    uint32_t* out = b.row<uint32_t>(to);
    const uint32_t* in = b.row<uint32_t>(from);
    for_lanes(mask, [&](int l) { out[l] = in[l]; });
  }
}
// mov.b32 d, {a, b} and mov.b64 {a, b}, s: the first part is the lowest.
void join(Block& b, const Instruction& i, Lanes mask) {
  const int bits = 8 * bytes_of(i.type) / i.inputs;
  for_lanes(mask, [&](int l) {
    uint64_t x = 0;
    for (size_t e = i.inputs; e-- > 0;) x = x << bits | b.get(i.s[e], l);
    b.put(i.d[0], l, x);
  });
}
void split(Block& b, const Instruction& i, Lanes mask) {
  const int bits = 8 * bytes_of(i.type) / i.outputs;
  for_lanes(mask, [&](int l) {
    uint64_t x = b.get(i.s[0], l);
    for (size_t e = 0; e < i.outputs; e++, x >>= bits) b.put(i.d[e], l, x & (~uint64_t{0} >> (64 - bits)));
  });
}

void select(Block& b, const Instruction& i, Lanes mask) {
  const Lanes first = b.condition(i.s[2]);
  for_lanes(mask, [&](int l) { b.put(i.d[0], l, b.get(i.s[first >> l & 1 ? 0 : 1], l)); });
}

// ---- setp --------------------------------------------------------------------------------------------------------

// A comparison with a NaN is false; those that end with u are true then.
template <bool kUnordered, class F>
struct Compare {
  template <class T>
  bool operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>)
      if (std::isnan(a) || std::isnan(b)) return kUnordered;
    return F()(a, b);
  }
};
struct IsNumber {
  template <class T>
  bool operator()(T, T) const {
    return true;
  }
};
struct IsNan {
  template <class T>
  bool operator()(T, T) const {
    return false;
  }
};

// d or d|n: the comparison, joined with a third source by and, or, xor (form), and its opposite, joined in the same way.
template <class T, class F>
void compare(Block& b, const Instruction& i, Lanes mask) {
  const Cell<T>*x = b.row<T>(i.s[0]), *y = b.row<T>(i.s[1]);
  Lanes result = 0;
  for_lanes(mask, [&](int l) { result |= Lanes{F()(value_of<T>(x[l]), value_of<T>(y[l]))} << l; });
  const auto joined = [&](Lanes r) {
    if (!i.form) return r;
    const Lanes other = b.condition(i.s[2]);
    return i.form == 'a' ? r & other : i.form == 'o' ? r | other : r ^ other;
  };
  const Lanes opposite = joined(~result);
  b.set(i.d[0], mask, joined(result));
  if (i.outputs > 1) b.set(i.d[1], mask, opposite);
}
template <class T>
Handler comparison(Mnemonic& m) {
  constexpr bool kFloat = std::is_floating_point_v<T>;
  if (m.take("eq")) return compare<T, Compare<false, std::equal_to<T>>>;
  if (m.take("ne")) return compare<T, Compare<false, std::not_equal_to<T>>>;
  if (m.take("lt") || (!kFloat && m.take("lo"))) return compare<T, Compare<false, std::less<T>>>;
  if (m.take("le") || (!kFloat && m.take("ls"))) return compare<T, Compare<false, std::less_equal<T>>>;
  if (m.take("gt") || (!kFloat && m.take("hi"))) return compare<T, Compare<false, std::greater<T>>>;
  if (m.take("ge") || (!kFloat && m.take("hs"))) return compare<T, Compare<false, std::greater_equal<T>>>;
  if constexpr (kFloat) {
    if (m.take("equ")) return compare<T, Compare<true, std::equal_to<T>>>;
    if (m.take("neu")) return compare<T, Compare<true, std::not_equal_to<T>>>;
    if (m.take("ltu")) return compare<T, Compare<true, std::less<T>>>;
    if (m.take("leu")) return compare<T, Compare<true, std::less_equal<T>>>;
    if (m.take("gtu")) return compare<T, Compare<true, std::greater<T>>>;
    if (m.take("geu")) return compare<T, Compare<true, std::greater_equal<T>>>;
    if (m.take("num")) return compare<T, Compare<false, IsNumber>>;
    if (m.take("nan")) return compare<T, Compare<true, IsNan>>;
  }
  return nullptr;
}

// ---- predicates -------------------------------------------------------------------------------------------------------------
void both(Block& b, const Instruction& i, Lanes mask) { b.set(i.d[0], mask, b.condition(i.s[0]) & b.condition(i.s[1])); }
void either(Block& b, const Instruction& i, Lanes mask) { b.set(i.d[0], mask, b.condition(i.s[0]) | b.condition(i.s[1])); }
void one(Block& b, const Instruction& i, Lanes mask) { b.set(i.d[0], mask, b.condition(i.s[0]) ^ b.condition(i.s[1])); }
void opposite(Block& b, const Instruction& i, Lanes mask) { b.set(i.d[0], mask, ~b.condition(i.s[0])); }

}  // namespace

Handler data_handler(Mnemonic& m, Instruction& i) {
  if (m.op == "mov") return i.inputs > 1 ? join : i.outputs > 1 ? split : move;
  if (m.op == "selp") return select;
  if (m.op == "setp") {
    const std::string joined = m.take_one({"and", "or", "xor"});
    if (!joined.empty()) i.form = joined[0];
    if (i.type == Type::f32) return comparison<float>(m);
    if (i.type == Type::f64) return comparison<double>(m);
    return by_integer(i.type, [&]<class T>(T) { return comparison<T>(m); });
  }
  if (i.type != Type::pred) return nullptr;
  return m.op == "and" ? both : m.op == "or" ? either : m.op == "xor" ? one : m.op == "not" ? opposite : nullptr;
}

}  // namespace ptx
