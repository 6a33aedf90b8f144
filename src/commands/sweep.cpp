#include "src/commands/sweep.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/units.h"
#include "src/commands/plan_screen.h"
#include "src/options/nearest.h"

namespace tll {
namespace {

constexpr size_t kMostPlans = 10000;

// Not what is printed, and how.
bool can_vary(const OptionRow& row) {
  const OptionRow &sweep = *find_row("sweep"), &json = *find_row("json");
  return row.taken_by(Command::kPlan) && row.section != json.section && (row.section != sweep.section || row.name == "gpu");
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.size(), text.find(separator, begin));
    std::string part = text.substr(begin, end - begin);
    part.erase(0, part.find_first_not_of(' '));
    part.erase(part.find_last_not_of(' ') + 1);
    parts.push_back(part);
    begin = end + 1;
  }
  return parts;
}

// One line of the table.
struct SweptPlan {
  std::vector<std::string> values;  // of the swept options
  Json plan;
  bool fits = false;
};

SweptPlan plan_of(Options options, const std::vector<SweptOption>& swept, const std::vector<size_t>& at) {
  SweptPlan line;
  for (size_t i = 0; i < swept.size(); i++) {
    const std::string& value = swept[i].values[at[i]];
    set_value(*swept[i].row, options, value, "--" + std::string(swept[i].row->name));
    options.given_names.emplace(swept[i].row->name);
    set_implied(*swept[i].row, options, value);
    line.values.push_back(value);
  }
  options.quiet = true;  // notes would come once for every plan
  const OpenPlan plan(options);
  plan.planner.with_session(options, [&](const auto& session) {
    line.plan = PlanScreen(options, plan.source, session, session.model.trained().count, plan.planner, plan.solution).json();
  });
  line.plan.erase("tensors");
  line.fits = line.plan.at("fits");
  return line;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::vector<SweptOption> read_sweep(const std::string& text) {
  std::vector<SweptOption> swept;
  for (const std::string& part : split(text, ';')) {
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const OptionRow* row = find_row(name);
    if (equals == std::string::npos) fail(kExitUsage, "--sweep: expected \"name=a,b;name=c,d\", found {}", in_quotes(part));
    if (!row || !can_vary(*row)) {
      Words names;
      for (const OptionRow& r : option_rows())
        if (can_vary(r)) names.push_back(r.name);
      fail(kExitUsage, "--sweep: {} is not an option that a plan depends on{}", in_quotes(name),
           did_you_mean(nearest(name, names)));
    }
    if (std::any_of(swept.begin(), swept.end(), [&](const SweptOption& s) { return s.row == row; }))
      fail(kExitUsage, "--sweep: {} is in it twice", row->name);
    const std::string values = part.substr(equals + 1);
    swept.push_back({row, split(values, values.find('|') == std::string::npos ? ',' : '|')});
    for (const std::string& value : swept.back().values)
      if (value.empty()) fail(kExitUsage, "--sweep: {} has a value that is empty, in {}", row->name, in_quotes(part));
  }
  size_t plans = 1;
  for (const SweptOption& s : swept) plans = std::min(kMostPlans + 1, plans * s.values.size());
  if (plans > kMostPlans) fail(kExitUsage, "--sweep has more than {} combinations", kMostPlans);
  return swept;
}

int print_sweep(const Options& options) {
  const std::vector<SweptOption> swept = read_sweep(options.sweep);
  std::vector<SweptPlan> plans;
  int64_t refused = 0;
  std::optional<Error> first_refusal;
  // Counts through the combinations, the last option fastest.
  for (std::vector<size_t> at(swept.size());;) {
    try {
      plans.push_back(plan_of(options, swept, at));
    } catch (const Error& error) {
      if (error.exit_code != kExitUsage && error.exit_code != kExitDoesNotFit) throw;
      if (refused++ == 0) first_refusal.emplace(error);
    }
    size_t i = swept.size();
    while (i > 0 && ++at[i - 1] == swept[i - 1].values.size()) at[--i] = 0;
    if (i == 0) break;
  }

  if (plans.empty()) throw *first_refusal;
  if (refused > 0) fmt::print(stderr, "note: {} left out: {}\n", Counted{refused, "combination"}, first_refusal->what());

  Json list = Json::array();
  std::vector<std::vector<std::string>> table(1);
  const auto columns = {"parameters", "gradients", "optimizer", "activations", "scratch", "total"};
  for (const SweptOption& s : swept) table[0].emplace_back(s.row->name);
  // Programs read a column by its name, so no two have the same.
  for (const std::string name : columns) table[0].push_back(options.csv ? name + "_bytes" : name);
  if (options.csv)
    for (const char* name : {"host_bytes", "largest_batch_size", "largest_seq_len", "fits"}) table[0].emplace_back(name);
  else
    for (const char* name : {"host", "largest batch", "largest seq-len", "fits"}) table[0].emplace_back(name);
  for (const SweptPlan& p : plans) {
    std::vector<std::string> row = p.values;
    const auto bytes = [&](const Json& count) {
      const int64_t n = count.get<int64_t>();
      row.push_back(options.csv ? fmt::format("{}", n) : fmt::format("{}", Bytes{n}));
    };
    for (const char* name : columns) bytes(p.plan.at("bytes").at(name));
    bytes(p.plan.at("host_bytes"));
    for (const char* name : {"batch_size", "seq_len"})
      row.push_back(fmt::format("{}", p.plan.at("largest").at(name).get<int64_t>()));
    row.emplace_back(p.fits ? "yes" : "no");
    table.push_back(std::move(row));
    list.push_back(p.plan);
  }

  if (options.json) {
    fmt::print("{}\n", json_text(list));
  } else if (options.csv) {
    for (const auto& row : table) {
      for (size_t c = 0; c < row.size(); c++) fmt::print("{}{}", c ? "," : "", csv_field(row[c]));
      fmt::print("\n");
    }
  } else {
    std::vector<size_t> width(table[0].size());
    for (const auto& row : table)
      for (size_t c = 0; c < row.size(); c++) width[c] = std::max(width[c], row[c].size());
    for (const auto& row : table) {
      std::string line;
      for (size_t c = 0; c < row.size(); c++)
        line += c < swept.size() ? fmt::format("{:<{}}  ", row[c], width[c]) : fmt::format("{:>{}}  ", row[c], width[c]);
      fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
    }
  }
  const bool any = std::any_of(plans.begin(), plans.end(), [](const SweptPlan& p) { return p.fits; });
  return any ? kExitDone : kExitDoesNotFit;
}

}  // namespace tll
