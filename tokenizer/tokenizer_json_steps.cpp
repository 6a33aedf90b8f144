#include <algorithm>
#include <unordered_map>

#include "tokenizer/formats.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// The text of a pattern {"String": ...}; nothing for {"Regex": ...}.
std::optional<std::string> string_pattern(const JsonNode& pattern) {
  pattern.only({"String", "Regex"});
  if (const auto text = pattern.find("String")) {
    if (text->string().empty()) text->expected("a string that is not empty");
    return text->string();
  }
  pattern.at("Regex").string();
  return std::nullopt;
}

std::string one_character(const JsonNode& node) {
  const std::string& text = node.string();
  if (text.empty() || read_code_point(text, 0).bytes != text.size()) node.expected("one character");
  return text;
}

[[noreturn]] void not_supported(const JsonNode& node, std::string_view what, std::string_view supported) {
  node.refuse(fmt::format("{} {} is not supported (supported: {})", what, in_quotes(node.at("type").string()), supported));
}

void check_steps(size_t count, const JsonNode& node) {
  if (count >= kMaxSteps) node.refuse(fmt::format("more than {} steps", kMaxSteps));
}

// A text that a step inserts.
std::string short_text(const JsonNode& node) {
  if (node.string().size() > kMaxPieceBytes) node.refuse(fmt::format("a text of more than {} bytes", kMaxPieceBytes));
  return node.string();
}

const std::vector<std::string_view> kReplaceKeys = {"type", "pattern", "content"};

void read_split(const JsonNode& node, PipelineParts& parts) {
  static const std::unordered_map<std::string, PreTokenizerStep::Behavior> kBehaviors = {
      {"Removed", PreTokenizerStep::kRemoved},
      {"Isolated", PreTokenizerStep::kIsolated},
      {"MergedWithPrevious", PreTokenizerStep::kMergedWithPrevious},
      {"MergedWithNext", PreTokenizerStep::kMergedWithNext},
      {"Contiguous", PreTokenizerStep::kContiguous},
  };
  node.only({"type", "pattern", "behavior", "invert"});
  const JsonNode pattern = node.at("pattern");
  const auto behavior = kBehaviors.find(node.at("behavior").string());
  if (behavior == kBehaviors.end())
    node.at("behavior").expected("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
  const bool invert = node.boolean_or("invert", false);
  if (const auto text = string_pattern(pattern)) {
    parts.pre_tokenizers.push_back(
        {.kind = PreTokenizerStep::kString, .text = *text, .behavior = behavior->second, .invert = invert});
    return;
  }
  const std::string& regex = pattern.at("Regex").string();
  const auto known = known_pattern(regex);
  if (!known)
    pattern.refuse(fmt::format("the regular expression {} is not one of GPT-2's, Llama 3's or Qwen2's", in_quotes(regex, 200)));
  // The known patterns match everywhere: nothing lies between matches. So isolating matches is the same as removing the rest.
  const bool every_match =
      behavior->second == PreTokenizerStep::kIsolated || (behavior->second == PreTokenizerStep::kRemoved && invert);
  if (!every_match) node.refuse("a regular expression is supported with behavior Isolated, or with Removed and invert");
  parts.pre_tokenizers.push_back({.kind = PreTokenizerStep::kPattern, .pattern = *known});
}

const std::vector<std::string_view> kByteLevelKeys = {"type", "add_prefix_space", "trim_offsets", "use_regex"};

void read_byte_level(const JsonNode& node, PipelineParts& parts) {
  node.only(kByteLevelKeys);
  if (node.boolean_or("add_prefix_space", true)) parts.pre_tokenizers.push_back({.kind = PreTokenizerStep::kPrefixSpace});
  if (node.boolean_or("use_regex", true)) {
    parts.pre_tokenizers.push_back({.kind = PreTokenizerStep::kPattern, .pattern = SplitPattern::kGpt2});
  }
  parts.byte_level = true;
}

// Where a Metaspace component puts its mark; files before 2024 have add_prefix_space instead of prepend_scheme.
PreTokenizerStep::Prepend prepend_scheme(const JsonNode& node) {
  const auto scheme = node.find("prepend_scheme");
  if (!scheme) return node.boolean_or("add_prefix_space", true) ? PreTokenizerStep::kAlways : PreTokenizerStep::kNever;
  if (scheme->string() == "always") return PreTokenizerStep::kAlways;
  if (scheme->string() == "first") return PreTokenizerStep::kFirst;
  if (scheme->string() == "never") return PreTokenizerStep::kNever;
  scheme->expected("always, first or never");
}

const std::vector<std::string_view> kMetaspaceKeys = {"type",  "replacement", "prepend_scheme", "add_prefix_space",
                                                      "split", "str_rep"};

void read_metaspace(const JsonNode& node, PipelineParts& parts) {
  node.only(kMetaspaceKeys);
  for (const PreTokenizerStep& step : parts.pre_tokenizers) {
    if (step.kind == PreTokenizerStep::kMetaspace) node.refuse("a second Metaspace is not supported");
  }
  const std::string mark = one_character(node.at("replacement"));
  parts.pre_tokenizers.push_back({.kind = PreTokenizerStep::kMetaspace, .text = mark, .prepend = prepend_scheme(node)});
  if (!node.boolean_or("split", true)) return;
  parts.pre_tokenizers.push_back(
      {.kind = PreTokenizerStep::kString, .text = mark, .behavior = PreTokenizerStep::kMergedWithNext});
}

void read_template(const JsonNode& node, PipelineParts& parts) {
  node.only({"type", "single", "pair", "special_tokens"});
  size_t size = parts.tokens.size();  // ids are below it
  for (const AddedToken& token : parts.added_tokens) size = std::max(size, size_t(token.id) + 1);
  std::vector<int32_t> before, after;
  bool seen_text = false;
  for (const JsonNode& item : node.at("single").items()) {
    if (const auto sequence = item.find("Sequence")) {
      if (sequence->at("id").string() != "A" || seen_text) item.refuse("expected the sequence A once");
      seen_text = true;
      continue;
    }
    const std::string& name = item.at("SpecialToken").at("id").string();
    for (const JsonNode& id : node.at("special_tokens").at(name).at("ids").items()) {
      check_steps(before.size() + after.size(), node.at("single"));
      (seen_text ? after : before).push_back(id.id(size));
    }
  }
  if (!seen_text) node.at("single").refuse("expected the sequence A once");
  if (!parts.prefix.empty() || !parts.suffix.empty()) node.refuse("a second TemplateProcessing is not supported");
  parts.prefix = before;
  parts.suffix = after;
}

}  // namespace

void read_normalizer(const JsonNode& node, PipelineParts& parts) {
  check_steps(parts.normalizers.size(), node);
  const std::string& type = node.at("type").string();
  if (type == "Sequence") {
    node.only({"type", "normalizers"});
    for (const JsonNode& step : node.at("normalizers").items()) read_normalizer(step, parts);
  } else if (type == "Prepend") {
    node.only({"type", "prepend"});
    parts.normalizers.push_back({NormalizerStep::kPrepend, "", short_text(node.at("prepend"))});
  } else if (type == "Replace") {
    node.only(kReplaceKeys);
    const auto from = string_pattern(node.at("pattern"));
    if (!from) node.refuse("Replace with a regular expression is not supported");
    parts.normalizers.push_back({NormalizerStep::kReplace, *from, short_text(node.at("content"))});
  } else if (type == "NFC") {
    node.only({"type"});
    parts.normalizers.push_back({NormalizerStep::kNfc, "", ""});
  } else {
    not_supported(node, "the normalizer", "Sequence, Prepend, Replace, NFC");
  }
}

void read_pre_tokenizer(const JsonNode& node, PipelineParts& parts) {
  check_steps(parts.pre_tokenizers.size(), node);
  const std::string& type = node.at("type").string();
  if (type == "Sequence") {
    node.only({"type", "pretokenizers"});
    for (const JsonNode& step : node.at("pretokenizers").items()) read_pre_tokenizer(step, parts);
    return;
  }
  if (parts.byte_level) node.refuse("nothing is supported behind ByteLevel");
  if (type == "Split") {
    read_split(node, parts);
  } else if (type == "ByteLevel") {
    read_byte_level(node, parts);
  } else if (type == "Digits") {
    node.only({"type", "individual_digits"});
    parts.pre_tokenizers.push_back(
        {.kind = PreTokenizerStep::kDigits, .individual = node.boolean_or("individual_digits", false)});
  } else if (type == "Metaspace") {
    read_metaspace(node, parts);
  } else {
    not_supported(node, "the pre-tokenizer", "Sequence, Split, ByteLevel, Digits, Metaspace");
  }
}

void read_decoder(const JsonNode& node, std::vector<DecoderStep>& steps) {
  check_steps(steps.size(), node);
  const std::string& type = node.at("type").string();
  if (type == "Sequence") {
    node.only({"type", "decoders"});
    for (const JsonNode& step : node.at("decoders").items()) read_decoder(step, steps);
  } else if (type == "ByteLevel") {
    node.only(kByteLevelKeys);
    steps.push_back({.kind = DecoderStep::kByteLevel});
  } else if (type == "Replace") {
    node.only(kReplaceKeys);
    const auto from = string_pattern(node.at("pattern"));
    if (!from) node.refuse("Replace with a regular expression is not supported");
    steps.push_back({.kind = DecoderStep::kReplace, .from = *from, .to = short_text(node.at("content"))});
  } else if (type == "ByteFallback") {
    node.only({"type"});
    steps.push_back({.kind = DecoderStep::kByteFallback});
  } else if (type == "Fuse") {
    node.only({"type"});
    steps.push_back({.kind = DecoderStep::kFuse});
  } else if (type == "Strip") {
    node.only({"type", "content", "start", "stop"});
    if (node.at("stop").id(kMaxPieceBytes) != 0) node.at("stop").refuse("Strip at the end (stop > 0) is not supported");
    const int32_t start = node.at("start").id(kMaxPieceBytes);
    steps.push_back({.kind = DecoderStep::kStrip, .from = one_character(node.at("content")), .count = size_t(start)});
  } else if (type == "Metaspace") {
    node.only(kMetaspaceKeys);
    const bool drops = prepend_scheme(node) != PreTokenizerStep::kNever;
    steps.push_back({.kind = DecoderStep::kMetaspace, .from = one_character(node.at("replacement")), .drop_first = drops});
  } else {
    not_supported(node, "the decoder", "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace");
  }
}

void read_post_processor(const JsonNode& node, PipelineParts& parts) {
  const std::string& type = node.at("type").string();
  if (type == "Sequence") {
    node.only({"type", "processors"});
    for (const JsonNode& step : node.at("processors").items()) read_post_processor(step, parts);
  } else if (type == "TemplateProcessing") {
    read_template(node, parts);
  } else if (type == "ByteLevel") {  // it only changes offsets
    node.only(kByteLevelKeys);
  } else {
    not_supported(node, "the post-processor", "Sequence, TemplateProcessing, ByteLevel");
  }
}

}  // namespace tll
