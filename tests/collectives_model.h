// Random collectives, compared with what each must bring: every rank knows what the others send.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "src/ranks/collectives.h"

namespace tll {

// Byte `i` of what rank `r` sends in call number `call`.
inline char sent_byte(int r, int call, int64_t i) {
  uint64_t x = (static_cast<uint64_t>(r) << 48) ^ (static_cast<uint64_t>(call) << 32) ^ static_cast<uint64_t>(i);
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15;
  return static_cast<char>(x >> 56);
}

// Makes `calls` calls with parts of up to `most` bytes; all ranks give the same seed. What is wrong, or "".
inline std::string wrong_collectives(Collectives& ranks, const Device& device, int calls, int64_t most, unsigned seed) {
  std::mt19937 random(seed);
  const int size = ranks.size(), own = ranks.rank();
  for (int call = 0; call < calls; call++) {
    const auto bytes = [&]() -> int64_t {  // even; often none, few or many
      const int64_t limit = random() % 4 == 0 ? most : random() % 3 == 0 ? 0 : std::min<int64_t>(most, 300);
      return 2 * static_cast<int64_t>(random() % static_cast<uint64_t>(limit / 2 + 1));
    };
    std::vector<int64_t> bounds = {bytes()};  // a first part that belongs to no rank
    for (int r = 0; r < size; r++) bounds.push_back(bounds.back() + bytes());
    const int64_t one = bytes();
    const int root = static_cast<int>(random() % static_cast<unsigned>(size));
    const unsigned kind = random() % 6;
    const auto part = [&](int r) { return bounds[static_cast<size_t>(r)]; };

    constexpr char kOther = 0x5a;  // what no call may touch
    const int64_t own_bytes = part(own + 1) - part(own);
    std::vector<char> data, expected;
    switch (kind) {
      case 0:  // all_gather
        data.assign(static_cast<size_t>(bounds.back()) + 64, kOther);
        expected = data;
        for (int r = 0; r < size; r++)
          for (int64_t i = part(r); i < part(r + 1); i++) expected[static_cast<size_t>(i)] = sent_byte(r, call, i);
        std::copy(expected.begin() + part(own), expected.begin() + part(own + 1), data.begin() + part(own));
        ranks.all_gather(device, data.data(), bounds);
        break;
      case 1: {  // exchange
        std::vector<char> from(static_cast<size_t>(bounds.back()));
        for (int64_t i = 0; i < bounds.back(); i++) from[static_cast<size_t>(i)] = sent_byte(own, call, i);
        data.assign(static_cast<size_t>(own_bytes * size) + 64, kOther);
        expected = data;
        for (int r = 0; r < size; r++)
          for (int64_t i = 0; i < own_bytes; i++)
            expected[static_cast<size_t>(r * own_bytes + i)] = sent_byte(r, call, part(own) + i);
        ranks.exchange(device, data.data(), from.data(), bounds);
        break;
      }
      case 2:    // broadcast
      case 3: {  // broadcast_host
        expected.assign(static_cast<size_t>(one) + 64, kOther);
        for (int64_t i = 0; i < one; i++) expected[static_cast<size_t>(i)] = sent_byte(root, call, i);
        data = own == root ? expected : std::vector<char>(expected.size(), kOther);
        kind == 2 ? ranks.broadcast(device, data.data(), one, root) : ranks.broadcast_host(data.data(), one, root);
        break;
      }
      case 4:  // all_gather_host
        data.assign(static_cast<size_t>(one * size) + 64, kOther);
        expected = data;
        for (int r = 0; r < size; r++)
          for (int64_t i = 0; i < one; i++) expected[static_cast<size_t>(r * one + i)] = sent_byte(r, call, i);
        std::copy(expected.begin() + own * one, expected.begin() + (own + 1) * one, data.begin() + own * one);
        ranks.all_gather_host(data.data(), one);
        break;
      default:
        ranks.barrier();
    }
    if (data != expected)
      return fmt::format("rank {} of {}: call {} of kind {}, parts {} … {}, {} bytes, root {}, differs at byte {}", own, size,
                         call, kind, bounds.front(), bounds.back(), one, root,
                         std::mismatch(data.begin(), data.end(), expected.begin()).first - data.begin());
  }
  return "";
}

}  // namespace tll
