#include "src/commands/from_options.h"

#include <algorithm>
#include <set>
#include <utility>

#include "src/base/check.h"
#include "src/files/model_files.h"
#include "src/model/rope_frequencies.h"

namespace tll {

SessionNeeds training_needs(const Options& options) {
  constexpr int64_t kAnsweredAtOnce = 4;
  const int64_t tokens = options.batch_size * options.seq_len;
  return {.training = true,
          .sequences = options.eval_samples > 0         ? static_cast<int>(std::min(kAnsweredAtOnce, tokens))
                       : !options.sample_prompt.empty() ? 1
                                                        : 0,
          .tokens = tokens,
          .positions = options.seq_len};
}

namespace {

DType dtype_of_option(DtypeOption option) {
  return option == DtypeOption::kFp32 ? DType::f32 : option == DtypeOption::kFp16 ? DType::f16 : DType::bf16;
}

// Not read from files, nor planned as if they were.
bool draws_weights(const Options& options) {
  return options.init == InitOption::kRandom ||
         (options.model.empty() && !options.config.empty() && options.command != Command::kPlan);
}

// The type of what a model with quantised weights has besides them: 16 bits, those of the checkpoint where it says so. Only a
// checkpoint of 32 bits that is computed in 32 bits is not rounded.
DType unquantized_dtype(DtypeOption dtype, const LlamaConfig& config) {
  if (dtype != DtypeOption::kFp32) return dtype_of_option(dtype);
  return config.dtype == "float32" ? DType::f32 : config.dtype == "float16" ? DType::f16 : DType::bf16;
}

}  // namespace

void take_quantization(Options& options, const LlamaConfig& config) {
  const bool asked = options.given("weights"),
             codes = options.weights == DtypeOption::kNf4 || options.weights == DtypeOption::kInt8;
  if (!config.quantization || config.quantization->tensors.empty() || options.train == TrainMode::kFull) return;
  if (asked && (draws_weights(options) || !codes)) return;
  const QuantizedFormat& format = config.quantization->tensors.begin()->second;
  const DtypeOption held = format.is_4bit() ? DtypeOption::kNf4 : DtypeOption::kInt8;
  if (asked && (options.weights != held || format.code == WeightCode::fp4))
    fmt::print(stderr, "note: the weights are quantised in another way than --weights says, and are used as they are\n");
  options.weights = held;
  if (format.is_4bit()) options.double_quant = format.nested;
}

void take_16_bits(Options& options, const LlamaConfig& config, const std::filesystem::path& directory) {
  if (options.given("weights") || options.weights != DtypeOption::kFp32 || options.dtype != DtypeOption::kFp32) return;
  if (options.device == DeviceOption::kCuda || options.train == TrainMode::kFull || options.train_embeddings) return;
  if (config.quantization || draws_weights(options)) return;
  std::set<DType> types;
  if (has_weights(directory)) {
    const ModelFiles files(directory, config);
    for (const Module& module : modules(config))
      if (module.cols > 0) types.insert(files.dtype(module.name + ".weight"));
  } else {
    types.insert(config.dtype == "bfloat16" ? DType::bf16 : config.dtype == "float16" ? DType::f16 : DType::f32);
  }
  if (types == std::set{DType::bf16}) options.weights = DtypeOption::kBf16;
  if (types == std::set{DType::f16}) options.weights = DtypeOption::kFp16;
}

ModelOptions model_options(const Options& options, const LlamaConfig& config, std::vector<LoraTarget> lora,
                           const SessionNeeds& needs) {
  if (needs.tokens > kMostTokens)
    fail(kExitUsage, "{} tokens at once are more than the {} of a batch; lower --batch-size or --seq-len", needs.tokens,
         kMostTokens);
  ModelOptions m;
  m.device = options.device == DeviceOption::kCuda ? DeviceKind::cuda : DeviceKind::cpu;
  m.max_tokens = static_cast<int>(needs.tokens);
  if (const RopeRows rope = rope_rows(config, static_cast<int>(needs.positions)); needs.sequences > 0)
    m.max_tokens = std::max(m.max_tokens, rope.length_after_switch());
  m.max_positions = static_cast<int>(needs.positions);
  m.gradients = needs.training || needs.gradients;
  m.train_all = m.gradients && options.train == TrainMode::kFull;
  m.train_embeddings = m.gradients && !m.train_all && options.train_embeddings;
  m.evaluates = needs.training;
  if (needs.training) {
    m.ranks = {.rank = options.process_rank, .size = static_cast<int>(options.ranks), .shard = options.shard};
    m.sums_gradients = options.grad_accum * options.ranks > 1;
  }
  m.recompute = options.recompute == RecomputeOption::kFull        ? Recompute::full
                : options.recompute == RecomputeOption::kSelective ? Recompute::selective
                                                                   : Recompute::none;
  m.logits_16 = needs.training && options.logits == LogitsOption::k16Bit;
  m.offload_activations = options.offloads("activations");
  m.offload_embedding = options.offloads("embedding");
  m.lora_states = options.lora_states == LoraStatesOption::kBf16 ? DType::bf16 : DType::f32;
  m.join_adapters = options.lora_gemm == LoraGemmOption::kAuto
                        ? m.device == DeviceKind::cuda || options.dtype == DtypeOption::kBf16
                        : options.lora_gemm == LoraGemmOption::kJoined;
  m.mlp_chunk = static_cast<int>(options.mlp_chunk);
  m.dropout = m.gradients && !m.train_all ? options.dropout : 0;
  m.threads = static_cast<int>(options.threads);
  m.code = options.weights == DtypeOption::kNf4    ? WeightCode::nf4
           : options.weights == DtypeOption::kInt8 ? WeightCode::int8
                                                   : WeightCode::dense;
  const bool asked = options.given("weights");
  if (m.train_all && config.quantization && !asked)
    fail(kExitUsage, "--train full trains all weights, and the model's are quantised; --weights bf16 dequantises them");
  m.double_quant = options.double_quant;
  m.keep_quantized = config.quantization && !draws_weights(options) && (m.code != WeightCode::dense || !asked);
  const bool quantized = m.keep_quantized || m.code != WeightCode::dense;
  m.weights = quantized ? unquantized_dtype(options.dtype, config) : dtype_of_option(options.weights);
  if (!m.train_all) m.lora = std::move(lora);
  return m;
}

PrepareOptions prepare_options(const Options& o, const ModelSource& source) {
  return {.max_tokens = static_cast<int32_t>(o.seq_len),
          .long_samples = o.long_samples,
          .unanswerable = o.unanswerable == UnanswerableOption::kTrain ? Unanswerable::kTrain : Unanswerable::kSkip,
          .valid_split = o.valid_split,
          .seed = static_cast<uint64_t>(o.seed),
          .allow_empty = o.allow_empty,
          .threads = static_cast<int32_t>(o.threads),
          .vocab_size = source.config.vocab_size,
          .format = o.data_format,
          .columns = o.columns,
          .template_name = o.chat_template,
          .model_template = source.chat_template,
          .system = o.system,
          .template_date = o.template_date,
          .train_on = o.train_on,
          .parse_special = o.parse_special};
}

LoaderOptions loader_options(const Options& o, Split split) {
  const bool training = split == Split::kTrain;
  return {.rows = static_cast<int32_t>(o.batch_size),
          .seq_len = static_cast<int32_t>(o.seq_len),
          .grad_accum = training ? static_cast<int32_t>(o.grad_accum) : 1,
          .rank = static_cast<int32_t>(o.process_rank),
          .world = static_cast<int32_t>(o.ranks),
          .packing = o.packing,
          .shuffle = training && o.shuffle,
          .seed = static_cast<uint64_t>(o.seed),
          .split = split};
}

OptimizerOptions optimizer_options(const Options& o) {
  return {.kind = o.optimizer,
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .offload = o.offloads("optimizer")};
}

Schedule schedule(const Options& o, int64_t total_steps) {
  const std::optional<int64_t> steps = o.given("warmup-steps") ? std::optional(o.warmup_steps) : std::nullopt;
  return {o.schedule, o.lr, total_steps, warmup_updates(o.schedule, total_steps, steps, o.warmup_ratio)};
}

TrainerOptions trainer_options(const Options& options) {
  return {.schedule = {},
          .clip = options.clip,
          .seed = static_cast<uint64_t>(options.seed),
          .grad_accum = static_cast<int>(options.grad_accum)};
}

}  // namespace tll
