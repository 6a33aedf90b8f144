#include "src/commands/gradient_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "src/files/adapter.h"

namespace tll {

std::string GradientReport::norms(bool of_b) const {
  std::vector<std::string> each;
  for (const Kind& k : kinds) each.push_back(fmt::format("{} {:.3g}", k.name, of_b ? k.b : k.a));
  return fmt::format("{}", fmt::join(each, ", "));
}

bool GradientReport::all_of_a_are_zero() const {
  return std::all_of(kinds.begin(), kinds.end(), [](const Kind& k) { return k.a == 0; });
}

Json GradientReport::json() const {
  Json norms = Json::object();
  for (const Kind& k : kinds) norms[k.name] = {{"A", k.a}, {"B", k.b}};
  return {{"norms", norms}, {"zero", zero}, {"not_finite", not_finite}};
}

GradientReport report_gradients(const std::vector<LoraTarget>& adapters, const std::vector<NamedTensor>& tensors,
                                const float* gradients, double scale, const std::function<bool(const Module&)>& b_was_zero) {
  GradientReport report;
  for (const LoraTarget& adapter : adapters) {
    const std::string kind(adapter.module.short_name());
    auto row = std::find_if(report.kinds.begin(), report.kinds.end(), [&](const auto& k) { return k.name == kind; });
    if (row == report.kinds.end()) row = report.kinds.insert(row, {kind});
    for (const bool is_b : {false, true}) {
      const NamedTensor& t = find_tensor(tensors, peft_name(adapter.module, is_b));
      double sum = 0;
      for (int64_t i = t.offset; i < t.offset + t.size(); i++) sum += static_cast<double>(gradients[i]) * gradients[i];
      double& norm = is_b ? row->b : row->a;
      norm = std::hypot(norm, std::sqrt(sum) / scale);
      const std::string name = fmt::format("{} {}", adapter.module.name, is_b ? "B" : "A");
      if (!std::isfinite(sum)) report.not_finite.push_back(name);
      if (sum == 0 && (is_b || !b_was_zero(adapter.module))) report.zero.push_back(name);
    }
  }
  return report;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMost = 4;
  const size_t shown = std::min(names.size(), kMost);
  const std::string list = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return names.size() > shown ? fmt::format("{} and {} more", list, names.size() - shown) : list;
}

}  // namespace tll
