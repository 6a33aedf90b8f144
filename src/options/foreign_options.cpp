#include "src/options/foreign_options.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "src/base/spelling.h"
#include "src/options/nearest.h"

namespace tll {
namespace {

constexpr bool kFlag = true, kValue = false;
constexpr std::string_view kNoUpload = "nothing is uploaded; upload the output directory with `hf upload`";
constexpr std::string_view kOneDevice = "this version trains on one device; leave it out";
constexpr std::string_view kAdapterAlone = "the adapter alone is written; merge it in PEFT with merge_and_unload()";
constexpr std::string_view kSameEverywhere =
    "every adapted layer has one rank and one alpha; choose layers by kind with --targets";
constexpr std::string_view kNoQuantised = "frozen weights are held as --weights says: fp32, bf16, fp16, int8 or nf4";
constexpr std::string_view kOnlyRead = "weights are quantised to nf4; fp4 is only read, from a model that has it";
constexpr std::string_view kPlainLoss = "the loss is the mean cross entropy of the target tokens";
constexpr std::string_view kPlainLora = "an adapter is LoRA, or rank-stabilised LoRA with --rslora";
constexpr std::string_view kNoKwargs = "the options of this program stand alone; `train_llama_lora train --help` lists them";
constexpr std::string_view kNoTemplate =
    "templates are built in: --template names one, and `train_llama_lora show` prints what comes of it";
constexpr std::string_view kWholeFile = "every sample of --data is used; shorten the file, or the run with --max-steps";

// clang-format off
const std::vector<ForeignOption> kOptions = {
    // What is logged, shown and kept in the cloud.
    {"logging-*", kValue}, {"log-level", kValue}, {"log-level-replica", kValue}, {"log-on-each-node", kFlag},
    {"log-every-n-steps", kValue}, {"log-peak-memory-stats", kFlag}, {"log-samples", kFlag}, {"log-completions", kFlag},
    {"run-name", kValue}, {"project", kValue}, {"project-name", kValue}, {"disable-tqdm", kFlag},
    {"include-num-input-tokens-seen", kValue}, {"include-tokens-per-second", kFlag}, {"include-tkps", kFlag},
    {"skip-memory-metrics", kFlag}, {"use-wandb", kFlag}, {"with-tracking", kFlag}, {"use-tensorboard", kFlag},
    {"wandb-*", kValue},
    {"mlflow-*", kValue}, {"comet-*", kValue}, {"trackio-*", kValue}, {"swanlab-*", kValue}, {"use-mlflow", kFlag},
    {"use-comet", kFlag}, {"use-swanlab", kFlag}, {"use-trackio", kFlag}, {"plot-loss", kFlag}, {"debug", kValue},
    {"profiler-*", kValue},
    {"hub-*", kValue}, {"hf-token", kValue}, {"use-auth-token", kFlag}, {"hf-use-auth-token", kFlag},
    {"push-to-hub", kFlag, kNoUpload, {"false"}}, {"push-model", kFlag, kNoUpload, {"false"}},
    {"push-dataset-to-hub", kValue, kNoUpload}, {"push-gguf", kFlag, kNoUpload, {"false"}}, {"push-to-hub-*", kValue},

    // When, and on what, is evaluated and saved: --eval-steps, --save-steps and their neighbours say it here.
    {"eval-strategy", kValue}, {"evaluation-strategy", kValue}, {"save-strategy", kValue}, {"evals-per-epoch", kValue},
    {"saves-per-epoch", kValue}, {"do-train", kFlag}, {"do-eval", kFlag},
    {"do-predict", kFlag, "answers are written by `train_llama_lora evaluate --output FILE`", {"false"}},
    {"per-device-eval-batch-size", kValue}, {"eval-batch-size", kValue}, {"per-gpu-eval-batch-size", kValue},
    {"eval-accumulation-steps", kValue}, {"eval-delay", kValue}, {"eval-do-concat-batches", kFlag},
    {"eval-use-gather-object", kFlag},
    {"eval-packing", kFlag}, {"eval-sample-packing", kFlag}, {"batch-eval-metrics", kFlag}, {"prediction-loss-only", kFlag},
    {"include-for-metrics", kValue}, {"include-inputs-for-metrics", kFlag}, {"bf16-full-eval", kFlag}, {"fp16-full-eval", kFlag},
    {"save-only-model", kFlag}, {"save-safetensors", kFlag}, {"save-on-each-node", kFlag}, {"save-first-step", kFlag},
    {"enable-jit-checkpoint", kFlag}, {"save-model", kFlag, "the result is always saved", {"true"}},
    {"metric-for-best-model", kValue}, {"greater-is-better", kFlag},
    {"early-stopping-threshold", kValue, "any lower loss is better", {"0"}},
    {"ignore-data-skip", kFlag, "a resumed run goes on with the next batch", {"false"}},
    {"restore-callback-states-from-checkpoint", kFlag},
    {"save-method", kValue, kAdapterAlone, {"lora"}}, {"save-gguf", kFlag, kAdapterAlone, {"false"}},
    {"auto-resume-from-checkpoints", kFlag, "--resume goes on from the newest checkpoint", {"false"}},
    {"merge-lora", kFlag, kAdapterAlone, {"false"}}, {"save-merged", kFlag, kAdapterAlone, {"false"}},
    {"merge-adapter", kFlag, kAdapterAlone, {"false"}},

    // How it is computed, with the same result.
    {"tf32", kFlag}, {"attn-implementation", kValue}, {"flash-attn*", kValue}, {"use-flash-*", kFlag}, {"flash-attention", kFlag},
    {"sdp-attention", kFlag}, {"xformers-attention", kFlag}, {"flex-attention", kFlag}, {"eager-attention", kFlag},
    {"sage-attention", kFlag},
    {"use-liger*", kFlag}, {"liger-*", kValue}, {"enable-liger-kernel", kFlag}, {"torch-compile*", kValue},
    {"torchdynamo", kValue}, {"jit-mode-eval", kFlag}, {"use-ipex", kFlag},
    {"use-mps-device", kFlag}, {"use-kernels", kFlag}, {"activation-offloading", kFlag}, {"tiled-mlp*", kValue},
    {"chunked-cross-entropy*", kValue}, {"lora-on-cpu", kFlag}, {"gradient-checkpointing-use-reentrant", kFlag},
    {"compile", kFlag}, {"torch-empty-cache-steps", kValue}, {"gc-steps", kValue}, {"gc-collect-steps", kValue},
    {"gradient-checkpointing-kwargs", kValue}, {"activation-checkpointing-kwargs", kValue}, {"use-reentrant", kFlag},
    {"use-cache", kFlag}, {"use-unsloth*", kFlag}, {"lora-mlp-kernel", kFlag}, {"lora-qkv-kernel", kFlag},
    {"lora-o-kernel", kFlag},
    {"half-precision-backend", kValue}, {"fp16-backend", kValue}, {"fp16-opt-level", kValue}, {"full-determinism", kFlag},
    {"data-seed", kValue, "the order of the data follows from --seed"}, {"low-cpu-mem-usage", kFlag}, {"device-map", kValue}, {"max-memory", kValue},
    {"gpu-memory-limit", kValue},
    {"trust-remote-code", kFlag}, {"cache-dir", kValue}, {"use-fast-tokenizer", kFlag}, {"tokenizer-use-fast", kFlag},
    {"dataloader-drop-last", kFlag, "the last step of an epoch takes the rows that are left", {"false"}},
    {"dataloader-*", kValue},
    {"dataset-num-proc", kValue}, {"dataset-processes", kValue}, {"preprocessing-num-workers", kValue},
    {"dataset-batch-size", kValue}, {"sample-packing-*", kValue}, {"num-workers", kValue},
    {"overwrite-cache", kFlag}, {"dataset-prepared-path", kValue}, {"remove-unused-columns", kFlag}, {"label-names", kValue},
    {"length-column-name", kValue}, {"pad-to-multiple-of", kValue}, {"pad-to-sequence-len", kFlag}, {"pad-to-max-length", kFlag},
    {"padding-free", kFlag}, {"pad-token", kValue}, {"shuffle-dataset", kFlag}, {"shuffle-merged-datasets", kFlag},
    {"strict", kFlag}, {"ignore-bias-buffers", kFlag},

    // Several devices.
    {"local-rank", kValue}, {"ddp", kFlag}, {"split-batches", kFlag}, {"dispatch-batches", kFlag}, {"ray-scope", kValue},
    {"ddp-*", kValue}, {"accelerator-config", kValue}, {"average-tokens-across-devices", kFlag},
    {"tpu-*", kValue}, {"mp-parameters", kValue}, {"fsdp-*", kValue}, {"fsdp", kValue, kOneDevice},
    {"deepspeed", kValue, kOneDevice},
    {"parallelism-config", kValue, kOneDevice}, {"tensor-parallel-size", kValue, kOneDevice, {"1"}},
    {"sequence-parallel-degree", kValue, kOneDevice, {"1"}}, {"context-parallel-size", kValue, kOneDevice, {"1"}},
    {"auto-find-batch-size", kFlag, "`train_llama_lora plan` says which --batch-size fits", {"false"}},

    // What is trained.
    {"use-peft", kFlag, "--train full trains all weights", {"true"}},
    {"use-lora", kFlag, "--train full trains all weights", {"true"}},
    {"peft-type", kValue, kPlainLora, {"lora"}}, {"task-type", kValue, "models are causal language models", {"causal_lm"}},
    {"lora-task-type", kValue, "models are causal language models", {"causal_lm"}},
    {"stage", kValue, "this program trains on given texts (sft)", {"sft"}},
    {"bias", kValue, "biases are not trained", {"false"}}, {"lora-bias", kValue, "biases are not trained", {"false"}},
    {"use-dora", kFlag, kPlainLora, {"false"}}, {"peft-use-dora", kFlag, kPlainLora, {"false"}},
    {"use-qalora", kFlag, kPlainLora, {"false"}}, {"use-loftq", kFlag, kPlainLora, {"false"}},
    {"loftq-config", kValue, kPlainLora},
    {"init-lora-weights", kValue, "A is Kaiming uniform and B is 0", {"true"}},
    {"peft-init-lora-weights", kValue, "A is Kaiming uniform and B is 0", {"true"}},
    {"pissa-init", kFlag, "A is Kaiming uniform and B is 0", {"false"}},
    {"fan-in-fan-out", kFlag, "a Llama's linear layers have no such form", {"false"}},
    {"lora-fan-in-fan-out", kFlag, "a Llama's linear layers have no such form", {"false"}},
    {"modules-to-save", kValue, "besides the adapter nothing is trained; --train full trains all weights"},
    {"lora-modules-to-save", kValue, "besides the adapter nothing is trained; --train full trains all weights"},
    {"additional-target", kValue, "besides the adapter nothing is trained; --train full trains all weights"},
    {"trainable-token-indices", kValue, "besides the adapter nothing is trained; --train full trains all weights"},
    {"layers-to-transform", kValue, kSameEverywhere}, {"peft-layers-to-transform", kValue, kSameEverywhere},
    {"layers-pattern", kValue, kSameEverywhere}, {"rank-pattern", kValue, kSameEverywhere},
    {"alpha-pattern", kValue, kSameEverywhere},
    {"lora-rank-pattern", kValue, kSameEverywhere}, {"lora-alpha-pattern", kValue, kSameEverywhere},
    {"exclude-modules", kValue, kSameEverywhere}, {"target-parameters", kValue, kSameEverywhere},
    {"lora-target-parameters", kValue, kSameEverywhere}, {"layer-replication", kValue, kSameEverywhere},
    {"num-layer-trainable", kValue, kSameEverywhere},
    {"load-in-16bit", kFlag}, {"bnb-4bit-quant-type", kValue, kOnlyRead, {"nf4"}}, {"bnb-4bit-quant-storage", kValue},
    {"quantization-type", kValue, kOnlyRead, {"nf4"}}, {"quantization-method", kValue, kNoQuantised, {"bnb", "bitsandbytes"}},
    {"quantization", kValue, kNoQuantised},
    {"gptq", kFlag, kNoQuantised, {"false"}}, {"load-in-fp8", kFlag, kNoQuantised, {"false"}},
    {"fp8", kFlag, kNoQuantised, {"false"}},

    // The steps.
    {"neftune-noise-alpha", kValue, "no noise is added to embeddings", {"0"}},
    {"label-smoothing-factor", kValue, kPlainLoss, {"0"}}, {"label-smoothing", kValue, kPlainLoss, {"0"}},
    {"loss-type", kValue, kPlainLoss, {"nll"}}, {"router-aux-loss-coef", kValue, kPlainLoss, {"0"}},
    {"lr-scheduler-kwargs", kValue, kNoKwargs, {"{}"}}, {"optim-args", kValue, kNoKwargs, {"{}"}},
    {"optim-target-modules", kValue, "--targets names the layers that get an adapter"},
    {"min-lr", kValue, "a schedule ends near 0", {"0"}}, {"min-lr-ratio", kValue, "a schedule ends near 0", {"0"}},
    {"cosine-min-lr-ratio", kValue, "a schedule ends near 0", {"0"}},
    {"cosine-constant-lr-ratio", kValue, "a schedule ends near 0", {"1"}},
    {"loraplus-*", kValue, "A and B have one learning rate (--lr)"},
    {"embedding-lr*", kValue, "there is one learning rate (--lr)"},
    {"adafactor", kFlag, "the optimizer is AdamW (--optimizer)", {"false"}},
    {"use-galore", kFlag, "the optimizer is AdamW (--optimizer)", {"false"}},
    {"use-apollo", kFlag, "the optimizer is AdamW (--optimizer)", {"false"}},
    {"use-badam", kFlag, "the optimizer is AdamW (--optimizer)", {"false"}}, {"relora*", kValue, kPlainLora, {"false", "0"}},

    // The data.
    {"packing-strategy", kValue, "documents are packed whole, by best fit (bfd)", {"bfd"}},
    {"group-by-length", kFlag, "documents are shuffled; --packing leaves little padding", {"false"}},
    {"train-sampling-strategy", kValue, "documents are shuffled, or in file order with --shuffle off", {"random"}},
    {"disable-shuffling", kFlag, "--shuffle off keeps the order of the file", {"false"}},
    {"truncation-mode", kValue, "the end of a sample that is too long is cut", {"keep_start"}},
    {"chat-template*", kValue, kNoTemplate}, {"prompt-template", kValue, kNoTemplate},
    {"eos-token", kValue, "the tokenizer's files name it"}, {"dataset-text-field", kValue, "--columns text=FIELD names it", {"text"}},
    {"dataset-kwargs", kValue, kNoKwargs, {"{}"}},
    {"dataset-config*", kValue, "--data names a file"}, {"dataset-train-split", kValue}, {"dataset-test-split", kValue},
    {"dataset-streaming", kFlag, "a data set is held in memory", {"false"}},
    {"streaming", kFlag, "a data set is held in memory", {"false"}},
    {"excess-length-strategy", kValue, "the end of a sample that is too long is cut", {"truncate"}},
    {"dataset-exact-deduplication", kFlag, "samples that are equal stay", {"false"}},
    {"max-train-samples", kValue, kWholeFile}, {"num-train-samples", kValue, kWholeFile},

    // The model.
    {"model-revision", kValue, "--model names a directory", {"main"}}, {"model-init-kwargs", kValue, kNoKwargs, {"{}"}},
    {"tokenizer-name*", kValue, "the tokenizer is read from --model"}, {"model-type", kValue, "config.json says it", {"llama"}},
    {"rope-scaling", kValue, "config.json says it"},

    // Generation.
    {"do-sample", kFlag, "--temperature above 0 draws tokens, 0 does not", {"false"}},
    {"num-beams", kValue, "one text is continued", {"1"}},
    {"num-return-sequences", kValue, "one text is continued", {"1"}},
};
// clang-format on

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

const std::vector<ForeignOption>& foreign_options() { return kOptions; }

const ForeignOption* find_foreign_option(std::string_view name) {
  const ForeignOption* beginning = nullptr;
  for (const ForeignOption& option : kOptions) {
    if (option.name == name) return &option;
    const bool begins = option.name.ends_with('*') && name.starts_with(option.name.substr(0, option.name.size() - 1));
    if (begins && (beginning == nullptr || option.name.size() > beginning->name.size())) beginning = &option;
  }
  return beginning;
}

bool changes_nothing(const ForeignOption& option, std::string_view value) {
  if (option.refusal.empty()) return true;
  std::string word = lower_case(value);
  if (word.empty() || word == "none" || word == "null") return true;
  if (option.flag && (word == "1" || word == "yes" || word == "on")) word = "true";
  if (option.flag && (word == "0" || word == "no" || word == "off")) word = "false";
  return std::any_of(option.same.begin(), option.same.end(), [&](std::string_view same) {
    const auto a = number(word), b = number(same);
    return word == same || (a && b && *a == *b);
  });
}

}  // namespace tll
