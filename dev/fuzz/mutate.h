// Changes that keep an input's structure, so that the fuzzer gets behind the checks of form. Half of the changes are libFuzzer's
// own, of single bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace tll::fuzz {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  size_t below(size_t n) { return n == 0 ? 0 : engine_() % n; }
  template <class List>
  const auto& of(const List& list) {
    return list[below(std::size(list))];
  }

 private:
  std::minstd_rand engine_;
};

// libFuzzer's own change of the text.
inline std::string mutated_bytes(std::string text, size_t max_growth = 64) {
  const size_t size = text.size();
  text.resize(size + max_growth);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, text.size()));
  return text;
}

using Words = std::span<const char* const>;  // keys and values that the reader knows

inline Json odd_value(Random& random, Words words) {
  static const Json kOdd[] = {nullptr,
                              true,
                              false,
                              0,
                              1,
                              2,
                              3,
                              -1,
                              -100,
                              64,
                              255,
                              1000,
                              INT32_MAX,
                              int64_t{INT32_MAX} + 1,
                              UINT32_MAX,
                              INT64_MAX,
                              INT64_MIN,
                              UINT64_MAX,
                              -0.0,
                              0.5,
                              64.0,
                              1e-310,
                              1e19,
                              1e308,
                              "",
                              " ",
                              "▁",
                              "\n",
                              std::string(1100, 'a'),
                              Json::array(),
                              Json::object(),
                              Json::array({Json::array()})};
  return random.below(2) && !words.empty() ? Json(random.of(words)) : random.of(kOdd);
}

// One change of a value, of its keys or of its elements.
inline void change(Json& root, Random& random, Words words) {
  std::vector<Json*> nodes = {&root};
  for (size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i]->is_structured())
      for (Json& child : *nodes[i]) nodes.push_back(&child);
  Json& node = *random.of(nodes);
  const auto key = [&] { return std::next(node.begin(), std::ptrdiff_t(random.below(node.size()))).key(); };
  switch (random.below(4)) {
    case 0:
      node = odd_value(random, words);
      return;
    case 1:
      node = Json(*random.of(nodes));
      return;
    default:
      break;
  }
  if (node.is_object() && random.below(2)) {
    const std::string name = random.below(2) && !words.empty() ? random.of(words) : node.empty() ? "" : mutated_bytes(key());
    node[name] = node.empty() || random.below(2) ? odd_value(random, words) : Json(node.at(key()));
  } else if (node.is_object() && !node.empty()) {
    node.erase(key());
  } else if (node.is_array()) {
    const size_t times = random.below(8) == 0 ? random.below(200) : random.below(3);
    const Json item = node.empty() ? odd_value(random, words) : Json(node[random.below(node.size())]);
    if (times == 0 && !node.empty()) node.erase(random.below(node.size()));
    for (size_t i = 0; i < times; ++i) node.insert(node.begin() + std::ptrdiff_t(random.below(node.size() + 1)), item);
  } else if (node.is_string()) {
    node = mutated_bytes(node.get<std::string>());
  } else if (node.is_number_integer()) {
    node = int64_t(node.get<uint64_t>() + random.below(5) - 2);
  } else if (node.is_boolean()) {
    node = !node.get<bool>();
  } else {
    node = odd_value(random, words);
  }
}

// The JSON text after a few changes; bytes are changed where it is no JSON.
inline std::string mutated_json(const std::string& text, Random& random, Words words) {
  Json root = Json::parse(text, nullptr, false);
  if (root.is_discarded() || random.below(4) == 0) return mutated_bytes(text);
  for (size_t i = 0; i <= random.below(3); ++i) change(root, random, words);
  return root.dump(random.below(4) ? -1 : 1, ' ', random.below(8) == 0, Json::error_handler_t::replace);
}

// Puts the changed text in the input's place; a change that makes it too long is given up for one of bytes.
inline size_t replace(const std::string& changed, uint8_t* data, size_t size, size_t max_size) {
  if (changed.size() > max_size || changed.empty()) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, changed.data(), changed.size());
  return changed.size();
}

// What a fuzzer defines.
std::string mutated(const std::string& bytes, Random& random);

}  // namespace tll::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  tll::fuzz::Random random(seed);
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  return tll::fuzz::replace(tll::fuzz::mutated(bytes, random), data, size, max_size);
}
