// The commands beside `train`. Each returns an exit code; errors are thrown.
#pragma once

#include "src/options/options.h"

namespace tll {

int command_plan(Options& options);
int command_prepare(Options& options);
int command_show(Options& options);
int command_evaluate(Options& options);
int command_generate(Options& options);
int command_tokenize(Options& options);
int command_dump(Options& options);
int command_export(Options& options);
int command_verify(Options& options);

}  // namespace tll
