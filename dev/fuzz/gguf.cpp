// Covers: src/files/gguf_file.cpp src/files/gguf_model.cpp src/files/gguf_config.cpp src/files/gguf_tokenizer.cpp
#include "data/template.h"
#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_tokenizer.h"
#include "src/base/text_files.h"
#include "src/files/gguf_file.h"
#include "src/files/gguf_model.h"
#include "src/files/model_files.h"
#include "tests/gguf_bytes.h"

namespace tll::fuzz {
namespace {

constexpr const char* kWords[] = {"general.architecture",
                                  "general.type",
                                  "general.alignment",
                                  "general.name",
                                  "split.count",
                                  "split.no",
                                  "llama.block_count",
                                  "llama.vocab_size",
                                  "llama.context_length",
                                  "llama.embedding_length",
                                  "llama.feed_forward_length",
                                  "llama.attention.head_count",
                                  "llama.attention.head_count_kv",
                                  "llama.attention.key_length",
                                  "llama.attention.sliding_window",
                                  "llama.expert_count",
                                  "llama.rope.freq_base",
                                  "llama.rope.dimension_count",
                                  "llama.rope.scaling.type",
                                  "llama.rope.scaling.factor",
                                  "llama.rope.scaling.original_context_length",
                                  "tokenizer.ggml.model",
                                  "tokenizer.ggml.pre",
                                  "tokenizer.ggml.tokens",
                                  "tokenizer.ggml.scores",
                                  "tokenizer.ggml.token_type",
                                  "tokenizer.ggml.merges",
                                  "tokenizer.ggml.bos_token_id",
                                  "tokenizer.ggml.eos_token_id",
                                  "tokenizer.ggml.add_bos_token",
                                  "tokenizer.ggml.add_space_prefix",
                                  "tokenizer.chat_template",
                                  "llama",
                                  "qwen2",
                                  "qwen3",
                                  "phi3",
                                  "gpt2",
                                  "smollm",
                                  "llama-bpe",
                                  "adapter",
                                  "yarn",
                                  "longrope",
                                  "linear",
                                  "token_embd.weight",
                                  "output.weight",
                                  "rope_freqs.weight",
                                  "rope_factors_long.weight",
                                  "blk.0.attn_q.weight",
                                  "blk.0.attn_q.bias"};

// The parts of a file, leniently; nothing if they do not end within it.
std::optional<GgufBytes> parts_of(const std::string& bytes) {
  constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  size_t at = 8;
  bool whole = true;
  const auto number = [&](size_t size) {
    uint64_t value = 0;
    if (size > bytes.size() - std::min(at, bytes.size())) return whole = false, value;
    std::memcpy(&value, bytes.data() + at, size);
    at += size;
    return value;
  };
  const auto skip = [&](uint64_t size) {
    if (size > bytes.size() - at) return void(whole = false);
    at += size;
  };
  const auto string = [&] {
    const uint64_t size = number(8);
    const size_t begin = at;
    skip(size);
    return whole ? bytes.substr(begin, size) : "";
  };
  GgufBytes g;
  const uint64_t tensors = number(8), pairs = number(8);
  for (uint64_t i = 0; whole && i < pairs; ++i) {
    const std::string key = string();
    const size_t begin = at;
    uint64_t type = number(4), count = 1;
    if (type == 9) type = number(4), count = number(8);
    if (!whole || type > 12 || count > bytes.size()) return std::nullopt;
    for (uint64_t k = 0; whole && k < count; ++k) type == 8 ? void(string()) : skip(kSizes[type]);
    if (whole) g.pairs.emplace_back(key, bytes.substr(begin, at - begin));
  }
  for (uint64_t i = 0; whole && i < tensors; ++i) {
    GgufBytes::Tensor& t = g.tensors.emplace_back();
    t.name = string();
    for (uint64_t d = number(4); whole && d > 0; --d) t.shape.insert(t.shape.begin(), int64_t(number(8)));
    t.type = uint32_t(number(4));
    number(8);
  }
  return whole ? std::optional(g) : std::nullopt;
}

// Data of the sizes that the tensors say, so that what a change of them breaks is not always the end of the file.
void fill(GgufBytes& g, Random& random) {
  for (GgufBytes::Tensor& t : g.tensors) {
    const GgufTypeRow* row = gguf_type_row(t.type);
    uint64_t size = row ? uint64_t(row->bytes) : 4;
    for (const int64_t s : t.shape) size = std::min<uint64_t>(4096, size * std::min<uint64_t>(4096, uint64_t(s)));
    t.data.assign(row ? size / uint64_t(row->block) : size, char(random.below(256)));
  }
}

}  // namespace

std::string mutated(const std::string& bytes, Random& random) {
  std::optional<GgufBytes> g = bytes.starts_with("GGUF") && random.below(5) ? parts_of(bytes) : std::nullopt;
  if (!g) return mutated_bytes(bytes);
  for (size_t i = 0; i <= random.below(3); ++i) {
    const bool pair = !g->pairs.empty() && (g->tensors.empty() || random.below(3));
    if (pair) {
      const size_t place = random.below(g->pairs.size());
      auto& [key, value] = g->pairs[place];
      switch (random.below(6)) {
        case 0:
          key = random.of(kWords);
          break;
        case 1:
          value = gguf_raw(8u) + gguf_string(random.of(kWords));
          break;
        case 2:
          value = gguf_raw(4u) + gguf_raw(uint32_t(random.below(2) ? random.below(8) : ~size_t{0} >> random.below(40)));
          break;
        case 3:
          value = g->pairs[random.below(g->pairs.size())].second;
          break;
        case 4:
          g->pairs.erase(g->pairs.begin() + std::ptrdiff_t(place));
          break;
        default:
          value = mutated_bytes(value);
      }
    } else if (!g->tensors.empty()) {
      GgufBytes::Tensor& t = g->tensors[random.below(g->tensors.size())];
      if (random.below(3) == 0) t.name = random.below(2) ? random.of(kWords) : mutated_bytes(t.name);
      if (random.below(3) == 0) t.type = uint32_t(random.below(32));
      if (!t.shape.empty() && random.below(3) == 0) t.shape[random.below(t.shape.size())] = int64_t(random.below(300));
    }
  }
  fill(*g, random);
  return g->bytes();
}

void read(std::string_view bytes) {
  static const TemporaryDirectory directory;
  const auto path = directory / "model.gguf";
  put(path, bytes);
  const GgufFile file(path);
  uint64_t sum = 0;
  for (const GgufTensor& t : file.tensors())
    for (const std::byte byte : file.bytes(t)) sum += uint64_t(byte);
  TLL_CHECK(sum <= 255 * bytes.size(), "sum {}", sum);
  for (const std::string_view key : file.keys()) check_line(file.shown(key));
  completes([&] {
    const GgufModel model(path);
    completes([&] {
      std::vector<std::string> notes;
      const TextFiles files(path, gguf_tokenizer_files(model, &notes));
      check_lines(notes);
      completes([&] { use(*Tokenizer::read(files)); });
      completes([&] { (void)read_chat_template(files); });
    });
    const LlamaConfig config = load_config(path);
    check_lines(config.warnings);
    load_generation_eos(path, config);
    const ModelFiles weights(path, config);
    for (const WeightSpec& spec : weight_specs(config)) {
      const int64_t count = std::min<int64_t>(element_count(spec.shape), 1 << 16);
      std::vector<float> values(static_cast<size_t>(count));
      for (const DType to : {DType::f32, DType::bf16, DType::f16})
        completes([&] { weights.load(spec.name, values.data(), to, 0, count); });
    }
  });
}

}  // namespace tll::fuzz
