#include "tokenizer/pipeline.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/added_token_matcher.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/fingerprint.h"
#include "tokenizer/pipeline_steps.h"
#include "tokenizer/spaces.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

class PipelineTokenizer : public Tokenizer {
 public:
  explicit PipelineTokenizer(PipelineParts parts) : parts_(std::move(parts)) {
    vocab_size_ = int32_t(parts_.tokens.size());
    for (const AddedToken& t : parts_.added_tokens) vocab_size_ = std::max(vocab_size_, t.id + 1);
    parts_.tokens.resize(size_t(vocab_size_));
    is_special_.resize(size_t(vocab_size_));
    take_fingerprint();
    index_vocabulary();
    add_merges();
    for (const AddedToken& t : parts_.added_tokens) {
      // As in the reference, a normalized token decodes to its normalized content.
      parts_.tokens[size_t(t.id)] = t.normalized ? normalize(parts_.normalizers, t.content) : t.content;
      is_special_[size_t(t.id)] = t.special;
    }
    std::swap(added_tokens_, parts_.added_tokens);
    index_added_tokens();
    unk_ = parts_.unk, bos_ = parts_.bos, eos_ = parts_.eos;
    end_ids_ = parts_.end_ids;
    warnings_ = parts_.warnings;
    prefix_ = parts_.prefix, suffix_ = parts_.suffix;
    for (const DecoderStep& step : parts_.decoders.value_or(std::vector<DecoderStep>())) {
      decodes_bytes_ = decodes_bytes_ || step.kind == DecoderStep::kByteFallback;
    }
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> out;
    encode(text, Output{out, PieceCache(cache_owner_)});
    return out;
  }

  PlacedTokens encode_parts(std::span<const TextPart> parts) const override {
    const JoinedParts joined(parts);
    PlacedTokens out;
    encode(joined.text(), Output{out.ids, PieceCache(cache_owner_), &joined, &out.begins});
    return out;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    check_ids(ids);
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int32_t id : ids) {
      if (is_shown(id, skip_special)) tokens.push_back(parts_.tokens[size_t(id)]);
    }
    return decode_tokens(parts_.decoders, std::move(tokens));
  }

  bool ends_in_bytes(std::span<const int32_t> ids, bool skip_special) const override {
    while (!ids.empty() && !is_shown(ids.back(), skip_special)) ids = ids.first(ids.size() - 1);
    return decodes_bytes_ && !ids.empty() && fallback_byte(parts_.tokens[size_t(ids.back())]) >= 0;
  }

 private:
  bool is_shown(int32_t id, bool skip_special) const {
    return !parts_.tokens[size_t(id)].empty() && !(skip_special && is_special_[size_t(id)]);
  }

  struct Output {
    std::vector<int32_t>& ids;
    PieceCache cache;
    const JoinedParts* parts = nullptr;       // of which the text is made,
    std::vector<uint32_t>* begins = nullptr;  // and where its tokens begin; neither for encode()
  };

  void encode(std::string_view text, Output out) const {
    if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
      bad_file("the text is not UTF-8: byte {} (0x{:02x}) begins no character; convert it first", bad, uint8_t(text[bad]));
    }
    if (text.empty()) return;
    out.ids.reserve(text.size() / 4 + 8);
    split_at_added(raw_added_, text, Origin(), out,
                   [&](std::string_view part, Origin origin, bool first) { encode_segment(part, origin, first, out); });
  }

  std::optional<int32_t> token_id(std::string_view content) const override {
    if (const auto added = special_id(content)) return added;
    const auto found = std::find(parts_.tokens.begin(), parts_.tokens.end(), content);
    if (content.empty() || found == parts_.tokens.end()) return std::nullopt;
    return int32_t(found - parts_.tokens.begin());
  }

  void index_added_tokens() {
    // Special tokens first, as in the reference, which matters if two have the same normalized content.
    for (const bool special : {true, false}) {
      for (const AddedToken& t : added_tokens_) {
        if (t.special != special) continue;
        if (t.normalized) {
          normalized_added_.add(normalize(parts_.normalizers, t.content), t);
        } else {
          raw_added_.add(t.content, t);
        }
      }
    }
  }

  // Appends the ids of the added tokens in the text. Calls visit(part, origin, first) for what lies between them; first: at its
  // beginning.
  template <class Visit>
  static void split_at_added(const AddedTokenMatcher& added, std::string_view text, Origin origin, Output& out, Visit&& visit) {
    const bool finds_special = out.parts && out.parts->has_markup() && !added.empty();
    if (!added.finds() && !finds_special) return visit(text, origin, true);
    for (const AddedTokenMatcher::Part& part : added.split(text, out.parts, origin)) {
      if (part.id >= 0) {
        out.ids.push_back(part.id);
        if (out.begins) out.begins->push_back(uint32_t(origin[part.begin]));
      } else {
        visit(text.substr(part.begin, part.end - part.begin), origin.from(part.begin), part.begin == 0);
      }
    }
  }

  // Encodes the text between added tokens that are not normalized. `first`: it is the beginning of the input.
  void encode_segment(std::string_view text, Origin origin, bool first, Output& out) const {
    std::string normalized;
    Origins origins;
    if (!parts_.normalizers.empty()) {
      if (out.begins) origins = origin.list(text.size());
      normalized = normalize(parts_.normalizers, text, out.begins ? &origins : nullptr);
      text = normalized;
      origin = Origin(origins);
    }
    split_at_added(normalized_added_, text, origin, out, [&](std::string_view part, Origin part_origin, bool first_part) {
      if (!part.empty()) pre_tokenize(0, part, part_origin, first && first_part, out);
    });
  }

  // Tokens by their text, what they stand for, and the symbol of each byte or character.
  void index_vocabulary() {
    std::fill(std::begin(fallback_ids_), std::end(fallback_ids_), -1);
    stands_for_.assign(size_t(vocab_size_), 0);
    for (int32_t id = 0; id < vocab_size_; ++id) {
      const std::string& token = parts_.tokens[size_t(id)];
      if (token.empty()) continue;
      const auto begins_character = [](char c) { return !is_continuation(c); };
      stands_for_[size_t(id)] = uint16_t(parts_.byte_level ? std::count_if(token.begin(), token.end(), begins_character)
                                                           : std::ptrdiff_t(token.size()));
      if (const int byte = fallback_byte(token); byte >= 0 && parts_.byte_fallback && token == fmt::format("<0x{:02X}>", byte)) {
        fallback_ids_[byte] = id;
        stands_for_[size_t(id)] = 1;
      }
      const CodePoint first = read_code_point(token, 0);
      if (first.bytes == token.size()) characters_.set(first.value, id);
      if (parts_.ignore_merges && !parts_.byte_level) whole_.emplace(token, id);
      if (parts_.ignore_merges && parts_.byte_level) {
        if (auto bytes = kByteAlphabet.bytes(token)) whole_.emplace(std::move(*bytes), id);
      }
    }
    if (parts_.unk) stands_for_[size_t(*parts_.unk)] = 0;
  }

  void add_merges() {
    merges_.reserve(parts_.merges.size());
    // Not without unk: unknown characters then vanish, and space marks on both sides of one would become neighbours.
    cuts_at_spaces_ =
        parts_.unk && !parts_.byte_level && !parts_.ignore_merges && characters_.get(read_code_point(kSpaceMark, 0).value) >= 0;
    for (const PipelineParts::Merge& m : parts_.merges) {
      merges_.insert(m.left, m.right, m.rank, m.result);
      cuts_at_spaces_ = cuts_at_spaces_ && !has_space_inside(parts_.tokens[size_t(m.result)]);
    }
    parts_.merges = {};
  }

  // Applies `step` and those after it, which see each piece as a text of its own. `first`: the text is the beginning of the
  // input.
  void pre_tokenize(size_t step, std::string_view text, Origin origin, bool first, Output& out) const {
    if (step == parts_.pre_tokenizers.size()) return encode_piece(text, origin, out);
    const PreTokenizerStep& s = parts_.pre_tokenizers[step];
    switch (s.kind) {
      case PreTokenizerStep::kPattern:
      case PreTokenizerStep::kDigits:
        for (size_t begin = 0; begin < text.size();) {
          const bool digits = s.kind == PreTokenizerStep::kDigits;
          const size_t end = digits ? digits_end(text, begin, s.individual) : match_end(s.pattern, text, begin);
          pre_tokenize(step + 1, text.substr(begin, end - begin), origin.from(begin), first && begin == 0, out);
          begin = end;
        }
        break;
      case PreTokenizerStep::kString:
        for (const std::string_view piece : split_at_string(s, text)) {
          const auto begin = size_t(piece.data() - text.data());
          pre_tokenize(step + 1, piece, origin.from(begin), first && begin == 0, out);
        }
        break;
      case PreTokenizerStep::kMetaspace:
      case PreTokenizerStep::kPrefixSpace: {
        Origins origins;
        if (out.begins) origins = origin.list(text.size());
        Origins* const changed = out.begins ? &origins : nullptr;
        std::string marked;
        if (s.kind == PreTokenizerStep::kMetaspace) {
          marked = mark_spaces(s, text, first, changed);
        } else {
          marked = text;
          if (!text.starts_with(' ')) prepend(marked, " ", changed);
        }
        pre_tokenize(step + 1, marked, Origin(origins), first, out);
        break;
      }
    }
  }

  // End of a run of digits (of one digit with `individual`), or of a run of other characters.
  static size_t digits_end(std::string_view text, size_t begin, bool individual) {
    const auto digit_at = [&](size_t at) {
      const auto byte = uint8_t(text[at]);
      if (byte < 0x80) return std::pair<bool, size_t>(byte >= '0' && byte <= '9', 1);
      const CodePoint c = read_code_point(text, at);
      return std::pair<bool, size_t>(is_digit(c.value), c.bytes);
    };
    const auto [is_number, bytes] = digit_at(begin);
    size_t at = begin + bytes;
    if (is_number && individual) return at;
    while (at < text.size()) {
      const auto [same, more] = digit_at(at);
      if (same != is_number) break;
      at += more;
    }
    return at;
  }

  void encode_piece(std::string_view piece, Origin origin, Output& out) const {
    const auto encode = [this](std::string_view p, std::vector<int32_t>& ids) { merge_piece(p, ids); };
    const size_t before = out.ids.size();
    if (parts_.byte_level) {
      out.cache.append(piece, out.ids, encode);
    } else if (cuts_at_spaces_) {
      for_each_word(piece, [&](std::string_view word) { out.cache.append(word, out.ids, encode); });
    } else {
      merge_piece(piece, out.ids);
    }
    if (out.begins) place(piece, origin, std::span(out.ids).subspan(before), *out.begins);
  }

  // Appends where the ids of a piece begin.
  void place(std::string_view piece, Origin origin, std::span<const int32_t> ids, std::vector<uint32_t>& begins) const {
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += stands_for_[size_t(id)];
    if (bytes != piece.size()) return place_slowly(piece, origin, ids, begins);
    size_t at = 0;
    for (const int32_t id : ids) {
      begins.push_back(uint32_t(origin[at]));
      at += stands_for_[size_t(id)];
    }
  }

  // If characters have vanished or become unk.
  void place_slowly(std::string_view piece, Origin origin, std::span<const int32_t> ids, std::vector<uint32_t>& begins) const {
    const auto bytes_at = [&](size_t at) { return parts_.byte_level ? 1 : size_t{read_code_point(piece, at).bytes}; };
    const auto has_symbol = [&](size_t at) {
      return characters_.get(parts_.byte_level ? kByteAlphabet.character[uint8_t(piece[at])]
                                               : read_code_point(piece, at).value) >= 0;
    };
    size_t at = 0;
    for (const int32_t id : ids) {
      const bool is_unk = id == parts_.unk;
      const bool is_byte = parts_.byte_fallback && stands_for_[size_t(id)] == 1 && parts_.tokens[size_t(id)].size() > 1;
      while (at < piece.size() && !is_unk && !is_byte && !has_symbol(at)) at += bytes_at(at);
      begins.push_back(uint32_t(origin[std::min(at, piece.size() - 1)]));
      size_t left = is_unk ? 1 : stands_for_[size_t(id)];
      for (size_t bytes; at < piece.size() && left > 0; at += bytes) {
        bytes = is_byte ? 1 : bytes_at(at);
        if (is_unk || is_byte || has_symbol(at)) left -= std::min(left, bytes);
      }
      while (is_unk && parts_.fuse_unk && at < piece.size() && !has_symbol(at)) at += bytes_at(at);
    }
  }

  void merge_piece(std::string_view piece, std::vector<int32_t>& out) const {
    if (const auto whole = whole_.find(piece); whole != whole_.end()) return out.push_back(whole->second);
    Symbols symbols(*this);
    for (size_t at = 0; at < piece.size();) {
      const auto byte = uint8_t(piece[at]);
      const CodePoint c = parts_.byte_level ? CodePoint{kByteAlphabet.character[byte], 1, true} : read_code_point(piece, at);
      symbols.push(characters_.get(c.value), c.value);
      at += c.bytes;
    }
    symbols.merge(out);
  }

  // The symbols of a piece. A character that is not a token is replaced by its bytes, by unk, or by nothing. In the last case its
  // neighbours become adjacent.
  struct Symbols {
    explicit Symbols(const PipelineTokenizer& tokenizer) : of(tokenizer) { list().clear(); }
    static std::vector<int32_t>& list() {
      thread_local std::vector<int32_t> symbols;
      return symbols;
    }
    void push(int32_t symbol, char32_t c) {
      if (symbol >= 0) {
        flush_unk();
        list().push_back(symbol);
      } else if (push_bytes(c)) {
        return;
      } else if (of.parts_.unk) {
        if (!of.parts_.fuse_unk) flush_unk();
        pending_unk = true;
      } else if (!of.parts_.missing_unk.empty()) {
        bad_file("the text needs the tokenizer's unk_token {}, which is not in its vocabulary", in_quotes(of.parts_.missing_unk));
      }
    }
    bool push_bytes(char32_t c) {
      if (!of.parts_.byte_fallback) return false;
      std::string bytes;
      append_utf8(bytes, c);
      const auto id = [&](char b) { return of.fallback_ids_[uint8_t(b)]; };
      if (std::any_of(bytes.begin(), bytes.end(), [&](char b) { return id(b) < 0; })) return false;
      for (const char b : bytes) list().push_back(id(b));  // a pending unk comes after them, as in the reference
      return true;
    }
    void flush_unk() {
      if (pending_unk) list().push_back(*of.parts_.unk);
      pending_unk = false;
    }
    void merge(std::vector<int32_t>& out) {
      flush_unk();
      merge_symbols(of.merges_, list());
      out.insert(out.end(), list().begin(), list().end());
    }
    const PipelineTokenizer& of;
    bool pending_unk = false;
  };

  void take_fingerprint() {
    Fingerprint hash("pipeline");
    for (const std::string& token : parts_.tokens) hash.add(token);
    for (const PipelineParts::Merge& m : parts_.merges) hash.add(m.left).add(m.right).add(m.rank);
    hash.add(parts_.unk.value_or(-1))
        .add(parts_.ignore_merges)
        .add(parts_.byte_fallback)
        .add(parts_.fuse_unk)
        .add(parts_.byte_level);
    for (const NormalizerStep& s : parts_.normalizers) hash.add(s.kind).add(s.from).add(s.to);
    for (const PreTokenizerStep& s : parts_.pre_tokenizers) {
      hash.add(s.kind).add(s.pattern).add(s.text).add(s.behavior).add(s.invert).add(s.individual).add(s.prepend);
    }
    for (const AddedToken& t : parts_.added_tokens) {
      if (!t.special) hash.add(t.id).add(t.content).add(t.normalized).add(t.single_word).add(t.lstrip).add(t.rstrip);
    }
    fingerprint_ = hash.hex();
  }

  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  PipelineParts parts_;
  std::vector<bool> is_special_;
  std::unordered_map<std::string, int32_t, TextHash, std::equal_to<>> whole_;  // with ignore_merges
  AddedTokenMatcher raw_added_, normalized_added_;
  CodePointMap characters_;
  int32_t fallback_ids_[256];
  MergeTable merges_;
  std::vector<uint16_t> stands_for_;  // how many bytes of a piece a token is made of; unk: 0
  bool cuts_at_spaces_ = false;
  bool decodes_bytes_ = false;
  uint32_t cache_owner_ = PieceCache::new_owner();
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline(PipelineParts parts) { return std::make_unique<PipelineTokenizer>(std::move(parts)); }

}  // namespace tll
