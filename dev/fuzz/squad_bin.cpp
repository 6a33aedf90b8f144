// Covers: data/squad_bin.cpp data/loader.cpp
#include <xxhash.h>

#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_dataset.h"

namespace tll::fuzz {

// With the right checksum, most often. Half of the changes are of one number of the layout, which is of 4 or 8 bytes.
std::string mutated(const std::string& bytes, Random& random) {
  if (bytes.size() < sizeof(uint64_t) || random.below(8) == 0) return mutated_bytes(bytes);
  std::string body = bytes.substr(0, bytes.size() - sizeof(uint64_t));
  if (random.below(2) && body.size() >= 8) {
    static const uint32_t kOdd[] = {0, 1, 2, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 100, uint32_t(-100)};
    const size_t at = (random.below(2) ? random.below(std::min<size_t>(body.size(), 120)) : random.below(body.size())) / 4 * 4;
    uint32_t number = 0;
    const size_t size = std::min(sizeof number, body.size() - at);
    std::memcpy(&number, body.data() + at, size);
    number = random.below(2) ? random.of(kOdd) : number + uint32_t(random.below(5)) - 2;
    std::memcpy(body.data() + at, &number, size);
  } else {
    body = mutated_bytes(body);
  }
  const uint64_t checksum = XXH3_64bits(body.data(), body.size());
  return body.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
}

void read(std::string_view bytes) {
  use(parse_dataset(bytes, "squad.bin"));
  load_and_use("squad.bin", bytes, &fake_tokenizer(), {.max_tokens = 24, .vocab_size = 300});
}

}  // namespace tll::fuzz
