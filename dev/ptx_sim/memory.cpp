// Instructions that access memory: ld, st, atom, cp.async.
#include <atomic>
#include <cstdio>
#include <cstring>

#include "dev/ptx_sim/handlers.h"

namespace ptx {
namespace {

std::string hex(uint64_t x) {
  char text[24];
  std::snprintf(text, sizeof(text), "%#llx", static_cast<unsigned long long>(x));
  return text;
}

void check_aligned(Block& b, uint64_t address, size_t bytes, int lane) {
  if (address % bytes) b.fault("a misaligned access of " + std::to_string(bytes) + " bytes at " + hex(address), lane);
}
// Where bytes of global memory lie on this machine.
uint8_t* global(Block& b, uint64_t address, size_t bytes, int lane, bool write) {
  check_aligned(b, address, bytes, lane);
  if (!b.range.holds(address, bytes)) {
    b.range = range_of(address), b.range_read = b.range_written = false;
    if (!b.range.holds(address, bytes))
      b.fault(std::string(write ? "a write" : "a read") + " of " + std::to_string(bytes) + " bytes at " + hex(address) +
                  ", outside of every tensor",
              lane);
  }
  if (write && !b.range_written) b.written.insert(b.range.begin), b.range_written = true;
  return reinterpret_cast<uint8_t*>(address);
}
uint8_t* in_shared(Block& b, uint64_t address, size_t bytes, int lane) {
  check_aligned(b, address, bytes, lane);
  if (address > b.shared.size() || bytes > b.shared.size() - address)
    b.fault("an access of " + std::to_string(bytes) + " bytes at " + std::to_string(address) + " of " +
                std::to_string(b.shared.size()) + " bytes of shared memory",
            lane);
  return b.shared.at(address);
}
void report(Block& b, const char* problem) {
  if (problem) b.report(problem);
}

// Bytes to registers, extended by their sign if the type has one.
template <class T>
void load_from(Block& b, const Instruction& i, const uint8_t* from, int lane) {
  for (size_t e = 0; e < i.outputs; e++) {
    T x;
    std::memcpy(&x, from + e * sizeof(T), sizeof(T));
    b.put(i.d[e], lane, static_cast<uint64_t>(x));
  }
}
template <class T>
void load_global(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint8_t* from = global(b, b.address(i.address[0], l), i.bytes, l, false);
    if (i.constant && !b.range_read) b.constant.insert(b.range.begin), b.range_read = true;
    load_from<T>(b, i, from, l);
  });
}
template <class T>
void load_shared(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint64_t address = b.address(i.address[0], l);
    const uint8_t* from = in_shared(b, address, i.bytes, l);
    report(b, b.shared.read(b.accessor(l), address, i.bytes));
    load_from<T>(b, i, from, l);
  });
}
template <class T>
void load_argument(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint64_t address = b.address(i.address[0], l);
    check_aligned(b, address, i.bytes, l);
    if (address > b.arguments.size() || i.bytes > b.arguments.size() - address) b.fault("a read beyond the arguments", l);
    load_from<T>(b, i, b.arguments.data() + address, l);
  });
}

template <class T>
void store_to(Block& b, const Instruction& i, uint8_t* to, int lane) {
  for (size_t e = 0; e < i.inputs; e++) {
    const T x = static_cast<T>(b.get(i.s[e], lane));
    std::memcpy(to + e * sizeof(T), &x, sizeof(T));
  }
}
template <class T>
void store_global(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) { store_to<T>(b, i, global(b, b.address(i.address[0], l), i.bytes, l, true), l); });
}
template <class T>
void store_shared(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    const uint64_t address = b.address(i.address[0], l);
    uint8_t* to = in_shared(b, address, i.bytes, l);
    report(b, b.shared.write(b.accessor(l), address, i.bytes));
    store_to<T>(b, i, to, l);
  });
}

template <class T>
void atomic_add(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    auto* at = reinterpret_cast<T*>(global(b, b.address(i.address[0], l), sizeof(T), l, true));
    b.put(i.d[0], l, std::atomic_ref(*at).fetch_add(static_cast<T>(b.get(i.s[0], l))));
  });
}

// f(T{}) for the type of a value in memory.
template <class F>
Handler by_stored(Type type, const F& f) {
  switch (type) {
    case Type::s8:
      return f(int8_t{});
    case Type::b8:
    case Type::u8:
      return f(uint8_t{});
    case Type::f32:
      return f(uint32_t{});
    case Type::f64:
      return f(uint64_t{});
    default:
      return by_integer(type, f);
  }
}

// ---- cp.async ----------------------------------------------------------------------------------------------------

void copy_async(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int l) {
    Copy copy{b.address(i.address[0], l), b.address(i.address[1], l), i.number, i.number, b.warp->group[static_cast<size_t>(l)]};
    if (i.inputs) copy.bytes = static_cast<uint32_t>(b.get(i.s[0], l));
    if (copy.bytes > copy.size)
      b.fault("cp.async of " + std::to_string(copy.bytes) + " of " + std::to_string(copy.size) + " bytes", l);
    uint8_t* to = in_shared(b, copy.to, copy.size, l);
    check_aligned(b, copy.from, copy.size, l);
    if (copy.bytes && !range_of(copy.from).holds(copy.from, copy.bytes))
      b.fault("cp.async of " + std::to_string(copy.bytes) + " bytes at " + hex(copy.from) + ", outside of every tensor", l);
    report(b, b.shared.copy_begins(b.accessor(l), copy.to, copy.size));
    std::memset(to, 0xff, copy.size);  // NaN until it is waited for
    b.warp->copies[static_cast<size_t>(l)].push_back(copy);
  });
}
void commit_copies(Block& b, const Instruction&, Lanes mask) {
  for_lanes(mask, [&](int l) { b.warp->group[static_cast<size_t>(l)]++; });
}
// What a lane's groups but the newest `number` copy arrives.
void wait_for_copies(Block& b, const Instruction& i, Lanes mask) {
  for_lanes(mask, [&](int lane) {
    const auto l = static_cast<size_t>(lane);
    std::erase_if(b.warp->copies[l], [&](const Copy& copy) {
      if (copy.group + i.number >= b.warp->group[l]) return false;
      uint8_t* to = b.shared.at(copy.to);
      std::memset(to, 0, copy.size);
      if (copy.bytes) std::memcpy(to, reinterpret_cast<const void*>(copy.from), copy.bytes);
      b.shared.copy_ends(b.accessor(lane), copy.to, copy.size);
      return true;
    });
  });
}
Handler copy_handler(Mnemonic& m) {
  if (!m.take("async")) return nullptr;
  if (m.take("commit_group")) return commit_copies;
  if (m.take("wait_group")) return wait_for_copies;
  const bool to = m.take("shared"), from = m.take("global");
  m.take_one({"ca", "cg"});
  return to && from ? copy_async : nullptr;
}

}  // namespace

Handler memory_handler(Mnemonic& m, Instruction& i) {
  if (m.op == "cp") return copy_handler(m);
  if (m.op != "ld" && m.op != "st" && m.op != "atom") return nullptr;
  const std::string space = m.take_one({"global", "shared", "param"});
  if (m.op == "atom") {
    if (space != "global" || !m.take("add") || bytes_of(i.type) < 4) return nullptr;
    return by_integer(i.type, []<class T>(T) -> Handler { return atomic_add<std::make_unsigned_t<T>>; });
  }
  const bool load = m.op == "ld", in_shared_memory = space == "shared", in_arguments = load && space == "param";
  if (!in_shared_memory && !in_arguments && space != "global") return nullptr;
  m.take_one({"v2", "v4"});
  i.constant = load && m.take("nc");
  i.bytes = static_cast<uint8_t>(bytes_of(i.type) * (load ? i.outputs : i.inputs));
  return by_stored(i.type, [&]<class T>(T) -> Handler {
    if (!load) return in_shared_memory ? store_shared<std::make_unsigned_t<T>> : store_global<std::make_unsigned_t<T>>;
    return in_shared_memory ? load_shared<T> : in_arguments ? load_argument<T> : load_global<T>;
  });
}

}  // namespace ptx
