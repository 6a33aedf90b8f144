#include "dev/ptx_sim/mnemonic.h"

#include <algorithm>

#include "dev/ptx_sim/text.h"

namespace ptx {

int bytes_of(Type type) {
  switch (type) {
    case Type::b8:
    case Type::u8:
    case Type::s8:
      return 1;
    case Type::b16:
    case Type::u16:
    case Type::s16:
    case Type::f16:
    case Type::bf16:
      return 2;
    case Type::b32:
    case Type::u32:
    case Type::s32:
    case Type::f32:
      return 4;
    case Type::b64:
    case Type::u64:
    case Type::s64:
    case Type::f64:
      return 8;
    default:
      return 0;
  }
}

Type type_of(const std::string& word) {
  static const std::map<std::string, Type> types{
      {"pred", Type::pred}, {"b8", Type::b8},   {"b16", Type::b16}, {"b32", Type::b32}, {"b64", Type::b64},   {"u8", Type::u8},
      {"u16", Type::u16},   {"u32", Type::u32}, {"u64", Type::u64}, {"s8", Type::s8},   {"s16", Type::s16},   {"s32", Type::s32},
      {"s64", Type::s64},   {"f16", Type::f16}, {"f32", Type::f32}, {"f64", Type::f64}, {"bf16", Type::bf16},
  };
  const auto found = types.find(word);
  return found == types.end() ? Type::none : found->second;
}

Mnemonic::Mnemonic(const std::string& word) {
  const std::vector<std::string> parts = split(word, '.');
  op = parts[0];
  for (size_t i = 1; i < parts.size(); i++)
    if (const Type type = type_of(parts[i]); type != Type::none)
      types.push_back(type);
    else  // of a block's cluster no other shared memory is known here
      rest.push_back(parts[i] == "shared::cta" ? "shared" : parts[i]);
}
bool Mnemonic::take(const std::string& modifier) {
  const auto found = std::find(rest.begin(), rest.end(), modifier);
  if (found == rest.end()) return false;
  rest.erase(found);
  return true;
}
std::string Mnemonic::take_one(const std::vector<std::string>& modifiers) {
  for (const std::string& modifier : modifiers)
    if (take(modifier)) return modifier;
  return {};
}

}  // namespace ptx
