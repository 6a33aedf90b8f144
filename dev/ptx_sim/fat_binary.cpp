#include "dev/ptx_sim/fat_binary.h"

#include <algorithm>
#include <compare>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "dev/ptx_sim/ptx_sim.h"

namespace ptx {
namespace {

// The container and each of its entries begin with such a header. NVIDIA does not document them; that of nvcc 11 to 13 is this.
struct ContainerHeader {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // of the entries
};
struct EntryHeader {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;  // of what follows the header
};
constexpr uint32_t kMagic = 0xba55ed50;
constexpr uint16_t kPtx = 1;

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

struct Target {
  int arch = 0;
  bool specific = false;
  auto operator<=>(const Target&) const = default;
};
Target target_of(const std::string& name) {  // 90a
  char* end = nullptr;
  const long arch = std::strtol(name.c_str(), &end, 10);
  return {static_cast<int>(arch), *end == 'a'};
}

}  // namespace

std::vector<std::string> texts_of(const std::byte* container) {
  const auto header = read<ContainerHeader>(container);
  if (header.magic != kMagic) throw Fault("nvcc's container of PTX is not of a kind that ptx_sim knows");
  std::vector<std::string> texts;
  const std::byte *at = container + header.header_bytes, *end = at + header.bytes;
  while (at < end) {
    const auto entry = read<EntryHeader>(at);
    const char* text = reinterpret_cast<const char*>(at + entry.header_bytes);
    if (entry.kind == kPtx) {
      texts.emplace_back(text, strnlen(text, entry.bytes));
      if (texts.back().find(".version") == std::string::npos)
        throw Fault("PTX is compressed; nvcc's -no-compress leaves it readable");
    }
    at += entry.header_bytes + entry.bytes;
  }
  return texts;
}

std::string text_for(const std::string& target, const std::vector<std::string>& texts) {
  const auto target_of_text = [](const std::string& text) {
    const size_t at = text.find(".target sm_");
    return at == std::string::npos ? Target{} : target_of(text.substr(at + 11, 8));
  };
  Target device = target_of(target), best;
  if (target.empty())
    for (const std::string& text : texts) device = std::max(device, target_of_text(text));
  const std::string* found = nullptr;
  for (const std::string& text : texts) {
    const Target t = target_of_text(text);
    if (t > device || (t.specific && t.arch != device.arch) || (found && t < best)) continue;
    found = &text, best = t;
  }
  if (!found && !texts.empty()) throw Fault("no PTX for sm_" + target);
  return found ? *found : "";
}

}  // namespace ptx
