#include "dev/emulator/order.h"

#include <fmt/format.h>

#include <algorithm>

#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "dev/emulator/symbols.h"

namespace emulator {

void Clock::set(size_t slot, uint64_t number) {
  if (upto.size() <= slot) upto.resize(slot + 1);
  upto[slot] = number;
}
void Clock::join(const Clock& other) {
  if (upto.size() < other.upto.size()) upto.resize(other.upto.size());
  for (size_t i = 0; i < other.upto.size(); i++) upto[i] = std::max(upto[i], other.upto[i]);
}

std::vector<Ran> History::unordered(size_t slot, const Clock& clock) const {
  std::vector<Ran> found;
  for (size_t s = 0; s < by_slot_.size(); s++) {
    if (s == slot) continue;
    const std::vector<Ran>& ran = by_slot_[s];
    for (size_t i = ran.size(); i-- > 0 && ran[i].number > clock.of(s);) found.push_back(ran[i]);
  }
  return found;
}
void History::add(Ran ran) {
  if (by_slot_.size() <= ran.slot) by_slot_.resize(ran.slot + 1);
  by_slot_[ran.slot].push_back(std::move(ran));
}
void History::forget(const Clock& known) {
  for (size_t s = 0; s < by_slot_.size(); s++)
    std::erase_if(by_slot_[s], [&](const Ran& ran) { return ran.number <= known.of(s); });
}

namespace {

void report(const std::string& text, const void* site, const void* other_site, const void* kernel, const std::string& tensor) {
  const Place at = place_of(site), other = place_of(other_site);
  const std::string second = other.line ? "; the other place: " + line_text(other) : "";
  add_report(
      {.fault = Fault::race,
       .message = fmt::format("{}: {}: {}, and nothing orders the two{}", fault_name(Fault::race), line_text(at), text, second),
       .kernel = kernel ? function_name(kernel) : "",
       .tensor = tensor,
       .place = at,
       .other = other});
}
Address address_of(const void* p) {
  return in_device_memory(p) ? describe_device_address(reinterpret_cast<uintptr_t>(p)) : Address{"host memory", ""};
}

// Whether a launch touched the range, as far as the shadow cells still tell; reports it.
bool touched_by_launch(const MemoryUse& use, const std::vector<Ran>& unordered, const void* site) {
  const auto ran = [&](uint32_t stamp) -> const Ran* {
    for (const Ran& r : unordered)
      if (r.kernel && stamp - r.first_stamp < r.blocks) return &r;
    return nullptr;
  };
  const size_t begin = reinterpret_cast<uintptr_t>(use.p) - device_memory.base;
  for (size_t i = begin; i < begin + use.bytes; i++) {
    const Cell& word = device_memory.words[i / 4];
    const bool split = word.flags & kSplit;
    const Cell& c = split ? device_memory.singles[i] : word;
    const Ran* wrote = ran(c.write_stamp);
    const Ran* read = use.write ? ran(c.read_stamp) : nullptr;
    if (wrote || read) {
      const auto [place, tensor] = address_of(static_cast<const char*>(use.p) + (i - begin));
      const void* kernel = (wrote ? wrote : read)->kernel;
      report(fmt::format("a copy or fill {} {}, which {} {} in another stream", use.write ? "writes" : "reads", place,
                         function_name(kernel), wrote ? "wrote" : "read"),
             site, reinterpret_cast<const void*>(program_base() + (wrote ? c.write_pc : c.read_pc)), kernel, tensor);
      return true;
    }
    if (!split) i |= 3;
  }
  return false;
}

}  // namespace

void check_order(const std::vector<MemoryUse>& uses, const std::vector<Ran>& unordered, const void* site) {
  for (const MemoryUse& use : uses)
    for (const Ran& ran : unordered)
      for (const MemoryUse& other : ran.uses)
        if ((use.write || other.write) && use.overlaps(other.p, other.bytes)) {
          const auto [place, tensor] = address_of(std::max(use.p, other.p));
          return report(fmt::format("a copy or fill {} {}, which another one {} in another stream",
                                    use.write ? "writes" : "reads", place, other.write ? "wrote" : "read"),
                        site, ran.site, nullptr, tensor);
        }
  if (std::none_of(unordered.begin(), unordered.end(), [](const Ran& ran) { return ran.kernel; }) || !options().races) return;
  for (const MemoryUse& use : uses)
    if (in_device_memory(use.p) && touched_by_launch(use, unordered, site)) return;
}

}  // namespace emulator
