#define PCRE2_CODE_UNIT_WIDTH 8
#include "src/report/build_facts.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <pcre2.h>
#include <xxhash.h>

#include "kernels/cuda_device.h"
#include "kernels/device.h"
#include "kernels/matmul_bf16.h"

// TLL_COMMIT and TLL_CUDA come from dev/build_facts.sh. Nothing else is compiled with them, so that a new commit compiles this
// file alone.
namespace tll {
namespace {

constexpr const char* kVersion = "0.1.0";

std::string instruction_sets() {
  std::string names;
  for (Isa isa : kIsas) names += fmt::format("{} ", isa_name(isa));
  return names + fmt::format("(used here: {}; for bf16: {})", isa_name(best_isa()), bf16_instructions_name(bf16_instructions()));
}

std::string libraries() {
  const auto three = [](unsigned packed) {  // 10203 is 1.2.3
    return fmt::format("{}.{}.{}", packed / 10000, packed / 100 % 100, packed % 100);
  };
  return fmt::format("fmt {}, nlohmann-json {}.{}.{}, xxHash {}, PCRE2 {}.{}, glibc {}", three(FMT_VERSION),
                     NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH,
                     three(XXH_versionNumber()), PCRE2_MAJOR, PCRE2_MINOR, gnu_get_libc_version());
}

}  // namespace

std::vector<std::pair<std::string, std::string>> build_facts() {
#ifdef __clang__
  const std::string compiler = __VERSION__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  return {{"version", kVersion},
          {"commit", TLL_COMMIT},
          {"compiler", compiler},
          {"instruction sets", instruction_sets()},
          {"CUDA", cuda_emulated() ? "emulated" : TLL_CUDA},
          {"libraries", libraries()}};
}

std::string version_text() {
  std::string text;
  for (const auto& [name, value] : build_facts())
    text += name == "version" ? fmt::format("train_llama_lora {}\n", value) : fmt::format("{:<18}{}\n", name, value);
  return text;
}

Json version_json() {
  Json json = {{"name", "train_llama_lora"}};
  for (const auto& [name, value] : build_facts()) json[name] = value;
  return json;
}

}  // namespace tll
