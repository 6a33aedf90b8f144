// The checksums of a squad.bin that was changed on purpose.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "data/squad_bin.h"

namespace tll {

// Makes every checksum fit again, where the sizes of the header let that be.
inline void sign(std::string& bytes) {
  if (bytes.size() < kPreparedBody) return;
  PreparedHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const PreparedLayout layout(header);
  if (layout.fits && layout.end == bytes.size()) {
    for (uint64_t c = 0; c < layout.chunks; ++c) {
      const uint64_t begin = kPreparedBody + c * kPreparedChunk, end = std::min(begin + kPreparedChunk, layout.documents);
      const uint64_t checksum = XXH3_64bits(bytes.data() + begin, end - begin);
      std::memcpy(bytes.data() + layout.checksums + c * sizeof checksum, &checksum, sizeof checksum);
    }
    header.table_checksum = XXH3_64bits(bytes.data() + layout.documents, layout.end - layout.documents);
    std::memcpy(bytes.data(), &header, sizeof header);
  }
  const uint64_t checksum = XXH3_64bits(bytes.data(), kPreparedBody - 8);
  std::memcpy(bytes.data() + kPreparedBody - 8, &checksum, 8);
}

}  // namespace tll
