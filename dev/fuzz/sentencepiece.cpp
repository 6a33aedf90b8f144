// Covers: tokenizer/sentencepiece.cpp tokenizer/sentencepiece_model.cpp
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_tokenizer.h"

namespace tll::fuzz {
namespace {

// The fields of a protobuf message, one string each; what cannot be understood is the last.
std::vector<std::string> fields(const std::string& bytes) {
  std::vector<std::string> out;
  for (size_t at = 0; at < bytes.size();) {
    const size_t start = at;
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0; at < bytes.size(); shift += 7) {
        const auto byte = uint8_t(bytes[at++]);
        value |= uint64_t(byte & 0x7F) << (shift & 63);
        if (byte < 0x80) break;
      }
      return value;
    };
    const uint64_t type = varint() & 7;
    const uint64_t size = type == 0 ? (varint(), 0) : type == 1 ? 8 : type == 2 ? varint() : type == 5 ? 4 : bytes.size();
    at += std::min<uint64_t>(size, bytes.size() - at);
    out.push_back(bytes.substr(start, at - start));
  }
  return out;
}

// A message inside a message after a change, with its new length in front.
std::string mutated_message(const std::string& field, Random& random, int depth) {
  if (field.size() < 2 || (uint8_t(field[0]) & 0x87) != 2 || field[1] & 0x80) return mutated_bytes(field);
  std::string inside = field.substr(2);
  if (depth > 0) {
    std::vector<std::string> parts = fields(inside);
    if (!parts.empty()) {
      std::string& part = parts[random.below(parts.size())];
      part = mutated_message(part, random, depth - 1);
      if (random.below(4) == 0) part.clear();
      inside.clear();
      for (const std::string& p : parts) inside += p;
    }
  } else {
    inside = mutated_bytes(inside);
  }
  std::string out(1, field[0]);
  for (size_t size = inside.size();; size >>= 7) {
    out += char(size >= 0x80 ? size | 0x80 : size);
    if (size < 0x80) break;
  }
  return out + inside;
}

}  // namespace

std::string mutated(const std::string& bytes, Random& random) {
  std::vector<std::string> all = fields(bytes);
  if (all.empty() || random.below(4) == 0) return mutated_bytes(bytes);
  for (size_t i = 0; i <= random.below(3); ++i) {
    const size_t at = random.below(8) ? random.below(all.size()) : all.size() - 1 - random.below(std::min<size_t>(2, all.size()));
    if (random.below(8) == 0)
      all.insert(all.begin() + std::ptrdiff_t(random.below(all.size() + 1)), all[at]);
    else if (random.below(16) == 0 && all.size() > 1)
      all.erase(all.begin() + std::ptrdiff_t(at));
    else
      all[at] = mutated_message(all[at], random, int(random.below(3)));
  }
  std::string out;
  for (const std::string& field : all) out += field;
  return out;
}

void read(std::string_view bytes) { load_and_use("tokenizer.model", bytes); }

}  // namespace tll::fuzz
