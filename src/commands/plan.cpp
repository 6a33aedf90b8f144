// plan: what a training run needs, from config.json alone.
#include "src/model/plan.h"

#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/session.h"
#include "src/options/resolve.h"

namespace tll {

int command_plan(Options& options) {
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    const ModelSource source = open_model(options, TokenizerNeed::none);
    const AdapterSource adapter = open_adapter(options, source.config, options.init_adapter);
    Session<Float> session(options, source.config, adapter.targets, training_needs);
    if (options.json) {
      fmt::print("{}\n", session.plan_json().dump());
    } else {
      fmt::print("{}", plan_table(session.arena));
      fmt::print("{} in {} ({})\n", session.fits() ? "fits" : "does not fit", Bytes{session.memory_limit()},
                 options.memory > 0 ? "--memory" : fmt::format("what {} has available", session.memory_owner()));
    }
    std::fflush(stdout);
    session.require_fit();
    return kExitDone;
  });
}

}  // namespace tll
