#include "tokenizer/pipeline_steps.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/formats.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

struct Part {
  size_t begin, end;
  bool is_match;
};

// Splits the text at every occurrence; no empty parts.
std::vector<Part> find_parts(const PreTokenizerStep& step, std::string_view text) {
  std::vector<Part> parts;
  size_t at = 0;
  while (at < text.size()) {
    const size_t found = std::min(text.find(step.text, at), text.size());
    if (found > at) parts.push_back({at, found, step.invert});
    at = std::min(found + step.text.size(), text.size());
    if (at > found) parts.push_back({found, at, !step.invert});
  }
  return parts;
}

std::string join(const std::vector<std::string>& tokens, std::string_view between) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) out.append(i == 0 ? "" : between).append(tokens[i]);
  return out;
}

std::string decode_byte_level(const std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += kByteAlphabet.bytes(token).value_or(token);
  return replace_invalid_sequences(bytes);
}

// If a run of byte tokens is not UTF-8 as a whole, each of them becomes one U+FFFD.
std::vector<std::string> decode_byte_fallback(std::vector<std::string> tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (find_invalid_utf8(bytes) == std::string_view::npos) {
      out.push_back(bytes);
    } else {
      std::string& marks = out.emplace_back();
      for (size_t i = 0; i < bytes.size(); ++i) append_utf8(marks, kReplacement);
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = fallback_byte(token); byte >= 0) {
      bytes += char(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

}  // namespace

void prepend(std::string& text, std::string_view front, Origins* origins) {
  text.insert(0, front);
  if (origins && !origins->empty()) origins->insert(origins->begin(), front.size(), uint32_t{origins->front()});
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to, size_t max_bytes, Origins* origins) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  Origins placed;
  const auto place = [&](size_t begin, size_t end) {
    if (origins) placed.insert(placed.end(), origins->begin() + std::ptrdiff_t(begin), origins->begin() + std::ptrdiff_t(end));
  };
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string_view::npos; at = found + from.size()) {
    out.append(text, at, found - at).append(to);
    place(at, found);
    if (origins) placed.insert(placed.end(), to.size(), (*origins)[found]);
    if (out.size() > max_bytes)
      bad_file("the tokenizer's Replace of {} makes a text longer than {} bytes", in_quotes(from), max_bytes);
  }
  place(at, text.size());
  if (origins) *origins = std::move(placed);
  return out.append(text, at);
}

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text, Origins* origins) {
  std::string out(text);
  const size_t max_bytes = longest_replaced(text.size());
  for (const NormalizerStep& step : steps) {
    switch (step.kind) {
      case NormalizerStep::kPrepend:
        if (!out.empty()) prepend(out, step.to, origins);
        break;
      case NormalizerStep::kReplace:
        out = replace_all(out, step.from, step.to, max_bytes, origins);
        break;
      case NormalizerStep::kNfc:
        out = nfc(out, origins);
        break;
    }
  }
  return out;
}

std::vector<std::string_view> split_at_string(const PreTokenizerStep& step, std::string_view text) {
  using Step = PreTokenizerStep;
  std::vector<Part> pieces;
  std::vector<Part> parts = find_parts(step, text);
  const bool from_the_end = step.behavior == Step::kMergedWithNext;
  if (from_the_end) std::reverse(parts.begin(), parts.end());
  bool after_match = false;
  for (const Part& part : parts) {
    bool joins = false;
    switch (step.behavior) {
      case Step::kRemoved:
      case Step::kIsolated:
        break;
      case Step::kContiguous:
        joins = part.is_match == after_match;
        break;
      case Step::kMergedWithPrevious:
      case Step::kMergedWithNext:
        joins = part.is_match && !after_match;
        break;
    }
    after_match = part.is_match;
    if (step.behavior == Step::kRemoved && part.is_match) continue;
    if (!joins || pieces.empty()) {
      pieces.push_back(part);
    } else if (from_the_end) {
      pieces.back().begin = part.begin;
    } else {
      pieces.back().end = part.end;
    }
  }
  if (from_the_end) std::reverse(pieces.begin(), pieces.end());
  std::vector<std::string_view> out;
  for (const Part& piece : pieces) out.push_back(text.substr(piece.begin, piece.end - piece.begin));
  return out;
}

std::string mark_spaces(const PreTokenizerStep& step, std::string_view text, bool first, Origins* origins) {
  std::string out = replace_all(text, " ", step.text, longest_replaced(text.size()), origins);
  const bool prepends = step.prepend == PreTokenizerStep::kAlways || (step.prepend == PreTokenizerStep::kFirst && first);
  if (prepends && !out.starts_with(step.text)) prepend(out, step.text, origins);
  return out;
}

std::string decode_tokens(const std::optional<std::vector<DecoderStep>>& steps, std::vector<std::string> tokens) {
  if (!steps) return join(tokens, " ");
  size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  const size_t max_bytes = longest_replaced(bytes);  // of all tokens together, after every step
  for (const DecoderStep& step : *steps) {
    bytes = 0;
    switch (step.kind) {
      case DecoderStep::kByteLevel:
        tokens = {decode_byte_level(tokens)};
        break;
      case DecoderStep::kReplace:
        for (std::string& token : tokens) {
          token = replace_all(token, step.from, step.to, max_bytes - std::min(max_bytes, bytes));
          bytes += token.size();
        }
        break;
      case DecoderStep::kByteFallback:
        tokens = decode_byte_fallback(std::move(tokens));
        break;
      case DecoderStep::kFuse:
        tokens = {join(tokens, "")};
        break;
      case DecoderStep::kStrip:
        for (std::string& token : tokens) {
          for (size_t i = 0; i < step.count && token.starts_with(step.from); ++i) token.erase(0, step.from.size());
        }
        break;
      case DecoderStep::kMetaspace:
        for (size_t i = 0; i < tokens.size(); ++i)
          tokens[i] = replace_all(tokens[i], step.from, i == 0 && step.drop_first ? "" : " ", tokens[i].size());
        break;
    }
  }
  return join(tokens, "");
}

}  // namespace tll
