#include "src/commands/session.h"

#include <algorithm>
#include <utility>

#include "src/base/units.h"
#include "src/commands/planner.h"
#include "src/files/model_files.h"
#include "src/model/initialize.h"
#include "src/model/rope_frequencies.h"
#include "src/ranks/nccl.h"
#include "src/report/known_gpus.h"
#include "src/report/memory_probe.h"

namespace tll {

namespace {

// Not where a run on a GPU is planned on a machine without one.
bool has_gpu(const Options& options) { return options.device == DeviceOption::kCuda && cuda_device_count() > 0; }

}  // namespace

int64_t memory_limit(const Options& options) {
  if (options.memory > 0) return options.memory;
  if (has_gpu(options)) return std::max<int64_t>(0, cuda_free_memory({.kind = DeviceKind::cuda}) - kSetAside);
  return options.memory_share > 0 ? options.memory_share : machine_memory().available / options.ranks;
}

std::string SessionBase::memory_owner() const {
  if (!options.gpu.empty() && !options.given("memory")) return options.gpu;
  if (options.memory > 0) return "--memory";
  if (has_gpu(options)) return "the GPU";
  return options.ranks > 1 ? "a rank's share of the machine" : "the machine";
}

Json SessionBase::plan_json() const {
  Json plan = arena.json();
  plan["fits"] = fits();
  plan["limit"] = limit();
  plan["host_bytes"] = staging.total();
  return plan;
}

template <class Float>
Session<Float>::Session(const Options& o, const LlamaConfig& config, std::vector<LoraTarget> lora, NeedsOf needs_of)
    : SessionBase(o),
      needs_of_(std::move(needs_of)),
      needs_(needs_of_(o)),
      model(config, model_options(o, config, std::move(lora), needs_)),
      optimizer(optimizer_options(o)),
      trainer(model, optimizer, trainer_options(o)) {
  device.kind = model.options().device;
  device.threads = static_cast<int>(options.threads);
  constexpr int kLargestHead = 128;  // of the attention kernels
  if (device.kind == DeviceKind::cuda && config.head_dim > kLargestHead)
    fail(kExitUsage, "the model's heads have {} values, and on CUDA they have at most {}; use --device cpu", config.head_dim,
         kLargestHead);
  check_rope_length(config, needs_.positions);
  if (needs_.sequences > 0) generator.emplace(model, needs_.sequences, static_cast<int>(needs_.positions));
  place();
}

template <class Float>
void Session<Float>::place() {
  Arena* beside = device.kind == DeviceKind::cuda ? &staging : nullptr;
  model.place_parameters(arena, beside);
  if (needs_.training)
    optimizer.place(arena, beside, model.trained().name, model.trained().tensors, model.trained().shards,
                    model.trained().splits_values);
  model.place_activations(arena, beside);
  trainer.place(arena, beside, needs_.training);
  if (generator) generator->place(arena, beside);
  if (beside) weight_stream.place(staging);
  if (model.trained().splits_values)
    weight_stream.place_quantizing(arena, 1, kAlways);
  else
    weight_stream.place_quantizing(arena, model.options().keep_quantized ? 0 : longest_quantized(model.weights()));
}

// Where the weights are held otherwise than they lie in the files.
template <class Float>
void Session<Float>::note_quantization(const ModelSource& source) const {
  if (source.config.quantization && !model.options().keep_quantized)
    fmt::print(stderr, "note: {}: its weights are quantised; they are dequantised to {}\n", source.directory.string(),
               dtype_name(model.options().weights));
}

template <class Float>
void Session<Float>::load_base(const ModelSource& source, const AdapterSource& adapter) {
  const ModelFiles files = open_weights(source, adapter,
                                        !needs_.training           ? Replaces::all
                                        : options.train_embeddings ? Replaces::trained
                                                                   : Replaces::none);
  note_quantization(source);
  load_weights(files);
}

template <class Float>
WeightPlaces Session<Float>::weight_places() {
  WeightPlaces places{.shards = &model.block_shards()};
  if (model.trained().splits_values) places.split = split_loader(device, weight_stream, model.trained());
  return places;
}

template <class Float>
void Session<Float>::load_weights(const ModelFiles& files) {
  tll::load_weights(device, weight_stream, files, model.weights(), weight_places());
}

template <class Float>
void Session<Float>::require_fit() const {
  if (fits()) return;
  const bool fresh = needs_.training && options.init_adapter.empty() && !options.resume;
  const Planner planner(model.config(), fresh ? std::nullopt : std::optional(model.options().lora), needs_of_);
  fail(kExitDoesNotFit, "this run needs {} ({} bytes) and {} has {}; {}", Bytes{arena.total()}, arena.total(), memory_owner(),
       Bytes{memory_limit(options)},
       fit_advice(options, planning_room(options), [&](const Options& changed) { return planner.bytes(changed); }));
}

template <class Float>
double Session<Float>::step_seconds(std::vector<OpTime>* ops) {
  arena.reserve();
  if (device.kind == DeviceKind::cuda) staging.reserve();
  place();
  arena.seal();
  if (device.kind == DeviceKind::cuda) staging.seal();
  const bool fp32 = std::is_same_v<Float, float>;
  const Gpu nominal = nominal_gpu(options.gpu);
  DryRun dry{.speed = nominal_speed(device.kind, options.gpu, device.threads, fp32),
             .gpu = device.kind == DeviceKind::cuda ? &nominal : nullptr,
             .ops = ops};
  Device counting = device;
  counting.dry = &dry, counting.stream = &dry.seconds, counting.copy_stream = &dry.copied;
  return trainer.step_seconds(counting, static_cast<int>(options.batch_size), static_cast<int>(options.seq_len));
}

void SessionBase::connect_gpus() {
  if (options.ranks == 1) return;
  NcclSetup setup{.host = collectives, .meeting_place = options.meeting_place};
  if (Collectives* const host = collectives) setup.look = [host] { host->require_all_run(); };
  gpu_collectives = std::make_unique<NcclCollectives>(on_copy_stream(device), options.process_rank,
                                                      static_cast<int>(options.ranks), std::move(setup));
  collectives = gpu_collectives.get();
}

template <class Float>
void Session<Float>::start(const ModelSource& source, const AdapterSource& adapter) {
  if (device.kind == DeviceKind::cuda) {
    if (!cuda_emulated() && options.local_rank >= cuda_device_count())
      fail(kExitUsage, "rank {} needs a GPU of its own, and this machine has {}; start as many ranks as GPUs, or --device cpu",
           options.process_rank, cuda_device_count());
    device.open(cuda_emulated() ? 0 : options.local_rank);
    connect_gpus();
    device.threads = static_cast<int>(options.threads);
    gpu = cuda_properties(device);
    if (!gpu.no_blas.empty() && !options.quiet)
      fmt::print(
          stderr,
          "note: large products run in this program's own kernels: {}. On an H100 they take about half as long again as in "
          "cuBLASLt (predicted, not measured)\n",
          gpu.no_blas);
    if (!gpu.no_wgmma.empty() && !options.quiet)
      fmt::print(stderr, "note: attention runs in the kernels of older GPUs, which are slower: {}\n", gpu.no_wgmma);
  }
  if (on_host(device) && options.ranks > 1 && !collectives)
    fail(kExitUsage, "the {} ranks are on several machines, and without GPUs: start them with mpirun", options.ranks);
  require_fit();
  limit_at_start = memory_limit(options);
  if (const int64_t available = machine_memory().available; !on_host(device) && staging.total() > available)
    fail(kExitDoesNotFit,
         "this run keeps {} in the host's memory beside the GPU, which has {} available; offload less (--offload)",
         Bytes{staging.total()}, Bytes{available});
  resident_before = process_memory().resident;
  const auto measure = [&] {
    if (needs_.training || options.profile)
      ceilings = measure_ceilings<Float>(device, options.profile, arena.memory(), arena.total());
  };
  if (on_host(device))
    measure();
  else
    gpu_free_before = cuda_free_memory(device);
  arena.allocate(device);
  if (!on_host(device)) staging.allocate(device, true);
  place();
  arena.seal();
  if (!on_host(device)) {
    staging.seal();
    measure();  // in the arena, which holds nothing yet
  }
  if (options.profile) device.profile = &profile;
  model.connect(collectives);
  model.initialize(device);
  trainer.initialize(device, collectives, needs_.training);
  if (needs_.training) optimizer.clear(device);
  const uint64_t seed = static_cast<uint64_t>(options.seed);
  if (options.init == InitOption::kRandom || source.directory.empty())
    initialize_weights(device, weight_stream, model.weights(), seed, weight_places());
  else
    load_base(source, adapter);
  const TrainedRange<Float>& trained = model.trained();
  if (!model.options().train_all && trained.count > 0) {
    if (adapter.loaded)
      load_adapter(device, *adapter.loaded, trained.tensors, trained.values, trained.dtype);
    else
      initialize_adapter(device, trained.tensors, trained.values, trained.dtype, seed);
  }
  model.refresh_compute_copies(device);
}

template class Session<float>;
template class Session<bf16>;
template class Session<half>;

}  // namespace tll
