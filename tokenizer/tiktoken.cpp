// Llama 3's tokenizer.model: one line per token, with the base64 of its bytes, a space and its rank (github.com/openai/tiktoken,
// github.com/meta-llama/llama-models). The rank is the id and the order of merging. 256 special tokens follow.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/added_vocabulary.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/formats.h"
#include "tokenizer/pipeline.h"

namespace tll {
namespace {

constexpr int32_t kSpecialTokens = 256;

// Names of the special tokens of Llama 3.1 and later, as in Hugging Face's files. The n-th of the others is
// <|reserved_special_token_n|>.
constexpr std::pair<int32_t, const char*> kNamedTokens[] = {
    {0, "<|begin_of_text|>"},   {1, "<|end_of_text|>"},   {4, "<|finetune_right_pad_id|>"},
    {6, "<|start_header_id|>"}, {7, "<|end_header_id|>"}, {8, "<|eom_id|>"},
    {9, "<|eot_id|>"},          {10, "<|python_tag|>"},
};

std::string special_name(int32_t index) {
  int32_t named_before = 0;
  for (const auto& [named, name] : kNamedTokens) {
    if (named == index) return name;
    named_before += named < index;
  }
  return fmt::format("<|reserved_special_token_{}|>", index - named_before);
}

// Nothing if the text is not base64 with padding (RFC 4648).
std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static constexpr auto kValues = [] {
    std::array<int8_t, 256> values = {};
    values.fill(-1);
    for (size_t i = 0; i < kDigits.size(); ++i) values[uint8_t(kDigits[i])] = int8_t(i);
    return values;
  }();
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int8_t value = i < text.size() - padding ? kValues[uint8_t(text[i])] : int8_t{0};
    if (value < 0) return std::nullopt;
    bits = bits << 6 | uint32_t(value);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) out += char(bits >> shift & 0xFF);
    bits = 0;
  }
  out.resize(out.size() - padding);
  return out;
}

// The special tokens behind the ranks, with the names that tokenizer_config.json declares where it does, and those that it adds.
void add_special_tokens(int32_t first, const SideFiles& side, PipelineParts& parts) {
  std::vector<std::string> names;
  for (int32_t i = 0; i < kSpecialTokens; ++i) names.push_back(special_name(i));
  for (const Addition& addition : side.additions()) {
    const int32_t index = addition.token.id - first;
    if (index < 0 || index >= kSpecialTokens) continue;
    const auto other = std::find(names.begin(), names.end(), addition.token.content);
    if (other != names.end()) *other = fmt::format("<|reserved_token_{}|>", first + (other - names.begin()));
    names[size_t(index)] = addition.token.content;
  }
  // Of the tokens that are added, those that the ranks have.
  std::unordered_map<std::string_view, std::optional<int32_t>> ids;
  for (const std::string& name : names) ids.emplace(name, std::nullopt);
  for (const Addition& addition : side.additions()) ids.emplace(addition.token.content, std::nullopt);
  for (int32_t id = 0; id < first; ++id) {
    if (const auto found = ids.find(parts.tokens[size_t(id)]); found != ids.end()) found->second = id;
  }
  const auto id_of = [&](std::string_view content) { return ids.at(content); };
  AddedVocabulary added(id_of, first);
  for (int32_t i = 0; i < kSpecialTokens; ++i)
    added.add({{.id = first + i, .content = names[size_t(i)], .special = true}, "tokenizer.model"});
  for (const Addition& addition : side.additions()) added.add(addition);
  parts.added_tokens = added.take();
  parts.warnings = added.notes();
}

std::vector<std::string> read_lines(std::string_view content, const std::string& where) {
  std::vector<std::string> tokens;
  size_t number = 0;
  while (!content.empty()) {
    ++number;
    std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(line.size() + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t space = line.find(' ');
    const auto token = decode_base64(line.substr(0, space));
    if (space == line.npos || !token) {
      bad_file("{}: line {}: expected 'base64 rank', found {}; copy the file again", where, number, in_quotes(line, 60));
    }
    if (line.substr(space + 1) != std::to_string(tokens.size())) {
      bad_file("{}: line {}: expected the rank {}, found {}", where, number, tokens.size(),
               in_quotes(line.substr(space + 1), 60));
    }
    if (token->size() > kMaxPieceBytes)
      bad_file("{}: line {}: a token of {} bytes; at most {} are supported", where, number, token->size(), kMaxPieceBytes);
    if (tokens.size() == kMaxVocabulary) bad_file("{}: more than {} tokens", where, kMaxVocabulary);
    tokens.push_back(*token);
  }
  return tokens;
}

}  // namespace

PipelineParts tiktoken_parts(std::string_view content, const std::string& where, const SideFiles& side) {
  const std::vector<std::string> tokens = read_lines(content, where);
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const auto [first, is_new] = ids.emplace(tokens[id], int32_t(id));
    if (!is_new) bad_file("{}: lines {} and {} are the same token", where, first->second + 1, id + 1);
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = char(b);
    if (!ids.contains({&byte, 1})) bad_file("{}: expected a token for every byte, found none for 0x{:02x}", where, b);
  }

  PipelineParts parts;
  parts.byte_level = true;
  parts.ignore_merges = true;
  parts.pre_tokenizers = {{.kind = PreTokenizerStep::kPattern, .pattern = SplitPattern::kLlama3}};
  parts.decoders = {{DecoderStep{.kind = DecoderStep::kByteLevel}}};
  for (const std::string& token : tokens) {
    const auto id = int32_t(parts.tokens.size());
    parts.tokens.push_back(kByteAlphabet.spell(token));
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(std::string_view(token).substr(0, cut));
      const auto right = left == ids.end() ? left : ids.find(std::string_view(token).substr(cut));
      if (right != ids.end()) parts.merges.push_back({left->second, right->second, id, uint32_t(id)});
    }
  }
  const auto first_special = int32_t(tokens.size());
  add_special_tokens(first_special, side, parts);
  parts.bos = first_special;
  parts.eos = first_special + 1;
  parts.end_ids = {first_special + 1, first_special + 8, first_special + 9};
  parts.prefix = {first_special};
  return parts;
}

std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& where, const SideFiles& side) {
  return make_pipeline(tiktoken_parts(content, where, side));
}

}  // namespace tll
