#include "src/commands/session.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/base/units.h"
#include "src/files/model_files.h"
#include "src/model/device_memory.h"
#include "src/model/initialize.h"
#include "src/report/memory_probe.h"
#include "src/report/peak.h"

namespace tll {

std::filesystem::path demo_directory() {
  // Beside the working directory, or beside the program.
  const std::filesystem::path here = "data/demo";
  if (std::filesystem::exists(here / "config.json")) return here;
  std::error_code none;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", none).parent_path() / "data" / "demo";
  if (std::filesystem::exists(beside / "config.json")) return beside;
  bad_file("the demo model was not found in {} or {}; name a model with --model DIR", here.string(), beside.string());
}

ModelSource open_model(const Options& options, TokenizerNeed need) {
  ModelSource source;
  source.random = options.init == InitOption::kRandom;
  const bool bare = options.model.empty() && !options.config.empty();
  if (!bare) {
    source.directory = options.model.empty() ? demo_directory() : options.model;
    if (!std::filesystem::exists(source.directory))
      bad_file("{}: no such directory; --model takes one with config.json, model.safetensors and a tokenizer",
               source.directory.string());
  }
  source.config_file = options.config.empty() ? source.directory / "config.json" : options.config;
  source.config = load_config(source.config_file);
  source.eos = bare ? source.config.eos : load_generation_eos(source.directory, source.config);
  for (const std::string& warning : source.config.warnings) fmt::print(stderr, "note: {}\n", warning);
  const bool has_tokenizer = !bare && (std::filesystem::exists(source.directory / "tokenizer.json") ||
                                       std::filesystem::exists(source.directory / "tokenizer.model"));
  if (need == TokenizerNeed::none || (need == TokenizerNeed::wanted && !has_tokenizer)) return source;
  if (bare) fail(kExitUsage, "a tokenizer is needed: name its directory with --model");
  source.tokenizer = Tokenizer::load(source.directory);
  for (const std::string& warning : source.tokenizer->warnings()) fmt::print(stderr, "note: {}\n", warning);
  if (source.tokenizer->vocab_size() > source.config.vocab_size)
    bad_file("{}: the tokenizer has ids up to {}, the model's vocab_size is {}", source.directory.string(),
             source.tokenizer->vocab_size() - 1, source.config.vocab_size);
  for (const int32_t id : source.tokenizer->end_ids())
    if (std::find(source.eos.begin(), source.eos.end(), id) == source.eos.end()) source.eos.push_back(id);
  return source;
}

PrepareOptions prepare_options(const Options& o, const LlamaConfig& config) {
  PrepareOptions p;
  p.max_tokens = static_cast<int32_t>(o.seq_len);
  p.unanswerable = o.unanswerable == UnanswerableOption::kTrain ? Unanswerable::kTrain : Unanswerable::kSkip;
  p.valid_split = o.valid_split;
  p.seed = static_cast<uint64_t>(o.seed);
  p.allow_empty = o.allow_empty;
  p.vocab_size = config.vocab_size;
  return p;
}

SessionNeeds training_needs(const Options& options) {
  constexpr int kAnsweredAtOnce = 4;
  SessionNeeds needs;
  needs.training = true;
  needs.tokens = options.batch_size * options.seq_len;
  needs.positions = options.seq_len;
  needs.sequences = options.eval_samples > 0 ? kAnsweredAtOnce : 0;
  return needs;
}

// The demo model is small and sees a format that it does not know: it takes larger steps than a real model, and can afford to be
// asked questions before and after.
void apply_demo_defaults(Options& options) {
  if (!options.model.empty() || !options.config.empty() || options.train == TrainMode::kFull) return;
  if (!options.given("lr")) options.lr = 3e-3;
  if (!options.given("seq-len")) options.seq_len = 512;
  if (!options.given("eval-samples")) options.eval_samples = 100;
}

namespace {

constexpr int kFirstArchWithBf16 = 800;

// A plan for a GPU needs none; whatever else wants one and has none runs on the CPU and says so.
void resolve_device(Options& options) {
  if (options.device == DeviceOption::kCpu) return;
  // The emulator is never chosen by itself: it is for tests.
  const bool found = cuda_device_count() > 0 && !(cuda_emulated() && options.device == DeviceOption::kAuto);
  if (options.device == DeviceOption::kCuda && !found) {
    if (options.command == Command::kPlan) {
      if (options.memory == 0)
        fmt::print(stderr,
                   "note: {}; whether the plan fits is told of this machine's own memory, or with --memory SIZE of a GPU's\n",
                   cuda_missing());
      return;
    }
    fmt::print(stderr, "note: {}; running on the CPU\n", cuda_missing());
  }
  options.device = found ? DeviceOption::kCuda : DeviceOption::kCpu;
}

}  // namespace

void resolve_options(Options& options) {
  apply_demo_defaults(options);
  if (options.train == TrainMode::kFull && !(options.init_adapter.empty() && options.adapter.empty()))
    fail(kExitUsage, "--train full trains the weights of the model and takes no adapter: leave out --init-adapter and --adapter");
  resolve_device(options);
  const bool cuda = options.device == DeviceOption::kCuda;
  const int arch = cuda ? cuda_arch() : 0;
  const bool has_bf16 = cuda ? arch == 0 || arch >= kFirstArchWithBf16 : cpu_has_bf16_matmul();
  if (options.dtype == DtypeOption::kAuto)
    options.dtype = has_bf16 ? DtypeOption::kBf16 : cuda ? DtypeOption::kFp16 : DtypeOption::kFp32;
  if (options.dtype == DtypeOption::kFp16 && !cuda)
    fail(kExitUsage, "--dtype fp16 needs a GPU; on the CPU use bf16 or fp32 (--weights fp16 holds frozen weights in fp16)");
  if (options.dtype == DtypeOption::kBf16 && cuda && !has_bf16)
    fail(kExitUsage, "--dtype bf16 needs a GPU of compute capability 8.0 or later, this one has {}.{}; use fp16 or fp32",
         arch / 100, arch / 10 % 10);
  if (options.weights == DtypeOption::kAuto) options.weights = options.dtype;
  if (options.threads == 0) options.threads = processor().threads;
  omp_set_dynamic(0);
  omp_set_num_threads(static_cast<int>(options.threads));
}

AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory) {
  AdapterSource source;
  if (!directory.empty()) {
    source.loaded = read_adapter(directory, config);
    for (const AdapterModule& m : source.loaded->modules) source.targets.push_back({m.layer, m.target, m.rank, m.scale});
    return source;
  }
  const double scale = lora_scale(options.alpha, static_cast<int>(options.rank), options.rslora);
  for (int layer = 0; layer < config.layers; layer++)
    for (int t = 0; t < kTargets; t++)
      if (std::find(options.targets.begin(), options.targets.end(), kTargetNames[t]) != options.targets.end())
        source.targets.push_back({layer, static_cast<Target>(t), static_cast<int>(options.rank), scale});
  return source;
}

namespace {

ModelOptions model_options(const Options& options, std::vector<LoraTarget> lora, const SessionNeeds& needs) {
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max() - 1;  // of a batch: its offsets are 32-bit
  if (needs.tokens > kMaxTokens)
    fail(kExitUsage, "{} tokens at once are more than the {} of a batch; lower --batch-size or --seq-len", needs.tokens,
         kMaxTokens);
  ModelOptions m;
  m.device = options.device == DeviceOption::kCuda ? DeviceKind::cuda : DeviceKind::cpu;
  m.max_tokens = static_cast<int>(needs.tokens);
  m.max_positions = static_cast<int>(needs.positions);
  m.gradients = needs.training || needs.gradients;
  m.optimizer = needs.training;
  m.train_all = m.gradients && options.train == TrainMode::kFull;
  m.recompute = options.recompute != RecomputeOption::kNone;
  m.dropout = m.gradients && !m.train_all ? options.dropout : 0;
  m.threads = static_cast<int>(options.threads);
  m.weights = options.weights == DtypeOption::kFp32   ? DType::f32
              : options.weights == DtypeOption::kFp16 ? DType::f16
                                                      : DType::bf16;
  if (!m.train_all) m.lora = std::move(lora);
  return m;
}

}  // namespace

TrainerOptions trainer_options(const Options& options, int64_t total_steps) {
  TrainerOptions t;
  t.schedule = {options.schedule, options.lr, total_steps,
                warmup_updates(total_steps, options.warmup_steps, options.warmup_ratio)};
  t.beta1 = options.beta1, t.beta2 = options.beta2, t.eps = options.eps;
  t.weight_decay = options.weight_decay, t.clip = options.clip;
  t.seed = static_cast<uint64_t>(options.seed);
  t.grad_accum = static_cast<int>(options.grad_accum);
  return t;
}

template <class Float>
Session<Float>::Session(const Options& o, const LlamaConfig& config, std::vector<LoraTarget> lora, const SessionNeeds& needs)
    : options(o), model(config, model_options(o, std::move(lora), needs)), trainer(model, trainer_options(o, 1)), needs_(needs) {
  device.kind = model.options().device;
  device.threads = static_cast<int>(options.threads);
  constexpr int kLargestHead = 128;  // of the attention kernels
  if (device.kind == DeviceKind::cuda && config.head_dim > kLargestHead)
    fail(kExitUsage, "the model's heads have {} values, and on CUDA they have at most {}; use --device cpu", config.head_dim,
         kLargestHead);
  if (needs.sequences > 0) generator.emplace(model, needs.sequences, static_cast<int>(needs.positions));
  place();
}

template <class Float>
void Session<Float>::place() {
  Arena* beside = device.kind == DeviceKind::cuda ? &staging : nullptr;
  model.place(arena);
  trainer.place(arena, beside, needs_.training);
  if (generator) generator->place(arena, beside);
  if (beside) weight_stream.place(staging);
}

template <class Float>
int64_t Session<Float>::memory_limit() const {
  // What the driver calls free is no promise: other programs take memory as well.
  constexpr int64_t kMargin = 256 << 20;
  if (options.memory > 0) return options.memory;
  if (has_gpu()) return std::max<int64_t>(0, cuda_free_memory(device) - kMargin);
  return machine_memory().available;
}

template <class Float>
std::string Session<Float>::memory_owner() const {
  if (options.memory > 0) return "--memory";
  return has_gpu() ? "the GPU" : "the machine";
}

template <class Float>
void Session<Float>::require_fit() const {
  if (!fits())
    fail(kExitDoesNotFit, "this run needs {} ({} bytes) and {} has {}; lower --seq-len or --batch-size, or use --recompute full",
         Bytes{arena.total()}, arena.total(), memory_owner(), Bytes{memory_limit()});
}

template <class Float>
void Session<Float>::start(const ModelSource& source, const AdapterSource& adapter) {
  if (device.kind == DeviceKind::cuda) {
    device.open();
    device.threads = static_cast<int>(options.threads);
    gpu = cuda_properties(device);
  }
  require_fit();
  resident_before = process_memory().resident;
  const bool measure = needs_.training || options.profile;
  if (measure && on_host(device)) peak_flops = measure_peak_flops<Float>(device);
  if (options.profile && on_host(device)) peak_bytes = measure_peak_bytes(device);
  if (!on_host(device)) gpu_free_before = cuda_free_memory(device);
  arena.allocate(device);
  if (!on_host(device)) staging.allocate(device, true);
  place();
  arena.seal();
  if (!on_host(device)) {
    staging.seal();
    if (measure) peak_flops = measure_peak_flops<Float>(device, arena.memory(), arena.total());
    if (options.profile) peak_bytes = measure_peak_bytes(device, arena.memory(), arena.total());
  }
  if (options.profile) device.profile = &profile;
  model.initialize(device);
  if (needs_.training) {
    const size_t bytes = static_cast<size_t>(model.trained_count()) * sizeof(float);
    set_zero(device, model.moment1(), bytes);
    set_zero(device, model.moment2(), bytes);
  }
  const uint64_t seed = static_cast<uint64_t>(options.seed);
  if (source.random || source.directory.empty())
    initialize_weights(device, weight_stream, model.weight_places(), seed);
  else
    load_weights(device, weight_stream, ModelFiles(source.directory, source.config), model.weight_places());
  if (!model.options().train_all && model.trained_count() > 0) {
    if (adapter.loaded)
      load_adapter(device, *adapter.loaded, model.trained(), model.values());
    else
      initialize_adapter(device, model.trained(), model.values(), seed);
  }
  model.refresh_compute_copy(device);
}

template <class Float>
Json Session<Float>::plan_json() const {
  Json plan = arena.json();
  plan["fits"] = fits();
  return plan;
}

template class Session<float>;
template class Session<bf16>;
template class Session<half>;

}  // namespace tll
