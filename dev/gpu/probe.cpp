// build/probe: compares what a GPU does with what the kernels and the emulator assume.
#include "dev/gpu/probe.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "src/base/check.h"

namespace tll::probe {
namespace {

constexpr const char* kHelp = R"(usage: probe [--quick] [--fragments DIR] [--arch N] [--misaligned] [--json]

One line for each point on which kernels rely: 1 the device's properties, 2 which lane of a warp holds what of tensor-core
operands, 3 how tensor cores add up (bit for bit against the emulator's model), 4 cp.async with a length and fmaxf,
5 conversions of all floats and the errors of elementary functions.

  --quick          samples: seconds on the emulator, and less than one on a GPU
  --fragments DIR  compare mma-fragments.csv and ldmatrix-fragments.csv of DIR with the formulae as well
  --arch N         on the emulator: 750, 800, 860, 890, 900, 1000 or 1200 (default: 800)
  --misaligned     only this: cp.async from a source that is not aligned, which may fault
  --json           a JSON object on each line
  --help           this text

Exit code: 0 all ok; 1 one differs, or there is no GPU; 2 usage.
)";

struct Limits {
  int arch, shared_opt_in, shared_multiprocessor, reserved, threads, blocks;  // KiB, KiB, bytes, per SM, per SM
};
constexpr Limits kLimits[] = {{750, 64, 64, 0, 1024, 16},     {800, 163, 164, 1024, 2048, 32}, {860, 99, 100, 1024, 1536, 16},
                              {890, 99, 100, 1024, 1536, 24}, {900, 227, 228, 1024, 2048, 32}, {1000, 227, 228, 1024, 2048, 32},
                              {1200, 99, 100, 1024, 1536, 24}};

struct Card {
  const char* name;  // as the driver reports it, or its distinct part
  int multiprocessors, gigabytes, gigabytes_per_second, l2_megabytes;
};
constexpr Card kCards[] = {{"H100 PCIe", 114, 80, 2000, 50},
                           {"H100", 132, 80, 3350, 50},
                           {"H200", 132, 141, 4800, 50},
                           {"A100-SXM4-40GB", 108, 40, 1555, 40},
                           {"A100-SXM4-80GB", 108, 80, 2039, 40},
                           {"A100 80GB PCIe", 108, 80, 1935, 40},
                           {"B200", 148, 180, 8000, 126},
                           {"T4", 40, 16, 320, 4},
                           {"L4", 58, 24, 300, 48},
                           {"A10G", 80, 24, 600, 6},
                           {"RTX 3060", 28, 12, 360, 3},
                           {"RTX 3090", 82, 24, 936, 6},
                           {"RTX 4060", 24, 8, 272, 24},
                           {"RTX 4090", 128, 24, 1008, 72},
                           {"RTX 5090", 170, 32, 1792, 96}};

const Card* card_of(const std::string& name) {
  for (const Card& card : kCards) {
    const size_t at = name.find(card.name), end = at + std::strlen(card.name);
    const bool whole =
        at != std::string::npos && (at == 0 || name[at - 1] == ' ') && (end == name.size() || !std::isalnum(name[end]));
    if (whole) return &card;
  }
  return nullptr;
}

}  // namespace

std::vector<Line> check_properties(const Properties& p) {
  std::vector<Line> lines;
  std::string wrong;
  const auto compare = [&](const char* what, int64_t found, int64_t expected) {
    if (found != expected) wrong += fmt::format("; {} is {}, not {}", what, found, expected);
  };
  const Limits* limits = nullptr;
  for (const Limits& l : kLimits)
    if (l.arch == p.arch) limits = &l;
  const std::string about = fmt::format("{}, sm_{}, {} multiprocessors, {} MiB, L2 {} MB", p.name, p.arch / 10, p.multiprocessors,
                                        p.memory_bytes >> 20, p.l2_bytes / 1000000);
  if (!limits) {
    lines.push_back({"1 limits", Verdict::skipped, about + ": an architecture that the table has not"});
  } else {
    compare("shared memory a block with opt-in", p.shared_per_block_opt_in, limits->shared_opt_in * 1024);
    compare("shared memory a multiprocessor", p.shared_per_multiprocessor, limits->shared_multiprocessor * 1024);
    compare("shared memory a block without opt-in", p.shared_per_block, 48 * 1024);
    compare("shared memory reserved", p.reserved_shared_per_block, limits->reserved);
    compare("threads a multiprocessor", p.threads_per_multiprocessor, limits->threads);
    compare("blocks a multiprocessor", p.blocks_per_multiprocessor, limits->blocks);
    compare("registers a multiprocessor", p.registers_per_multiprocessor, 65536);
    lines.push_back(line("1 limits", wrong.empty(), about + wrong));
  }
  const Card* card = card_of(p.name);
  if (!card) {
    lines.push_back({"1 speed of light", Verdict::skipped, "a card that the table has not"});
    return lines;
  }
  wrong.clear();
  compare("multiprocessors", p.multiprocessors, card->multiprocessors);
  // Marketed gigabytes are decimal or binary, and error correction takes some of them: a tenth of deviation is allowed.
  const auto about_equal = [&](const char* what, double found, double expected, const char* unit) {
    if (found > 0 && std::abs(found / expected - 1) > 0.1)
      wrong += fmt::format("; {} is {:.0f} {}, not {:.0f}", what, found, unit, expected);
  };
  const double bandwidth = 2.0 * p.memory_clock_khz * 1e3 * p.memory_bus_bits / 8 / 1e9;
  about_equal("memory", static_cast<double>(p.memory_bytes) / 0x1p30, card->gigabytes, "GiB");
  about_equal("bandwidth", bandwidth, card->gigabytes_per_second, "GB/s");
  about_equal("L2", static_cast<double>(p.l2_bytes) / 0x1p20, card->l2_megabytes, "MiB");
  lines.push_back(
      line("1 speed of light", wrong.empty(), fmt::format("{}: {:.0f} GB/s of memory", card->name, bandwidth) + wrong));
  return lines;
}

namespace {

// A GPU might keep the length of a copy in the low bits of the source address, so that a source past a multiple of 16 shortens
// the copy. It may also fault, so this runs in a process of its own. No kernel relies on it.
Line check_misaligned(const Properties& p) {
  if (p.arch < 800) return {"4 cp.async misaligned", Verdict::skipped, "begins with sm_80"};
  if (is_emulated()) return {"4 cp.async misaligned", Verdict::skipped, "the emulator refuses it"};
  std::vector<uint8_t> expected(16, 0);
  for (size_t i = 0; i < 12; i++) expected[i] = static_cast<uint8_t>(i + 1);
  const std::vector<uint8_t> found = cp_async(16, false, 4);
  return line("4 cp.async misaligned", found == expected,
              hexadecimal(found) + ": 12 bytes from the multiple of 16 below expected");
}

int run(const Settings& settings, bool misaligned, bool json) {
  if (device_count() == 0) fail(kExitFault, "no GPU was found, or no driver");
  const Properties p = properties();
  const char* words[] = {"ok", "differs", "skipped"};
  int differ = 0;
  const auto show = [&](const std::vector<Line>& lines) {
    for (const Line& l : lines) {
      differ += l.verdict == Verdict::differs;
      const char* word = words[static_cast<int>(l.verdict)];
      if (json)
        std::cout << nlohmann::ordered_json{{"point", l.point}, {"verdict", word}, {"text", l.text}}.dump() << "\n";
      else
        fmt::print("{:<26} {:<8} {}\n", l.point, word, l.text);
    }
    std::cout.flush();  // so that this is visible if a later point faults
    std::fflush(stdout);
  };
  if (misaligned) {
    show({check_misaligned(p)});
    return differ ? kExitFault : kExitDone;
  }
  show(check_properties(p));
  show(check_fragments(p, settings));
  show(check_sums(p, settings));
  show(check_numbers(settings));
  show(check_copies(p));
  return differ ? kExitFault : kExitDone;
}

}  // namespace
}  // namespace tll::probe

int main(int argc, char** argv) {
  try {
    tll::probe::Settings settings;
    bool json = false, misaligned = false;
    std::string arch = "800";
    for (int i = 1; i < argc; i++) {
      const std::string arg = argv[i];
      if (arg == "--quick") {
        settings.quick = true;
      } else if (arg == "--misaligned") {
        misaligned = true;
      } else if (arg == "--json") {
        json = true;
      } else if (arg == "--fragments" && i + 1 < argc) {
        settings.fragments = argv[++i];
      } else if (arg == "--arch" && i + 1 < argc) {
        arch = argv[++i];
      } else if (arg == "--help") {
        std::fputs(tll::probe::kHelp, stdout);
        return tll::kExitDone;
      } else {
        tll::fail(tll::kExitUsage, "'{}': the options are --quick, --fragments DIR, --arch N, --misaligned, --json and --help",
                  arg);
      }
    }
    if (arch != "750" && arch != "800" && arch != "860" && arch != "890" && arch != "900" && arch != "1000" && arch != "1200")
      tll::fail(tll::kExitUsage, "--arch is 750, 800, 860, 890, 900, 1000 or 1200, not '{}'", arch);
    tll::probe::emulate(std::stoi(arch));
    return tll::probe::run(settings, misaligned, json);
  } catch (const tll::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return error.exit_code;
  }
}
