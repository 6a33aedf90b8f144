// The parts of SentencePiece's ModelProto (sentencepiece_model.proto) that BPE needs. The file may be hostile: reads are checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

struct SentencePieceModel {
  enum Type : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = kNormal;
    uint8_t byte = 0;  // of a kByte piece
  };

  std::vector<Piece> pieces;  // the id is the position
  int32_t bos_id = 1, eos_id = 2, pad_id = -1;
  std::string unk_surface = " \u2047 ";
  bool byte_fallback = false;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true;
};

// Error (kExitBadFile) if the model is not BPE with the identity normalizer. Errors in the encoding name the offset in the file.
SentencePieceModel parse_sentencepiece(std::string_view content, const std::string& where);

}  // namespace tll
