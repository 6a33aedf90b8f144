#include "src/commands/fit_advice.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "src/base/check.h"
#include "src/base/units.h"
#include "src/options/option_table.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

constexpr size_t kMostNamed = 4;

// The settings that save memory, each with the value that needs least, of a number the least that is of use. What changes a run
// least comes first.
struct Saving {
  std::string_view option;
  const char* least;
};
constexpr Saving kSavings[] = {{"shard", "optimizer"},
                               {"shard", "weights"},
                               {"recompute", "selective"},
                               {"recompute", "full"},
                               {"batch-size", "1"},
                               {"mlp-chunk", "auto"},
                               {"offload", "embedding"},
                               {"optimizer", "adamw8bit"},
                               {"offload", "optimizer"},
                               {"offload", "activations"},
                               {"offload", "optimizer,activations,embedding"},
                               {"weights", "bf16"},
                               {"weights", "int8"},
                               {"weights", "nf4"},
                               {"seq-len", "16"},
                               {"lora-states", "bf16"},
                               {"dtype", "bf16"},
                               {"train", "lora"},
                               {"train-embeddings", "false"},
                               {"rank", "1"},
                               {"max-new-tokens", "16"},
                               {"eval-samples", "0"}};

struct Setting {
  const OptionRow* row;
  std::string value;
};
using Settings = std::vector<Setting>;

std::string named(const Settings& settings) {
  std::vector<std::string> words;
  for (const Setting& s : settings) words.push_back(fmt::format("--{} {}", s.row->name, s.value));
  return fmt::format("{}", fmt::join(words, " "));
}

class Advice {
 public:
  Advice(const Options& options, int64_t room, const PlannedBytes& planned) : options_(options), room_(room), planned_(planned) {
    // An adapter that is loaded has its rank.
    const bool has_rank = options.resume || !options.init_adapter.empty();
    for (const Saving& saving : kSavings) {
      const OptionRow* row = find_row(saving.option);
      if (saving.option == "shard" && options.ranks == 1) continue;
      if (saving.option == "offload" && options.device != DeviceOption::kCuda) continue;
      if (row && row->taken_by(options.command) && accepts_value(*row, saving.least) &&
          !(options.resume && row->fixed_on_resume) && !(has_rank && row->name == "rank"))
        savings_.push_back({row, saving.least});
    }
  }

  std::string text() const {
    std::vector<std::string> alone;
    const OptionRow* last = nullptr;
    for (const Setting& saving : savings_) {
      Settings one = {saving};
      if (alone.size() == kMostNamed || saving.row == last || !fits(one)) continue;
      raise(one, 0);
      if (!keeps_most(one[0])) continue;
      alone.push_back(named(one));
      last = saving.row;  // of an option's values, the one that changes least
    }
    if (!alone.empty()) return fmt::format("it fits with {}", fmt::join(alone, ", or with "));

    // Twice, because some save only where others do: quantised weights where an adapter is trained.
    Settings together;
    for (size_t i = 0; i < 2 * savings_.size() && !fits(together); i++) {
      const Setting& saving = savings_[i % savings_.size()];
      Settings more = together;
      std::erase_if(more, [&](const Setting& s) { return s.row == saving.row; });
      more.push_back(saving);
      if (bytes(more) < bytes(together)) together = std::move(more);
    }
    if (!fits(together)) {
      const std::string even =
          together.empty() ? "" : fmt::format("even with {} it needs {}; ", named(together), Bytes{bytes(together)});
      return even + "use a smaller model, or more memory";
    }
    // What can be left out. If rows must be cut, that comes last: all that saves memory keeps them longer.
    const bool cut = std::any_of(together.begin(), together.end(), [](const Setting& s) { return s.row->name == "seq-len"; });
    if (!cut) leave_out(together);
    raise_all(together);
    leave_out(together);
    raise_all(together);
    return fmt::format("it fits with {}", named(together));
  }

 private:
  int64_t bytes(const Settings& settings) const {
    Options options = options_;
    options.effective_batch = 0;  // what is left of it are a batch and its repetitions
    options.quiet = true;         // no notes
    bool of_weights = options.given("weights") || options.weights != options.dtype;
    for (const Setting& s : settings) {
      set_value(*s.row, options, s.value, s.row->name);
      of_weights |= s.row->name == "weights";
      if (s.row->name == "dtype" && !of_weights) options.weights = options.dtype;
    }
    try {
      resolve_options(options);
    } catch (const Error& error) {
      if (error.exit_code != kExitUsage) throw;
      return std::numeric_limits<int64_t>::max();  // these exclude each other
    }
    return planned_(options);
  }
  bool fits(const Settings& settings) const { return bytes(settings) <= room_; }

  void raise_all(Settings& settings) const {
    for (size_t i = settings.size(); i-- > 0;) raise(settings, i);
  }

  // Drops every setting without which the others fit as well.
  void leave_out(Settings& settings) const {
    for (size_t i = 0; i < settings.size();) {
      Settings fewer = settings;
      fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i));
      if (fits(fewer))
        settings = fewer;
      else
        i++;
    }
  }

  // Raises a number among settings that fit to the largest with which they still do.
  void raise(Settings& settings, size_t i) const {
    const OptionRow& row = *settings[i].row;
    const auto* member = std::get_if<int64_t Options::*>(&row.member);
    if (member == nullptr || settings[i].value == "auto") return;
    const int64_t least = std::stoll(settings[i].value);
    const auto with = [&](int64_t n) {
      settings[i].value = std::to_string(n);
      return bytes(settings);
    };
    settings[i].value = std::to_string(std::max(least, largest_within(least, options_.**member - 1, with, room_)));
  }

  // Rows much shorter than asked for are a last resort: several other settings are better.
  bool keeps_most(const Setting& setting) const {
    return setting.row->name != "seq-len" || 2 * std::stoll(setting.value) >= options_.seq_len;
  }

  const Options& options_;
  const int64_t room_;
  const PlannedBytes& planned_;
  Settings savings_;
};

}  // namespace

int64_t largest_within(int64_t low, int64_t high, const std::function<int64_t(int64_t)>& bytes, int64_t room) {
  if (low > high) return low - 1;
  int64_t at_low = bytes(low);
  if (at_low > room) return low - 1;
  int64_t at_high = bytes(high);
  if (at_high <= room) return high;
  // `low` fits, `high` does not. Where the line between them meets the room is the next guess; then its neighbour, which ends the
  // search if the line was right; then the middle.
  bool fitted = false;
  for (int turn = 0; high - low > 1; turn++) {
    int64_t guess = low + (high - low) / 2;
    if (turn % 3 == 0)
      guess = low + static_cast<int64_t>(static_cast<double>(high - low) * static_cast<double>(room - at_low) /
                                         static_cast<double>(at_high - at_low));
    else if (turn % 3 == 1)
      guess = fitted ? low + 1 : high - 1;
    guess = std::clamp(guess, low + 1, high - 1);
    const int64_t at = bytes(guess);
    fitted = at <= room;
    (fitted ? low : high) = guess;
    (fitted ? at_low : at_high) = at;
  }
  return low;
}

std::string fit_advice(const Options& options, int64_t room, const PlannedBytes& planned) {
  return Advice(options, room, planned).text();
}

}  // namespace tll
