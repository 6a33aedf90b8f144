// From a kernel's text to instructions.
#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "dev/ptx_sim/block.h"
#include "dev/ptx_sim/mnemonic.h"
#include "dev/ptx_sim/text.h"
#include "dev/ptx_sim/warpgroup.h"

namespace ptx {
namespace {

void not_known(Block& b, const Instruction&, Lanes) { b.fault("an instruction that ptx_sim does not know"); }
void trap(Block& b, const Instruction&, Lanes) { b.fault("a trap"); }

// The body of a kernel, or of a function at one of its calls: functions are decoded in the place of each call.
struct Frame {
  std::string function;                           // empty: the kernel itself
  std::map<std::string, std::string> parameters;  // of the function: which variables of the caller they are
  std::unordered_map<std::string, int32_t> labels;
  std::vector<std::pair<size_t, std::string>> jumps;  // an instruction, and its target
  std::vector<std::unordered_map<std::string, Operand>> scopes;
};

class Decoder {
 public:
  explicit Decoder(Kernel& kernel) : kernel_(kernel), module_(*kernel.module) {}

  void run() {
    size_t offset = 0, p = 0;
    const size_t open = kernel_.header.find('('), close = kernel_.header.find(')');
    if (open != std::string::npos)
      for (const std::string& text : split(kernel_.header.substr(open + 1, close - open - 1), ','))
        if (!text.empty()) offset = kernel_.parameters[p++].offset, addresses_[declaration(text).name] = offset;
    frames_.emplace_back();
    decode_body(kernel_.body);
    add(leaving(), "ret");
    resolve();
    // Dynamic shared memory is aligned as its declaration says, and no better.
    kernel_.dynamic_at = kernel_.static_shared;
    if (const size_t a = module_.dynamic_alignment; !dynamic_.empty())
      kernel_.dynamic_at = (kernel_.static_shared + a - 1) / a / 2 * 2 * a + a;
    for (const Operand& o : dynamic_)
      if (o.file == File::wide)
        kernel_.wide[o.index] = kernel_.dynamic_at;
      else
        kernel_.narrow[o.index] = static_cast<uint32_t>(kernel_.dynamic_at);
    kernel_.executed.resize(kernel_.code.size());
    watch_registers(kernel_);
  }

 private:
  Frame& frame() { return frames_.back(); }

  // ---- registers
  Operand add_register(Type type, uint64_t value = ~uint64_t{0}) {  // nobody wrote it: NaN
    Operand o;
    if (type == Type::pred) {
      o.file = File::predicate, o.bits = 1, o.index = static_cast<uint32_t>(kernel_.predicates.size());
      kernel_.predicates.push_back(value & 1 ? kAllLanes : 0);
    } else if (bytes_of(type) == 8) {
      o.file = File::wide, o.bits = 64, o.index = static_cast<uint32_t>(kernel_.wide.size());
      kernel_.wide.push_back(value);
    } else {
      o.bits = static_cast<uint8_t>(8 * bytes_of(type)), o.index = static_cast<uint32_t>(kernel_.narrow.size());
      kernel_.narrow.push_back(static_cast<uint32_t>(value & (~uint64_t{0} >> (64 - o.bits))));
    }
    return o;
  }
  Operand constant(Type type, uint64_t value) {
    const auto [at, added] = constants_.try_emplace({bytes_of(type), value});
    if (added) at->second = add_register(type, value);
    return at->second;
  }
  // A variable of a call holds its parts in registers, by offset.
  Operand call_register(const std::string& name, int64_t offset) {
    const auto [at, added] = call_registers_.try_emplace({name, offset});
    if (added) at->second = add_register(Type::b64);
    return at->second;
  }
  Operand special(const std::string& name) {
    static const std::map<std::string, Special> known{{"%tid", Special::tid},       {"%ntid", Special::ntid},
                                                      {"%ctaid", Special::ctaid},   {"%nctaid", Special::nctaid},
                                                      {"%laneid", Special::laneid}, {"%warpid", Special::warpid}};
    const auto [at, added] = specials_.try_emplace(name);
    if (!added) return at->second;
    const size_t dot = std::min(name.find('.'), name.size());
    const auto found = known.find(name.substr(0, dot));
    if (found == known.end()) throw Fault(kernel_.name + ": the register " + name);
    at->second = add_register(Type::b32);
    kernel_.specials.push_back({at->second.index, found->second, dot + 1 < name.size() ? name[dot + 1] - 'x' : 0});
    return at->second;
  }
  Operand shared_array(const std::string& name, const SharedArray& array) {
    kernel_.static_shared = (kernel_.static_shared + array.alignment - 1) / array.alignment * array.alignment;
    addresses_[name] = kernel_.static_shared;
    kernel_.static_shared += array.bytes;
    return constant(Type::b64, addresses_[name]);
  }

  // A register, a number or an address. A number takes the type that the instruction gives it.
  Operand operand(const std::string& text, Type type) {
    if (text[0] == '!') {
      Operand o = operand(trim(text.substr(1)), type);
      o.negated = true;
      return o;
    }
    for (size_t s = frame().scopes.size(); s-- > 0;)
      if (const auto found = frame().scopes[s].find(text); found != frame().scopes[s].end()) return found->second;
    if (text == "_") return add_register(type);
    if (text[0] == '%') return special(text);
    if (text[0] == '0' && text.size() > 2 && std::string("fFdD").find(text[1]) != std::string::npos)
      return constant(type, std::stoull(text.substr(2), nullptr, 16));
    if (text[0] == '-') return constant(type, static_cast<uint64_t>(std::stoll(text, nullptr, 0)));
    if (text[0] >= '0' && text[0] <= '9') return constant(type, std::stoull(text, nullptr, 0));
    if (const auto found = addresses_.find(text); found != addresses_.end()) return constant(type, found->second);
    if (const auto found = module_.tables.find(text); found != module_.tables.end())
      return constant(type, reinterpret_cast<uint64_t>(found->second->data()));
    if (const auto found = module_.shared.find(text); found != module_.shared.end()) {
      shared_array(text, found->second);
      return constant(type, addresses_[text]);
    }
    if (text == module_.dynamic_shared) {
      dynamic_.push_back(add_register(type));
      return dynamic_.back();
    }
    throw Fault(kernel_.name + ": the operand '" + text + "'");
  }
  Address address(const std::string& text) {  // [register+4]
    std::string inner = trim(text.substr(1, text.size() - 2));
    const size_t plus = inner.find('+');
    Address a;
    if (plus != std::string::npos) a.offset = std::stoll(inner.substr(plus + 1), nullptr, 0), inner = trim(inner.substr(0, plus));
    a.base = operand(inner, Type::b64);
    return a;
  }

  // ---- declarations
  void declare(const std::string& s) {
    if (s.starts_with(".reg")) {  // .reg .b32 %r<9>, %temp;
      const size_t dot = s.find('.', 1), end = s.find_first_of(" \t", dot);
      const Type type = type_of(s.substr(dot + 1, end - dot - 1));
      if (type == Type::none) throw Fault(kernel_.name + ": " + s);
      for (const std::string& name : split(s.substr(end), ',')) {
        const size_t open = name.find('<');
        if (open == std::string::npos) {
          frame().scopes.back()[name] = add_register(type);
          continue;
        }
        const int count = std::stoi(name.substr(open + 1));
        for (int n = 0; n < count; n++) frame().scopes.back()[name.substr(0, open) + std::to_string(n)] = add_register(type);
      }
    } else if (s.starts_with(".shared")) {
      const Declaration d = declaration(s);
      shared_array(d.name, {d.bytes, d.alignment});
    } else if (s.starts_with(".local")) {
      addresses_[declaration(s).name] = 0;  // what accesses it is not known
    } else if (s.starts_with(".param")) {
      const std::string name = declaration(s).name;
      frame().parameters[name] = name + "#" + std::to_string(calls_);
    } else if (!s.starts_with(".pragma")) {
      throw Fault(kernel_.name + ": " + s);
    }
  }

  // ---- instructions
  static Instruction leaving() {
    Instruction i;
    i.flow = Flow::leave;
    return i;
  }
  void add(const Instruction& i, const std::string& text) {
    kernel_.code.push_back(i);
    kernel_.text.push_back(text);
    kernel_.lines.push_back(line_);
  }
  void jump(Instruction i, const std::string& target, const std::string& text) {
    i.flow = Flow::branch;
    frame().jumps.emplace_back(kernel_.code.size(), target);
    add(i, text);
  }
  // A variable of a call in brackets, or null.
  const std::string* call_variable(const std::string& text) {
    const std::string name = text.substr(1, text.find_first_of("+]") - 1);
    const auto found = frame().parameters.find(name);
    return found == frame().parameters.end() ? nullptr : &found->second;
  }

  // ld and st of a call's variable move a register.
  void move_call_variable(Instruction i, const Mnemonic& m, const std::vector<std::string>& arguments, const std::string& text) {
    const bool load = m.op == "ld";
    const std::string& place = arguments[load ? 1 : 0];
    const size_t plus = place.find('+');
    const Operand kept = call_register(*call_variable(place), plus == std::string::npos ? 0 : std::stoll(place.substr(plus + 1)));
    const Operand other = operand(arguments[load ? 0 : 1], m.types.at(0));
    i.d[0] = load ? other : kept, i.s[0] = load ? kept : other;
    i.inputs = i.outputs = 1;
    i.run = [](Block& b, const Instruction& move, Lanes mask) {
      for_lanes(mask, [&](int l) { b.put(move.d[0], l, b.get(move.s[0], l)); });
    };
    add(i, text);
  }
  void instruction(std::string s) {
    const std::string all = s;
    Instruction i;
    if (s[0] == '@') {
      const size_t end = s.find_first_of(" \t");
      i.guarded = true, i.guard = operand(s.substr(1, end - 1), Type::pred);
      s = trim(s.substr(end));
    }
    const size_t end = std::min(s.find_first_of(" \t\n"), s.size());
    Mnemonic m(s.substr(0, end));
    std::vector<std::string> arguments;
    if (end < s.size()) arguments = split(s.substr(end), ',');
    if (m.op == "bra") return jump(i, arguments.at(0), all);
    if (m.op == "ret" || m.op == "exit") {
      if (!frame().function.empty()) return jump(i, "", all);
      i.flow = Flow::leave;
      return add(i, all);
    }
    if (m.op == "call") {
      if (i.guarded) throw Fault(kernel_.name + ": a condition on a call");
      return call(arguments);
    }
    if ((m.op == "ld" || m.op == "st") && std::count(m.rest.begin(), m.rest.end(), "param") &&
        call_variable(arguments.at(m.op == "ld" ? 1 : 0)))
      return move_call_variable(i, m, arguments, all);
    if (m.op == "wgmma" && std::count(m.rest.begin(), m.rest.end(), "mma_async"))
      multiply_operands(arguments, i);
    else
      operands(m, arguments, i);
    i.type = m.types.empty() ? Type::none : m.types.back();
    i.run = m.op == "wgmma" && i.number ? multiply_handler(m, i) : handler(m, i);
    note_shared_access(i, all);
    add(i, all);
  }

  // The type of a number in the place of source s.
  static Type source_type(const Mnemonic& m, size_t s) {
    if (((m.op == "shl" || m.op == "shr") && s == 1) || m.op == "bfi" || m.op == "prmt" || m.op == "shfl" || m.op == "vote" ||
        m.types.empty())
      return Type::b32;
    return m.types.back();
  }
  void operands(const Mnemonic& m, const std::vector<std::string>& arguments, Instruction& i) {
    const bool no_result = m.op == "st" || m.op == "cp" || m.op == "bar" || m.op == "barrier" || m.op == "wgmma";
    size_t addresses = 0;
    const auto add_operand = [&](const std::string& text, bool result) {
      if (result ? i.outputs == i.d.size() : i.inputs == i.s.size()) throw Fault(kernel_.name + ": too many operands");
      if (result)
        i.d[i.outputs++] = operand(text, m.types.empty() ? Type::b32 : m.types[0]);
      else
        i.s[i.inputs] = operand(text, source_type(m, i.inputs)), i.inputs++;
    };
    for (size_t a = 0; a < arguments.size(); a++) {
      const std::string& text = arguments[a];
      if (text.empty()) continue;
      const bool result = a == 0 && !no_result;
      if (text[0] == '[') {
        i.address.at(addresses++) = address(text);
      } else if (text[0] == '{') {
        for (const std::string& part : split(text.substr(1, text.size() - 2), ',')) add_operand(part, result);
      } else if (m.op == "cp") {  // a size, a number of groups, or how many bytes are copied
        if (text[0] >= '0' && text[0] <= '9' && a <= 2)
          i.number = static_cast<uint32_t>(std::stoul(text));
        else
          add_operand(text, false);
      } else {
        for (const std::string& part : split(text, '|')) add_operand(part, result);
      }
    }
  }
  // {d, …}, a-desc or {a, …}, b-desc, scale-d, imm-scale-a, imm-scale-b, imm-trans-a if A is in shared memory, imm-trans-b
  void multiply_operands(const std::vector<std::string>& arguments, Instruction& i) {
    WarpgroupMultiply w;
    const auto registers = [&](const std::string& text) {
      std::vector<Operand> all;
      for (const std::string& part : split(text.substr(1, text.size() - 2), ',')) all.push_back(operand(part, Type::b32));
      return all;
    };
    const bool a_in_registers = arguments.at(1)[0] == '{';
    w.d = registers(arguments.at(0));
    if (a_in_registers)
      w.a = registers(arguments[1]);
    else
      w.descriptor[0] = operand(arguments[1], Type::b64);
    w.descriptor[1] = operand(arguments.at(2), Type::b64);
    w.scale_d = operand(arguments.at(3), Type::pred);
    const auto immediate = [&](size_t at, int first, int second) {
      const int value = std::stoi(arguments.at(at));
      if (value != first && value != second) throw Fault(kernel_.name + ": wgmma's immediate " + arguments[at]);
      return value == second;
    };
    w.negated = immediate(4, 1, -1) != immediate(5, 1, -1);
    if (!a_in_registers) w.transposed[0] = immediate(6, 0, 1);
    w.transposed[1] = immediate(a_in_registers ? 6 : 7, 0, 1);
    kernel_.multiplies.push_back(std::move(w));
    i.number = static_cast<uint32_t>(kernel_.multiplies.size());
  }
  Handler multiply_handler(Mnemonic& m, Instruction& i) {
    const Handler found = warpgroup_multiply_handler(m, i, kernel_.multiplies.back());
    return found && m.rest.empty() ? found : not_known;
  }
  // Sets what executes the instruction. One that is not known is a fault where it is executed, not before.
  static Handler handler(Mnemonic& m, Instruction& i) {
    if (m.op == "trap") return trap;
    for (const auto find :
         {warp_handler, warpgroup_handler, memory_handler, data_handler, convert_handler, float_handler, integer_handler}) {
      Mnemonic copy = m;
      Instruction filled = i;
      const Handler found = find(copy, filled);
      if (!found || !copy.rest.empty()) continue;
      i = filled;
      return found;
    }
    return not_known;
  }
  void note_shared_access(const Instruction& i, const std::string& text) {
    if (text.find(".shared") == std::string::npos || text.find("fence") != std::string::npos) return;
    const size_t bytes = i.number ? i.number : i.bytes ? i.bytes : 16;
    kernel_.least_shared_access = std::min(kernel_.least_shared_access, bytes);
  }

  // call.uni (results), name, (arguments): the function's body, whose parameters are the caller's variables.
  void call(const std::vector<std::string>& arguments) {
    const auto names = [](const std::string& text) { return split(text.substr(1, text.size() - 2), ','); };
    const std::string& name = arguments.at(1);
    const auto found = module_.functions.find(name);
    if (found == module_.functions.end()) throw Fault(kernel_.name + ": a call of " + name);
    const std::string& header = found->second.first;
    Frame inner;
    inner.function = name;
    const auto bind = [&](size_t from, const std::string& given) {
      const size_t open = header.find('(', from), close = header.find(')', open);
      const std::vector<std::string> own = split(header.substr(open + 1, close - open - 1), ','), theirs = names(given);
      for (size_t p = 0; p < std::min(own.size(), theirs.size()); p++)
        inner.parameters[declaration(own[p]).name] = frame().parameters.at(theirs[p]);
      return close;
    };
    bind(bind(0, arguments[0]), arguments.at(2));
    calls_++;
    frames_.push_back(std::move(inner));
    decode_body(found->second.second);
    resolve();
    frames_.pop_back();
  }
  // Sets the targets of the frame's branches. The empty label is what follows it.
  void resolve() {
    frame().labels[""] = static_cast<int32_t>(kernel_.code.size());
    for (const auto& [at, label] : frame().jumps) {
      const auto found = frame().labels.find(label);
      if (found == frame().labels.end()) throw Fault(kernel_.name + ": no label " + label);
      kernel_.code[at].target = found->second;
    }
  }

  void statement(const std::string& s) {
    if (s.empty()) return;
    try {
      s[0] == '.' ? declare(s) : instruction(s);
    } catch (const std::logic_error&) {  // of std::stoi and at()
      throw Fault(kernel_.name + ": cannot read '" + s + "'");
    }
  }
  // Statements end with a semicolon; scopes and labels stand before them.
  void decode_body(const std::string& body) {
    frame().scopes.emplace_back();
    std::istringstream in(body);
    std::string pending;
    for (std::string line; std::getline(in, line);) {
      if (const size_t comment = line.find("//"); comment != std::string::npos) line.resize(comment);
      line = trim(line);
      if (line.starts_with(".loc") && !line.starts_with(".local")) {
        std::istringstream(line.substr(4)) >> line_.file >> line_.line;
        continue;
      }
      pending += (pending.empty() ? "" : " ") + line;
      while (!(pending = trim(pending)).empty()) {
        if (pending[0] == '{' || pending[0] == '}') {
          if (pending[0] == '{')
            frame().scopes.emplace_back();
          else
            frame().scopes.pop_back();
          pending.erase(0, 1);
          continue;
        }
        const size_t word = pending.find_first_of(" \t:;");
        if (word != std::string::npos && pending[word] == ':' && pending.compare(word, 2, "::") != 0) {
          frame().labels[pending.substr(0, word)] = static_cast<int32_t>(kernel_.code.size());
          pending.erase(0, word + 1);
          continue;
        }
        const size_t end = pending.find(';');
        if (end == std::string::npos) break;
        statement(trim(pending.substr(0, end)));
        pending.erase(0, end + 1);
      }
    }
    if (!pending.empty()) throw Fault(kernel_.name + ": '" + pending + "' has no end");
  }

  Kernel& kernel_;
  Module& module_;
  std::vector<Frame> frames_;
  std::map<std::string, uint64_t> addresses_;  // of parameters and shared arrays
  std::map<std::pair<int, uint64_t>, Operand> constants_;
  std::map<std::string, Operand> specials_;
  std::map<std::pair<std::string, int64_t>, Operand> call_registers_;
  std::vector<Operand> dynamic_;  // registers that hold the address of dynamic shared memory
  SourceLine line_;
  int calls_ = 0;
};

}  // namespace

void decode(Kernel& kernel) {
  if (!kernel.code.empty()) return;
  try {
    Decoder(kernel).run();
  } catch (...) {
    kernel.code.clear();
    throw;
  }
}

}  // namespace ptx
