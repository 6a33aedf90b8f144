// The identity of a tokenizer: XXH3-128 over everything that changes ids. Each text is hashed with its length, so that different
// lists of texts cannot give the same bytes.
#pragma once

#include <fmt/format.h>
#include <xxhash.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace tll {

class Fingerprint {
 public:
  explicit Fingerprint(std::string_view kind) : state_(XXH3_createState(), XXH3_freeState) {
    XXH3_128bits_reset(state_.get());
    add(kind);
  }
  Fingerprint& add(std::string_view text) {
    add(text.size());
    XXH3_128bits_update(state_.get(), text.data(), text.size());
    return *this;
  }
  template <class Number>
  requires std::is_arithmetic_v<Number> || std::is_enum_v<Number> Fingerprint& add(Number value) {
    uint64_t bits;
    if constexpr (std::is_floating_point_v<Number>) {
      bits = std::bit_cast<uint64_t>(double(value));
    } else {
      bits = uint64_t(value);
    }
    XXH3_128bits_update(state_.get(), &bits, sizeof bits);
    return *this;
  }
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

}  // namespace tll
