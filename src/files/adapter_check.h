// Whether a PEFT adapter would load onto a model, and everything in it that would not: all of it, where read_adapter() ends at
// the first.
//
// A name that matches nothing is the fault to look for: PEFT only warns of it, and servers have then served the bare base model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/files/adapter.h"

namespace tll {

struct AdapterCheck {
  std::vector<std::string> problems;  // one line each; none: it loads
  std::vector<std::string> notes;     // what some servers do not take, or what looks unintended
  int modules = 0;                    // that have an adapter
  std::string base_model;             // as adapter_config.json names it
};

// `directory`: as of read_adapter().
AdapterCheck check_adapter(const std::filesystem::path& directory, const LlamaConfig& model);

}  // namespace tll
