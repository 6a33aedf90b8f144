// CRC-32C (Castagnoli; RFC 3720, appendix B.4), and the masked form in which TFRecord files hold it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tll {

namespace detail {

constexpr std::array<uint32_t, 256> crc32c_table() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41 with its bits reversed
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); byte++) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; bit++) remainder = (remainder >> 1) ^ (remainder & 1 ? kPolynomial : 0);
    table[byte] = remainder;
  }
  return table;
}

}  // namespace detail

constexpr uint32_t crc32c(std::string_view bytes) {
  constexpr std::array<uint32_t, 256> kTable = detail::crc32c_table();
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

// A checksum of data that holds checksums itself is weak: the mask makes it another number.
constexpr uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace tll
