#include "src/files/config.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string_view>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json_object.h"
#include "src/base/spelling.h"
#include "src/files/gguf_model.h"
#include "src/files/quantization.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char *kConfigFile = "config.json", *kGenerationFile = "generation_config.json";
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxLayers = 1024;                  // the largest published Llama has 126
constexpr int64_t kMaxParameters = int64_t(1) << 50;  // so that bytes never overflow
constexpr const char* kRopeTypes[] = {"default", "linear", "llama3", "dynamic", "yarn", "longrope"};  // in the order of RopeType

// What an absent key means, where the architectures differ. kv_heads 0: as many as query heads; head_dim 0: hidden_size / heads.
struct Defaults {
  const Architecture* architecture;
  int32_t kv_heads, head_dim, max_positions;
  double rms_eps;
  std::optional<int32_t> bos, eos, pad;
};
const Defaults kDefaults[] = {{&kLlama, 0, 0, 2048, 1e-6, 1, 2, {}},
                              {&kMistral, 8, 0, 131072, 1e-6, 1, 2, {}},
                              {&kQwen2, 32, 0, 32768, 1e-6, {}, {}, {}},
                              {&kQwen3, 32, 128, 32768, 1e-6, {}, {}, {}},
                              {&kPhi3, 0, 0, 4096, 1e-5, 1, 32000, 32000}};
const Defaults& defaults_of(const Architecture* architecture) {
  return *std::find_if(std::begin(kDefaults), std::end(kDefaults),
                       [&](const Defaults& d) { return d.architecture == architecture; });
}
constexpr int32_t kMistralWindow = 4096, kQwenWindow = 4096, kPhi3OriginalMax = 4096;
constexpr int64_t kQwenFullLayers = 28;  // max_window_layers

// Keys that leave the mathematics alone: bookkeeping, generation defaults, names of the original authors.
// clang-format off
constexpr std::string_view kHarmless[] = {
    "_name_or_path", "transformers_version", "use_cache", "initializer_range", "pretraining_tp", "return_dict",
    "output_hidden_states", "output_attentions", "torchscript", "is_llama_config", "transformers.js_config", "auto_map",
    "sliding_window", "use_sliding_window", "max_window_layers", "_attn_implementation", "_attn_implementation_autoset",
    "_flash_attn_2_enabled", "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "add_cross_attention",
    "cross_attention_hidden_size", "tie_encoder_decoder", "problem_type", "id2label", "label2id", "finetuning_task",
    "task_specific_params", "tokenizer_class", "prefix", "sep_token_id", "decoder_start_token_id", "pruned_heads",
    "use_bfloat16", "tf_legacy_loss", "max_sequence_length", "max_length", "min_length", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
    "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "unsloth_version", "unsloth_fixed",
    "_commit_hash"};
// clang-format on

// Keys that change the mathematics, and the values that do not.
const RefusedKeys kRefused[] = {
    {"null",
     {"attn_logit_softcapping", "final_logit_softcapping", "logit_softcapping", "attention_multiplier", "scale_depth",
      "query_pre_attn_scalar", "clip_qkv", "num_local_experts", "num_experts", "per_layer_config", "pruned_layers",
      "short_mscale", "long_mscale"}},
    {"1", {"rotary_pct", "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "scale_emb"}},
    {"false",
     {"rope_interleaved", "use_qk_norm", "qk_norm", "qk_layernorm", "alibi", "parallel_residual", "use_parallel_residual"}},
    {"[]", {"no_rope_layers"}}};
// Phi-3 has it. In the others transformers ignores it or fails, by the rope type.
const RefusedKeys kPartialRotary[] = {{"1", {"partial_rotary_factor"}}};

// The name of such a file that was made of a GGUF file.
std::string made_of(const fs::path& gguf, const char* file) { return fmt::format("{}, as a {}", gguf.string(), file); }

// Token ids: an integer or a list of them. -1 means none. An id outside the vocabulary is left out with a warning.
std::vector<int32_t> read_ids(JsonObject& object, const char* key, int32_t vocab_size, std::vector<std::string>& warnings) {
  std::vector<int32_t> result;
  int64_t outside = 0, first_outside = 0;
  for (const int64_t id : object.integers(key, -1, "a token id or a list of them")) {
    if (id >= vocab_size) {
      if (outside++ == 0) first_outside = id;
    } else if (id >= 0 && std::find(result.begin(), result.end(), id) == result.end()) {
      result.push_back(int32_t(id));
    }
  }
  if (outside > 0)
    warnings.push_back(fmt::format("{}: key \"{}\": id {}{} outside the vocabulary of {} and not used", object.where(), key,
                                   first_outside, outside == 1 ? " is" : fmt::format(" and {} more are", outside - 1),
                                   vocab_size));
  return result;
}

std::optional<int32_t> read_id(JsonObject& object, const char* key, int32_t vocab_size, std::vector<std::string>& warnings) {
  if (const Json* value = object.find(key); value && value->is_array()) object.wrong(key, "one token id", *value);
  const std::vector<int32_t> all = read_ids(object, key, vocab_size, warnings);
  return all.empty() ? std::nullopt : std::optional(all[0]);
}

// Whether a class is one of the architecture's: "LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", a classifier.
bool is_class_of(std::string_view name, const Architecture& architecture) {
  const std::string small = lower_case(name);
  const std::string_view rest = std::string_view(small).substr(std::min(small.size(), architecture.model_type.size()));
  return small.starts_with(architecture.model_type) && (rest.starts_with("for") || rest.starts_with("model"));
}

// AutoModelForCausalLM goes by model_type alone: the class may be spelt in another way, or be that of a body or a classifier.
const Architecture& read_architecture(JsonObject& reader, std::vector<std::string>& warnings) {
  std::string first;
  if (const Json* classes = reader.find("architectures")) {
    if (!classes->is_array()) reader.wrong("architectures", "a list", *classes);
    if (!classes->empty() && classes->at(0).is_string()) first = classes->at(0).get<std::string>();
  }
  const std::string type = reader.text("model_type");
  std::string known;
  for (const Architecture* architecture : architectures()) {
    if (type.empty() ? is_class_of(first, *architecture) : type == architecture->model_type) {
      if (!first.empty() && !is_class_of(first, *architecture))
        warnings.push_back(fmt::format("{}: architectures names {}; the model is read as {}, as model_type says", reader.where(),
                                       in_quotes(first), architecture->causal_lm));
      return *architecture;
    }
    known += (known.empty() ? "" : ", ") + std::string(architecture->model_type);
  }
  bad_file("{}: key \"model_type\": expected one of {}, found {}", reader.where(), known,
           type.empty() ? "nothing" : in_quotes(type));
}

// The window of each layer; empty: none has one. `layer_types` decides in Qwen. In the others transformers does not compute by
// it, so it must say what is computed.
std::vector<int32_t> read_windows(JsonObject& reader, const LlamaConfig& c) {
  const auto size = static_cast<size_t>(c.layers);
  const bool qwen = c.architecture == &kQwen2 || c.architecture == &kQwen3;
  int32_t window = 0;  // of the layers that have one
  int64_t first = 0;   // of them
  if (qwen) {
    const std::vector<int64_t> full = reader.integers("max_window_layers", 0, "a number of layers");
    if (full.size() > 1) reader.wrong("max_window_layers", "a number of layers", *reader.find("max_window_layers"));
    first = full.empty() ? kQwenFullLayers : full[0];
    if (reader.flag("use_sliding_window"))
      window = !reader.present("sliding_window") ? kQwenWindow
               : reader.find("sliding_window")   ? reader.size("sliding_window")
                                                 : 0;
  } else if (c.architecture == &kMistral || c.architecture == &kPhi3) {
    const int32_t absent = c.architecture == &kMistral ? kMistralWindow : 0;
    window = !reader.present("sliding_window") ? absent : reader.find("sliding_window") ? reader.size("sliding_window") : 0;
  }
  std::vector<int32_t> windows(size, 0);
  for (size_t l = 0; l < size; l++)
    if (static_cast<int64_t>(l) >= first) windows[l] = window;

  if (reader.find("layer_types")) {
    const std::vector<std::string> types = reader.strings("layer_types");
    if (types.size() != size)
      bad_file("{}: layer_types names {} layers, and num_hidden_layers is {}", reader.where(), types.size(), size);
    for (size_t l = 0; l < size; l++) {
      const bool slides = types[l] == "sliding_attention";
      if (!slides && types[l] != "full_attention")
        bad_file("{}: layer_types: expected \"full_attention\" or \"sliding_attention\", found {} for layer {}", reader.where(),
                 in_quotes(types[l]), l);
      if (qwen && window > 0) windows[l] = slides ? window : 0;
      if (slides != (windows[l] > 0))
        bad_file("{}: layer_types says {} for layer {}, and {} there; change one of them", reader.where(), types[l], l,
                 windows[l] > 0 ? fmt::format("every layer of this model has sliding_window {}", windows[l])
                 : qwen         ? "use_sliding_window and sliding_window give no window"
                                : "this model has no sliding_window");
    }
  }
  if (std::all_of(windows.begin(), windows.end(), [](int32_t w) { return w == 0; })) windows.clear();
  return windows;
}

// Reads what a rope type needs. `outer_max` is original_max_position_embeddings beside the object, if it is there. `outer_wins`:
// it overwrites that of the object.
void read_rope_type(JsonObject& object, const std::string& type, int32_t max_positions, std::optional<int32_t> outer_max,
                    bool outer_wins, RopeConfig& rope) {
  constexpr double kMost = 1e6;
  const auto required = [&](const char* key) {
    if (!object.present(key)) bad_file("{}: key \"{}\" is missing; rope type \"{}\" needs it", object.where(), key, type);
    return object.number(key, 0, 0, kMost);
  };
  const auto optional = [&](const char* key, double absent) {  // null and 0 count as absent
    const Json* value = object.find(key);
    return value && *value != 0 ? object.number(key, 0, 0, kMost) : absent;
  };
  const auto read_original_max = [&] {
    rope.original_max = object.size("original_max_position_embeddings", outer_max.value_or(max_positions));
    if (outer_wins) rope.original_max = *outer_max;
    if (outer_max && *outer_max != rope.original_max)
      bad_file(
          "{}: original_max_position_embeddings is {}, and {} outside the object: transformers 4 and 5 disagree on which "
          "counts; remove one",
          object.where(), rope.original_max, *outer_max);
  };
  const auto read_attention_factor = [&] {
    if (object.find("attention_factor")) rope.attention_factor = object.number("attention_factor", 1, 0, kMost);
  };
  switch (rope.type) {
    case RopeType::plain:
      break;
    case RopeType::linear:
      rope.factor = required("factor");
      break;
    case RopeType::dynamic:
      rope.factor = required("factor");
      rope.longest = max_positions;
      break;
    case RopeType::llama3:
      rope.factor = required("factor");
      rope.low = required("low_freq_factor");
      rope.high = required("high_freq_factor");
      read_original_max();
      if (rope.low >= rope.high)
        bad_file("{}: low_freq_factor {:g} must be below high_freq_factor {:g}", object.where(), rope.low, rope.high);
      break;
    case RopeType::yarn:
      read_original_max();
      read_attention_factor();
      rope.factor =
          object.present("factor") && !object.find("factor") ? double(max_positions) / rope.original_max : required("factor");
      rope.beta_fast = optional("beta_fast", rope.beta_fast);
      rope.beta_slow = optional("beta_slow", rope.beta_slow);
      rope.mscale = optional("mscale", 0);
      rope.mscale_all_dim = optional("mscale_all_dim", 0);
      rope.truncate = !object.present("truncate") || object.flag("truncate");
      if (rope.theta <= 1) bad_file("{}: rope type \"yarn\" needs a rope_theta above 1, found {:g}", object.where(), rope.theta);
      break;
    case RopeType::longrope:
      read_original_max();
      read_attention_factor();
      rope.factor = optional("factor", double(max_positions) / rope.original_max);
      for (const char* key : {"short_factor", "long_factor"})
        if (!object.find(key)) bad_file("{}: key \"{}\" is missing; rope type \"{}\" needs it", object.where(), key, type);
      rope.short_factor = object.numbers("short_factor", 0, kMost);
      rope.long_factor = object.numbers("long_factor", 0, kMost);
      if (rope.long_factor.size() != rope.short_factor.size())
        bad_file("{}: short_factor has {} numbers and long_factor {}", object.where(), rope.short_factor.size(),
                 rope.long_factor.size());
      if (rope.original_max < 2)
        bad_file("{}: original_max_position_embeddings must be above 1, found {}", object.where(), rope.original_max);
      break;
  }
}

// A rope_scaling that is not empty takes precedence over rope_parameters; inside, rope_type over type (transformers 5).
RopeConfig read_rope(JsonObject& reader, const LlamaConfig& c, std::vector<std::string>& warnings) {
  const bool phi3 = c.architecture == &kPhi3;
  RopeConfig rope;
  rope.theta = reader.number("rope_theta", 10000, 0, 1e30);
  const Json* chosen = nullptr;
  const char* name = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* object = reader.find(key);
    if (!object) continue;
    if (!object->is_object()) reader.wrong(key, "an object", *object);
    if (!chosen && !object->empty()) chosen = object, name = key;
  }
  std::optional<int32_t> outer_max;
  if (reader.find("original_max_position_embeddings")) outer_max = reader.size("original_max_position_embeddings");
  if (phi3 && !outer_max) outer_max = kPhi3OriginalMax;
  if (phi3)
    rope.partial = reader.number("partial_rotary_factor", 1, 0, 1);
  else
    reader.refuse(kPartialRotary);
  if (!chosen) return rope;

  JsonObject inner(*chosen, fmt::format("{}: in \"{}\"", reader.where(), name));
  const std::string legacy = inner.text("type");
  std::string type = inner.present("rope_type") ? inner.text("rope_type") : legacy.empty() ? "default" : legacy;
  if (phi3 && (type == "su" || type == "yarn")) type = rope_type_name(RopeType::longrope);  // its older names
  rope.theta = inner.number("rope_theta", rope.theta, 0, 1e30);
  if (phi3) rope.partial = inner.number("partial_rotary_factor", rope.partial, 0, 1);
  std::string known;
  bool found = false;
  for (const RopeType t :
       {RopeType::plain, RopeType::linear, RopeType::dynamic, RopeType::yarn, RopeType::llama3, RopeType::longrope}) {
    if (phi3 && t != RopeType::plain && t != RopeType::longrope) continue;
    if (type == rope_type_name(t)) rope.type = t, found = true;
    known += (known.empty() ? "" : ", ") + std::string(rope_type_name(t));
  }
  if (!found) bad_file("{}: rope type {} is not supported; these are: {}", inner.where(), in_quotes(type), known);
  read_rope_type(inner, type, c.max_positions, outer_max, phi3, rope);
  inner.refuse(kRefused);
  if (!phi3) inner.refuse(kPartialRotary);
  inner.warn_unknown({}, warnings);
  return rope;
}

void check_sizes(const LlamaConfig& c, bool head_dim_given, const std::string& where) {
  if (c.hidden % c.heads != 0)
    bad_file("{}: hidden_size {} is not a multiple of num_attention_heads {}{}", where, c.hidden, c.heads,
             head_dim_given ? " (transformers refuses this even with head_dim)" : "");
  if (c.heads % c.kv_heads != 0)
    bad_file("{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", where, c.heads, c.kv_heads);
  if (c.head_dim % 2 != 0) bad_file("{}: head_dim {} is odd: rotary embedding turns pairs", where, c.head_dim);
  if (c.layers > kMaxLayers) bad_file("{}: num_hidden_layers {} is above {}", where, c.layers, kMaxLayers);
  // Each factor is below 2^31, so these products fit in 64 bits.
  const int64_t qkv_rows = (int64_t(c.heads) + 2 * int64_t(c.kv_heads)) * c.head_dim;
  if (qkv_rows > kInt32Max) bad_file("{}: heads times head_dim is {} rows, more than 2147483647", where, qkv_rows);
  if (2 * int64_t(c.intermediate) > kInt32Max) bad_file("{}: intermediate_size {} is too large", where, c.intermediate);
  const double parameters =
      2.0 * c.vocab_size * c.hidden + double(c.layers) * c.hidden * (2.0 * double(qkv_rows) + 3.0 * c.intermediate);
  if (parameters > double(kMaxParameters))
    bad_file("{}: these sizes make {:.3g} parameters: more than any machine holds", where, parameters);
}

}  // namespace

const char* rope_type_name(RopeType type) { return kRopeTypes[size_t(type)]; }

LlamaConfig parse_config(std::string_view text, const std::string& where) {
  const Json root = parse_json(text, where);
  JsonObject reader(root, where);
  LlamaConfig c;
  c.architecture = &read_architecture(reader, c.warnings);
  const Defaults& absent = defaults_of(c.architecture);
  const Json* quantised = reader.find("quantization_config");
  if (quantised && !quantised->is_object()) reader.wrong("quantization_config", "an object", *quantised);
  reader.refuse(kRefused);

  c.vocab_size = reader.size("vocab_size");
  c.hidden = reader.size("hidden_size");
  c.intermediate = reader.size("intermediate_size");
  c.layers = reader.size("num_hidden_layers");
  c.heads = reader.size("num_attention_heads");
  c.kv_heads = reader.size("num_key_value_heads",
                           reader.present("num_key_value_heads") || absent.kv_heads == 0 ? c.heads : absent.kv_heads);
  const bool head_dim_given = reader.find("head_dim") != nullptr;
  c.head_dim = reader.size("head_dim", absent.head_dim > 0 ? absent.head_dim : std::max(1, c.hidden / c.heads));
  c.max_positions = reader.size("max_position_embeddings", absent.max_positions);
  c.rms_eps = reader.number("rms_norm_eps", absent.rms_eps, 0, 1);
  c.tie_embeddings = reader.flag("tie_word_embeddings");
  for (const auto& [key, used, value] :
       {std::tuple("attention_bias", c.architecture == &kLlama || c.architecture == &kQwen3, &c.attention_bias),
        std::tuple("mlp_bias", c.architecture == &kLlama, &c.mlp_bias)}) {
    const bool given = reader.flag(key);
    if (used) *value = given;
    if (given && !used) c.warnings.push_back(fmt::format("{}: {} is not used by {}", where, key, c.architecture->causal_lm));
  }
  check_sizes(c, head_dim_given, where);
  if (quantised) c.quantization = parse_quantization(*quantised, c, where);

  if (const std::string act = lower_case(reader.text("hidden_act")); !act.empty() && act != "silu" && act != "swish")
    bad_file("{}: key \"hidden_act\": expected \"silu\" (or \"swish\"), found {}", where, in_quotes(act));
  if (const Json* dropout = reader.find("attention_dropout"); dropout && *dropout != 0)
    c.warnings.push_back(fmt::format("{}: attention_dropout {} is not applied", where, shown(*dropout)));
  for (const char* key : {"resid_pdrop", "embd_pdrop"})
    if (const Json* dropout = reader.find(key); dropout && *dropout != 0)
      c.warnings.push_back(fmt::format("{}: {} {} is not applied", where, key, shown(*dropout)));
  c.windows = read_windows(reader, c);
  c.rope = read_rope(reader, c, c.warnings);
  if (c.rotary_dim() < 2 || c.rotary_dim() % 2 != 0)
    bad_file("{}: partial_rotary_factor {:g} turns {} of the {} values of a head; expected an even number above 0", where,
             c.rope.partial, c.rotary_dim(), c.head_dim);
  if (const size_t n = c.rope.short_factor.size(); c.rope.type == RopeType::longrope && n != size_t(c.rotary_dim() / 2))
    bad_file("{}: short_factor and long_factor have {} numbers; heads of {} values need {}", where, n, c.head_dim,
             c.rotary_dim() / 2);
  if (c.rope.type == RopeType::dynamic && c.head_dim <= 2) bad_file("{}: rope type \"dynamic\" needs a head_dim above 2", where);
  c.bos = absent.bos, c.pad = absent.pad, c.eos.clear();
  if (absent.eos) c.eos.push_back(*absent.eos);
  if (reader.present("bos_token_id")) c.bos = read_id(reader, "bos_token_id", c.vocab_size, c.warnings);
  if (reader.present("eos_token_id")) c.eos = read_ids(reader, "eos_token_id", c.vocab_size, c.warnings);
  std::erase_if(c.eos, [&](int32_t id) { return id >= c.vocab_size; });  // the default, in a small vocabulary
  if (c.bos && *c.bos >= c.vocab_size) c.bos.reset();
  if (reader.present("pad_token_id")) c.pad = read_id(reader, "pad_token_id", c.vocab_size, c.warnings);
  if (c.pad && *c.pad >= c.vocab_size) c.pad.reset();
  const std::string older = reader.text("torch_dtype"), newer = reader.text("dtype");
  c.dtype = newer.empty() ? older : newer;
  reader.warn_unknown(kHarmless, c.warnings);
  return c;
}

LlamaConfig load_config(const fs::path& directory_or_file) {
  if (is_gguf(directory_or_file)) {
    std::vector<std::string> notes;
    const auto files = gguf_config_files(GgufModel(directory_or_file), &notes);
    LlamaConfig config = parse_config(files.at(kConfigFile), made_of(directory_or_file, kConfigFile));
    config.warnings.insert(config.warnings.begin(), notes.begin(), notes.end());
    return config;
  }
  const fs::path path = fs::is_directory(directory_or_file) ? directory_or_file / kConfigFile : directory_or_file;
  return parse_config(read_file(path), path.string());
}

std::vector<int32_t> load_generation_eos(const fs::path& directory, const LlamaConfig& config) {
  std::vector<int32_t> ids = config.eos;
  const fs::path path = directory / kGenerationFile;
  const bool gguf = is_gguf(directory);
  if (!gguf && !fs::exists(path)) return ids;
  const std::string where = gguf ? made_of(directory, kGenerationFile) : path.string();
  const Json root = parse_json(gguf ? gguf_config_files(GgufModel(directory)).at(kGenerationFile) : read_file(path), where);
  std::vector<std::string> outside;  // warnings that are dropped: such ids cannot be generated
  JsonObject reader(root, where);
  for (const int32_t id : read_ids(reader, "eos_token_id", config.vocab_size, outside)) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

}  // namespace tll
