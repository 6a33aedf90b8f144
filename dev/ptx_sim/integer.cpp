// Integer and bit instructions. What overflows wraps.
#include <algorithm>

#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

// Computed in 64 bits without a sign, so that nothing overflows.
template <class T>
uint64_t wide(T x) {
  return static_cast<uint64_t>(x);
}
struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(wide(a) + wide(b));
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(wide(a) - wide(b));
  }
};
struct MultiplyLow {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(wide(a) * wide(b));
  }
};
struct MultiplyHigh {
  template <class T>
  T operator()(T a, T b) const {
    using Double = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
    return static_cast<T>(static_cast<Double>(a) * static_cast<Double>(b) >> 8 * sizeof(T));
  }
};
struct MultiplyAddLow {
  template <class T>
  T operator()(T a, T b, T c) const {
    return static_cast<T>(wide(a) * wide(b) + wide(c));
  }
};
struct Least {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Largest {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(0 - wide(a));
  }
};

template <class T, bool kRemainder>
void divide(Block& b, const Instruction& i, Lanes mask) {
  const Cell<T>*x = b.row<T>(i.s[0]), *y = b.row<T>(i.s[1]);
  Cell<T>* out = b.row<T>(i.d[0]);
  for_lanes(mask, [&](int l) {
    const T n = value_of<T>(x[l]), by = value_of<T>(y[l]);
    if (by == 0) b.fault("a division by zero", l);
    if (std::is_signed_v<T> && by == static_cast<T>(-1))  // the least number has no opposite
      out[l] = bits_of<T>(kRemainder ? T{0} : static_cast<T>(0 - wide(n)));
    else
      out[l] = bits_of<T>(static_cast<T>(kRemainder ? n % by : n / by));
  });
}

template <class T>
struct DoubledOf;
template <>
struct DoubledOf<uint16_t> {
  using type = uint32_t;
};
template <>
struct DoubledOf<int16_t> {
  using type = int32_t;
};
template <>
struct DoubledOf<uint32_t> {
  using type = uint64_t;
};
template <>
struct DoubledOf<int32_t> {
  using type = int64_t;
};
// mul.wide and mad.wide: the product has twice the width.
template <class T, bool kAdd>
void multiply_wide(Block& b, const Instruction& i, Lanes mask) {
  using Doubled = typename DoubledOf<T>::type;
  const Cell<T>*x = b.row<T>(i.s[0]), *y = b.row<T>(i.s[1]);
  const Cell<Doubled>* z = kAdd ? b.row<Doubled>(i.s[2]) : nullptr;
  Cell<Doubled>* out = b.row<Doubled>(i.d[0]);
  for_lanes(mask, [&](int l) {
    const auto product = static_cast<Unsigned<Doubled>>(Doubled{value_of<T>(x[l])} * Doubled{value_of<T>(y[l])});
    out[l] = bits_of<Doubled>(static_cast<Doubled>(product + (kAdd ? static_cast<Unsigned<Doubled>>(z[l]) : 0)));
  });
}

// Shifts by the width or more leave zeros, or copies of the sign.
template <class T, bool kLeft>
void shift(Block& b, const Instruction& i, Lanes mask) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  const Cell<T>* x = b.row<T>(i.s[0]);
  const uint32_t* by = b.row<uint32_t>(i.s[1]);
  Cell<T>* out = b.row<T>(i.d[0]);
  for_lanes(mask, [&](int l) {
    const T value = value_of<T>(x[l]);
    const uint32_t n = std::min(by[l], kBits - 1);
    T r = kLeft ? static_cast<T>(wide(value) << n) : static_cast<T>(value >> n);
    if (by[l] >= kBits && (kLeft || !std::is_signed_v<T>)) r = 0;
    out[l] = bits_of<T>(r);
  });
}

uint64_t low_bits(uint32_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// bfi: `length` bits of the first value go into the second one, from bit `from` on.
void insert_bits(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint32_t from = b.get(i.s[2], l) & 0xff, length = b.get(i.s[3], l) & 0xff;
    const uint64_t field = from >= 64 ? 0 : low_bits(length) << from;
    const uint64_t bits = from >= 64 ? 0 : b.get(i.s[0], l) << from;
    b.put(i.d[0], l, (b.get(i.s[1], l) & ~field) | (bits & field));
  });
}
void count_ones(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) { b.put(i.d[0], l, static_cast<uint64_t>(std::popcount(b.get(i.s[0], l)))); });
}
template <class T>
void leading_zeros(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    b.put(i.d[0], l, static_cast<uint64_t>(std::countl_zero(static_cast<Unsigned<T>>(b.get(i.s[0], l)))));
  });
}
template <class T>
void reverse_bits(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    uint64_t x = b.get(i.s[0], l), r = 0;
    for (size_t n = 0; n < 8 * sizeof(T); n++, x >>= 1) r = r << 1 | (x & 1);
    b.put(i.d[0], l, r);
  });
}
// bfind.shiftamt: how far the value is shifted left until its highest bit is set; all ones: it has none.
template <class T>
void shift_to_top(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const auto x = static_cast<Unsigned<T>>(b.get(i.s[0], l));
    b.put(i.d[0], l, x == 0 ? ~uint64_t{0} : static_cast<uint64_t>(std::countl_zero(x)));
  });
}
// prmt: each nibble of the third value picks one of the eight bytes of the others, or copies of its sign.
void permute_bytes(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint64_t bytes = b.get(i.s[0], l) | b.get(i.s[1], l) << 32, picks = b.get(i.s[2], l);
    uint64_t r = 0;
    for (int n = 0; n < 4; n++) {
      const uint64_t pick = picks >> 4 * n & 0xf;
      uint64_t byte = bytes >> 8 * (pick & 7) & 0xff;
      if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
      r |= byte << 8 * n;
    }
    b.put(i.d[0], l, r);
  });
}

template <class T>
Handler handler(Mnemonic& m) {
  if (m.take("cc")) return nullptr;  // carries are not modelled
  if (m.op == "mul" || m.op == "mad") {
    const bool add = m.op == "mad";
    const std::string part = m.take_one({"lo", "hi", "wide"});
    if (part == "lo") return add ? ternary<T, MultiplyAddLow> : binary<T, MultiplyLow>;
    if (part == "hi" && !add) return binary<T, MultiplyHigh>;
    if constexpr (sizeof(T) < 8)
      if (part == "wide") return add ? multiply_wide<T, true> : multiply_wide<T, false>;
    return nullptr;
  }
  if (m.op == "add") return binary<T, Add>;
  if (m.op == "sub") return binary<T, Subtract>;
  if (m.op == "div") return divide<T, false>;
  if (m.op == "rem") return divide<T, true>;
  if (m.op == "min") return binary<T, Least>;
  if (m.op == "max") return binary<T, Largest>;
  if (m.op == "and") return binary<T, And>;
  if (m.op == "or") return binary<T, Or>;
  if (m.op == "xor") return binary<T, Xor>;
  if (m.op == "not") return unary<T, Not>;
  if (m.op == "neg") return unary<T, Negate>;
  if (m.op == "shl") return shift<T, true>;
  if (m.op == "shr") return shift<T, false>;
  if (m.op == "bfi") return insert_bits;
  if (m.op == "popc") return count_ones;
  if (m.op == "clz") return leading_zeros<T>;
  if (m.op == "brev") return reverse_bits<T>;
  if (m.op == "bfind" && !std::is_signed_v<T> && m.take("shiftamt")) return shift_to_top<T>;
  if (m.op == "prmt") return permute_bytes;
  return nullptr;
}

}  // namespace

Handler integer_handler(Mnemonic& m, Instruction& i) {
  return by_integer(i.type, [&]<class T>(T) { return handler<T>(m); });
}

}  // namespace ptx
