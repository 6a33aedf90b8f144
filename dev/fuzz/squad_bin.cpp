// Covers: data/squad_bin.cpp data/dataset.cpp data/loader.cpp
#include <algorithm>
#include <cstring>

#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_dataset.h"
#include "tests/signed_prepared.h"

namespace tll::fuzz {

// With the right checksums, most often. Half of the changes are of one number of the layout, which is of 4 or 8 bytes.
std::string mutated(const std::string& bytes, Random& random) {
  if (bytes.size() < kPreparedBody || random.below(8) == 0) return mutated_bytes(bytes);
  std::string out = bytes;
  if (random.below(2)) {
    static const uint32_t kOdd[] = {0, 1, 2, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 100, uint32_t(-100)};
    const size_t begin = random.below(2) ? 0 : kPreparedBody;
    const size_t at = begin + random.below(begin ? std::max<size_t>(1, out.size() - begin) : 72) / 4 * 4;
    uint32_t number = 0;
    const size_t size = at < out.size() ? std::min(sizeof number, out.size() - at) : 0;
    std::memcpy(&number, out.data() + at, size);
    number = random.below(2) ? random.of(kOdd) : number + uint32_t(random.below(5)) - 2;
    std::memcpy(out.data() + at, &number, size);
  } else {
    out = out.substr(0, kPreparedBody) + mutated_bytes(out.substr(kPreparedBody));
  }
  sign(out);
  return out;
}

void read(std::string_view bytes) {
  use(parse_dataset(bytes, "squad.bin"));
  load_and_use("squad.bin", bytes, &fake_tokenizer(), {.max_tokens = 24, .vocab_size = 300});
}

}  // namespace tll::fuzz
