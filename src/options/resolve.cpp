#include "src/options/resolve.h"

#include <fmt/ranges.h>

#include "kernels/cuda_device.h"
#include "kernels/matmul.h"
#include "src/base/parallel.h"
#include "src/options/nearest.h"
#include "src/options/option_table.h"
#include "src/report/known_gpus.h"
#include "src/report/memory_probe.h"
#include "src/report/profile.h"

namespace tll {

void apply_demo_defaults(Options& options) {
  if (!options.model.empty() || !options.config.empty() || options.train == TrainMode::kFull) return;
  for (const OptionRow& row : option_rows()) {
    if (!row.demo_default.empty() && !options.given(row.name)) set_value(row, options, row.demo_default, row.name);
  }
}

namespace {

// Compute capability; 0: not known, as where a run on a GPU is planned on a machine without one.
int arch_of(const Options& options) {
  if (options.device != DeviceOption::kCuda) return 0;
  return options.gpu.empty() ? cuda_arch() : known_gpu(options.gpu)->arch;
}

// The GPU that --gpu names takes the place of this machine's.
void resolve_gpu(Options& options) {
  const KnownGpu* gpu = known_gpu(options.gpu);
  if (!gpu)
    fail(kExitUsage, "--gpu {} is not known{}; expected one of {}", in_quotes(options.gpu),
         did_you_mean(nearest(options.gpu, known_gpu_names())), fmt::join(known_gpu_names(), ", "));
  if (options.device == DeviceOption::kCpu)
    fail(kExitUsage, "--gpu {} and --device cpu exclude each other; leave one out", gpu->name);
  options.gpu = gpu->name;
  options.device = DeviceOption::kCuda;
  if (options.memory == 0) options.memory = gpu->available();
}

// Whether the device multiplies bf16, and a CPU does it faster than fp32.
bool has_bf16(const Options& options) {
  constexpr int kFirstArch = 800;
  const int arch = arch_of(options);
  if (options.device == DeviceOption::kCuda) return arch == 0 || arch >= kFirstArch;
  static const bool faster = bf16_is_faster({.threads = cpu_threads()});
  return faster;
}

// A plan for a GPU needs none. Whoever asks for a GPU does not get a CPU; --device auto takes it, and says so if there is a GPU.
void resolve_device(Options& options) {
  if (options.device == DeviceOption::kCpu) return;
  const bool asked = options.device == DeviceOption::kCuda;
  const std::string missing = cuda_missing();
  // The emulator is never chosen by itself: it is for tests.
  const bool found = missing.empty() && (asked || !cuda_emulated());
  if (asked && !found) {
    if (options.command != Command::kPlan) fail(kExitUsage, "--device cuda: {}; --device cpu runs without a GPU", missing);
    if (options.memory == 0 && !options.quiet)
      fmt::print(stderr,
                 "note: {}; whether the plan fits is told of this machine's own memory, or with --gpu NAME or --memory SIZE of a "
                 "GPU's\n",
                 missing);
    return;
  }
  if (!found && cuda_seen() && !missing.empty() && !options.quiet) fmt::print(stderr, "note: {}; running on the CPU\n", missing);
  options.device = found ? DeviceOption::kCuda : DeviceOption::kCpu;
}

void refuse_beside_embeddings(const Options& options) {
  if (options.train == TrainMode::kFull)
    fail(kExitUsage, "--train full trains embedding and head anyway; leave out --train-embeddings");
  if (options.offloads("embedding"))
    fail(
        kExitUsage,
        "--offload embedding keeps a frozen embedding in memory of the host, and --train-embeddings trains it; leave out either");
  if (options.lora_states == LoraStatesOption::kBf16)
    fail(kExitUsage,
         "--lora-states bf16 sums gradients in bf16, too coarse for those of an embedding, to which every token adds; leave it "
         "out, or --train-embeddings");
}

}  // namespace

void resolve_options(Options& options) {
  apply_demo_defaults(options);
  if (options.train == TrainMode::kFull && !(options.init_adapter.empty() && options.adapter.empty()))
    fail(kExitUsage, "--train full trains the weights of the model and takes no adapter: leave out --init-adapter and --adapter");
  if (options.train == TrainMode::kFull && (options.weights == DtypeOption::kNf4 || options.weights == DtypeOption::kInt8))
    fail(kExitUsage,
         "--train full trains all weights, and those of --weights {} stay as they are; leave --weights out, or train an adapter",
         options.weights == DtypeOption::kNf4 ? "nf4" : "int8");
  if (options.reschedule && !options.resume)
    fail(kExitUsage, "--reschedule lays the learning rates of a resumed run anew: add --resume, or leave it out");
  for (const auto& [wanted, name] :
       {std::pair(options.keep == KeepOption::kBest, "keep best"), {options.patience > 0, "patience"}})
    if (wanted && options.eval_steps == 0)
      fail(kExitUsage, "--{} compares evaluations between steps, and there are none: add --eval-steps N", name);
  const bool chooses = options.batch_size == kAutomatic;  // --recompute too, unless it is given
  if (options.mlp_chunk != 0 && options.recompute != RecomputeOption::kFull && !(chooses && !options.given("recompute")))
    fail(kExitUsage, "--mlp-chunk keeps nothing of the MLP for the backward pass: add --recompute full, or leave it out");
  if (chooses ? options.effective_batch == 0
              : options.effective_batch > 0 && options.effective_batch != options.batch_size * options.grad_accum * options.ranks)
    fail(kExitUsage,
         "--batch-size auto and --effective-batch N go together: N rows a step, of which as many are computed at once "
         "as is fastest");
  options.given("gpu") ? resolve_gpu(options) : resolve_device(options);
  if (options.device == DeviceOption::kCpu && !options.offload.empty()) {
    if (!options.quiet) fmt::print(stderr, "note: --offload has no effect on the CPU, whose memory is the host's\n");
    options.offload.clear();
  }
  if (options.offloads("activations") && options.recompute != RecomputeOption::kFull)
    fail(kExitUsage,
         "--offload activations sends what lies between blocks to the host, and all else must be recomputed: add "
         "--recompute full, or leave it out");
  if (options.lora_states == LoraStatesOption::kBf16 && options.train == TrainMode::kFull)
    fail(kExitUsage, "--lora-states bf16 is about adapters, and --train full has none; leave it out");
  if (options.train_embeddings) refuse_beside_embeddings(options);
  if (options.threads == 0) options.threads = std::max(1, processor().threads / options.local_ranks);
  set_cpu_threads(static_cast<int>(std::min<int64_t>(options.threads, kMostCpuThreads)));
  const bool cuda = options.device == DeviceOption::kCuda,
             bf16 = (cuda || options.dtype == DtypeOption::kAuto) && has_bf16(options);
  if (options.dtype == DtypeOption::kAuto) {
    // As in transformers: whoever says --bf16 false, and nothing of fp16, gets fp32.
    const bool no_bf16 = options.declined.contains("bf16"), no_fp16 = no_bf16 || options.declined.contains("fp16");
    options.dtype = bf16 && !no_bf16 ? DtypeOption::kBf16 : cuda && !no_fp16 ? DtypeOption::kFp16 : DtypeOption::kFp32;
  }
  if (options.dtype == DtypeOption::kFp16 && !cuda)
    fail(kExitUsage, "--dtype fp16 needs a GPU; on the CPU use bf16 or fp32 (--weights fp16 holds frozen weights in fp16)");
  if (options.dtype == DtypeOption::kFp16 && options.lora_states == LoraStatesOption::kBf16)
    fail(kExitUsage,
         "--lora-states bf16 does not go with --dtype fp16, which multiplies with a loss scale and values of fp16; use bf16 or "
         "fp32 for the one, or leave out the other");
  if (options.dtype == DtypeOption::kBf16 && cuda && !bf16)
    fail(kExitUsage, "--dtype bf16 needs a GPU of compute capability 8.0 or later, {} has {}.{}; use fp16 or fp32",
         options.gpu.empty() ? "this one" : options.gpu, arch_of(options) / 100, arch_of(options) / 10 % 10);
  if (options.dtype == DtypeOption::kFp32) {
    if (options.logits == LogitsOption::k16Bit && options.given("logits"))
      fail(kExitUsage, "--logits 16bit takes the type of --dtype, which is fp32: give --dtype bf16, or leave it out");
    options.logits = LogitsOption::kFp32;  // also where the run that is repeated had others
  }
  if (options.logits == LogitsOption::kAuto) options.logits = cuda ? LogitsOption::k16Bit : LogitsOption::kFp32;
  if (options.weights == DtypeOption::kAuto) {
    options.weights = options.dtype;
    options.given_names.erase("weights");  // "auto" asks for nothing that the model's files could have otherwise
  }
}

}  // namespace tll
