#include "src/base/file_kind.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "src/base/json.h"
#include "tests/refusal.h"

namespace tll {
namespace {

using std::string_literals::operator""s;

// A zip archive whose first entry has this name.
std::string zip(const std::string& name) {
  return "PK\x03\x04"s + std::string(22, 'x') + char(name.size()) + "\0\0\0"s + name + "content";
}
std::string utf16(const std::string& text, bool big) {
  std::string wide;
  for (const char c : text) wide += big ? std::string{'\0', c} : std::string{c, '\0'};
  return wide;
}

TEST(FileKind, KnowsWhatIsGivenByMistake) {
  const std::vector<std::pair<FileKind, std::string>> files = {
      {FileKind::empty, ""},
      {FileKind::zeros, std::string(4096, '\0')},
      {FileKind::lfs_pointer, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"},
      {FileKind::link_text, "../../blobs/a1b2c3"},
      {FileKind::web_answer, "Entry not found"},
      {FileKind::web_answer, "Access to model org/name is restricted."},
      {FileKind::web_answer, "{\"error\":\"Repository not found\"}"},
      {FileKind::html, "<!DOCTYPE html>\n<html class=\"\">"},
      {FileKind::html, "\xEF\xBB\xBF \r\n<HTML lang=en>"},
      {FileKind::xml, "<?xml version=\"1.0\"?><Error>"},
      {FileKind::utf16, "\xFF\xFE" + utf16("[{\"a\": 1}]", false)},
      {FileKind::utf16, "\xFE\xFF" + utf16("[{\"a\": 1}]", true)},
      {FileKind::utf16, utf16("{\"input_ids\": [1, 2]}", false)},
      {FileKind::utf16, utf16("{\"input_ids\": [1, 2]}", true)},
      {FileKind::utf16, utf16("{\"text\": \"", false) + "\x2D\x4E\xFD\x56"s + utf16("\"}\n{\"text\": \"more\"}", false)},
      {FileKind::utf32, "\xFF\xFE\0\0{\0\0\0"s},
      {FileKind::utf32, "{\0\0\0}\0\0\0"s},
      {FileKind::utf32, "\0\0\0{\0\0\0}"s},
      {FileKind::gzip, "\x1F\x8B\x08\x08 data"s},
      {FileKind::xz, "\xFD\x37zXZ\0 data"s},
      {FileKind::zstd, "\x28\xB5\x2F\xFD data"s},
      {FileKind::bzip2, "BZh91AY&SY data"},
      {FileKind::lz4, "\x04\x22\x4D\x18 data"s},
      {FileKind::seven_zip, "7z\xBC\xAF\x27\x1C data"s},
      {FileKind::rar, "Rar!\x1A\x07 data"s},
      {FileKind::tar, "config.json" + std::string(246, '\0') + "ustar\0"s + std::string(300, '\0')},
      {FileKind::torch_zip, zip("archive/data.pkl")},
      {FileKind::torch_zip, zip("pytorch_model/data.pkl")},
      {FileKind::numpy_zip, zip("weights.npy")},
      {FileKind::office, zip("[Content_Types].xml")},
      {FileKind::zip, zip("model/config.json")},
      {FileKind::zip, "PK\x03\x04"},
      {FileKind::torch_old, "\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19\x2E\x80\x02M"s},
      {FileKind::pickle, "\x80\x04\x95\x10\0\0\0\0\0\0\0}"s},
      {FileKind::pickle, "\x80\x03}q\0X"s},
      {FileKind::numpy, "\x93NUMPY\x01\0v\0"s},
      {FileKind::hdf5, "\x89HDF\r\n\x1A\n\0\0"s},
      {FileKind::safetensors, "\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\""s},
      {FileKind::gguf, "GGUF\x03\0\0\0"s},
      {FileKind::ggml, "tjgg\x03\0\0\0"s},
      {FileKind::sentencepiece, "\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0\x18\x02"s},
      {FileKind::parquet, "PAR1\x15\x04\x15"s},
      {FileKind::arrow, "ARROW1\0\0\xFF\xFF"s},
      {FileKind::avro, "Obj\x01\x04\x14"},
      {FileKind::orc, "ORC\x08\x03"},
      {FileKind::sqlite, "SQLite format 3\0\x10\0"s},
      {FileKind::pdf, "%PDF-1.7\n%\xE2\xE3"},
      {FileKind::rtf, "{\\rtf1\\ansi"},
      {FileKind::old_office, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0"s},
      {FileKind::image, "\x89PNG\r\n\x1A\n\0\0\0\rIHDR"s},
      {FileKind::executable,
       "\x7F"
       "ELF\x02\x01\x01"s},
  };
  std::set<FileKind> met;
  for (const auto& [kind, bytes] : files) {
    EXPECT_EQ(int(file_kind(bytes)), int(kind)) << kind_name(kind) << ": " << in_quotes(bytes);
    EXPECT_NE(kind_name(kind), "");
    EXPECT_NE(kind_advice(kind), "");
    met.insert(kind);
  }
  for (int kind = 1; kind <= int(FileKind::executable); kind++)
    EXPECT_TRUE(met.contains(FileKind(kind))) << "no example of " << kind_name(FileKind(kind));
}

TEST(FileKind, TextAndJsonAreNoOtherKind) {
  for (const std::string& bytes :
       {"{\"a\": 1}"s, "[1, 2]"s, "\xEF\xBB\xBF{}"s, "plain text"s, "Grüße, 中国"s, "id,question\n1,\"x\"\n"s, "{"s, "\n"s,
        "< 3"s, "GGU"s, "P"s, "\x80"s, "BZhou"s, "a\0b"s, std::string(100, '\x01'), "\xFF"s})
    EXPECT_EQ(int(file_kind(bytes)), int(FileKind::unknown)) << in_quotes(bytes);
}

TEST(FileKind, MessageSaysWhatItIsWhatIsExpectedAndWhatToDo) {
  EXPECT_EQ(
      wrong_kind(FileKind::lfs_pointer, "a safetensors file"),
      "this looks like a git-lfs pointer, not the file itself; expected a safetensors file; run `git lfs pull`, or download "
      "the file again");
  EXPECT_EQ(wrong_kind(FileKind::unknown, "JSON"), "");
}

TEST(FileKind, EveryReaderOfJsonSaysIt) {
  const auto refusal = [](const std::string& text) { return refusal_of([&] { parse_json(text, "f.json"); }); };
  EXPECT_TRUE(says(refusal("version https://git-lfs.github.com/spec/v1\n"), "f.json: this looks like a git-lfs pointer"));
  EXPECT_TRUE(says(refusal("<!doctype html><p>"), "web page"));
  EXPECT_TRUE(says(refusal(utf16("{\"a\": 1}", false)), "UTF-16"));
  EXPECT_TRUE(says(refusal("\xFF\xFE" + utf16("{\"a\": 1}", false)), "UTF-16"));
  EXPECT_TRUE(says(refusal("\x1F\x8B\x08\x08\0\0"s), "gzip"));
  EXPECT_TRUE(says(refusal("{\"a\" 1}"), "not valid JSON"));
  EXPECT_EQ(parse_json("{\"error\": 1}", "f").size(), 1u);  // what is JSON is read as JSON
}

}  // namespace
}  // namespace tll
