// plan: what a training run needs, from config.json or the name of a published model alone.
#include "src/model/plan.h"

#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/commands/plan_screen.h"
#include "src/commands/sweep.h"
#include "src/model/plan_picture.h"

namespace tll {

int command_plan(Options& options) {
  if (options.given("sweep") && (!options.svg.empty() || options.tensors))
    fail(kExitUsage, "--sweep prints one table of many plans; --svg and --tensors are of one plan: leave out either");
  if (options.given("sweep")) return print_sweep(options);
  if (options.csv) fail(kExitUsage, "--csv prints the table of --sweep: add --sweep \"rank=4,8\", or use --json");
  refuse_output_over_inputs(options, options.svg, "svg");
  const OpenPlan plan(options);
  return plan.planner.with_session(options, [&](const auto& session) {
    const PlanScreen screen(options, plan.source, session, session.model.trained().count, plan.planner, plan.solution);
    if (!options.svg.empty()) write_file_atomic(options.svg, plan_picture(session.arena, screen.title()));
    if (options.json)
      fmt::print("{}\n", json_text(screen.json()));
    else
      fmt::print("{}{}", screen.text(), options.tensors ? "\n" + plan_table(session.arena) : "");
    std::fflush(stdout);
    session.require_fit();
    return kExitDone;
  });
}

}  // namespace tll
