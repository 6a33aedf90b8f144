// cvt: conversions between types.
#include <algorithm>
#include <cmath>
#include <limits>

#include "dev/ptx_sim/half.h"
#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};
template <class T>
constexpr bool kShort = std::is_same_v<T, Half> || std::is_same_v<T, Bf16>;

// A value as the arithmetic type that holds it exactly, and back. The register may be wider than the type.
template <class T>
auto load(uint64_t bits) {
  if constexpr (std::is_same_v<T, Half>)
    return half_to_float(static_cast<uint16_t>(bits));
  else if constexpr (std::is_same_v<T, Bf16>)
    return bf16_to_float(static_cast<uint16_t>(bits));
  else
    return value_of<T>(static_cast<Cell<T>>(bits));
}
template <class T, class V>
uint64_t store(V value) {
  if constexpr (std::is_same_v<T, Half>)
    return float_to_half(value);
  else if constexpr (std::is_same_v<T, Bf16>)
    return float_to_bf16(value);
  else if constexpr (std::is_floating_point_v<T>)
    return bits_of<T>(static_cast<T>(value));
  else if constexpr (std::is_signed_v<T>)
    return static_cast<uint64_t>(int64_t{static_cast<T>(value)});  // a wider register holds it extended
  else
    return static_cast<T>(value);
}

template <class V>
V to_whole(V x, char rounding) {
  switch (rounding) {
    case 'z':
      return std::trunc(x);
    case 'm':
      return std::floor(x);
    case 'p':
      return std::ceil(x);
    default:
      return std::nearbyint(x);
  }
}
// What is out of range becomes the nearest that is not; NaN becomes 0.
template <class T, class V>
T to_integer(V x) {
  if (std::isnan(x)) return 0;
  const double v = static_cast<double>(x), most = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (v >= most) return std::numeric_limits<T>::max();
  if (v < (std::is_signed_v<T> ? -most : 0.0)) return std::numeric_limits<T>::min();
  return static_cast<T>(v);
}

// Between floating-point types; form s: cut to 0 … 1; n, z, m, p: rounded to a whole number.
template <class To, class From>
void between_floats(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    auto x = load<From>(b.get(i.s[0], l));
    if (i.form == 's')
      x = std::isnan(x) ? 0 : std::clamp<decltype(x)>(x, 0, 1);
    else if (i.form)
      x = to_whole(x, i.form);
    b.put(i.d[0], l, store<To>(x));
  });
}
template <class To, class From>
void float_to_integer(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) { b.put(i.d[0], l, store<To>(to_integer<To>(to_whole(load<From>(b.get(i.s[0], l)), i.form)))); });
}
template <class To, class From>
void from_integer(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) { b.put(i.d[0], l, store<To>(load<From>(b.get(i.s[0], l)))); });
}
// Two floats become the halves of a register, the first one the upper half.
template <class To>
void pack(Block& b, const Instruction& i, Lanes mask) {
  const auto half = [&](int s, int l) { return store<To>(load<float>(b.get(i.s[static_cast<size_t>(s)], l))); };
  for_lanes(mask, [&](int l) { b.put(i.d[0], l, half(0, l) << 16 | half(1, l)); });
}

template <class F>
Handler by_type(Type type, const F& f) {
  switch (type) {
    case Type::f16:
      return f(Half{});
    case Type::bf16:
      return f(Bf16{});
    case Type::f32:
      return f(float{});
    case Type::f64:
      return f(double{});
    case Type::s8:
      return f(int8_t{});
    case Type::u8:
      return f(uint8_t{});
    default:
      return by_integer(type, f);
  }
}

}  // namespace

Handler convert_handler(Mnemonic& m, Instruction& i) {
  if (m.op == "cvta" && m.types.size() == 1 && m.take("to") && m.take("global"))
    return [](Block& b, const Instruction& cvta, Lanes mask) {  // addresses of global memory are generic ones
      for_lanes(mask, [&](int l) { b.put(cvta.d[0], l, b.get(cvta.s[0], l)); });
    };
  if (m.op != "cvt") return nullptr;
  if (m.types.size() == 1 && i.type == Type::f32 && m.take("rn")) {
    if (m.take("bf16x2")) return pack<Bf16>;
    return m.take("f16x2") ? pack<Half> : nullptr;
  }
  if (m.types.size() != 2) return nullptr;
  return by_type(m.types[0], [&]<class To>(To) {
    return by_type(m.types[1], [&]<class From>(From) -> Handler {
      constexpr bool kToFloat = std::is_floating_point_v<To> || kShort<To>;
      if constexpr (std::is_floating_point_v<From> || kShort<From>) {
        const std::string whole = m.take_one({"rni", "rzi", "rmi", "rpi"});
        if (!whole.empty()) i.form = whole[1];
        if constexpr (kToFloat) {
          if (m.take("sat")) i.form = 's';
          m.take("rn");
          if constexpr (kShort<To> && std::is_same_v<From, double>) return nullptr;  // would round twice
          return between_floats<To, From>;
        } else {
          return whole.empty() ? nullptr : float_to_integer<To, From>;
        }
      } else if constexpr (kShort<To>) {
        return nullptr;
      } else {
        if constexpr (kToFloat) m.take("rn");
        return from_integer<To, From>;
      }
    });
  });
}

}  // namespace ptx
