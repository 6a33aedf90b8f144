// Plans of runs that differ from one another in their options. Each is a Session that is made and not started, so its numbers are
// those of the allocation that such a run makes.
#pragma once

#include <optional>
#include <vector>

#include "src/commands/fit_advice.h"
#include "src/commands/session.h"
#include "src/options/resolve.h"

namespace tll {

class Planner {
 public:
  // `loaded`: the targets of an adapter that was read; without one they follow from the options.
  Planner(const LlamaConfig& config, std::optional<std::vector<LoraTarget>> loaded, NeedsOf needs_of)
      : config_(config), loaded_(std::move(loaded)), needs_of_(std::move(needs_of)) {}

  // The same of an adapter that was read or is described.
  Planner(const LlamaConfig& config, const AdapterSource& adapter, NeedsOf needs_of);

  // f(session) of a run with these options, in which nothing is `auto` any more.
  template <class F>
  auto with_session(const Options& options, const F& f) const {
    return with_type(options,
                     [&](auto type) { return f(Session<decltype(type)>(options, config_, targets(options), needs_of_)); });
  }
  int64_t bytes(const Options& options) const;
  int64_t host_bytes(const Options& options) const;  // beside a GPU
  int64_t longest_row() const { return config_.rope.longest > 0 ? config_.rope.longest : kMostTokens; }
  // What a step takes, and its ops (Session::step_seconds).
  double seconds(const Options& options, std::vector<OpTime>* ops = nullptr) const;

 private:
  std::vector<LoraTarget> targets(const Options& options) const;

  const LlamaConfig& config_;
  const std::optional<std::vector<LoraTarget>> loaded_;
  const NeedsOf needs_of_;
};

// What may be planned for: --memory or what is available, and of the latter a little less, since what is free now may not be when
// the run starts.
int64_t planning_room(const Options& options);

// The most rows, and the longest rows, with which a run fits in `room` bytes, each with everything else as it is; 0 where even
// one does not.
struct Largest {
  int64_t batch_size = 0, seq_len = 0;
};
Largest largest(const Planner& planner, const Options& options, int64_t room);

// Bytes that a rank gets from the others in a step; as many as it sends.
struct Traffic {
  int64_t gradients = 0;  // of micro-batches, to the owners of their pieces
  int64_t gathered = 0;   // sums of gradients, or where states are divided values
  int64_t weights = 0;    // frozen ones that are divided
  int64_t total() const { return gradients + gathered + weights; }
};
Traffic step_traffic(const Planner& planner, const Options& options);

// What --batch-size auto chooses.
struct Solution {
  Options options;           // with every choice made
  double seconds = 0;        // of a step, as Planner::seconds
  std::string text() const;  // "--batch-size 8 --grad-accum 4 --recompute full … (1.8 s a step …)"
  Json json() const;
};
// What the first rank chose, on all: others may have seen less memory.
Solution of_first(Collectives& collectives, Solution own);
// Of all ways to split --effective-batch rows into micro-batches, and of all values of --recompute, --mlp-chunk and --offload,
// except for what was given, the one with the shortest step that fits in `room` bytes; of equal ones the simplest. Error
// (kExitDoesNotFit) if none fits.
Solution solve(const Planner& planner, const Options& options, int64_t room);

}  // namespace tll
