// ./test_gradients: one table, a line for each case of each op in each type on each device.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "emulator/emulator.h"
#include "src/base/check.h"
#include "tests/op_case.h"
#include "tests/op_program.h"

namespace emulator {
[[gnu::weak]] Options& options();  // null: linked with a GPU's device, or none
}

namespace tll::test {
namespace {

constexpr const char* kHelp = R"(usage: test_gradients [--device NAME] [--op NAME] [--seed N] [--json]
                      [--arch SM] [--mma SUM] [--orders N]

Runs every op on every device found here and prints one table. Lines of type fp64 are the oracle: forward against the
definition, backward against the complex step of forward. The others compare a device with the definition and with fp64.
An error is |x - exact| divided by the sum of the absolute terms that make x, the largest over all elements; of several
tensors the one nearest to its tolerance is shown. Tolerances count roundings; they are derived where the cases are declared.

  --device NAME  cpu, cuda-emulated or cuda; may be repeated (default: all that are found)
  --op NAME      only this op; may be repeated (default: all)
  --seed N       choose other random shapes and values (default: 42)
  --json         a JSON array of objects instead of the table
  --arch SM      the GPU that the emulator is: 75, 80 (the default), 86, 89, 90, 100 or 120
  --mma SUM      how its tensor cores add: exact (the default), or hardware, which cuts as GPUs were measured to do
  --orders N     run its kernels in N orders of threads and blocks; all must give the same bits (default: 1)
  --help         this text

Exit code: 0 all verdicts are ok; 1 one is not; 2 usage.
)";

struct Options {
  std::set<std::string> devices, ops;
  uint64_t seed = 42;
  bool json = false;
  int arch = 0, orders = 1;  // 0: the emulator's default
  bool hardware_mma = false;
};

template <class Names>
std::string joined(const Names& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

std::vector<ProgramOption> program_options(Options& o) {
  static const std::vector<std::string> known{"75", "80", "86", "89", "90", "100", "120"};
  const auto arch = [&](const std::string& text) {
    expect_one_of(known, text, "--arch is one of " + joined(known));
    o.arch = 10 * std::stoi(text);
  };
  const auto mma = [&](const std::string& text) {
    expect_one_of({"exact", "hardware"}, text, "--mma is exact or hardware");
    o.hardware_mma = text == "hardware";
  };
  return {{"--device", [&](auto& text) { o.devices.insert(text); }},
          {"--op", [&](auto& text) { o.ops.insert(text); }},
          {"--seed", [&](auto& text) { o.seed = whole_number(text, 18, 0, "--seed takes a whole number from 0 to 10^18 - 1"); }},
          {"--arch", arch},
          {"--mma", mma},
          {"--orders", [&](auto& text) { o.orders = whole_number(text, 4, 1, "--orders takes a whole number from 1 to 9999"); }},
          {"--json", [&](auto&) { o.json = true; }, true}};
}

void set_emulator(const Options& options) {
  if (!emulator::options) {
    if (options.arch || options.hardware_mma || options.orders > 1)
      fail(kExitUsage, "--arch, --mma and --orders are for the emulator, which this program was built without");
    return;
  }
  if (options.arch) emulator::options().arch = options.arch;
  if (options.hardware_mma) emulator::options().mma = emulator::MmaSum::hardware;
}

std::vector<TestDevice> chosen_devices(const Options& options) {
  std::vector<TestDevice> found = devices_here();
  if (options.devices.empty()) return found;
  std::vector<TestDevice> chosen;
  for (const std::string& name : options.devices) {
    const auto at = std::find_if(found.begin(), found.end(), [&](const TestDevice& d) { return d.name == name; });
    if (at != found.end()) {
      chosen.push_back(*at);
      continue;
    }
    if (name != "cuda" && name != "cuda-emulated") fail(kExitUsage, "--device is cpu, cuda-emulated or cuda, not '{}'", name);
    fail(kExitUsage, "device {} was not found here; leave --device out to run on all that were", name);
  }
  return chosen;
}

std::vector<OpCase> chosen_cases(const Options& options) {
  std::vector<OpCase> cases = all_cases(options.seed);
  std::set<std::string> names;
  for (const OpCase& c : cases) names.insert(c.op);
  for (const std::string& op : options.ops)
    if (!names.contains(op)) fail(kExitUsage, "there is no op '{}'; the ops are {}", op, joined(names));
  if (!options.ops.empty()) std::erase_if(cases, [&](const OpCase& c) { return !options.ops.contains(c.op); });
  return cases;
}

nlohmann::ordered_json to_json(const Row& row) {
  nlohmann::ordered_json j{{"op", row.op},
                           {"shape", row.shape},
                           {"dtype", row.dtype},
                           {"device", row.device},
                           {"forward_error", row.forward_error},
                           {"forward_tolerance", row.forward_tolerance}};
  if (row.has_backward) j["backward_error"] = row.backward_error, j["backward_tolerance"] = row.backward_tolerance;
  j["ok"] = row.problem.empty();
  if (!row.skipped.empty()) j["skipped"] = row.skipped;
  if (!row.problem.empty()) j["problem"] = row.problem;
  return j;
}

void print(const Row& row) {
  const auto number = [](double x) { return x == 0 ? std::string("0") : fmt::format("{:.1e}", x); };
  const auto backward = [&](double x) { return row.has_backward ? number(x) : std::string("-"); };
  fmt::print("{:<16} {:<44} {:<14} {:<13} {:>9} {:>9} {:>9} {:>9}  {}\n", row.op, row.shape, row.dtype, row.device,
             number(row.forward_error), number(row.forward_tolerance), backward(row.backward_error),
             backward(row.backward_tolerance),
             !row.skipped.empty()  ? "skipped: " + row.skipped
             : row.problem.empty() ? "ok"
                                   : "BAD: " + row.problem);
}

int run_table(const Options& options) {
  set_emulator(options);
  std::vector<TestDevice> devices = chosen_devices(options);
  for (TestDevice& device : devices)
    if (device.name == "cuda-emulated") {
      device.orders = options.orders;
      device.choose_order = [](int order) { emulator::options().seed = 1 + static_cast<uint64_t>(order); };
    }
  const std::vector<OpCase> cases = chosen_cases(options);
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  if (!options.json)
    fmt::print("{:<16} {:<44} {:<14} {:<13} {:>9} {:>9} {:>9} {:>9}  {}\n", "op", "shape", "dtype", "device", "forward",
               "tolerance", "backward", "tolerance", "verdict");
  int rows = 0, bad = 0, skipped = 0;
  for (const OpCase& op : cases) {
    for (const Row& row : check(op, devices)) {
      rows++, bad += !row.problem.empty(), skipped += !row.skipped.empty();
      if (options.json)
        all.push_back(to_json(row));
      else
        print(row);
    }
  }
  if (options.json) {
    std::cout << all.dump(1) << "\n";
  } else {
    std::vector<std::string> names;
    for (const TestDevice& device : devices)
      for (const Device& variant : device.variants) names.push_back(variant_name(device, variant));
    fmt::print("\n{} lines, {} bad, {} skipped; seed {}; devices: {}", rows, bad, skipped, options.seed, joined(names));
    if (emulator::options)
      fmt::print("; the emulator is sm_{}, {} sums, {} orders", emulator::options().arch / 10,
                 options.hardware_mma ? "hardware's" : "exact", options.orders);
    fmt::print("\n");
  }
  return bad ? kExitFault : kExitDone;
}

}  // namespace
}  // namespace tll::test

int main(int argc, char** argv) {
  using namespace tll::test;
  Options options;
  return run_program(argc, argv, kHelp,
                     ": --device, --op, --seed, --json, --arch, --mma, --orders and --help are the ones there are",
                     program_options(options), [&] { return run_table(options); });
}
