#include "tokenizer/gguf_vocabulary.h"

#include <algorithm>

#include "src/base/check.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/formats.h"
#include "tokenizer/sentencepiece_model.h"

namespace tll {
namespace {

using Type = GgufVocabulary::Type;
using PreStep = PreTokenizerStep;

constexpr std::string_view kSpaceMark = "\u2581";  // SentencePiece's space
constexpr float kAddedScore = -1000, kPadScore = -10000;

// Some models' added tokens are not marked as special, and mean no text.
bool looks_special(std::string_view token) {
  constexpr std::string_view kNames[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
  const auto within = [&](std::string_view first, std::string_view last) {
    return token.starts_with(first) && token.ends_with(last);
  };
  return std::find(std::begin(kNames), std::end(kNames), token) != std::end(kNames) || within("<|", "|>") ||
         within("<\uFF5C", "\uFF5C>") || within("<unused", ">");
}

bool is_spaces(std::string_view token) {
  while (token.starts_with(kSpaceMark)) token.remove_prefix(kSpaceMark.size());
  return token.empty();
}

std::string with_spaces(std::string text) {
  for (size_t at = text.find(kSpaceMark); at != text.npos; at = text.find(kSpaceMark, at))
    text.replace(at, kSpaceMark.size(), " ");
  return text;
}

// tokenizer.ggml.pre of a byte-level pipeline.
std::string pre_of(const PipelineParts& parts, const std::string& where) {
  const auto& steps = parts.pre_tokenizers;
  const auto is_pattern = [](const PreStep& s, SplitPattern p) { return s.kind == PreStep::kPattern && s.pattern == p; };
  const bool one = steps.size() == 1;
  const bool nfc = parts.normalizers.size() == 1 && parts.normalizers[0].kind == NormalizerStep::kNfc;
  if (one && is_pattern(steps[0], SplitPattern::kQwen2) && (nfc || parts.normalizers.empty())) return "qwen2";
  if (!parts.normalizers.empty())
    bad_file("{}: its normalizer is none that llama.cpp has a name for; GGUF cannot hold it", where);
  if (one && is_pattern(steps[0], SplitPattern::kLlama3)) return "llama-bpe";
  if (one && is_pattern(steps[0], SplitPattern::kGpt2)) return "gpt-2";
  if (steps.size() == 2 && steps[0].kind == PreStep::kDigits && steps[0].individual && is_pattern(steps[1], SplitPattern::kGpt2))
    return "smollm";
  bad_file(
      "{}: its pre-tokenizer is none that llama.cpp has a name for; GGUF can hold those of Llama 3, SmolLM2, Qwen2 and GPT-2",
      where);
}

GgufVocabulary byte_level(const PipelineParts& parts, const std::string& where) {
  GgufVocabulary v{.model = "gpt2", .pre = pre_of(parts, where), .tokens = parts.tokens, .types = {}, .scores = {}, .merges = {}};
  v.types.assign(v.tokens.size(), Type::kNormal);
  const auto token = [&](int32_t id) -> const std::string& { return parts.tokens[static_cast<size_t>(id)]; };
  for (const PipelineParts::Merge& m : parts.merges) v.merges.push_back(token(m.left) + " " + token(m.right));
  if (!parts.normalizers.empty())
    v.notes.emplace_back(
        "llama.cpp does not compose characters (NFC) as the model's tokenizer does, which only matters for texts "
        "whose accents are characters of their own");
  return v;
}

GgufVocabulary sentencepiece(const SentencePieceModel& model) {
  GgufVocabulary v{.model = "llama", .pre = "default", .tokens = {}, .types = {}, .scores = {}, .merges = {}};
  v.add_space_prefix = model.add_dummy_prefix;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    v.tokens.push_back(piece.text);
    v.types.push_back(piece.type);
    v.scores.push_back(piece.score);
  }
  if (model.remove_extra_whitespaces)
    v.notes.emplace_back("llama.cpp keeps runs of spaces that the model's tokenizer makes one space");
  return v;
}

// SentencePiece's vocabulary as tokenizer.json has it: merges stand for scores. They were made by descending score of the joined
// piece, so that all merges that make one piece stand together, and the place is its score. Pieces of spaces are the exception:
// all have one score, and the longest ones stand first.
GgufVocabulary scores_from_merges(const PipelineParts& parts, const std::string& where) {
  GgufVocabulary v{.model = "llama", .pre = "default", .tokens = parts.tokens, .types = {}, .scores = {}, .merges = {}};
  const auto prepends = [](const NormalizerStep& s) { return s.kind == NormalizerStep::kPrepend; };
  const auto marks = [](const PreStep& s) { return s.kind == PreStep::kMetaspace && s.prepend != PreStep::kNever; };
  const bool known_normalizers = std::all_of(parts.normalizers.begin(), parts.normalizers.end(), [](const NormalizerStep& s) {
    return s.to == kSpaceMark && (s.kind == NormalizerStep::kPrepend || (s.kind == NormalizerStep::kReplace && s.from == " "));
  });
  const bool known_steps = std::all_of(parts.pre_tokenizers.begin(), parts.pre_tokenizers.end(), [](const PreStep& s) {
    return (s.kind == PreStep::kMetaspace || s.kind == PreStep::kString) && s.text == kSpaceMark;
  });
  if (!known_normalizers || !known_steps || !parts.byte_fallback)
    bad_file("{}: this is neither byte-level BPE nor SentencePiece's, and GGUF can hold no other tokenizer", where);
  v.add_space_prefix = std::any_of(parts.normalizers.begin(), parts.normalizers.end(), prepends) ||
                       std::any_of(parts.pre_tokenizers.begin(), parts.pre_tokenizers.end(), marks);
  const auto none = static_cast<float>(parts.merges.size() + 1);
  v.types.assign(v.tokens.size(), Type::kNormal);
  v.scores.assign(v.tokens.size(), -none);
  int32_t last = -1;
  for (size_t rank = 0; rank < parts.merges.size(); rank++) {
    const int32_t result = parts.merges[rank].result;
    const auto id = static_cast<size_t>(result);
    if (result != last && v.scores[id] != -none && !is_spaces(v.tokens[id]))
      bad_file(
          "{}: merge {} makes {}, as an earlier one does, and others stand between: these merges do not follow from scores of "
          "pieces, which GGUF needs; put the model's tokenizer.model beside this file",
          where, rank, in_quotes(v.tokens[id]));
    if (v.scores[id] == -none) v.scores[id] = -static_cast<float>(rank + 1);
    last = result;
  }
  for (size_t id = 0; id < v.tokens.size(); id++)
    if (fallback_byte(v.tokens[id]) >= 0) v.types[id] = Type::kByte, v.scores[id] = 0;
  if (parts.unk) v.types[static_cast<size_t>(*parts.unk)] = Type::kUnknown;
  return v;
}

// Whether every piece that the tokenizer.json has is the same in the SentencePiece model.
bool same_pieces(const SentencePieceModel& model, const PipelineParts& parts) {
  const size_t both = std::min(model.pieces.size(), parts.tokens.size());
  for (size_t id = 0; id < both; id++)
    if (!parts.tokens[id].empty() && parts.tokens[id] != model.pieces[id].text) return false;
  return model.pieces.size() <= parts.tokens.size() + parts.added_tokens.size();
}

bool is_sentencepiece(std::string_view content) { return content.starts_with('\n'); }

GgufVocabulary read_files(const TextFiles& files) {
  constexpr const char *kJson = "tokenizer.json", *kModel = "tokenizer.model";
  const SideFiles side(files);
  const std::string pieces = files.has(kModel) ? files.read(kModel) : "", where = files.where(kModel);
  if (!files.has(kJson)) {
    if (is_sentencepiece(pieces)) return sentencepiece(parse_sentencepiece(pieces, where));
    return byte_level(tiktoken_parts(pieces, where, side), where);
  }
  const PipelineParts parts = tokenizer_json_parts(files.read(kJson), files.where(kJson), side);
  if (parts.byte_level) return byte_level(parts, files.where(kJson));
  if (is_sentencepiece(pieces)) {
    const SentencePieceModel model = parse_sentencepiece(pieces, where);
    if (same_pieces(model, parts)) return sentencepiece(model);
  }
  return scores_from_merges(parts, files.where(kJson));
}

}  // namespace

GgufVocabulary read_gguf_vocabulary(const TextFiles& files, const Tokenizer& tokenizer, int32_t size) {
  GgufVocabulary v = read_files(files);
  const bool scored = v.model == "llama";
  const auto rows = static_cast<size_t>(size);
  size_t left_out = v.tokens.size() > rows ? v.tokens.size() - rows : 0;
  v.tokens.resize(rows);
  v.types.resize(rows, Type::kUnused);
  if (scored) v.scores.resize(rows, kPadScore);
  for (const AddedToken& added : tokenizer.added_tokens()) {
    const auto id = static_cast<size_t>(added.id);
    if (id >= rows) {
      left_out++;
      continue;
    }
    if (v.types[id] == Type::kUnknown || v.types[id] == Type::kByte) continue;
    const bool control = added.special || looks_special(added.content);
    if (scored && v.tokens[id] != added.content) v.scores[id] = kAddedScore;
    v.tokens[id] = control ? added.content : with_spaces(added.content);
    v.types[id] = control ? Type::kControl : Type::kUserDefined;
  }
  for (size_t id = 0; id < rows; id++)
    if (v.tokens[id].empty()) v.tokens[id] = fmt::format("[PAD{}]", id), v.types[id] = Type::kUnused;
  if (left_out > 0) v.notes.push_back(fmt::format("{} tokens are left out, since the model has {} rows", left_out, size));
  return v;
}

}  // namespace tll
