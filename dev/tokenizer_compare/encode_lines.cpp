// Encodes or decodes what comes on standard input, one JSON value a line, for compare.py; measures speed.
//
//   encode_lines TOKENIZER encode        "text" -> [ids]; a text that is refused -> {"error": message}
//   encode_lines TOKENIZER encode-special   the same with what comes before and after a text
//   encode_lines TOKENIZER encode-hex    "68656c" (bytes in hexadecimal) -> [ids]
//   encode_lines TOKENIZER decode        [ids] -> "text"; decode-all keeps special tokens, decode-stream goes id by id
//   encode_lines TOKENIZER names         anything -> {"bos": id, "eos": id, "pad": id}; null: there is none
//   encode_lines TOKENIZER speed FILE    MB/s of encoding the file line by line, and as one text without its spaces
#include <ctime>
#include <iostream>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "tokenizer/tokenizer.h"

namespace {

using tll::Json;

std::string from_hex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

std::string stream(const tll::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  tll::StreamDecoder decoder(tokenizer);
  std::string out;
  for (const int32_t id : ids) out += decoder.push(id);
  return out + decoder.finish();
}

Json names(const tll::Tokenizer& tokenizer) {
  const auto id = [](const std::optional<int32_t>& found) { return found ? Json(*found) : Json(); };
  return {{"bos", id(tokenizer.bos())}, {"eos", id(tokenizer.eos())}, {"pad", id(tokenizer.pad())}};
}

Json answer(const tll::Tokenizer& tokenizer, const std::string& command, const std::string& line) {
  const Json input = tll::parse_json(line, "standard input");
  try {
    if (command == "encode") return tokenizer.encode(input.get<std::string>());
    if (command == "encode-special") return tokenizer.encode_with_special(input.get<std::string>());
    if (command == "encode-hex") return tokenizer.encode(from_hex(input.get<std::string>()));
    if (command == "names") return names(tokenizer);
    const auto ids = input.get<std::vector<int32_t>>();
    return command == "decode-stream" ? stream(tokenizer, ids) : tokenizer.decode(ids, command == "decode");
  } catch (const tll::Error& e) {
    return {{"error", e.what()}};
  }
}

// Of this process, so that other work on the machine does not count.
double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void measure(const char* name, const std::string& text, const auto& encode) {
  double best = 1e9;
  size_t tokens = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double start = processor_seconds();
    tokens = encode();
    best = std::min(best, processor_seconds() - start);
  }
  fmt::print("{:32} {:8.1f} MB/s {:8.3f} s {:9} tokens\n", name, static_cast<double>(text.size()) / 1e6 / best, best, tokens);
}

void speed(const tll::Tokenizer& tokenizer, const std::string& file) {
  const std::string text = tll::read_file(file);
  std::vector<std::string_view> lines;
  for (std::string_view rest = text; !rest.empty();) {
    lines.push_back(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(lines.back().size() + 1, rest.size()));
  }
  measure("line by line", text, [&] {
    size_t tokens = 0;
    for (const std::string_view line : lines) tokens += tokenizer.encode(line).size();
    return tokens;
  });
  measure("as one text", text, [&] { return tokenizer.encode(text).size(); });
  std::string letters;
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c))) letters += c;
  }
  while (!letters.empty() && letters.size() < 1000000) letters += letters;
  letters.resize(std::min<size_t>(letters.size(), 1000000));
  measure("1 MB of letters without a space", letters, [&] { return tokenizer.encode(letters).size(); });
  for (const char c : {'a', ' ', '\n', '1', '.'}) {
    const std::string run(1000000, c);
    measure(fmt::format("1 MB of the byte {}", int{c}).c_str(), run, [&] { return tokenizer.encode(run).size(); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(
        stderr,
        "usage: encode_lines TOKENIZER encode|encode-special|encode-hex|decode|decode-all|decode-stream|names|speed [FILE]\n");
    return 2;
  }
  try {
    const double start = processor_seconds();
    const auto tokenizer = tll::Tokenizer::load(argv[1]);
    if (std::string(argv[2]) == "speed" && argc == 4) {
      fmt::print("load {:.3f} s\n", processor_seconds() - start);
      speed(*tokenizer, argv[3]);
      return 0;
    }
    for (std::string line; std::getline(std::cin, line);) fmt::print("{}\n", answer(*tokenizer, argv[2], line).dump());
  } catch (const tll::Error& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return e.exit_code;
  }
  return 0;
}
