#include "src/commands/fit_advice.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "src/base/units.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

constexpr size_t kMostNamed = 4;

// The settings that save memory, each with the value that needs least, of a number the least that is of use. What changes a run
// least comes first.
struct Saving {
  std::string_view option;
  const char* least;
};
constexpr Saving kSavings[] = {{"recompute", "full"}, {"batch-size", "1"},      {"weights", "bf16"},
                               {"seq-len", "16"},     {"dtype", "bf16"},        {"train", "lora"},
                               {"rank", "1"},         {"max-new-tokens", "16"}, {"eval-samples", "0"}};

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
    for (const Saving& saving : kSavings) {
      for (const OptionRow& row : option_rows()) {
        const bool free = row.taken_by(options.command) && !(options.resume && row.fixed_on_resume);
        if (row.name == saving.option && free && bytes({{&row, saving.least}}) < bytes({}))
          savings_.push_back({&row, saving.least});
      }
    }
  }

  std::string text() const {
    std::vector<std::string> alone;
    for (const Setting& saving : savings_) {
      Settings one = {saving};
      if (alone.size() == kMostNamed || !fits(one)) continue;
      raise(one, 0);
      if (keeps_most(one[0])) alone.push_back(named(one));
    }
    if (!alone.empty()) return fmt::format("it fits with {}", fmt::join(alone, ", or with "));

    Settings together;
    for (size_t i = 0; i < savings_.size() && !fits(together); i++) together.push_back(savings_[i]);
    if (!fits(together)) {
      const std::string even =
          together.empty() ? "" : fmt::format("even with {} it needs {}; ", named(together), Bytes{bytes(together)});
      return even + "use a smaller model, or more memory";
    }
    // What can be left out, unless rows must be cut: then all that saves memory keeps them longer.
    const bool cut = std::any_of(together.begin(), together.end(), [](const Setting& s) { return s.row->name == "seq-len"; });
    for (size_t i = 0; !cut && i < together.size();) {
      Settings fewer = together;
      fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i));
      if (fits(fewer))
        together = fewer;
      else
        i++;
    }
    for (size_t i = together.size(); i-- > 0;) raise(together, i);
    return fmt::format("it fits with {}", named(together));
  }

 private:
  int64_t bytes(const Settings& settings) const {
    Options options = options_;
    for (const Setting& s : settings) {
      set_value(*s.row, options, s.value, s.row->name);
      if (s.row->name == "dtype" && !options.given("weights")) options.weights = options.dtype;
    }
    return planned_(options);
  }
  bool fits(const Settings& settings) const { return bytes(settings) <= room_; }

  // Raises a number among settings that fit to the largest with which they still do.
  void raise(Settings& settings, size_t i) const {
    const OptionRow& row = *settings[i].row;
    const auto* member = std::get_if<int64_t Options::*>(&row.member);
    if (member == nullptr) return;
    int64_t fitting = std::stoll(settings[i].value), above = options_.**member;
    while (above - fitting > 1) {
      const int64_t middle = fitting + (above - fitting) / 2;
      settings[i].value = std::to_string(middle);
      (fits(settings) ? fitting : above) = middle;
    }
    settings[i].value = std::to_string(fitting);
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

std::string fit_advice(const Options& options, int64_t room, const PlannedBytes& planned) {
  return Advice(options, room, planned).text();
}

}  // namespace tll
