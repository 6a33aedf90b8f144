// The model that the fuzzers of weights and adapters read for: so small that its files are short.
#pragma once

#include "src/files/config.h"
#include "src/files/quantization.h"

namespace tll::fuzz {

inline LlamaConfig tiny_model() {
  LlamaConfig c;
  c.quantization = std::make_shared<const Quantization>();
  c.vocab_size = 5, c.hidden = 4, c.intermediate = 3, c.layers = 2, c.heads = 2, c.kv_heads = 1, c.head_dim = 2;
  return c;
}

}  // namespace tll::fuzz
