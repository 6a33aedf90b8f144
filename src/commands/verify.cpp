// verify: whether an adapter, or a model, would load.
#include "src/commands/commands.h"
#include "src/commands/source.h"
#include "src/options/resolve.h"

namespace tll {

int command_verify(Options& options) {
  options.device = DeviceOption::kCpu;
  resolve_options(options);
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  const AdapterSource adapter = open_named_adapter(options, source.config);
  open_weights(source, adapter, Replaces::all);
  return kExitDone;
}

}  // namespace tll
