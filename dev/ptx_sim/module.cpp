// What a PTX text holds: kernels and functions, whose bodies stay text until a kernel is launched, arrays in shared memory,
// tables.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "dev/ptx_sim/mnemonic.h"
#include "dev/ptx_sim/text.h"

namespace ptx {
namespace {

std::vector<std::unique_ptr<Module>>& list() {
  static auto& all = *new std::vector<std::unique_ptr<Module>>;  // lives until the program has ended
  return all;
}

// One definition: all lines up to a semicolon or to the end of a body.
struct Definition {
  std::string header, body;
};

struct Scanner {
  std::istringstream in;
  explicit Scanner(const std::string& text) : in(text) {}

  bool next(Definition& d) {
    d = {};
    for (std::string line; std::getline(in, line);) {
      if (const size_t comment = line.find("//"); comment != std::string::npos) line.resize(comment);
      line = trim(line);
      if (line.empty()) continue;
      if (d.header.empty() && (line.starts_with(".file") || line.starts_with(".loc") || line.starts_with(".version") ||
                               line.starts_with(".target") || line.starts_with(".address_size"))) {
        d.header = line;
        return true;
      }
      const size_t open = line.find('{');
      const bool table = d.header.starts_with(".global") || line.starts_with(".global");
      if (open == std::string::npos || table) {
        d.header += (d.header.empty() ? "" : " ") + line;
        if (d.header.back() == ';') return true;
        continue;
      }
      d.header += line.substr(0, open);
      int depth = 1;
      while (depth > 0 && std::getline(in, line)) {
        depth += static_cast<int>(std::count(line.begin(), line.end(), '{') - std::count(line.begin(), line.end(), '}'));
        d.body += line + "\n";
      }
      if (depth > 0) throw Fault("PTX ends within " + d.header);
      d.body.resize(d.body.rfind('}'));
      return true;
    }
    if (!d.header.empty()) throw Fault("PTX ends within " + d.header);
    return false;
  }
};

// .entry name(parameters) .maxntid 128, 1, 1
void add_kernel(Module& module, const Definition& d) {
  const size_t at = d.header.find(".entry") + 6, open = std::min(d.header.find('(', at), d.header.size());
  Kernel kernel;
  kernel.name = trim(d.header.substr(at, open - at));
  kernel.header = d.header, kernel.body = d.body, kernel.module = &module;
  size_t bytes = 0;
  const size_t close = d.header.find(')', open);
  if (close != std::string::npos)
    for (const std::string& text : split(d.header.substr(open + 1, close - open - 1), ',')) {
      if (text.empty()) continue;
      const Declaration p = declaration(text);
      bytes = (bytes + p.alignment - 1) / p.alignment * p.alignment;
      kernel.parameters.push_back({bytes, p.bytes});
      bytes += p.bytes;
    }
  if (const size_t most = d.header.find(".maxntid"); most != std::string::npos) {
    unsigned x = 1, y = 1, z = 1;
    std::sscanf(d.header.c_str() + most, ".maxntid %u, %u, %u", &x, &y, &z);
    kernel.max_threads = x * y * z;
  }
  const std::string name = kernel.name;
  module.kernels.emplace(name, std::move(kernel));
}

// .global .align 8 .b8 name[24] = {1, 2, …};
void add_table(Module& module, const std::string& header) {
  const size_t equals = header.find('='), open = header.find('{'), close = header.find('}');
  const Declaration d = declaration(header.substr(0, equals));
  auto words = std::make_unique<std::vector<uint64_t>>((d.bytes + 7) / 8);
  auto* bytes = reinterpret_cast<uint8_t*>(words->data());
  if (open != std::string::npos && header.find(".b8") != std::string::npos) {
    const std::vector<std::string> values = split(header.substr(open + 1, close - open - 1), ',');
    for (size_t i = 0; i < std::min(values.size(), d.bytes); i++) bytes[i] = static_cast<uint8_t>(std::stoi(values[i]));
  }
  add_memory(bytes, d.bytes);
  module.tables[d.name] = std::move(words);
}

void add_file(Module& module, const std::string& header) {  // .file 1 "path"
  const int number = std::atoi(header.c_str() + 5);
  const size_t quote = header.find('"'), slash = header.rfind('/');
  if (quote == std::string::npos) return;
  const size_t begin = slash != std::string::npos && slash > quote ? slash + 1 : quote + 1;
  module.files[number] = header.substr(begin, header.find('"', begin) - begin);
}

}  // namespace

const std::vector<std::unique_ptr<Module>>& modules() { return list(); }

std::string trim(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n"), last = text.find_last_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}
std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (char c : text) {
    depth += (c == '{' || c == '[' || c == '(') - (c == '}' || c == ']' || c == ')');
    if (c == by && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  for (std::string& part : parts) part = trim(part);
  return parts;
}
Declaration declaration(const std::string& text) {
  std::istringstream in(text);
  Declaration d;
  size_t element = 0;
  for (std::string word; in >> word;) {
    if (word == ".align")
      in >> d.alignment;
    else if (word[0] == '.')
      element = std::max(element, static_cast<size_t>(bytes_of(type_of(word.substr(1)))));
    else
      d.name += word;
  }
  const size_t bracket = d.name.find('[');
  size_t count = 1;
  if (bracket != std::string::npos) count = std::strtoull(d.name.c_str() + bracket + 1, nullptr, 10), d.name.resize(bracket);
  d.bytes = element * count, d.alignment = std::max(d.alignment, element);
  return d;
}

Module& load(const std::string& text) {
  list().push_back(std::make_unique<Module>());
  Module& module = *list().back();
  Scanner scanner(text);
  for (Definition d; scanner.next(d);) {
    const auto has = [&](const char* word) { return d.header.find(word) != std::string::npos; };
    if (d.header.starts_with(".target")) {
      char* end = nullptr;
      module.arch = static_cast<int>(std::strtol(d.header.c_str() + d.header.find('_') + 1, &end, 10));
      module.specific = *end == 'a';
    } else if (d.header.starts_with(".file")) {
      add_file(module, d.header);
    } else if (has(".entry")) {
      add_kernel(module, d);
    } else if (has(".func")) {
      if (d.body.empty()) continue;  // declared before it is defined
      const size_t close = d.header.find(')') + 1, open = d.header.find('(', close);
      module.functions[trim(d.header.substr(close, open - close))] = {d.header, d.body};
    } else if (has(".shared")) {
      const Declaration array = declaration(d.header.substr(0, d.header.size() - 1));
      if (has(".extern"))
        module.dynamic_shared = array.name, module.dynamic_alignment = array.alignment;
      else
        module.shared[array.name] = {array.bytes, array.alignment};
    } else if (d.header.starts_with(".global")) {
      add_table(module, d.header.substr(0, d.header.size() - 1));
    }
  }
  return module;
}

int architecture(const Module& module) { return module.arch; }
Kernel* find(Module& module, const std::string& name) {
  const auto found = module.kernels.find(name);
  return found == module.kernels.end() ? nullptr : &found->second;
}
const std::vector<Parameter>& parameters(const Kernel& kernel) { return kernel.parameters; }
size_t static_shared(Kernel& kernel) {
  decode(kernel);
  return kernel.static_shared;
}

}  // namespace ptx
