#include "src/base/file_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>

namespace tll {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kAgain = "download the file again";
constexpr std::string_view kUnpack = "unpack it first";
constexpr std::string_view kToSafetensors =
    "convert it to safetensors: load the model with transformers and call save_pretrained(DIR)";
constexpr std::string_view kToJsonl = "convert it to JSON lines, such as with datasets' Dataset.to_json(FILE)";

struct Row {
  FileKind kind;
  std::string_view name, advice;
};
constexpr Row kRows[] = {
    {FileKind::empty, "an empty file", kAgain},
    {FileKind::zeros, "a file of zero bytes, as an interrupted download leaves", kAgain},
    {FileKind::lfs_pointer, "a git-lfs pointer, not the file itself", "run `git lfs pull`, or download the file again"},
    {FileKind::link_text, "the target of a symbolic link saved as text",
     "copy the file that the link names, or download it again"},
    {FileKind::web_answer, "a server's refusal, not the file itself", "log in or check the name, and download the file again"},
    {FileKind::html, "a web page (HTML)", "download the file itself, not the page about it"},
    {FileKind::xml, "XML, as a server's error message is", kAgain},
    {FileKind::utf16, "text in UTF-16", "save it as UTF-8, such as with `iconv -f UTF-16 -t UTF-8`"},
    {FileKind::utf32, "text in UTF-32", "save it as UTF-8, such as with `iconv -f UTF-32 -t UTF-8`"},
    {FileKind::gzip, "a gzip archive", "unpack it first, with `gunzip` or `tar xf`"},
    {FileKind::xz, "an xz archive", "unpack it first, with `unxz` or `tar xf`"},
    {FileKind::zstd, "a Zstandard archive", "unpack it first, with `unzstd`"},
    {FileKind::bzip2, "a bzip2 archive", "unpack it first, with `bunzip2` or `tar xf`"},
    {FileKind::lz4, "an lz4 archive", "unpack it first, with `unlz4`"},
    {FileKind::seven_zip, "a 7z archive", kUnpack},
    {FileKind::rar, "a rar archive", kUnpack},
    {FileKind::tar, "a tar archive", "unpack it first, with `tar xf`"},
    {FileKind::torch_zip, "a PyTorch file (.bin, .pt, .pth: pickled)", kToSafetensors},
    {FileKind::numpy_zip, "a NumPy archive (.npz)", "save the arrays in another format"},
    {FileKind::office, "an office document", "export it as text (UTF-8)"},
    {FileKind::zip, "a zip archive", "unpack it first, with `unzip`"},
    {FileKind::torch_old, "an old PyTorch file (.bin, .pt, .pth: pickled)", kToSafetensors},
    {FileKind::pickle, "a Python pickle", "pickles are not read, since they run code; save it in another format"},
    {FileKind::numpy, "a NumPy array (.npy)", "save it in another format"},
    {FileKind::hdf5, "an HDF5 file, as of Keras", kToSafetensors},
    {FileKind::safetensors, "a safetensors file", "name the file that belongs here"},
    {FileKind::gguf, "a GGUF file", "a model in it is given as it is: --model FILE"},
    {FileKind::ggml, "a GGML file", "give what it was converted from"},
    {FileKind::sentencepiece, "a SentencePiece model (tokenizer.model)", "name the file that belongs here"},
    {FileKind::parquet, "a Parquet file", kToJsonl},
    {FileKind::arrow, "an Arrow file", kToJsonl},
    {FileKind::avro, "an Avro file", kToJsonl},
    {FileKind::orc, "an ORC file", kToJsonl},
    {FileKind::sqlite, "an SQLite database", "export it as JSON lines"},
    {FileKind::pdf, "a PDF document", "export it as text (UTF-8)"},
    {FileKind::rtf, "a Rich Text document", "export it as text (UTF-8)"},
    {FileKind::old_office, "an office document", "export it as text (UTF-8)"},
    {FileKind::image, "an image", "name the file that belongs here"},
    {FileKind::executable, "a program", "name the file that belongs here"},
};

struct Signature {
  FileKind kind;
  std::string_view bytes;
  size_t at = 0;
};
constexpr Signature kSignatures[] = {
    {FileKind::lfs_pointer, "version https://git-lfs.github.com/"sv},
    {FileKind::lfs_pointer, "version https://hawser.github.com/"sv},
    {FileKind::lfs_pointer, "# xet version "sv},
    {FileKind::link_text, "../../blobs/"sv},
    {FileKind::web_answer, "Entry not found"sv},
    {FileKind::web_answer, "Repository not found"sv},
    {FileKind::web_answer, "Not Found"sv},
    {FileKind::web_answer, "Invalid username or password"sv},
    {FileKind::web_answer, "Invalid credentials"sv},
    {FileKind::web_answer, "Access to model "sv},
    {FileKind::web_answer, "Access to dataset "sv},
    {FileKind::web_answer, "{\"error\":"sv},
    {FileKind::gzip, "\x1F\x8B\x08"sv},
    {FileKind::xz, "\xFD\x37zXZ\0"sv},
    {FileKind::zstd, "\x28\xB5\x2F\xFD"sv},
    {FileKind::lz4, "\x04\x22\x4D\x18"sv},
    {FileKind::seven_zip, "7z\xBC\xAF\x27\x1C"sv},
    {FileKind::rar, "Rar!\x1A\x07"sv},
    {FileKind::tar, "ustar"sv, 257},
    {FileKind::torch_old, "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19\x2E"sv},  // torch's magic number, pickled
    {FileKind::pickle, "\x80\x02"sv},
    {FileKind::pickle, "\x80\x03"sv},
    {FileKind::pickle, "\x80\x04\x95"sv},
    {FileKind::pickle, "\x80\x05\x95"sv},
    {FileKind::numpy, "\x93NUMPY"sv},
    {FileKind::hdf5, "\x89HDF\r\n\x1A\n"sv},
    {FileKind::gguf, "GGUF"sv},
    {FileKind::gguf, "FUGG"sv},  // of a machine with the other byte order
    {FileKind::ggml, "lmgg"sv},
    {FileKind::ggml, "fmgg"sv},
    {FileKind::ggml, "tjgg"sv},
    {FileKind::ggml, "algg"sv},
    {FileKind::sentencepiece, "\x0A\x0E\x0A\x05<unk>\x15"sv},
    {FileKind::parquet, "PAR1"sv},
    {FileKind::arrow, "ARROW1\0\0"sv},
    {FileKind::arrow, "FEA1"sv},
    {FileKind::avro, "Obj\x01"sv},
    {FileKind::orc, "ORC\x08"sv},
    {FileKind::orc, "ORC\x0A"sv},
    {FileKind::sqlite, "SQLite format 3\0"sv},
    {FileKind::pdf, "%PDF-"sv},
    {FileKind::rtf, "{\\rtf"sv},
    {FileKind::old_office, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv},
    {FileKind::image, "\x89PNG\r\n\x1A\n"sv},
    {FileKind::image, "\xFF\xD8\xFF"sv},
    {FileKind::image, "GIF8"sv},
    {FileKind::executable,
     "\x7F"
     "ELF"sv},
    {FileKind::executable, "MZ\x90\0"sv},
    {FileKind::executable, "\xCF\xFA\xED\xFE"sv},
};

const Row* row_of(FileKind kind) {
  const auto row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.kind == kind; });
  return row == std::end(kRows) ? nullptr : &*row;
}

bool starts_with_any_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(), [](char p, char t) {
           return p == std::tolower(static_cast<unsigned char>(t));
         });
}

FileKind markup(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || text[begin] != '<') return FileKind::unknown;
  text.remove_prefix(begin);
  for (const std::string_view tag : {"<!doctype html", "<html", "<head", "<body", "<!--"})
    if (starts_with_any_case(text, tag)) return FileKind::html;
  return starts_with_any_case(text, "<?xml") ? FileKind::xml : FileKind::unknown;
}

// A zip archive by the name of its first entry.
FileKind zip_kind(std::string_view bytes) {
  constexpr size_t kNameLength = 26, kName = 30;
  if (bytes.size() < kName) return FileKind::zip;
  const size_t length = uint8_t(bytes[kNameLength]) + 256 * size_t(uint8_t(bytes[kNameLength + 1]));
  const std::string_view name = bytes.substr(kName, length);
  if (name.ends_with("/data.pkl") || name.ends_with("/byteorder") || name.ends_with("/version")) return FileKind::torch_zip;
  if (name.ends_with(".npy")) return FileKind::numpy_zip;
  return name == "[Content_Types].xml" || name == "mimetype" ? FileKind::office : FileKind::zip;
}

// Text whose characters are mostly of the first 256: then most bytes at the same places of each unit are 0.
FileKind wide_text(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE\0\0"sv) || bytes.starts_with("\0\0\xFE\xFF"sv)) return FileKind::utf32;
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) return FileKind::utf16;
  constexpr size_t kLeast = 8;
  if (bytes.size() < kLeast) return FileKind::unknown;
  size_t zeros[4] = {}, printable[4] = {};
  const size_t units = bytes.size() / 4;
  for (size_t i = 0; i < 4 * units; i++) {
    const auto c = static_cast<unsigned char>(bytes[i]);
    zeros[i % 4] += c == 0;
    printable[i % 4] += c >= 0x20 || c == '\t' || c == '\n' || c == '\r';
  }
  const auto zero = [&](size_t i) { return zeros[i] == units; };
  const auto text = [&](size_t i) { return printable[i] == units; };
  if ((text(0) && zero(1) && zero(2) && zero(3)) || (zero(0) && zero(1) && zero(2) && text(3))) return FileKind::utf32;
  const auto mostly_zero = [&](size_t i) { return 4 * zeros[i] >= 3 * units; };
  const bool little = text(0) && text(2) && mostly_zero(1) && mostly_zero(3);
  const bool big = text(1) && text(3) && mostly_zero(0) && mostly_zero(2);
  return little || big ? FileKind::utf16 : FileKind::unknown;
}

// A header of a possible length, and its first bytes as writers make them.
bool is_safetensors(std::string_view bytes) {
  if (bytes.size() < 10 || bytes.substr(4, 4) != "\0\0\0\0"sv || bytes[8] != '{') return false;
  return bytes[9] == '"' || bytes[9] == '}' || bytes[9] == ' ' || bytes[9] == '\n';
}

}  // namespace

FileKind file_kind(std::string_view first_bytes) {
  const std::string_view bytes = first_bytes.substr(0, kFileKindBytes);
  if (bytes.empty()) return FileKind::empty;
  if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; })) return FileKind::zeros;
  for (const Signature& s : kSignatures)
    if (bytes.size() > s.at && bytes.substr(s.at).starts_with(s.bytes)) return s.kind;
  if (bytes.starts_with("PK\x03\x04") || bytes.starts_with("PK\x05\x06")) return zip_kind(bytes);
  if (bytes.size() > 9 && bytes.starts_with("BZh") && bytes.substr(4, 6) == "1AY&SY") return FileKind::bzip2;
  if (const FileKind kind = markup(bytes); kind != FileKind::unknown) return kind;
  if (is_safetensors(bytes)) return FileKind::safetensors;
  return wide_text(bytes);
}

std::string_view kind_name(FileKind kind) {
  const Row* row = row_of(kind);
  return row ? row->name : "";
}

std::string_view kind_advice(FileKind kind) {
  const Row* row = row_of(kind);
  return row ? row->advice : "";
}

std::string wrong_kind(FileKind kind, std::string_view expected) {
  if (kind == FileKind::unknown) return "";
  return fmt::format("this looks like {}; expected {}; {}", kind_name(kind), expected, kind_advice(kind));
}

}  // namespace tll
