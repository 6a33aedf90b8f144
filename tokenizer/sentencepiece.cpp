// SentencePiece BPE: in the normalized text the best pair of neighbours merges, until no pair is a piece
// (github.com/google/sentencepiece, src/bpe_model.cc).
#include <algorithm>
#include <unordered_map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/added_token_matcher.h"
#include "tokenizer/bpe.h"
#include "tokenizer/fingerprint.h"
#include "tokenizer/formats.h"
#include "tokenizer/pipeline_steps.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/spaces.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

using Model = SentencePieceModel;

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(Model model, const std::string& where, const SideFiles& side)
      : model_(std::move(model)), legacy_(side.flag("legacy").value_or(true)) {
    side.refuse("sp_model_kwargs");
    side.refuse("do_lower_case");
    model_.add_dummy_prefix = model_.add_dummy_prefix && side.flag("add_prefix_space").value_or(true);
    vocab_size_ = int32_t(model_.pieces.size());
    add_symbols();
    add_merges();
    find_specials(where);
    add_tokens(side);
    take_fingerprint();
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> out;
    out.reserve(text.size() / 4 + 8);
    if (!added_.finds()) {
      encode_part(text, true, out);
      return out;
    }
    const std::string valid = replace_invalid_bytes(text);
    for (const AddedTokenMatcher::Part& part : added_.split(valid)) {
      if (part.id >= 0) {
        out.push_back(part.id);
      } else {
        encode_part(std::string_view(valid).substr(part.begin, part.end - part.begin), part.begin == 0, out);
      }
    }
    return out;
  }

  PlacedTokens encode_parts(std::span<const TextPart> parts) const override {
    const JoinedParts joined(parts);
    PlacedTokens out;
    Origins origins;  // of the bytes of a text that is not UTF-8
    std::string valid;
    std::string_view text = joined.text();
    const bool repaired = find_invalid_utf8(text) != std::string_view::npos;
    if (repaired) text = valid = replace_invalid_bytes(text, &origins);
    const Origin origin = repaired ? Origin(origins) : Origin();
    for (const AddedTokenMatcher::Part& part : added_.split(text, &joined, origin)) {
      if (part.id >= 0) {
        out.ids.push_back(part.id);
        out.begins.push_back(uint32_t(origin[part.begin]));
      } else {
        const Placing placing{out.begins, origin.from(part.begin)};
        encode_part(text.substr(part.begin, part.end - part.begin), part.begin == 0, out.ids, &placing);
      }
    }
    return out;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    check_ids(ids);
    std::string out;
    std::string bytes;     // of neighbouring byte pieces
    bool at_start = true;  // no text yet, and no space was dropped
    const auto flush = [&] {
      at_start = at_start && bytes.empty();
      out += replace_invalid_bytes(bytes);
      bytes.clear();
    };
    for (const int32_t id : ids) {
      if (is_byte_piece(id)) {
        bytes += char(piece(id).byte);
        continue;
      }
      flush();
      if (const auto found = added_by_id_.find(id); found != added_by_id_.end()) {
        const AddedToken& added = added_tokens_[found->second];
        at_start = at_start && added.special;
        if (!skip_special || !added.special) out += added.content;
        continue;
      }
      if (id >= piece_count()) continue;  // an id without a token
      if (id == unk_piece_) {
        out += model_.unk_surface;
        at_start = at_start && model_.unk_surface.empty();
        continue;
      }
      std::string_view rest = piece(id).text;
      if (at_start && (model_.add_dummy_prefix || model_.remove_extra_whitespaces) && rest.starts_with(kSpaceMark)) {
        rest.remove_prefix(kSpaceMark.size());
        at_start = model_.remove_extra_whitespaces;  // then every space in front is removed
      }
      at_start = at_start && rest.empty();
      out += replace_all(rest, kSpaceMark, " ", rest.size());
    }
    flush();
    return out;
  }

  bool ends_in_bytes(std::span<const int32_t> ids, bool) const override { return !ids.empty() && is_byte_piece(ids.back()); }

 private:
  // Where the places of a part's tokens go, and where its text is from. The text is valid UTF-8.
  struct Placing {
    std::vector<uint32_t>& begins;
    Origin origin;
  };

  std::optional<int32_t> token_id(std::string_view content) const override {
    if (const auto added = special_id(content)) return added;
    for (int32_t id = 0; id < piece_count(); ++id) {
      if (piece(id).text == content) return id;
    }
    return std::nullopt;
  }

  bool is_byte_piece(int32_t id) const { return id < piece_count() && piece(id).type == Model::kByte; }

  // Ids from here on are of added tokens.
  int32_t piece_count() const { return int32_t(model_.pieces.size()); }
  const Model::Piece& piece(int32_t id) const { return model_.pieces[size_t(id)]; }

  // Symbols are ids, followed by numbers for characters that occur inside pieces but are not pieces themselves.
  void add_symbols() {
    std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
    for (int32_t id = 0; id < piece_count(); ++id) {
      const Model::Piece& p = piece(id);
      const bool merges = p.type == Model::kNormal || p.type == Model::kUnused;
      if (merges) mergeable_.emplace(p.text, id);
      if (p.type == Model::kByte) byte_ids_[p.byte] = id;
      if (p.type == Model::kUnknown) unk_piece_ = id;
      if (p.type == Model::kUserDefined) user_defined_.add(p.text, id);
      has_unused_ = has_unused_ || p.type == Model::kUnused;
      cuts_at_spaces_ = cuts_at_spaces_ && !has_space_inside(p.text);
      const CodePoint first = read_code_point(p.text, 0);
      if (first.bytes == p.text.size() && p.type != Model::kUnknown) symbols_.set(first.value, id);
    }
    // Each word must begin with a known piece. Otherwise unknown characters on both sides of its beginning could become one unk.
    cuts_at_spaces_ = cuts_at_spaces_ && !has_unused_ && mergeable_.contains(kSpaceMark);
    symbol_count_ = piece_count();
    for (const auto& [text, id] : mergeable_) {
      for (size_t at = 0; at < text.size();) {
        const CodePoint c = read_code_point(text, at);
        if (symbols_.get(c.value) < 0) {
          inner_characters_.emplace(symbol_count_, text.substr(at, c.bytes));
          symbols_.set(c.value, symbol_count_++);
        }
        at += c.bytes;
      }
    }
  }

  // The symbol of a part of a piece: a character, or a piece that is itself made by merging. -1: merging never makes this part.
  int32_t part_symbol(std::string_view text) const {
    const CodePoint first = read_code_point(text, 0);
    if (first.bytes == text.size()) {
      const int32_t symbol = symbols_.get(first.value);
      return symbol < piece_count() && piece(symbol).type == Model::kUserDefined ? -1 : symbol;
    }
    const auto found = mergeable_.find(text);
    return found == mergeable_.end() ? -1 : found->second;
  }

  // Every way to make a piece of two parts. The rank is the position of its score in descending order; equal scores share one.
  void add_merges() {
    std::vector<float> scores;
    for (const auto& [text, id] : mergeable_) scores.push_back(piece(id).score);
    std::sort(scores.begin(), scores.end(), std::greater<>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    merges_.reserve(mergeable_.size() * 2);
    for (const auto& [text, id] : mergeable_) {
      const auto rank =
          uint32_t(std::lower_bound(scores.begin(), scores.end(), piece(id).score, std::greater<>()) - scores.begin());
      for (size_t cut = read_code_point(text, 0).bytes; cut < text.size(); cut += read_code_point(text, cut).bytes) {
        const int32_t left = part_symbol(text.substr(0, cut));
        const int32_t right = left < 0 ? -1 : part_symbol(text.substr(cut));
        if (right >= 0) merges_.insert(left, right, rank, id);
      }
    }
  }

  void find_specials(const std::string& where) {
    const auto control = [&](int32_t id, const char* name) -> std::optional<int32_t> {
      if (id < 0) return std::nullopt;
      if (id >= vocab_size_) bad_file("{}: {} is {}, but there are {} pieces", where, name, id, vocab_size_);
      if (piece(id).type != Model::kControl) return std::nullopt;
      return id;
    };
    unk_ = unk_piece_;
    bos_ = control(model_.bos_id, "bos_id");
    eos_ = control(model_.eos_id, "eos_id");
    pad_ = control(model_.pad_id, "pad_id");
    if (bos_) prefix_ = {*bos_};
  }

  // The control pieces, and the tokens that the side files add. These are found in texts as they are, before SentencePiece.
  void add_tokens(const SideFiles& side) {
    std::unordered_map<std::string_view, int32_t> ids;
    for (int32_t id = 0; id < piece_count(); ++id) ids.emplace(piece(id).text, id);
    const auto id_of = [&](std::string_view content) {
      const auto found = ids.find(content);
      return found == ids.end() ? std::nullopt : std::optional(found->second);
    };
    AddedVocabulary added(id_of, vocab_size_);
    for (int32_t id = 0; id < piece_count(); ++id) {
      if (piece(id).type == Model::kControl) added.add({{.id = id, .content = piece(id).text, .special = true}, ""});
    }
    for (const Addition& addition : side.additions()) added.add(addition);
    added_tokens_ = added.take();
    warnings_ = added.notes();
    side.note_other_class(warnings_);
    // unk is special, and is read as unk_surface. In markup it is found as in transformers.
    std::erase_if(added_tokens_, [&](const AddedToken& t) { return t.id == unk_piece_; });
    for (const AddedToken& token : added_tokens_) added_.add(token.content, token);
    if (unk_piece_ >= 0)
      added_.add(piece(unk_piece_).text, {.id = unk_piece_, .content = piece(unk_piece_).text, .special = true});
    for (size_t i = 0; i < added_tokens_.size(); ++i) {
      const AddedToken& token = added_tokens_[i];
      added_by_id_.emplace(token.id, i);
      vocab_size_ = std::max(vocab_size_, token.id + 1);
    }
  }

  void take_fingerprint() {
    Fingerprint hash("sentencepiece");
    for (const Model::Piece& p : model_.pieces) hash.add(p.text).add(p.score).add(p.type);
    hash.add(model_.byte_fallback).add(model_.add_dummy_prefix).add(model_.remove_extra_whitespaces);
    if (added_.finds()) hash.add(legacy_);
    for (const AddedToken& t : added_tokens_) {
      if (!t.special) hash.add(t.id).add(t.single_word).add(t.lstrip).add(t.rstrip);
    }
    fingerprint_ = hash.hex();
  }

  // `first`: the beginning of the text. A part behind an added token is a text of its own if legacy_, with its dummy prefix;
  // otherwise its space in front is one space, and there is no prefix.
  void encode_part(std::string_view text, bool first, std::vector<int32_t>& out, const Placing* placing = nullptr) const {
    Origins origins;
    const std::string normalized =
        normalize(text, first || legacy_, placing ? placing->origin : Origin(), placing ? &origins : nullptr);
    const size_t before = out.size();
    if (cuts_at_spaces_) {
      PieceCache cache(cache_owner_);
      for_each_word(normalized, [&](std::string_view word) {
        cache.append(word, out, [&](std::string_view piece, std::vector<int32_t>& ids) { encode_piece(piece, ids); });
      });
    } else {
      encode_piece(normalized, out);
    }
    if (placing) place(normalized, origins, std::span(out).subspan(before), placing->begins);
  }

  // Appends where the ids of a normalized text begin. What became unk ends where the next id's text begins.
  void place(std::string_view text, const Origins& origins, std::span<const int32_t> ids, std::vector<uint32_t>& begins) const {
    size_t at = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      begins.push_back(origins[std::min(at, text.size() - 1)]);
      if (ids[i] == unk_piece_) {
        at = i + 1 < ids.size() ? text.find(piece(ids[i + 1]).text, at + 1) : text.size();
      } else {
        at += is_byte_piece(ids[i]) ? 1 : piece(ids[i]).text.size();
      }
    }
  }

  // `origin` is that of the text; `origins`, if wanted, become those of the result.
  std::string normalize(std::string_view text, bool begins, Origin origin, Origins* origins) const {
    if (model_.remove_extra_whitespaces && begins) {
      const size_t spaces = std::min(text.find_first_not_of(' '), text.size());
      text.remove_prefix(spaces);
      origin = origin.from(spaces);
    }
    if (text.empty()) return {};
    std::string out;
    out.reserve(text.size() + text.size() / 2 + kSpaceMark.size());
    if (model_.add_dummy_prefix && begins) out += kSpaceMark;
    if (origins) origins->assign(out.size(), uint32_t(origin[0]));
    bool after_space = false;
    const bool valid = find_invalid_utf8(text) == std::string_view::npos;
    const std::string repaired = valid ? std::string() : replace_invalid_bytes(text);
    size_t from = 0;
    for (const char c : valid ? text : std::string_view(repaired)) {
      if (c != ' ') {
        out += c;
      } else if (!after_space || !model_.remove_extra_whitespaces) {
        out += kSpaceMark;
      }
      after_space = c == ' ';
      if (origins) origins->resize(out.size(), uint32_t(origin[from++]));
    }
    while (model_.remove_extra_whitespaces && out.ends_with(kSpaceMark)) out.resize(out.size() - kSpaceMark.size());
    return out;
  }

  // Appends the ids of text in which merges may happen anywhere.
  void encode_piece(std::string_view text, std::vector<int32_t>& out) const {
    thread_local std::vector<int32_t> symbols;
    symbols.clear();
    for (size_t at = 0; at < text.size();) {
      if (const LongestPrefix::Match whole = user_defined_.find(text, at); whole.value >= 0) {
        symbols.push_back(whole.value);
        at += whole.bytes;
        continue;
      }
      const CodePoint c = read_code_point(text, at);
      const int32_t symbol = symbols_.get(c.value);
      if (symbol >= 0) {
        symbols.push_back(symbol);
      } else {
        push_unknown(text.substr(at, c.bytes), symbols);
      }
      at += c.bytes;
    }
    if (has_unused_) {
      UnusedPieces unused{std::vector<bool>(size_t(symbol_count_)), {}};
      for (int32_t id = 0; id < piece_count(); ++id) unused.unused[size_t(id)] = piece(id).type == Model::kUnused;
      merge_symbols(merges_, symbols, &unused);
      for (const int32_t symbol : symbols) split_unused(symbol, unused, out);
      return;
    }
    merge_symbols(merges_, symbols);
    if (symbol_count_ == piece_count()) {
      out.insert(out.end(), symbols.begin(), symbols.end());
    } else {
      for (const int32_t symbol : symbols) push_symbol(symbol, out);
    }
  }

  void push_unknown(std::string_view character, std::vector<int32_t>& out) const {
    if (model_.byte_fallback) {
      for (const char c : character) out.push_back(byte_ids_[uint8_t(c)]);
    } else if (out.empty() || out.back() != unk_piece_) {
      out.push_back(unk_piece_);
    }
  }

  void push_symbol(int32_t symbol, std::vector<int32_t>& out) const {
    if (symbol >= piece_count()) return push_unknown(inner_characters_.at(symbol), out);
    if (symbol != unk_piece_ || out.empty() || out.back() != unk_piece_) out.push_back(symbol);
  }

  void split_unused(int32_t symbol, const UnusedPieces& unused, std::vector<int32_t>& out) const {
    const auto parts = unused.parts.find(symbol);
    if (parts == unused.parts.end()) return push_symbol(symbol, out);
    split_unused(parts->second.first, unused, out);
    split_unused(parts->second.second, unused, out);
  }

  Model model_;
  bool legacy_;  // as in transformers' LlamaTokenizer
  AddedTokenMatcher added_;
  std::unordered_map<int32_t, size_t> added_by_id_;          // position in added_tokens_
  std::unordered_map<std::string_view, int32_t> mergeable_;  // NORMAL and UNUSED pieces
  std::unordered_map<int32_t, std::string_view> inner_characters_;
  LongestPrefix user_defined_;
  CodePointMap symbols_;
  int32_t symbol_count_ = 0;
  MergeTable merges_;
  int32_t byte_ids_[256];
  int32_t unk_piece_ = -1;
  bool has_unused_ = false;
  bool cuts_at_spaces_ = true;
  uint32_t cache_owner_ = PieceCache::new_owner();
};

}  // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& where, const SideFiles& side) {
  return std::make_unique<SentencePieceTokenizer>(parse_sentencepiece(content, where), where, side);
}

}  // namespace tll
