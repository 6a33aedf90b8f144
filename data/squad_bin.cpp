// squad.bin, a data set as a file. Little-endian, nothing between the parts:
//   offset 0   8 bytes  "TLLSQUAD"
//          8   u32      version, 1
//         12   u32      vocab_size: every id is below it
//         16   u32      max_tokens: no document is longer
//         20   u32      rules of the score: 1 or 2 (SquadRules)
//         24   u32      unanswerable_trained: 0 or 1
//         28   u32      number of strings
//         32   u64      number of documents
//         40   u64      number of tokens, over all documents
//         48   u64      bytes of all strings
//         56   documents x 4 u32: tokens, prompt tokens, split (0 train, 1 validation), number of gold answers
//              tokens   x i32: ids
//              tokens   x i32: labels, an id or -100
//              strings  x u32: bytes of each
//              the bytes of the strings, UTF-8: tokenizer fingerprint, template name, report (JSON); then of each document
//              its id, its title and its gold answers
//              u64      XXH3-64 of everything before it
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "data/dataset.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

static_assert(std::endian::native == std::endian::little, "squad.bin is written as memory holds it");

constexpr std::string_view kMagic = "TLLSQUAD";
constexpr uint32_t kVersion = 1;

struct FileHeader {
  char magic[8];
  uint32_t version, vocab_size, max_tokens, rules, unanswerable_trained, strings;
  uint64_t documents, tokens, string_bytes;
};
static_assert(sizeof(FileHeader) == 56);

struct FileDocument {
  uint32_t tokens, prompt_tokens, split, answers;
};

// Walks over the bytes of a file. Every array is checked against what is left.
class Cursor {
 public:
  Cursor(const std::string& file, std::string_view bytes) : file_(file), bytes_(bytes) {}
  template <class T>
  std::vector<T> array(uint64_t count, const char* what) {
    if (count > (bytes_.size() - at_) / sizeof(T)) {
      bad_file("{}: offset {}: {} {} do not fit in the file of {} bytes; it is cut short or damaged, run `prepare` again", file_,
               at_, count, what, bytes_.size());
    }
    std::vector<T> out(count);
    if (count) std::memcpy(out.data(), bytes_.data() + at_, count * sizeof(T));
    at_ += count * sizeof(T);
    return out;
  }
  uint64_t left() const { return bytes_.size() - at_; }
  void require(bool good, const char* rule) const {
    if (!good) bad_file("{}: {}; the file is damaged, run `prepare` again", file_, rule);
  }

 private:
  const std::string& file_;
  std::string_view bytes_;
  uint64_t at_ = 0;
};

// Version and checksum are checked before any other field is used.
FileHeader read_header(Cursor& cursor, std::string_view bytes, const std::string& file) {
  const FileHeader header = cursor.array<FileHeader>(1, "headers")[0];
  if (header.version != kVersion) {
    bad_file("{}: format version {}, and this program reads {}; run `prepare` again", file, header.version, kVersion);
  }
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof checksum, sizeof checksum);
  if (checksum != XXH3_64bits(bytes.data(), bytes.size() - sizeof checksum)) {
    bad_file("{}: the checksum does not match; the file is damaged, run `prepare` again", file);
  }
  cursor.require(header.vocab_size <= INT32_MAX && header.max_tokens <= INT32_MAX, "vocab_size or max_tokens is out of range");
  cursor.require(header.rules == 1 || header.rules == 2, "rules must be 1 or 2");
  cursor.require(header.unanswerable_trained <= 1, "unanswerable_trained must be 0 or 1");
  return header;
}

// A count of the stored report.
int64_t report_count(const Json& report, const char* key, const std::string& file) {
  if (!report.is_object() || !report.contains(key) || !report[key].is_number_unsigned() ||
      report[key].get<uint64_t>() > uint64_t(INT64_MAX)) {
    bad_file("{}: the report inside has no count \"{}\"; run `prepare` again", file, key);
  }
  return report[key].get<int64_t>();
}

void restore_report(Dataset& data, const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file + ": report");
  PrepareReport& r = data.report;
  const auto count = [&](const char* key) { return report_count(json, key, file); };
  r.truncated = count("truncated");
  // Files of earlier programs do not have these.
  if (json.contains("turns_left_out")) r.turns_left_out = count("turns_left_out");
  if (json.contains("ends_lost")) r.ends_lost = count("ends_lost");
  if (json.contains("empty_answers")) r.empty_answers = count("empty_answers");
  r.unanswerable_left_out = count("unanswerable_left_out");
  r.empty = count("empty");
  r.unanswerable_trained = count("unanswerable_trained");
  r.offset_mismatches = count("offset_mismatches");
  if (!json.contains("refused_by_reason") || !json["refused_by_reason"].is_object()) {
    bad_file("{}: the report inside has no \"refused_by_reason\"; run `prepare` again", file);
  }
  for (const auto& item : json["refused_by_reason"].items()) {
    r.refused[item.key()] = report_count(json["refused_by_reason"], item.key().c_str(), file);
  }
  data.count_documents();
}

}  // namespace

bool is_prepared(std::string_view bytes) { return bytes.starts_with(kMagic); }

std::string dataset_bytes(const Dataset& data) {
  std::vector<std::string> strings = {data.tokenizer_fingerprint, data.template_name, data.report.json().dump()};
  std::vector<FileDocument> documents;
  for (const Document& d : data.documents) {
    documents.push_back({uint32_t(d.length), uint32_t(d.prompt_tokens), uint32_t(d.split), uint32_t(d.answers.size())});
    strings.push_back(d.id);
    strings.push_back(d.title);
    strings.insert(strings.end(), d.answers.begin(), d.answers.end());
  }
  std::vector<uint32_t> lengths;
  std::string text;
  for (const std::string& s : strings) {
    lengths.push_back(uint32_t(s.size()));
    text += s;
  }
  FileHeader header{{},
                    kVersion,
                    uint32_t(data.vocab_size),
                    uint32_t(data.max_tokens),
                    uint32_t(data.rules),
                    data.unanswerable_trained,
                    uint32_t(strings.size()),
                    documents.size(),
                    data.tokens.size(),
                    text.size()};
  std::copy(kMagic.begin(), kMagic.end(), header.magic);
  std::string file;
  const auto append = [&](const void* bytes, size_t size) { file.append(static_cast<const char*>(bytes), size); };
  append(&header, sizeof header);
  append(documents.data(), documents.size() * sizeof(FileDocument));
  append(data.tokens.data(), data.tokens.size() * sizeof(int32_t));
  append(data.labels.data(), data.labels.size() * sizeof(int32_t));
  append(lengths.data(), lengths.size() * sizeof(uint32_t));
  append(text.data(), text.size());
  const uint64_t checksum = XXH3_64bits(file.data(), file.size());
  append(&checksum, sizeof checksum);
  return file;
}

void write_dataset(const Dataset& data, const std::filesystem::path& path) { write_file_atomic(path, dataset_bytes(data)); }

Dataset parse_dataset(std::string_view bytes, const std::string& file) {
  if (bytes.size() < sizeof(FileHeader) + sizeof(uint64_t) || !is_prepared(bytes)) {
    bad_file("{}: not a prepared data set: it does not begin with {}, or is cut short", file, kMagic);
  }
  Cursor cursor(file, bytes.substr(0, bytes.size() - sizeof(uint64_t)));
  const FileHeader header = read_header(cursor, bytes, file);
  const std::vector<FileDocument> records = cursor.array<FileDocument>(header.documents, "documents");
  Dataset data;
  data.tokens = cursor.array<int32_t>(header.tokens, "tokens");
  data.labels = cursor.array<int32_t>(header.tokens, "labels");
  const std::vector<uint32_t> lengths = cursor.array<uint32_t>(header.strings, "string lengths");
  const std::vector<char> text = cursor.array<char>(header.string_bytes, "bytes of strings");
  cursor.require(cursor.left() == 0, "there are bytes behind the last string");

  data.vocab_size = int32_t(header.vocab_size);
  data.max_tokens = int32_t(header.max_tokens);
  data.rules = SquadRules(header.rules);
  data.unanswerable_trained = header.unanswerable_trained == 1;
  const auto is_id = [&](int32_t id) { return id >= 0 && id < data.vocab_size; };
  cursor.require(std::all_of(data.tokens.begin(), data.tokens.end(), is_id), "a token id is not below vocab_size");
  cursor.require(std::all_of(data.labels.begin(), data.labels.end(), [&](int32_t l) { return l == kNotTrained || is_id(l); }),
                 "a label is neither -100 nor an id below vocab_size");

  size_t next = 0, text_at = 0;
  const auto next_string = [&] {
    cursor.require(next < lengths.size() && lengths[next] <= text.size() - text_at, "the strings do not add up");
    const std::string s(text.data() + text_at, lengths[next]);
    text_at += lengths[next++];
    cursor.require(find_invalid_utf8(s) == std::string::npos, "a string is not UTF-8");
    return s;
  };
  data.tokenizer_fingerprint = next_string();
  data.template_name = next_string();
  const std::string report = next_string();
  uint64_t begin = 0;
  for (const FileDocument& r : records) {
    cursor.require(r.tokens >= 1 && r.tokens <= header.max_tokens && r.tokens <= header.tokens - begin,
                   "a document's length is out of range");
    cursor.require(r.prompt_tokens <= r.tokens, "a prompt is longer than its document");
    cursor.require(r.split <= 1, "a split must be 0 or 1");
    cursor.require(r.answers <= lengths.size() - next, "the strings do not add up");
    Document d{
        .begin = int64_t(begin), .length = int32_t(r.tokens), .prompt_tokens = int32_t(r.prompt_tokens), .split = Split(r.split)};
    d.id = next_string();
    d.title = next_string();
    for (uint32_t a = 0; a < r.answers; ++a) d.answers.push_back(next_string());
    d.target_tokens = count_targets(data.labels_of(d));
    begin += r.tokens;
    data.documents.push_back(std::move(d));
  }
  cursor.require(begin == header.tokens, "the documents do not cover the tokens");
  cursor.require(next == lengths.size() && text_at == text.size(), "the strings do not add up");
  restore_report(data, report, file);
  return data;
}

}  // namespace tll
