// What servers of models ask of an adapter.
#pragma once

#include <cstdint>

namespace tll {

// The --max-lora-rank with which vLLM loads an adapter of this rank: it takes these alone (config/lora.py), 16 where none is
// given. Above the largest: the largest, and vLLM refuses the adapter.
inline int64_t vllm_lora_rank(int64_t rank) {
  for (const int64_t allowed : {16, 32, 64, 128, 256, 320, 512})
    if (rank <= allowed) return allowed;
  return 512;
}

}  // namespace tll
