#include "src/report/training_chart.h"

#include <fmt/format.h>

#include "src/base/units.h"

namespace tll {

Chart training_chart(const RunHistory& history) {
  const bool means = history.interval() > 1;
  Curve measured{means ? "least and most" : "measured", CurveStyle::kFaint, 0, {}};
  Curve smoothed{fmt::format("smoothed over {} steps", history.smoothing()), CurveStyle::kStrong, 0, {}};
  Curve validation{"validation", CurveStyle::kMarked, 1, {}};
  Curve rate{"learning rate", CurveStyle::kStrong, 2, {}};
  Curve norm{"gradient norm", CurveStyle::kFaint, 3, {}};
  for (const HistoryEntry& e : history.entries()) {
    const double x = static_cast<double>(e.step);
    measured.points.push_back({x, e.losses > 0 ? e.least : e.loss});
    if (means && e.losses > 0) measured.points.push_back({x, e.most});
    smoothed.points.push_back({x, e.smoothed});
    rate.points.push_back({x, e.lr});
    norm.points.push_back({x, e.grad_norm});
  }
  for (const HistoryEvaluation& e : history.evaluations()) validation.points.push_back({static_cast<double>(e.step), e.loss});
  return {
      .title = fmt::format("Training: loss, learning rate and gradient norm over {}", Counted{history.steps(), "step"}),
      .x_name = "step",
      .panels = {{.title = "Loss (nats per token)",
                  .curves = {std::move(measured), std::move(smoothed), std::move(validation)},
                  .may_be_logarithmic = true,
                  .height = 260,
                  .rows = 10},
                 {.title = "Learning rate", .curves = {std::move(rate)}, .from_zero = true, .height = 90, .rows = 4},
                 {.title = "Gradient norm", .curves = {std::move(norm)}, .may_be_logarithmic = true, .height = 90, .rows = 0}}};
}

}  // namespace tll
