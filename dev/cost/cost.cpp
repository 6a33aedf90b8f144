// build/cost: what a training step would take on a GPU, by the model of kernels/gpu_time.h.
#include <algorithm>
#include <cstdio>
#include <map>

#include "src/base/json.h"
#include "src/commands/planner.h"
#include "src/model/flops.h"
#include "src/options/option_table.h"
#include "src/report/known_gpus.h"

namespace tll {
namespace {

constexpr const char* kHelp =
    R"(usage: cost [--ops] [OPTION of `train_llama_lora plan` …]
       cost --all [--ops] [OPTION …]

Prints what one step on full rows would take on a GPU that need not be here: microseconds a token by kind of op, and what bounds
each. Predicted, not measured. For instance

  cost --config dev/bench/configs/llama-3.2-1b.json --gpu H200 --seq-len 2048 --rank 16

--all  Llama-3.2-1B, 3B and Llama-3.1-8B at 2048 and 4096 tokens, one row, on H200, A100-80GB and T4, with the other options given
--ops  also each op: calls, microseconds, its bound, how far blocks that do not fill the SMs stretch it, and its rates
--help this text

gaps are those between kernels. share: the step's flops (src/model/flops.h) at the rate that large products reach, by the step's
time. launches and bytes are those of the blocks, of bytes the least that ops move, a token and layer.
)";

constexpr const char* kKinds[] = {"GEMM", "LoRA", "attention f", "attention b", "head + loss", "elementwise", "update"};

const char* kind_of(std::string_view op) {
  const auto is = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), op) != names.end();
  };
  if (is({"matmul x Wt", "matmul dy W", "matmul dW"})) return "GEMM";
  if (op.starts_with("lora")) return "LoRA";
  if (op == "attention_forward") return "attention f";
  if (op == "attention_backward") return "attention b";
  if (op.starts_with("head") || is({"cross_entropy", "list_targets", "add_up", "gather_rows", "scatter_rows"}))
    return "head + loss";
  if (is({"sum_of_squares", "update_decision", "adamw", "adamw8bit", "cast"})) return "update";
  return "elementwise";
}
constexpr bool in_block(std::string_view kind) { return kind != "head + loss" && kind != "update"; }

const char* bound_name(Bound bound) {
  constexpr const char* kNames[] = {"memory", "arithmetic", "instructions", "link"};
  return kNames[static_cast<int>(bound)];
}

struct Sum {
  int calls = 0, launches = 0;
  double seconds = 0, bytes = 0, flops = 0, longest = 0,
         stretch = 1;  // seconds without gaps; stretch and bound of the longest call
  Bound bound = Bound::memory;
  void add(const OpTime& t) {
    calls++, launches += t.launches;
    const double busy = t.seconds - t.gaps;
    seconds += busy, bytes += t.cost.bytes, flops += t.cost.flops;
    if (busy > longest) longest = busy, stretch = t.stretch, bound = t.bound;
  }
};

void print_head() {
  fmt::print("{:<24} {:>5} {:>3} {:<10} {:<5}", "model", "S", "B", "GPU", "dtype");
  for (const char* kind : kKinds) fmt::print(" {:>11}", kind);
  fmt::print(" {:>6} {:>8} {:>6} {:>9} {:>9} {:>9}\n", "gaps", "us/token", "share", "tokens/s", "launches", "bytes");
}

void print_step(std::vector<std::string> words, bool each_op) {
  words.insert(words.begin(), "plan");
  Options options = parse_options(words);
  resolve_options(options);
  if (options.device != DeviceOption::kCuda) fail(kExitUsage, "--gpu names the GPU; plan --help has the options");
  if (options.grad_accum != 1) fail(kExitUsage, "--grad-accum is 1 here: a step of more is as many batches and one update");
  const ModelSource source = open_model(options, TokenizerNeed::none);
  const AdapterSource adapter = open_adapter(options, source.config, {});
  const Planner planner(source.config, adapter, training_needs);
  std::vector<OpTime> ops;
  const double seconds = planner.seconds(options, &ops);
  const double tokens = static_cast<double>(options.batch_size * options.seq_len), layers = source.config.layers;

  std::map<std::string_view, Sum> kinds, names;
  double gaps = 0, launches = 0, bytes = 0;
  for (const OpTime& t : ops) {
    const char* kind = kind_of(t.op);
    kinds[kind].add(t), names[t.op].add(t);
    gaps += t.gaps;
    if (in_block(kind)) launches += t.launches, bytes += t.cost.bytes;
  }
  const Gpu gpu = nominal_gpu(options.gpu);
  const auto per_token = [&](double s) { return s * 1e6 / tokens; };
  const StepFlops flops =
      planner.with_session(options, [&](const auto& session) { return step_flops(source.config, session.model.options()); });
  const bool fp32 = options.dtype == DtypeOption::kFp32;
  const double rate = (fp32 ? gpu.fp32_flops : gpu.tensor_flops) * kGemmShare;
  const std::string file = (options.config.empty() ? options.model : options.config.stem()).string();
  fmt::print("{:<24} {:>5} {:>3} {:<10} {:<5}", file, options.seq_len, options.batch_size, options.gpu,
             value_text(*find_row("dtype"), options));
  for (const char* kind : kKinds) fmt::print(" {:>11.2f}", per_token(kinds[kind].seconds));
  const int64_t n = static_cast<int64_t>(tokens);
  fmt::print(" {:>6.2f} {:>8.1f} {:>6.3f} {:>9.0f} {:>9.1f} {:>9.0f}\n", per_token(gaps), per_token(seconds),
             flops.of(n, n) / rate / seconds, tokens / seconds, launches / layers, bytes / tokens / layers);
  if (!each_op) return;
  std::vector<std::pair<std::string_view, Sum>> sorted(names.begin(), names.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  fmt::print("  {:<20} {:>6} {:>9} {:>11} {:>9} {:>6}  {:<13} {:>7} {:>9} {:>9}\n", "op", "calls", "launches", "us", "us/token",
             "share", "bound", "stretch", "TFLOP/s", "GB/s");
  for (const auto& [name, s] : sorted)
    fmt::print("  {:<20} {:>6} {:>9} {:>11.1f} {:>9.3f} {:>6.3f}  {:<13} {:>7.2f} {:>9.1f} {:>9.0f}\n", name, s.calls, s.launches,
               s.seconds * 1e6, per_token(s.seconds), s.seconds / seconds, bound_name(s.bound), s.stretch,
               s.flops / s.seconds / 1e12, s.bytes / s.seconds / 1e9);
}

int run_cost(std::vector<std::string> words) {
  const auto take = [&](const char* flag) {
    const auto found = std::find(words.begin(), words.end(), flag);
    if (found == words.end()) return false;
    words.erase(found);
    return true;
  };
  if (take("--help")) {
    std::fputs(kHelp, stdout);
    return kExitDone;
  }
  const bool all = take("--all"), each_op = take("--ops");
  print_head();
  if (!all) {
    print_step(words, each_op);
    return kExitDone;
  }
  for (const char* gpu : {"H200", "A100-80GB", "T4"})
    for (const char* model : {"llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"})
      for (const char* length : {"2048", "4096"}) {
        std::vector<std::string> more = {
            "--config", fmt::format("dev/bench/configs/{}.json", model), "--gpu", gpu, "--seq-len", length, "--batch-size", "1"};
        more.insert(more.end(), words.begin(), words.end());
        print_step(more, each_op);
      }
  return kExitDone;
}

}  // namespace
}  // namespace tll

int main(int argc, char** argv) {
  try {
    return tll::run_cost({argv + 1, argv + argc});
  } catch (const tll::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code;
  }
}
