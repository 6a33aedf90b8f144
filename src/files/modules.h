// The table of modules of each architecture: what a checkpoint calls its tensors, and where the engine keeps them.
//
// The engine joins matrices that share an input: q, k and v are rows of one matrix, so that one GEMM computes them. A row of the
// table says to which joint matrix a module of the checkpoint belongs. The modules of a joint matrix are stacked in the order of
// the table. Everything else is derived from the rows: the checkpoint's tensors, the engine's matrices, the modules that an
// adapter may name, PEFT's names, the number of flops.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

struct LlamaConfig;

// The engine's matrices and vectors: of each block, and outside the blocks.
enum class Joint : uint8_t { embed, norm1, qkv, q_norm, k_norm, o, norm2, gate_up, down, final_norm, head };
const char* joint_name(Joint);

struct ModuleRow {
  std::string_view name;  // in a block: without "model.layers.N."; else the whole name
  Joint joint;
  int64_t (*rows)(const LlamaConfig&);            // 0: this model has no such module
  int64_t (*cols)(const LlamaConfig&) = nullptr;  // null: a vector, such as a norm
  bool (*bias)(const LlamaConfig&) = nullptr;     // null: never
  bool adaptable = false;                         // a linear layer that may have a LoRA adapter
  std::string_view parts = {};                    // where the checkpoint has them in one module: "q_proj k_proj v_proj"
};

struct Architecture {
  std::string_view model_type, causal_lm;  // "llama", "LlamaForCausalLM"
  std::span<const ModuleRow> outside_first, block, outside_last;
};
extern const Architecture kLlama, kMistral, kQwen2, kQwen3, kPhi3;
std::span<const Architecture* const> architectures();
// Null: no such architecture is known.
const Architecture* architecture_of(std::string_view model_type);

// The short names of the adaptable modules of all architectures, each once, in the order of the tables: "q_proj", …
const std::vector<std::string_view>& adaptable_names();
// Those of one model.
std::vector<std::string_view> adaptable_names(const Architecture&);

// A module of one model: y = W x with W (rows, cols), or a vector (rows).
struct Module {
  std::string name;  // "model.layers.3.self_attn.q_proj"
  int layer;         // -1: outside the blocks
  Joint joint;
  int64_t first_row, rows;  // of the joint matrix
  int64_t cols;             // 0: a vector
  bool bias, adaptable;
  std::string_view parts = {};

  std::string_view short_name() const;  // "q_proj"
  std::vector<std::string_view> part_names() const;
  // Whether one of these names means the module: its short name, or that of a part.
  bool is_among(const std::vector<std::string>& names) const;
  // Of its tensor NAME.weight.
  std::vector<int64_t> shape() const { return cols > 0 ? std::vector{rows, cols} : std::vector{rows}; }
};

// All modules of the model, in the order of the forward pass.
std::vector<Module> modules(const LlamaConfig&);
// Those that may have an adapter, in the same order.
std::vector<Module> adaptable_modules(const LlamaConfig&);

// A tensor of the checkpoint: NAME.weight, followed by NAME.bias if the module has a bias.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<WeightSpec> weight_specs(const LlamaConfig&);
int64_t element_count(const std::vector<int64_t>& shape);
int64_t parameter_count(const LlamaConfig&);

}  // namespace tll
