// What the metadata of a GGUF file say, as a config.json.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <numbers>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/files/gguf_model.h"

namespace tll {
namespace {

constexpr const char* kArchitecture = "general.architecture";
constexpr const char *kRopeFreqs = "rope_freqs.weight", *kLong = "rope_factors_long.weight",
                     *kShort = "rope_factors_short.weight";
constexpr double kTheta = 10000;  // where freq_base is absent

// Keys behind "ARCHITECTURE." that are read below, or change nothing.
constexpr std::string_view kRead[] = {"vocab_size",
                                      "context_length",
                                      "embedding_length",
                                      "block_count",
                                      "feed_forward_length",
                                      "attention.head_count",
                                      "attention.head_count_kv",
                                      "attention.key_length",
                                      "attention.value_length",
                                      "attention.layer_norm_rms_epsilon",
                                      "attention.sliding_window",
                                      "rope.dimension_count",
                                      "rope.freq_base",
                                      "rope.scale_linear",
                                      "rope.scaling.type",
                                      "rope.scaling.factor",
                                      "rope.scaling.original_context_length",
                                      "rope.scaling.attn_factor",
                                      "rope.scaling.finetuned",
                                      "rope.scaling.yarn_beta_fast",
                                      "rope.scaling.yarn_beta_slow",
                                      "tensor_data_layout"};
// Keys that change the mathematics, and beside 0 the value that does not.
struct Refused {
  std::string_view key;
  double off = 0;
};
constexpr Refused kRefused[] = {{"expert_count"},
                                {"expert_used_count"},
                                {"logit_scale"},
                                {"residual_scale", 1},
                                {"embedding_scale", 1},
                                {"attention.scale"},
                                {"attention.output_scale", 1},
                                {"attention.temperature_scale"},
                                {"attention.temperature_length"},
                                {"attn_logit_softcapping"},
                                {"final_logit_softcapping"},
                                {"attention.max_alibi_bias"},
                                {"attention.clamp_kqv"},
                                {"attention.sliding_window_pattern", 1},
                                {"attention.shared_kv_layers"},
                                {"attention.key_length_mla"},
                                {"attention.q_lora_rank"},
                                {"attention.kv_lora_rank"},
                                {"leading_dense_block_count"},
                                {"nextn_predict_layers"},
                                {"pooling_type"},
                                {"rope.dimension_sections"},
                                {"rope.scaling.alpha"},
                                {"rope.scaling.yarn_ext_factor", 1},
                                {"rope.scaling.yarn_attn_factor", 1},
                                {"rope.scaling.yarn_log_multiplier"}};

// An f32 as people wrote it: 1e-05, where its double is 9.99999974737875e-06.
double written(double value) {
  const auto single = static_cast<float>(value);
  return static_cast<double>(single) == value ? std::strtod(fmt::format("{}", single).c_str(), nullptr) : value;
}

class ConfigMaker {
 public:
  ConfigMaker(const GgufModel& model, std::vector<std::string>* notes)
      : model_(model), file_(model.metadata()), where_(file_.path().string()), notes_(notes) {
    const auto name = file_.text(kArchitecture);
    if (!name) bad_file("{}: key \"{}\" is missing; {}", where_, kArchitecture, "download the file again");
    architecture_ = std::string(*name);
    constexpr std::string_view kKnown[] = {"llama", "qwen2", "qwen3", "phi3"};
    if (std::find(std::begin(kKnown), std::end(kKnown), architecture_) == std::end(kKnown))
      bad_file("{}: key \"{}\": expected {}, found {}: this family is not supported", where_, kArchitecture,
               fmt::join(kKnown, ", "), in_quotes(architecture_));
    check_keys();
  }

  Json config() {
    const int64_t hidden = required("embedding_length"), heads = required("attention.head_count");
    const auto width = model_.find("token_embd.weight").tensor;
    if (!width) bad_file("{}: tensor token_embd.weight is missing; this is not a whole model", where_);
    const int64_t vocabulary = width->shape.front();
    if (const auto said = integer("vocab_size"); said && *said != vocabulary)
      bad_file("{}: key {} is {}, but token_embd.weight has {} rows; convert the model again", where_,
               in_quotes(full("vocab_size")), *said, vocabulary);
    if (heads < 1 || hidden < 1) bad_file("{}: {} heads and {} values of a token: expected at least 1", where_, heads, hidden);
    head_dim_ = integer("attention.key_length").value_or(hidden / heads);
    if (head_dim_ < 1) bad_file("{}: heads of {} values: expected at least 1", where_, head_dim_);
    if (integer("attention.value_length").value_or(head_dim_) != head_dim_)
      file_.wrong(full("attention.value_length"), fmt::format("{}, the length of keys", head_dim_));
    context_ = required("context_length");

    Json c = {{"vocab_size", vocabulary},
              {"hidden_size", hidden},
              {"intermediate_size", required("feed_forward_length")},
              {"num_hidden_layers", required("block_count")},
              {"num_attention_heads", heads},
              {"num_key_value_heads", integer("attention.head_count_kv").value_or(heads)},
              {"head_dim", head_dim_},
              {"hidden_act", "silu"},
              {"max_position_embeddings", context_},
              {"rms_norm_eps", written(required_number("attention.layer_norm_rms_epsilon"))},
              {"tie_word_embeddings", !model_.find("output.weight").tensor},
              {"torch_dtype", dtype()}};
    set_window(c);
    set_rope(c);
    if (architecture_ == "llama" || architecture_ == "qwen3") c["attention_bias"] = has_bias("attn_q");
    if (architecture_ == "llama") c["mlp_bias"] = has_bias("ffn_down");
    const Architecture& hf = *architecture_of(c["model_type"].get<std::string>());
    c["architectures"] = {hf.causal_lm};
    set_tokens(c);
    return c;
  }

  // The ends of a text are those of the tokenizer, and of a turn or a message where they are named.
  Json generation(const Json& config) const {
    Json g = Json::object();
    for (const char* key : {"bos_token_id", "pad_token_id"})
      if (!config[key].is_null()) g[key] = config[key];
    Json ends = Json::array();
    if (!config["eos_token_id"].is_null()) ends.push_back(config["eos_token_id"]);
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
      if (const auto id = file_.integer(key); id && std::find(ends.begin(), ends.end(), Json(*id)) == ends.end())
        ends.push_back(*id);
    if (!ends.empty()) g["eos_token_id"] = ends.size() == 1 ? ends[0] : ends;
    return g;
  }

 private:
  std::string full(std::string_view key) const { return fmt::format("{}.{}", architecture_, key); }
  std::optional<int64_t> integer(std::string_view key) const { return file_.integer(full(key)); }
  std::optional<double> number(std::string_view key) const { return file_.number(full(key)); }
  int64_t required(std::string_view key) const {
    const auto value = integer(key);
    if (!value) missing(key);
    return *value;
  }
  double required_number(std::string_view key) const {
    const auto value = number(key);
    if (!value) missing(key);
    return *value;
  }
  [[noreturn]] void missing(std::string_view key) const {
    bad_file("{}: key {} is missing; convert the model again", where_, in_quotes(full(key)));
  }

  void check_keys() {
    const std::string prefix = architecture_ + ".";
    size_t unknown = 0;
    constexpr size_t kShown = 5;
    for (const std::string_view key : file_.keys()) {
      if (!key.starts_with(prefix)) continue;
      const std::string_view rest = key.substr(prefix.size());
      if (std::find(std::begin(kRead), std::end(kRead), rest) != std::end(kRead)) continue;
      const auto refused =
          std::find_if(std::begin(kRefused), std::end(kRefused), [&](const Refused& r) { return r.key == rest; });
      if (refused != std::end(kRefused)) {
        const auto value = file_.number(key);
        if (*value != 0 && *value != refused->off)
          bad_file("{}: key {} is {}: it changes what the model computes, and is not implemented", where_, in_quotes(key),
                   file_.shown(key));
      } else if (rest == "attention.causal" || rest == "use_parallel_residual") {
        if (file_.flag(key) != (rest == "attention.causal"))
          bad_file("{}: key {} is {}: it changes what the model computes, and is not implemented", where_, in_quotes(key),
                   file_.shown(key));
      } else if (notes_ && unknown++ < kShown) {
        notes_->push_back(fmt::format("{}: key {} is not known and is ignored", where_, in_quotes(key)));
      }
    }
    if (unknown > kShown) notes_->push_back(fmt::format("{}: and {} more keys are not known", where_, unknown - kShown));
  }

  bool has_bias(std::string_view module) const { return model_.find(fmt::format("blk.0.{}.bias", module)).tensor; }

  // That in which most of the weights lie, where it is dense.
  const char* dtype() const {
    int64_t counts[3] = {};
    for (const GgufFile& file : model_.files())
      for (const GgufTensor& t : file.tensors())
        counts[t.type == GgufType::F32 ? 0 : t.type == GgufType::F16 ? 1 : 2] += element_count(t.shape);
    constexpr const char* kNames[] = {"float32", "float16", "bfloat16"};
    return kNames[std::max_element(std::begin(counts), std::end(counts)) - std::begin(counts)];
  }

  // llama.cpp reads Mistral's files as "llama", and looks at no window there.
  void set_window(Json& c) const {
    const int64_t window = integer("attention.sliding_window").value_or(0);
    if (window < 0) file_.wrong(full("attention.sliding_window"), "a number of tokens");
    c["model_type"] = architecture_ == "llama" && window > 0 ? "mistral" : architecture_;
    if (c["model_type"] == "mistral" || (architecture_ == "phi3" && window > 0)) c["sliding_window"] = window;
    if (architecture_.starts_with("qwen") && window > 0 && window < context_)
      file_.wrong(full("attention.sliding_window"), "none, since the file does not say which layers have it");
  }

  void set_rope(Json& c) const {
    const double theta = written(number("rope.freq_base").value_or(kTheta));
    c["rope_theta"] = theta;
    if (const int64_t turned = integer("rope.dimension_count").value_or(head_dim_); turned != head_dim_) {
      if (turned < 1 || turned > head_dim_)
        file_.wrong(full("rope.dimension_count"), fmt::format("a number from 1 to {}, the size of a head", head_dim_).c_str());
      c["partial_rotary_factor"] = share_of_head(turned);
    }
    const std::string type(file_.text(full("rope.scaling.type")).value_or(""));
    const auto factor = number("rope.scaling.factor") ? number("rope.scaling.factor") : number("rope.scale_linear");
    const std::vector<float> divisors = factors(kRopeFreqs), longer = factors(kLong), shorter = factors(kShort);
    const bool longrope = !longer.empty() || !shorter.empty() || type == "longrope";
    Json scaling;
    if (longrope) {
      if (longer.empty() || shorter.empty())
        bad_file("{}: rope type \"longrope\" needs the tensors {} and {}", where_, kLong, kShort);
      scaling = longrope_scaling(c, longer, shorter);
    } else if (type == "yarn") {
      scaling = {{"rope_type", "yarn"},
                 {"factor", written(required_number("rope.scaling.factor"))},
                 {"original_max_position_embeddings", integer("rope.scaling.original_context_length").value_or(context_)},
                 {"beta_fast", written(number("rope.scaling.yarn_beta_fast").value_or(32))},
                 {"beta_slow", written(number("rope.scaling.yarn_beta_slow").value_or(1))}};
    } else if (type.empty() || type == "linear" || type == "none") {
      if (type != "none" && factor && *factor != 0 && *factor != 1)
        scaling = {{"rope_type", "linear"}, {"factor", written(*factor)}};
    } else {
      file_.wrong(full("rope.scaling.type"), "none, linear, yarn or longrope");
    }
    if (!longrope && number("rope.scaling.attn_factor").value_or(1) != 1)
      file_.wrong(full("rope.scaling.attn_factor"), "1 where there are no factors of longrope");
    if (std::any_of(divisors.begin(), divisors.end(), [](float d) { return d != 1; })) {
      if (!scaling.is_null()) bad_file("{}: {} beside rope type {}: expected one of them", where_, kRopeFreqs, in_quotes(type));
      scaling = llama3_scaling(divisors, theta);
    }
    c["rope_scaling"] = scaling;
  }

  // The factor of which the reader makes this number of values again, rounding down.
  double share_of_head(int64_t turned) const {
    const auto whole = static_cast<double>(head_dim_);
    const double share = static_cast<double>(turned) / whole;
    return static_cast<int64_t>(whole * share) < turned ? std::nextafter(share, 2.0) : share;
  }

  Json longrope_scaling(Json& c, const std::vector<float>& longer, const std::vector<float>& shorter) const {
    const int64_t original = required("rope.scaling.original_context_length");
    c["original_max_position_embeddings"] = original;
    Json scaling = {{"rope_type", "longrope"}, {"long_factor", Json::array()}, {"short_factor", Json::array()}};
    for (const float f : longer) scaling["long_factor"].push_back(written(f));
    for (const float f : shorter) scaling["short_factor"].push_back(written(f));
    // The converter writes what follows from both lengths, as an f32.
    const double ratio = static_cast<double>(context_) / static_cast<double>(original);
    const double derived = ratio <= 1 ? 1 : std::sqrt(1 + std::log(ratio) / std::log(static_cast<double>(original)));
    const auto given = number("rope.scaling.attn_factor");
    if (given && std::abs(*given - derived) > 1e-6 * derived) scaling["attention_factor"] = written(*given);
    return scaling;
  }

  // The file has what each frequency is divided by, and not the numbers that it was computed from. The last divisor is the
  // factor, and low 1 and high 4 are those of every published model. The original length is 8192, or follows from a divisor
  // 1/((1−t)/factor + t) that lies between: t = (length / wavelength − low) / (high − low). t is of fp32 arithmetic on numbers up
  // to 8192, so that it is wrong by 3e-7, and the divisor by `factor` times that. Other constants change some divisor by more
  // than the tolerance of 1e-4.
  Json llama3_scaling(const std::vector<float>& divisors, double theta) const {
    constexpr double kLow = 1, kHigh = 4, kLength = 8192, kTolerance = 1e-4;
    const double factor = written(divisors.back());
    const auto frequency = [&](size_t i) {
      return std::pow(theta, -static_cast<double>(2 * i) / static_cast<double>(head_dim_));
    };
    const auto share = [&](double divisor) { return (1 / divisor - 1 / factor) / (1 - 1 / factor); };
    double length = kLength;
    for (size_t i = 0; i < divisors.size(); i++)
      if (const double t = share(divisors[i]); t > kTolerance && t < 1 - kTolerance)
        length = std::round((t * (kHigh - kLow) + kLow) * 2 * std::numbers::pi / frequency(i));
    for (const double original : {kLength, length}) {
      bool equal = factor > 1 && original >= 1 && original < 1e9 && static_cast<int64_t>(2 * divisors.size()) == head_dim_;
      for (size_t i = 0; equal && i < divisors.size(); i++) {
        const double t = std::clamp((original * frequency(i) / (2 * std::numbers::pi) - kLow) / (kHigh - kLow), 0.0, 1.0);
        const double expected = 1 / ((1 - t) / factor + t);
        equal = std::abs(divisors[i] - expected) <= kTolerance * expected;
      }
      if (equal)
        return {{"rope_type", "llama3"},
                {"factor", factor},
                {"low_freq_factor", kLow},
                {"high_freq_factor", kHigh},
                {"original_max_position_embeddings", static_cast<int64_t>(original)}};
    }
    bad_file(
        "{}: the {} divisors of {} are not those of Llama 3's scaling (low_freq_factor 1, high_freq_factor 4); give the model in "
        "Hugging Face's format",
        where_, divisors.size(), kRopeFreqs);
  }

  std::vector<float> factors(const char* name) const {
    const GgufModel::Place place = model_.find(name);
    if (!place.tensor) return {};
    const GgufTensor& t = *place.tensor;
    if (t.type != GgufType::F32 || t.shape.size() != 1 || 2 * t.shape[0] > head_dim_)
      bad_file("{}: tensor {}: expected F32 of at most {} values, half of a head", place.file->path().string(), name,
               head_dim_ / 2);
    std::vector<float> values(static_cast<size_t>(t.shape[0]));
    std::memcpy(values.data(), place.file->bytes(t).data(), t.size);
    if (std::any_of(values.begin(), values.end(), [](float f) { return !std::isfinite(f) || f <= 0; }))
      bad_file("{}: tensor {}: expected numbers above 0", place.file->path().string(), name);
    return values;
  }

  // Ids that are absent are 1 and 2 of a SentencePiece model; of others nobody knows them.
  void set_tokens(Json& c) const {
    const bool pieces = file_.text("tokenizer.ggml.model").value_or("") == "llama";
    const auto id = [&](const char* key, std::optional<int64_t> absent) -> Json {
      const auto given = file_.integer(key);
      const auto value = given ? given : absent;
      return value ? Json(*value) : Json();
    };
    c["bos_token_id"] = id("tokenizer.ggml.bos_token_id", pieces ? std::optional<int64_t>(1) : std::nullopt);
    c["eos_token_id"] = id("tokenizer.ggml.eos_token_id", pieces ? std::optional<int64_t>(2) : std::nullopt);
    c["pad_token_id"] = id("tokenizer.ggml.padding_token_id", std::nullopt);
  }

  const GgufModel& model_;
  const GgufFile& file_;
  const std::string where_;
  std::vector<std::string>* notes_;
  std::string architecture_;
  int64_t head_dim_ = 0, context_ = 0;
};

}  // namespace

std::map<std::string, std::string> gguf_config_files(const GgufModel& model, std::vector<std::string>* notes) {
  ConfigMaker maker(model, notes);
  const Json config = maker.config();
  return {{"config.json", json_text(config, 2) + "\n"},
          {"generation_config.json", json_text(maker.generation(config), 2) + "\n"}};
}

}  // namespace tll
