// What most files of src/ and tests/ read first, compiled once by the Makefile: nothing relies on it, every file includes what it
// uses.
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
