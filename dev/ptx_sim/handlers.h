// Templates for handlers: a function of lanes' values becomes one of registers.
#pragma once

#include "dev/ptx_sim/block.h"
#include "dev/ptx_sim/mnemonic.h"

namespace ptx {

// F is a function object without state, of one, two or three values of type T.
template <class T, class F>
void unary(Block& b, const Instruction& i, Lanes mask) {
  const Cell<T>* x = b.row<T>(i.s[0]);
  Cell<T>* out = b.row<T>(i.d[0]);
  for_lanes(mask, [&](int l) { out[l] = bits_of<T>(F()(value_of<T>(x[l]))); });
}
template <class T, class F>
void binary(Block& b, const Instruction& i, Lanes mask) {
  const Cell<T>*x = b.row<T>(i.s[0]), *y = b.row<T>(i.s[1]);
  Cell<T>* out = b.row<T>(i.d[0]);
  for_lanes(mask, [&](int l) { out[l] = bits_of<T>(F()(value_of<T>(x[l]), value_of<T>(y[l]))); });
}
template <class T, class F>
void ternary(Block& b, const Instruction& i, Lanes mask) {
  const Cell<T>*x = b.row<T>(i.s[0]), *y = b.row<T>(i.s[1]), *z = b.row<T>(i.s[2]);
  Cell<T>* out = b.row<T>(i.d[0]);
  for_lanes(mask, [&](int l) { out[l] = bits_of<T>(F()(value_of<T>(x[l]), value_of<T>(y[l]), value_of<T>(z[l]))); });
}

// f(T{}) for the integer type T of a PTX type; untyped bits are unsigned.
template <class F>
Handler by_integer(Type type, const F& f) {
  switch (type) {
    case Type::b16:
    case Type::u16:
      return f(uint16_t{});
    case Type::s16:
      return f(int16_t{});
    case Type::b32:
    case Type::u32:
      return f(uint32_t{});
    case Type::s32:
      return f(int32_t{});
    case Type::b64:
    case Type::u64:
      return f(uint64_t{});
    case Type::s64:
      return f(int64_t{});
    default:
      return nullptr;
  }
}

}  // namespace ptx
