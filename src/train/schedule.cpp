#include "src/train/schedule.h"

#include <cmath>
#include <numbers>

#include "src/base/check.h"

namespace tll {

double Schedule::factor(int64_t update) const {
  TLL_CHECK(update >= 0 && update < updates && warmup_updates >= 0, "update {} of {}, warm-up {}", update, updates,
            warmup_updates);
  if (update < warmup_updates) return static_cast<double>(update) / static_cast<double>(warmup_updates);
  const double after_warmup = static_cast<double>(updates - warmup_updates);
  switch (kind) {
    case ScheduleKind::kConstant:
    case ScheduleKind::kConstantWithWarmup:
      return 1;
    case ScheduleKind::kLinear:
      return static_cast<double>(updates - update) / after_warmup;
    case ScheduleKind::kCosine: {
      const double progress = static_cast<double>(update - warmup_updates) / after_warmup;
      return 0.5 * (1 + std::cos(std::numbers::pi * progress));
    }
  }
  check_failed("a known schedule", __FILE__, __LINE__, fmt::format("kind {}", static_cast<int>(kind)));
}

int64_t warmup_updates(ScheduleKind kind, int64_t updates, std::optional<int64_t> warmup_steps, double warmup_ratio) {
  if (kind == ScheduleKind::kConstant) return 0;
  if (warmup_steps) return *warmup_steps;
  const int64_t steps = static_cast<int64_t>(std::ceil(static_cast<double>(updates) * warmup_ratio));
  return warmup_ratio < 1 && steps >= updates ? 0 : steps;
}

}  // namespace tll
