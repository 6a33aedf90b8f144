// One document for people: its text with the trained part marked, and the same as JSON.
#include <algorithm>
#include <map>

#include "data/dataset.h"
#include "src/base/check.h"
#include "src/base/units.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// Neighbouring tokens that are trained alike, and are all special tokens or all none.
struct Piece {
  std::string text;
  bool trained = false, special = false;
};

// Tokens that have a text of their own, which only shows where special tokens do.
class SpecialTokens {
 public:
  explicit SpecialTokens(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  bool contains(int32_t id) {
    const auto [found, is_new] = known_.try_emplace(id);
    const std::span<const int32_t> ids(&id, 1);
    if (is_new) found->second = tokenizer_.decode(ids, true).empty() && !tokenizer_.decode(ids, false).empty();
    return found->second;
  }

 private:
  const Tokenizer& tokenizer_;
  std::map<int32_t, bool> known_;
};

// A piece's text is what the tokens up to its end decode to, without what the tokens before it decode to. Decoded alone, a piece
// would lose the space that SentencePiece drops at the start of a text. The tokens before it begin with the nearest piece that
// is seen.
std::vector<Piece> pieces_of(const Dataset& data, const Document& document, const Tokenizer& tokenizer) {
  const std::span<const int32_t> tokens = data.tokens_of(document);
  SpecialTokens special(tokenizer);
  const auto trained = [&](size_t t) { return t > 0 && data.label(document, int32_t(t)) != kNotTrained; };
  std::vector<Piece> out;
  size_t anchor = 0;
  for (size_t begin = 0, end; begin < tokens.size(); begin = end) {
    Piece piece{{}, trained(begin), special.contains(tokens[begin])};
    for (end = begin + 1; end < tokens.size(); ++end) {
      if (trained(end) != piece.trained || special.contains(tokens[end]) != piece.special) break;
    }
    piece.text = tokenizer.decode(tokens.subspan(anchor, end - anchor), false);
    // A piece that ends inside a character changes the text before it as well.
    const std::string before = tokenizer.decode(tokens.subspan(anchor, begin - anchor), false);
    size_t same = 0;
    while (same < before.size() && same < piece.text.size() && before[same] == piece.text[same]) ++same;
    while (same > 0 && same < piece.text.size() && is_continuation(piece.text[same])) --same;
    piece.text.erase(0, same);
    if (!piece.special && !piece.text.empty()) anchor = begin;
    out.push_back(std::move(piece));
  }
  return out;
}

// Would act on the terminal, or hides: control characters, except newline and tab, and characters that have no width or change
// the direction of writing.
bool is_hidden(char32_t c) {
  return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0) || c == 0xAD || (c >= 0x200B && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x2069) || c == 0xFEFF || (c >= 0xE0000 && c <= 0xE007F);
}

// Hidden characters become \xNN or \u{NNNN}.
std::string visible(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = read_code_point(text, i);
    if (!is_hidden(c.value)) {
      append_utf8(out, c.value);
    } else if (c.value < 0x100) {
      out += fmt::format("\\x{:02x}", uint32_t(c.value));
    } else {
      out += fmt::format("\\u{{{:x}}}", uint32_t(c.value));
    }
    i += c.bytes;
  }
  return out;
}

// A backslash before each text that is spelled like a special token.
std::string marked_lookalikes(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<std::string_view> specials;
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.special && text.find(token.content) != text.npos) specials.push_back(token.content);
  }
  if (specials.empty()) return visible(text);
  std::string out;
  size_t written = 0;
  for (size_t i = 0; i < text.size();) {
    size_t longest = 0;
    for (const std::string_view s : specials) {
      if (text.compare(i, s.size(), s) == 0) longest = std::max(longest, s.size());
    }
    if (longest == 0) {
      ++i;
      continue;
    }
    out += visible(std::string_view(text).substr(written, i - written)) + "\\" + text.substr(i, longest);
    i += longest;
    written = i;
  }
  return out + visible(std::string_view(text).substr(written));
}

const Document& document_at(const Dataset& data, int64_t index) {
  if (index < 0 || index >= int64_t(data.documents.size())) {
    fail(kExitUsage, "there is no sample {}: the data set has {}, counted from 0", index, data.documents.size());
  }
  return data.documents[size_t(index)];
}

const char* split_name(Split split) { return split == Split::kTrain ? "train" : "validation"; }

}  // namespace

std::string show_text(const Dataset& data, int64_t index, const Tokenizer& tokenizer, bool color) {
  constexpr const char *kTrained = "\x1b[1;32m", *kSpecial = "\x1b[36m", *kPlain = "\x1b[0m";
  const Document& d = document_at(data, index);
  const std::string id = data.id_of(d);
  std::string text;
  bool open = false;
  int64_t runs = 0;
  const auto style = [&](const char* code) { text += color ? code : ""; };
  const auto mark = [&](bool trained) {
    if (trained == open) return;
    if (trained) style(kTrained);
    text += trained ? "«" : "»";
    if (!trained) style(kPlain);
    runs += trained;
    open = trained;
  };
  for (const Piece& piece : pieces_of(data, d, tokenizer)) {
    mark(piece.trained);
    if (piece.special) {
      style(kSpecial);
      text += visible(piece.text);
      style(open ? kTrained : kPlain);
    } else {
      text += marked_lookalikes(piece.text, tokenizer);
    }
  }
  mark(false);
  return fmt::format("sample {} ({}{}{}): {} tokens, {} trained{}\n{}\n", index, split_name(d.split), id.empty() ? "" : ", ",
                     visible(id), d.length, d.target_tokens, runs > 1 ? fmt::format(" in {} runs", runs) : "", text);
}

Json show_json(const Dataset& data, int64_t index, const Tokenizer& tokenizer) {
  const Document& d = document_at(data, index);
  const std::span<const int32_t> tokens = data.tokens_of(d);
  Json segments = Json::array(), special = Json::array();
  std::string text;
  const std::vector<Piece> pieces = pieces_of(data, d, tokenizer);
  for (size_t p = 0; p < pieces.size(); ++p) {
    text += pieces[p].text;
    if (p + 1 < pieces.size() && pieces[p + 1].trained == pieces[p].trained) continue;
    segments.push_back({{"text", text}, {"trained", pieces[p].trained}});
    text.clear();
  }
  SpecialTokens specials(tokenizer);
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (specials.contains(tokens[t])) special.push_back(t);
  }
  return {{"index", index},
          {"id", data.id_of(d)},
          {"title", data.title_of(d)},
          {"split", split_name(d.split)},
          {"template", data.template_name},
          {"tokens", tokens},
          {"labels", data.labels_of(d)},
          {"target_tokens", d.target_tokens},
          {"prompt_tokens", d.prompt_tokens},
          {"answers", data.answers_of(d, &tokenizer)},
          {"special", special},
          {"segments", segments}};
}

}  // namespace tll
