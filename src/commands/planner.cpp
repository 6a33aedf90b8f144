#include "src/commands/planner.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "src/base/units.h"
#include "src/options/option_table.h"
#include "src/report/known_gpus.h"
#include "src/report/memory_probe.h"

namespace tll {

Planner::Planner(const LlamaConfig& config, const AdapterSource& adapter, NeedsOf needs_of)
    : Planner(config, adapter.loaded ? std::optional(adapter.targets) : std::nullopt, std::move(needs_of)) {}

std::vector<LoraTarget> Planner::targets(const Options& options) const {
  return loaded_ ? *loaded_ : open_adapter(options, config_, {}).targets;
}

int64_t Planner::bytes(const Options& options) const {
  return with_session(options, [](const auto& session) { return session.arena.total(); });
}

int64_t Planner::host_bytes(const Options& options) const {
  return with_session(options, [](const auto& session) { return session.staging.total(); });
}

double Planner::seconds(const Options& options, std::vector<OpTime>* ops) const {
  return with_session(options, [&](auto&& session) { return session.step_seconds(ops); });
}

int64_t planning_room(const Options& options) {
  const int64_t limit = memory_limit(options);
  return options.memory > 0 ? limit : limit - limit / 20;
}

Largest largest(const Planner& planner, const Options& options, int64_t room) {
  const auto most = [&](int64_t Options::*size, const char* name, int64_t other, int64_t limit) {
    const auto high = std::min<int64_t>({static_cast<int64_t>(find_row(name)->range.high), kMostTokens / other, limit});
    Options changed = options;
    return largest_within(
        1, high,
        [&](int64_t n) {
          changed.*size = n;
          return planner.bytes(changed);
        },
        room);
  };
  return {most(&Options::batch_size, "batch-size", options.seq_len, kMostTokens),
          most(&Options::seq_len, "seq-len", options.batch_size, planner.longest_row())};
}

namespace {

// An option that the solver may set, its values from the simplest on.
struct Choice {
  const char* option;
  std::vector<const char*> values;
  bool cuda_only = false;
};
const Choice kChoices[] = {{"recompute", {"none", "selective", "full"}},
                           {"mlp-chunk", {"0", "auto"}},
                           {"offload",
                            {"none", "embedding", "activations", "activations,embedding", "optimizer", "optimizer,embedding",
                             "optimizer,activations", "optimizer,activations,embedding"},
                            true}};

// What a solution says.
constexpr const char* kSolved[] = {"batch-size", "grad-accum", "recompute", "mlp-chunk", "offload"};

// The options with every combination of values that the solver may choose.
std::vector<Options> variants(const Options& options) {
  std::vector<Options> all = {options};
  for (const Choice& choice : kChoices) {
    const OptionRow* row = find_row(choice.option);
    if (options.given(row->name) || (choice.cuda_only && options.device != DeviceOption::kCuda)) continue;
    std::vector<Options> more;
    for (const Options& o : all)
      for (const char* value : choice.values) {
        more.push_back(o);
        set_value(*row, more.back(), value, row->name);
      }
    all = std::move(more);
  }
  std::erase_if(all, [](const Options& o) {
    const bool whole = o.recompute == RecomputeOption::kFull;
    return (!whole && (o.mlp_chunk != 0 || o.offloads("activations"))) || (o.train_embeddings && o.offloads("embedding"));
  });
  return all;
}

}  // namespace

std::string Solution::text() const {
  std::string text;
  for (const char* name : kSolved) text += fmt::format("--{} {} ", name, value_text(*find_row(name), options));
  return fmt::format("{}({:.3g} s a step by the published speed of such a device, an estimate)", text, seconds);
}

Json Solution::json() const {
  Json json = {{"seconds", seconds}};
  for (const char* name : kSolved) {
    const OptionRow& row = *find_row(name);
    json[snake_case(row)] = value_json(row, options);
  }
  return json;
}

Solution of_first(Collectives& collectives, Solution own) {
  std::string text;
  for (const char* name : kSolved) text += value_text(*find_row(name), own.options) + "\n";
  text = text_of_first(collectives, text);
  collectives.broadcast_host(&own.seconds, sizeof(own.seconds), 0);
  size_t at = 0;
  for (const char* name : kSolved) {
    const size_t end = text.find('\n', at);
    set_value(*find_row(name), own.options, text.substr(at, end - at), name);
    at = end + 1;
  }
  return own;
}

Traffic step_traffic(const Planner& planner, const Options& options) {
  std::vector<OpTime> ops;  // of one micro-batch and the update
  planner.seconds(options, &ops);
  Traffic traffic;
  for (const OpTime& op : ops) {
    const std::string_view name = op.op;
    const int64_t bytes = static_cast<int64_t>(op.cost.bytes);
    if (name == kGradientTraffic) traffic.gradients += bytes * options.grad_accum;
    if (name == kWeightTraffic) traffic.weights += bytes * options.grad_accum;
    if (name == kGatherTraffic) traffic.gathered += bytes;
  }
  return traffic;
}

Solution solve(const Planner& planner, const Options& asked, int64_t room) {
  Solution best;
  int64_t least = std::numeric_limits<int64_t>::max();
  if (asked.effective_batch % asked.ranks != 0)
    fail(kExitUsage, "--effective-batch {} cannot be shared by {} ranks; give a multiple", asked.effective_batch, asked.ranks);
  const int64_t rows = asked.effective_batch / asked.ranks;  // of each rank
  const std::vector<Options> ways = variants(asked);
  // What is offloaded must have room in this machine, if it is this machine that will compute.
  const bool here = asked.device == DeviceOption::kCuda && asked.gpu.empty() && cuda_device_count() > 0;
  const int64_t host_room = here ? machine_memory().available : std::numeric_limits<int64_t>::max();
  for (int64_t accumulated = 1; accumulated <= rows; accumulated++) {
    if (rows % accumulated != 0 || rows / accumulated > static_cast<int64_t>(find_row("batch-size")->range.high)) continue;
    if (asked.given("grad-accum") && accumulated != asked.grad_accum) continue;
    for (Options way : ways) {
      way.batch_size = rows / accumulated, way.grad_accum = accumulated;
      if (way.batch_size * way.seq_len > kMostTokens) continue;
      const int64_t bytes = planner.bytes(way);
      least = std::min(least, bytes);
      if (bytes > room || (here && planner.host_bytes(way) > host_room)) continue;
      if (const double seconds = planner.seconds(way); best.seconds == 0 || seconds < best.seconds) best = {way, seconds};
    }
  }
  if (best.seconds == 0 && least == std::numeric_limits<int64_t>::max())
    fail(kExitUsage, "--effective-batch {} cannot be split {}", asked.effective_batch,
         asked.given("grad-accum") ? fmt::format("into {} equal batches", asked.grad_accum) : "into batches of so many tokens");
  if (best.seconds == 0) {
    Options smallest = asked;
    smallest.batch_size = 1;
    fail(kExitDoesNotFit, "no way to compute {} of {} fits: the least needs {} and there are {}; {}", Counted{rows, "row"},
         Counted{asked.seq_len, "token"}, Bytes{least}, Bytes{room},
         fit_advice(smallest, room, [&](const Options& changed) { return planner.bytes(changed); }));
  }
  return best;
}

}  // namespace tll
