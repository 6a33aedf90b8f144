// What the options leave open is decided here, for this machine and model: the defaults of the demo model, and every `auto`.
#pragma once

#include "kernels/numeric.h"
#include "src/options/options.h"

namespace tll {

// The demo model's own defaults, for options that the user did not give. It is small and sees a format that it does not know: it
// takes larger steps than a real model, and can afford to be asked questions before and after.
void apply_demo_defaults(Options& options);

// The demo model's defaults, then the outcome of every `auto`: dtype, weights, threads, device. One line to standard error if
// CUDA was asked for and is not there. Error (kExitUsage) if the options contradict each other or the device.
void resolve_options(Options& options);

// f(float{}), f(bf16{}) or f(half{}): the type that --dtype names, which is not auto.
template <class F>
auto with_type(const Options& options, const F& f) {
  if (options.dtype == DtypeOption::kBf16) return f(bf16{});
  if (options.dtype == DtypeOption::kFp16) return f(half{});
  return f(float{});
}
// Resolves the options, then with_type().
template <class F>
auto with_resolved_type(Options& options, const F& f) {
  resolve_options(options);
  return with_type(options, f);
}

}  // namespace tll
