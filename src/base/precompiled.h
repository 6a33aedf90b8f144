// Headers that most files of src/ and tests/ use. The Makefile compiles them once. No file relies on this one: each includes what
// it uses.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>
