#include "tokenizer/sentencepiece_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "src/base/check.h"
#include "src/base/json.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/formats.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// One protobuf message (encoding: protobuf.dev/programming-guides/encoding): a series of (field number << 3 | wire type, value).
class Message {
 public:
  Message(std::string_view bytes, size_t offset, const std::string& where) : bytes_(bytes), offset_(offset), where_(where) {}

  // Moves to the next field; false at the end. Its value can be taken once, by one of the functions below.
  bool next() {
    if (!taken_) skip();
    if (at_ == bytes_.size()) return false;
    start_ = at_;
    taken_ = false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    type_ = static_cast<int>(tag & 7);
    if (field_ == 0) refuse("field number 0");
    return true;
  }
  uint64_t field() const { return field_; }

  int32_t integer() {
    expect(0);
    return int32_t(varint());
  }
  bool boolean() {
    expect(0);
    return varint() != 0;
  }
  float number() {
    expect(5);
    const std::string_view four = take(4);
    uint32_t bits = 0;
    for (int i = 3; i >= 0; --i) bits = bits << 8 | uint8_t(four[size_t(i)]);
    return std::bit_cast<float>(bits);
  }
  std::string_view bytes() {
    expect(2);
    return take(varint());
  }
  Message message() {
    const std::string_view inside = bytes();
    return {inside, offset_ + at_ - inside.size(), where_};
  }
  [[noreturn]] void refuse(const std::string& found) const {
    bad_file("{}: not a sentencepiece model: {} at byte {}; copy the file again", where_, found, offset_ + start_);
  }

 private:
  void expect(int type) {
    if (type_ != type) refuse(fmt::format("field {} with wire type {} instead of {}", field_, type_, type));
    taken_ = true;
  }
  void skip() {
    if (type_ == 0) return void(varint());
    if (type_ != 1 && type_ != 2 && type_ != 5) refuse(fmt::format("wire type {}", type_));
    take(type_ == 1 ? 8 : type_ == 2 ? varint() : 4);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = uint8_t(take(1)[0]);
      value |= uint64_t(byte & 0x7F) << (shift & 63);
      if (byte < 0x80) return value;
    }
    refuse("a number of more than ten bytes");
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) refuse(fmt::format("a value of {} bytes with {} left", size, bytes_.size() - at_));
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  std::string_view bytes_;
  size_t offset_;  // of bytes_ in the file
  const std::string& where_;
  size_t at_ = 0, start_ = 0;
  uint64_t field_ = 0;
  int type_ = 0;
  bool taken_ = true;
};

SentencePieceModel::Piece read_piece(Message in) {
  SentencePieceModel::Piece piece;
  while (in.next()) {
    if (in.field() == 1) piece.text = in.bytes();
    if (in.field() == 2) piece.score = in.number();
    if (in.field() == 3) {
      const int32_t type = in.integer();
      if (type < SentencePieceModel::kNormal || type > SentencePieceModel::kByte) in.refuse(fmt::format("piece type {}", type));
      piece.type = SentencePieceModel::Type(type);
    }
  }
  if (piece.text.empty()) in.refuse("an empty piece");
  if (find_invalid_utf8(piece.text) != std::string_view::npos) in.refuse("a piece that is not UTF-8");
  if (!std::isfinite(piece.score)) in.refuse("a score that is not finite");
  return piece;
}

void read_trainer(Message in, SentencePieceModel& model, const std::string& where) {
  static constexpr const char* kModelTypes[] = {"", "UNIGRAM", "BPE", "WORD", "CHAR"};
  int32_t model_type = 1;
  while (in.next()) {
    if (in.field() == 3) model_type = in.integer();
    if (model_type < 1 || model_type > 4) in.refuse(fmt::format("model type {}", model_type));
    if (in.field() == 24 && in.boolean()) bad_file("{}: treat_whitespace_as_suffix is not supported", where);
    if (in.field() == 35) model.byte_fallback = in.boolean();
    if (in.field() == 41) model.bos_id = in.integer();
    if (in.field() == 42) model.eos_id = in.integer();
    if (in.field() == 43) model.pad_id = in.integer();
    if (in.field() == 44) model.unk_surface = in.bytes();
    if (model.unk_surface.size() > kMaxPieceBytes) in.refuse("an unk_surface that is too long");
  }
  if (model_type != 2) bad_file("{}: expected a sentencepiece model of type BPE, found {}", where, kModelTypes[model_type]);
}

void read_normalizer(Message in, SentencePieceModel& model, const std::string& where) {
  std::string name;
  while (in.next()) {
    if (in.field() == 1) name = in.bytes();
    if (in.field() == 2 && !in.bytes().empty()) {
      bad_file("{}: the normalizer {} has a table of replacements; only 'identity' is supported", where, in_quotes(name));
    }
    if (in.field() == 3) model.add_dummy_prefix = in.boolean();
    if (in.field() == 4) model.remove_extra_whitespaces = in.boolean();
    if (in.field() == 5 && !in.boolean()) bad_file("{}: escape_whitespaces = false is not supported", where);
  }
}

void check_pieces(SentencePieceModel& model, const std::string& where) {
  std::unordered_map<std::string_view, size_t> ids;
  int bytes = 0;
  int unknown = 0;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    SentencePieceModel::Piece& piece = model.pieces[id];
    const auto [first, is_new] = ids.emplace(piece.text, id);
    if (!is_new) bad_file("{}: pieces {} and {} are both {}", where, first->second, id, in_quotes(piece.text));
    if (piece.text.size() > kMaxPieceBytes)
      bad_file("{}: piece {} has {} bytes; at most {} are supported", where, id, piece.text.size(), kMaxPieceBytes);
    unknown += piece.type == SentencePieceModel::kUnknown;
    if (piece.type != SentencePieceModel::kByte) continue;
    const int byte = fallback_byte(piece.text);
    if (byte < 0 || piece.text != fmt::format("<0x{:02X}>", byte))
      bad_file("{}: piece {} is of type BYTE but reads {} instead of <0x00> ... <0xFF>", where, id, in_quotes(piece.text));
    piece.byte = uint8_t(byte);
    ++bytes;
  }
  if (unknown != 1) bad_file("{}: expected one piece of type UNKNOWN, found {}", where, unknown);
  if (bytes != (model.byte_fallback ? 256 : 0)) {
    bad_file("{}: byte_fallback is {} but there are {} byte pieces", where, model.byte_fallback, bytes);
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view content, const std::string& where) {
  SentencePieceModel model;
  Message in(content, 0, where);
  bool has_trainer = false;
  while (in.next()) {
    if (in.field() == 1) {
      if (model.pieces.size() == kMaxVocabulary) bad_file("{}: more than {} pieces", where, kMaxVocabulary);
      model.pieces.push_back(read_piece(in.message()));
    }
    if (in.field() == 2) {
      read_trainer(in.message(), model, where);
      has_trainer = true;
    }
    if (in.field() == 3) read_normalizer(in.message(), model, where);
  }
  if (!has_trainer || model.pieces.empty())
    bad_file("{}: not a sentencepiece model: {} pieces, {} trainer_spec", where, model.pieces.size(), has_trainer ? "a" : "no");
  check_pieces(model, where);
  return model;
}

}  // namespace tll
