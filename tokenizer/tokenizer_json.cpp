#include "tokenizer/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "tokenizer/added_vocabulary.h"
#include "tokenizer/fingerprint.h"
#include "tokenizer/formats.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

using Vocabulary = std::unordered_map<std::string_view, int32_t>;

Vocabulary read_vocabulary(const JsonNode& node, PipelineParts& parts) {
  Vocabulary ids;
  for (const auto& [token, value] : node.object()) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMaxVocabulary) {
      node.refuse(
          fmt::format("expected an id below {} for {}, found {}", kMaxVocabulary, in_quotes(token), in_quotes(value.dump())));
    }
    const auto id = value.get<int32_t>();
    if (token.empty()) node.refuse(fmt::format("the token {} is empty", id));
    if (token.size() > kMaxPieceBytes)
      node.refuse(fmt::format("the token {} has {} bytes; at most {} are supported", id, token.size(), kMaxPieceBytes));
    if (parts.tokens.size() <= size_t(id)) parts.tokens.resize(size_t(id) + 1);
    std::string& place = parts.tokens[size_t(id)];
    if (!place.empty())
      node.refuse(fmt::format("the tokens {} and {} have the same id {}", in_quotes(place), in_quotes(token), id));
    place = token;
    ids.emplace(token, id);
  }
  if (ids.empty()) node.refuse("no tokens");
  return ids;
}

// Either "left right" or ["left", "right"].
std::pair<std::string_view, std::string_view> merge_parts(const Json& merge, const JsonNode& list, size_t rank) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) return {text.substr(0, space), text.substr(space + 1)};
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  list.items()[rank].expected("two tokens");
}

void read_merges(const JsonNode& list, const Vocabulary& ids, PipelineParts& parts) {
  if (!list.is_array()) list.expected("an array");
  const auto id_of = [&](const std::string& token, size_t rank) {
    const auto found = ids.find(token);
    if (found == ids.end())
      list.refuse(fmt::format("merge {} needs the token {}, which is not in the vocabulary", rank, in_quotes(token)));
    return found->second;
  };
  for (size_t rank = 0; rank < list.json().size(); ++rank) {
    const Json& merge = list.json()[rank];
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;  // the head of a merges.txt
    const auto [left, right] = merge_parts(list.json()[rank], list, rank);
    const int32_t left_id = id_of(std::string(left), rank);
    const int32_t right_id = id_of(std::string(right), rank);
    const int32_t result = id_of(std::string(left).append(right), rank);
    parts.merges.push_back({left_id, right_id, result, uint32_t(rank)});
  }
}

void read_model(const JsonNode& model, PipelineParts& parts) {
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    type->refuse(fmt::format("the model {} is not supported (supported: BPE)", in_quotes(type->string())));
  }
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
              "ignore_merges", "vocab", "merges"});
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto value = model.find(key);
    const bool nothing =
        !value || (value->is_string() && value->string().empty()) || (value->json().is_number() && value->json() == 0);
    if (!nothing) value->refuse("not supported");
  }
  const Vocabulary ids = read_vocabulary(model.at("vocab"), parts);
  read_merges(model.at("merges"), ids, parts);
  if (const auto unk = model.find("unk_token")) {
    const auto found = ids.find(unk->string());
    if (found == ids.end()) {
      parts.missing_unk = unk->string();
    } else {
      parts.unk = found->second;
    }
  }
  parts.ignore_merges = model.boolean_or("ignore_merges", false);
  parts.byte_fallback = model.boolean_or("byte_fallback", false);
  parts.fuse_unk = model.boolean_or("fuse_unk", false);
}

// The file's own added tokens, then those of the files beside it.
void read_added_tokens(const JsonNode& root, const std::string& where, const SideFiles& side, PipelineParts& parts) {
  const std::vector<std::string>& tokens = parts.tokens;
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) ids.emplace(tokens[id], int32_t(id));
  }
  const auto id_of = [&](std::string_view content) {
    const auto found = ids.find(content);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  };
  const auto is_taken = [&](int32_t id) { return size_t(id) < tokens.size() && !tokens[size_t(id)].empty(); };
  const auto size = int32_t(tokens.size());
  AddedVocabulary added = ids.size() == tokens.size() ? AddedVocabulary(id_of, size) : AddedVocabulary(id_of, size, is_taken);
  const auto list = root.find("added_tokens");
  for (const JsonNode& item : list ? list->items() : std::vector<JsonNode>()) {
    const AddedToken token = read_added_token(item, item.at("id").id(kMaxVocabulary));
    added.add({token, fmt::format("{}: {}", where, item.path())});
  }
  for (const Addition& addition : side.additions()) added.add(addition);
  parts.added_tokens = added.take();
  for (std::string& note : added.notes()) parts.warnings.push_back(std::move(note));
}

// SmolLM2's file splits digits before its byte-level step. Files converted from a GGUF have lost that step and give other ids.
void warn_of_lost_digits(const std::string& where, PipelineParts& parts) {
  constexpr std::string_view kSmolLm2 = "50ac5d03c83e1c951778a5e5f9eaaa9c";
  const auto is_digits = [](const PreTokenizerStep& s) { return s.kind == PreTokenizerStep::kDigits; };
  if (std::any_of(parts.pre_tokenizers.begin(), parts.pre_tokenizers.end(), is_digits)) return;
  Fingerprint hash("merges");
  for (const PipelineParts::Merge& m : parts.merges) {
    hash.add(parts.tokens[size_t(m.left)]).add(parts.tokens[size_t(m.right)]).add(m.result);
  }
  if (hash.hex() != kSmolLm2) return;
  parts.warnings.push_back(fmt::format(
      "{}: SmolLM2's vocabulary without its Digits pre-tokenizer (a conversion from GGUF loses it): white space in front of "
      "digits gets other ids than in the published file",
      where));
}

// Files beside a tokenizer.json that are easily taken for it.
[[noreturn]] void refuse_other_json(const JsonNode& root) {
  const auto& entries = root.object();
  const auto is_id = [](const auto& entry) { return entry.second.is_number(); };
  const char* kind = entries.contains("tokenizer_class") || entries.contains(kAddedTokensDecoder) ? "tokenizer_config.json"
                     : entries.contains("model_type")                                             ? "a model's config.json"
                     : !entries.empty() && std::all_of(entries.begin(), entries.end(), is_id)
                         ? "a vocab.json or added_tokens.json"
                         : nullptr;
  if (!kind) root.refuse("the key 'model' is missing");
  root.refuse(fmt::format("this looks like {}; expected a tokenizer.json; give that file, or its directory", kind));
}

// Whether a text may get a space in front.
bool adds_prefix_space(const PipelineParts& parts) {
  const auto prepends = [](const NormalizerStep& s) { return s.kind == NormalizerStep::kPrepend; };
  const auto marks = [](const PreTokenizerStep& s) {
    return s.kind == PreTokenizerStep::kPrefixSpace ||
           (s.kind == PreTokenizerStep::kMetaspace && s.prepend != PreTokenizerStep::kNever);
  };
  return std::any_of(parts.normalizers.begin(), parts.normalizers.end(), prepends) ||
         std::any_of(parts.pre_tokenizers.begin(), parts.pre_tokenizers.end(), marks);
}

}  // namespace

AddedToken read_added_token(const JsonNode& node, int32_t id) {
  node.only({"id", "content", "special", "normalized", "single_word", "lstrip", "rstrip", "__type"});
  AddedToken token{.id = id, .content = node.at("content").string(), .special = node.boolean_or("special", false)};
  token.normalized = node.boolean_or("normalized", !token.special);
  token.single_word = node.boolean_or("single_word", false);
  token.lstrip = node.boolean_or("lstrip", false);
  token.rstrip = node.boolean_or("rstrip", false);
  return token;
}

PipelineParts tokenizer_json_parts(std::string_view content, const std::string& where, const SideFiles& side) {
  const Json json = parse_json(content, where);
  const JsonNode root(json, where);
  if (!root.find("model")) refuse_other_json(root);
  root.only(
      {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"});
  PipelineParts parts;
  read_model(root.at("model"), parts);
  read_added_tokens(root, where, side, parts);
  if (const auto node = root.find("normalizer")) read_normalizer(*node, parts);
  if (const auto node = root.find("pre_tokenizer")) read_pre_tokenizer(*node, parts);
  if (const auto node = root.find("decoder")) read_decoder(*node, parts.decoders.emplace());
  if (const auto node = root.find("post_processor")) read_post_processor(*node, parts);
  for (const auto& [key, instead] : {std::pair("truncation", "--seq-len bounds a sample"), {"padding", "none is needed"}}) {
    if (root.find(key)) parts.warnings.push_back(fmt::format("{}: {} is not applied: {}", where, key, instead));
  }
  warn_of_lost_digits(where, parts);
  side.note_overruled("add_prefix_space", adds_prefix_space(parts), "pre_tokenizer or normalizer", parts.warnings);
  return parts;
}

std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& where, const SideFiles& side) {
  return make_pipeline(tokenizer_json_parts(content, where, side));
}

}  // namespace tll
