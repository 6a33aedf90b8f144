// What the gradients of the first step say of the adapters: their norms by kind of layer, and which get none.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/model/model_options.h"
#include "src/model/trained.h"

namespace tll {

struct GradientReport {
  struct Kind {
    std::string name;     // q_proj
    double a = 0, b = 0;  // norms over all layers
  };
  std::vector<Kind> kinds;              // in the order of the layers' list
  std::vector<std::string> zero;        // tensors that should get a gradient, and do not: "layers.3.self_attn.q_proj B"
  std::vector<std::string> not_finite;  // tensors

  // "q_proj 0.12, v_proj 0.034"; of A or of B.
  std::string norms(bool of_b) const;
  bool all_of_a_are_zero() const;
  Json json() const;
};

// gradients: those of the flat range, times `scale`. The gradient of A is a product with B, so it is zero where B was, as in a
// fresh adapter; that is no fault. b_was_zero(module's name): before the update.
GradientReport report_gradients(const std::vector<LoraTarget>& adapters, const std::vector<NamedTensor>& tensors,
                                const float* gradients, double scale, const std::function<bool(const Module&)>& b_was_zero);

// "a, b, c and 5 more".
std::string some_of(const std::vector<std::string>& names);

}  // namespace tll
