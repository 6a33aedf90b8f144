// The tensor types of GGUF, and what a GGUF file calls a model's tensors.
//
// Source: ggml's docs/gguf.md and ggml.h (numbers, blocks); llama.cpp's gguf-py/gguf/constants.py (names of tensors and
// architectures) and its converter (the order of rows of q and k).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/files/config.h"

namespace tll {

// With the numbers of the file.
enum class GgufType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  BF16 = 30
};

// A type that is read: `block` elements along a row take `bytes` bytes.
struct GgufTypeRow {
  GgufType type;
  std::string_view name;
  int32_t block, bytes;
};
// Null: this number is not of a type that is read.
const GgufTypeRow* gguf_type_row(uint32_t number);
const GgufTypeRow& gguf_type_row(GgufType type);
// Of any number that ggml has had, for errors: "IQ4_XS". Empty: unknown.
std::string_view gguf_type_name(uint32_t number);

// general.architecture of a file with this model: "llama" (Mistral, too), "qwen2", "qwen3", "phi3".
std::string_view gguf_architecture(const LlamaConfig& config);
// "blk.3.attn_q.weight" for "model.layers.3.self_attn.q_proj.weight". Empty: GGUF has no such tensor.
std::string gguf_tensor_name(const LlamaConfig& config, std::string_view name);
// The other way. Empty: the model has no such tensor.
std::string hf_tensor_name(const LlamaConfig& config, std::string_view gguf_name);

// Whether the file has the rows of this tensor (q_proj or k_proj, weight or bias) in another order: llama.cpp turns adjacent
// pairs in architecture "llama". With D = head_dim, row h·D + 2i + p of the file is row h·D + p·D/2 + i of Hugging Face's.
bool gguf_rows_are_paired(const LlamaConfig& config, std::string_view name);
// The row of the file where row `row` of Hugging Face's is.
inline int64_t gguf_paired_row(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim, half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

}  // namespace tll
