// What this program was built from and with: `--version`, and "program" in run.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "src/base/json.h"

namespace tll {

// Names and values: version, commit, compiler, …
std::vector<std::pair<std::string, std::string>> build_facts();

std::string version_text();  // of people: a line a fact
Json version_json();

}  // namespace tll
