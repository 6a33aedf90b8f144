#include "data/squad_bin.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

static_assert(std::endian::native == std::endian::little, "squad.bin is written as memory holds it");

constexpr std::string_view kMagic = "TLLSQUAD";
constexpr uint32_t kVersion = 2;
constexpr uint64_t kHeaderSum = kPreparedBody - sizeof(uint64_t);  // where the header's checksum is

uint64_t aligned(uint64_t offset) { return (offset + 7) / 8 * 8; }

// A whole number of the facts.
int64_t fact_count(const Json& json, const char* key, const std::string& file) {
  if (!json.is_object() || !json.contains(key) || !json[key].is_number_integer() || json[key].get<int64_t>() < 0) {
    bad_file("{}: the report inside has no count \"{}\"; run `prepare` again", file, key);
  }
  return json[key].get<int64_t>();
}

std::string fact_text(const Json& json, const char* key, const std::string& file) {
  if (!json.contains(key) || !json[key].is_string()) {
    bad_file("{}: the facts inside have no text \"{}\"; run `prepare` again", file, key);
  }
  return json[key].get<std::string>();
}

void append_varint(std::vector<char>& out, uint64_t value) {
  for (; value >= 128; value >>= 7) out.push_back(char(value | 128));
  out.push_back(char(value));
}

}  // namespace

Json report_facts(const PrepareReport& r) {
  Json json = r.json();
  json["repeated_ids"] = r.repeated_ids;
  json["first_repeated_id"] = r.first_repeated_id;
  json["untrained_parts"] = r.untrained_parts;
  json["shortest_refused"] = r.shortest_refused;
  json["file_notes"] = r.file_notes;
  return json;
}

void restore_report(PrepareReport& r, const Json& json, const std::string& file) {
  const auto count = [&](const char* key) { return fact_count(json, key, file); };
  r.samples = count("samples");
  r.tokens = count("tokens");
  r.target_tokens = count("target_tokens");
  r.train_samples = count("train_samples");
  r.validation_samples = count("validation_samples");
  r.truncated = count("truncated");
  r.turns_left_out = count("turns_left_out");
  r.ends_lost = count("ends_lost");
  r.empty_answers = count("empty_answers");
  r.unanswerable_left_out = count("unanswerable_left_out");
  r.empty = count("empty");
  r.unanswerable_trained = count("unanswerable_trained");
  r.offset_mismatches = count("offset_mismatches");
  r.repeated_ids = count("repeated_ids");
  r.first_repeated_id = fact_text(json, "first_repeated_id", file);
  r.untrained_parts = count("untrained_parts");
  r.shortest_refused = count("shortest_refused");
  if (!json.contains("refused_by_reason") || !json["refused_by_reason"].is_object()) {
    bad_file("{}: the report inside has no \"refused_by_reason\"; run `prepare` again", file);
  }
  for (const auto& item : json["refused_by_reason"].items()) {
    r.refused[item.key()] = fact_count(json["refused_by_reason"], item.key().c_str(), file);
  }
  if (!json.contains("file_notes") || !json["file_notes"].is_array()) {
    bad_file("{}: the report inside has no \"file_notes\"; run `prepare` again", file);
  }
  for (const Json& note : json["file_notes"]) {
    if (!note.is_string()) bad_file("{}: a note of the report inside is no text; run `prepare` again", file);
    r.file_notes.push_back(note.get<std::string>());
  }
}

bool is_prepared(std::string_view bytes) { return bytes.starts_with(kMagic); }

PreparedLayout::PreparedLayout(const PreparedHeader& h) {
  // Larger numbers than any disk holds could overflow below.
  constexpr uint64_t kMost = uint64_t{1} << 56;
  fits = h.documents < kMost && h.tokens < kMost && h.string_bytes < kMost && h.fact_bytes < kMost;
  if (!fits) return;
  trained = aligned(kPreparedBody + h.tokens * sizeof(int32_t));
  labels = aligned(trained + (h.tokens + 7) / 8);
  strings = aligned(labels + (h.has_labels ? h.tokens * sizeof(int32_t) : 0));
  documents = aligned(strings + h.string_bytes);
  chunks = (documents - kPreparedBody + kPreparedChunk - 1) / kPreparedChunk;
  checksums = documents + h.documents * sizeof(Document);
  facts = checksums + chunks * sizeof(uint64_t);
  end = facts + h.fact_bytes;
}

void PreparedBody::append(const void* data, uint64_t bytes) {
  std::string_view rest(static_cast<const char*>(data), bytes);
  sink_(rest);
  bytes_ += bytes;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, kPreparedChunk - chunk_.size());
    rest.remove_prefix(part.size());
    if (chunk_.empty() && part.size() == kPreparedChunk) {
      checksums_.push_back(XXH3_64bits(part.data(), part.size()));
      continue;
    }
    chunk_ += part;
    if (chunk_.size() < kPreparedChunk) break;
    checksums_.push_back(XXH3_64bits(chunk_.data(), chunk_.size()));
    chunk_.clear();
  }
}

void PreparedBody::pad(uint64_t to) {
  constexpr char kZeros[8] = {};
  TLL_CHECK(to >= end() && to - end() < sizeof kZeros, "padding from {} to {}", end(), to);
  append(kZeros, to - end());
}

void PreparedBody::restore(std::vector<uint64_t> checksums, std::string_view rest) {
  checksums_ = std::move(checksums);
  chunk_ = rest;
  bytes_ = checksums_.size() * kPreparedChunk + rest.size();
}

const std::vector<uint64_t>& PreparedBody::finish() {
  if (!chunk_.empty()) checksums_.push_back(XXH3_64bits(chunk_.data(), chunk_.size()));
  chunk_.clear();
  return checksums_;
}

void append_texts(std::vector<char>& strings, const DocumentTexts& texts) {
  const size_t begin = strings.size();
  strings.resize(begin + sizeof(uint32_t));
  append_varint(strings, texts.id.size());
  append_varint(strings, texts.title.size());
  append_varint(strings, texts.answers.size());
  for (const std::string& a : texts.answers) append_varint(strings, a.size());
  const auto append = [&](const std::string& s) { strings.insert(strings.end(), s.begin(), s.end()); };
  append(texts.id);
  append(texts.title);
  for (const std::string& a : texts.answers) append(a);
  const uint64_t bytes = strings.size() - begin - sizeof(uint32_t);
  if (bytes > UINT32_MAX) bad_file("the id, title and answers of a sample have {} bytes, and 4 GiB is the most", bytes);
  const uint32_t size = uint32_t(bytes);
  std::memcpy(strings.data() + begin, &size, sizeof size);
}

std::optional<DocumentTexts> read_texts(std::string_view strings) {
  uint32_t size;
  if (strings.size() < sizeof size) return std::nullopt;
  std::memcpy(&size, strings.data(), sizeof size);
  strings.remove_prefix(sizeof size);
  if (size > strings.size()) return std::nullopt;
  strings = strings.substr(0, size);
  bool good = true;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      if (strings.empty() || shift > 28) return good = false, uint64_t{0};
      const auto byte = uint8_t(strings[0]);
      strings.remove_prefix(1);
      value |= uint64_t(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const auto text = [&](uint64_t bytes) {
    good = good && bytes <= strings.size() && find_invalid_utf8(strings.substr(0, bytes)) == std::string::npos;
    if (!good) return std::string();
    std::string s(strings.substr(0, bytes));
    strings.remove_prefix(bytes);
    return s;
  };
  DocumentTexts out;
  const uint64_t id = varint(), title = varint(), answers = varint();
  if (!good || answers > strings.size()) return std::nullopt;
  std::vector<uint64_t> sizes(answers);
  for (uint64_t& bytes : sizes) bytes = varint();
  out.id = text(id);
  out.title = text(title);
  for (const uint64_t bytes : sizes) out.answers.push_back(text(bytes));
  if (!good || !strings.empty()) return std::nullopt;
  return out;
}

std::string prepared_facts(const Dataset& data) {
  return json_text({{"tokenizer", data.tokenizer_fingerprint},
                    {"template", data.template_name},
                    {"format", data_format_names()[size_t(data.format)]},
                    {"train_on", train_on_names()[size_t(data.train_on)]},
                    {"long", long_samples_names()[size_t(data.long_samples)]},
                    {"rules", uint32_t(data.rules)},
                    {"unanswerable_trained", data.unanswerable_trained},
                    {"report", report_facts(data.report)}});
}

PreparedHeader begin_header(const Dataset& data) {
  PreparedHeader header{};
  std::copy(kMagic.begin(), kMagic.end(), header.magic);
  header.version = kVersion, header.vocab_size = uint32_t(data.vocab_size), header.max_tokens = uint32_t(data.max_tokens);
  return header;
}

std::string prepared_header(const PreparedHeader& header) {
  std::string bytes(kPreparedBody, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  const uint64_t checksum = XXH3_64bits(bytes.data(), kHeaderSum);
  std::memcpy(bytes.data() + kHeaderSum, &checksum, sizeof checksum);
  return bytes;
}

Dataset PreparedFile::open(const std::filesystem::path& path, const std::string& name) {
  const std::shared_ptr<PreparedFile> file(new PreparedFile(name));
  file->mapped_.emplace(path);
  file->bytes_ = file->mapped_->bytes();
  return file->read_tables(file);
}

Dataset PreparedFile::parse(std::string_view bytes, const std::string& name) {
  const std::shared_ptr<PreparedFile> file(new PreparedFile(name));
  file->copied_ = std::make_unique<uint64_t[]>((bytes.size() + 7) / 8);
  if (!bytes.empty()) std::memcpy(file->copied_.get(), bytes.data(), bytes.size());
  file->bytes_ = {reinterpret_cast<const std::byte*>(file->copied_.get()), bytes.size()};
  Dataset data = file->read_tables(file);
  for (uint64_t c = 0; c < file->chunks(); ++c) file->check_chunk(c);
  for (const Document& d : data.documents) {
    data.id_of(d);
    file->require(count_targets(data.labels_of(d)) == d.target_tokens, "a document's number of trained tokens is wrong");
  }
  return data;
}

void PreparedFile::require(bool good, std::string_view rule) const {
  if (!good) bad_file("{}: {}; the file is damaged, run `prepare` again", name_, rule);
}

void PreparedFile::read_header() {
  const std::string_view begin(reinterpret_cast<const char*>(bytes_.data()), std::min<size_t>(bytes_.size(), kPreparedBody));
  if (!is_prepared(begin)) bad_file("{}: not a prepared data set: it does not begin with {}", name_, kMagic);
  const size_t version_end = offsetof(PreparedHeader, version) + sizeof(uint32_t);
  require(begin.size() >= version_end, "it ends inside its header");
  std::memcpy(&header_, begin.data(), version_end);
  if (header_.version != kVersion) {
    bad_file("{}: format version {}, and this program reads {}; run `prepare` again", name_, header_.version, kVersion);
  }
  require(begin.size() == kPreparedBody, "it ends inside its header");
  uint64_t checksum;
  std::memcpy(&checksum, begin.data() + kHeaderSum, sizeof checksum);
  require(checksum == XXH3_64bits(begin.data(), kHeaderSum), "the header's checksum does not match");
  std::memcpy(&header_, begin.data(), sizeof header_);
  require(header_.vocab_size <= INT32_MAX && header_.max_tokens <= INT32_MAX, "vocab_size or max_tokens is out of range");
  require(header_.has_labels <= 1, "whether there are labels must be 0 or 1");
  layout_.emplace(header_);
  if (!layout_->fits || layout_->end != bytes_.size()) {
    bad_file(
        "{}: its header says {} documents and {} tokens, which do not fit in the file of {} bytes; it is cut short or damaged, "
        "run `prepare` again",
        name_, header_.documents, header_.tokens, bytes_.size());
  }
}

Dataset PreparedFile::read_tables(const std::shared_ptr<PreparedFile>& self) {
  read_header();
  const auto* begin = reinterpret_cast<const char*>(bytes_.data());
  require(header_.table_checksum == XXH3_64bits(begin + layout_->documents, layout_->end - layout_->documents),
          "the checksum of its documents does not match");
  checksums_ = reinterpret_cast<const uint64_t*>(begin + layout_->checksums);
  checked_ = std::make_unique<std::atomic<uint8_t>[]>(layout_->chunks);

  Dataset data;
  const std::span<std::byte> table =
      mapped_ ? mapped_->writable(layout_->documents, header_.documents * sizeof(Document))
              : std::span(reinterpret_cast<std::byte*>(copied_.get()) + layout_->documents, header_.documents * sizeof(Document));
  data.documents = {reinterpret_cast<Document*>(table.data()), header_.documents};
  data.tokens_ = reinterpret_cast<const int32_t*>(begin + kPreparedBody);
  data.trained_ = reinterpret_cast<const uint8_t*>(begin + layout_->trained);
  if (header_.has_labels) data.labels_ = reinterpret_cast<const int32_t*>(begin + layout_->labels);
  data.strings_ = {begin + layout_->strings, header_.string_bytes};
  data.file_ = self;
  data.vocab_size = int32_t(header_.vocab_size);
  data.max_tokens = int32_t(header_.max_tokens);
  read_facts(data, {begin + layout_->facts, header_.fact_bytes});

  int64_t at = 0;
  const auto tokens = int64_t(header_.tokens);
  for (const Document& d : data.documents) {
    require(d.begin >= at && d.begin <= tokens, "a document's beginning is out of range");
    require(d.length >= 1 && d.length <= data.max_tokens && d.length <= tokens - d.begin, "a document's length is out of range");
    require(d.prompt_tokens >= 0 && d.prompt_tokens <= d.length, "a prompt is longer than its document");
    require(d.target_tokens >= 0 && d.target_tokens < d.length, "a document's number of trained tokens is out of range");
    require(uint8_t(d.split) <= 1, "a split must be 0 or 1");
    require(d.question <= 1 && d.answer_trained <= 1 && d.reserved == 0, "a mark of a document must be 0 or 1");
    require(d.strings >= -1 && d.strings < int64_t(header_.string_bytes), "a document's texts are out of range");
    at = d.begin + d.length;
  }
  data.count_documents();
  return data;
}

void PreparedFile::read_facts(Dataset& data, std::string_view text) const {
  const Json json = parse_json(text, name_ + ": facts");
  if (!json.is_object()) bad_file("{}: the facts inside are no object; run `prepare` again", name_);
  const auto word = [&](const char* key, const std::vector<std::string_view>& names) {
    const std::string is = fact_text(json, key, name_);
    const auto found = std::find(names.begin(), names.end(), is);
    if (found == names.end()) bad_file("{}: the facts inside have an unknown \"{}\"; run `prepare` again", name_, key);
    return found - names.begin();
  };
  data.tokenizer_fingerprint = fact_text(json, "tokenizer", name_);
  data.template_name = fact_text(json, "template", name_);
  data.format = DataFormat(word("format", data_format_names()));
  data.train_on = TrainOn(word("train_on", train_on_names()));
  data.long_samples = LongSamples(word("long", long_samples_names()));
  const int64_t rules = fact_count(json, "rules", name_);
  require(rules == 1 || rules == 2, "rules must be 1 or 2");
  data.rules = SquadRules(rules);
  require(json.contains("unanswerable_trained") && json["unanswerable_trained"].is_boolean(),
          "unanswerable_trained must be true or false");
  data.unanswerable_trained = json["unanswerable_trained"].get<bool>();
  require(json.contains("report"), "there is no report");
  restore_report(data.report, json["report"], name_);
}

void PreparedFile::check(uint64_t begin, uint64_t bytes) {
  if (bytes == 0) return;
  const uint64_t first = (begin - kPreparedBody) / kPreparedChunk, last = (begin + bytes - 1 - kPreparedBody) / kPreparedChunk;
  for (uint64_t c = first; c <= last; ++c) {
    if (!checked_[c].load(std::memory_order_acquire)) check_chunk(c);
  }
}

void PreparedFile::check_tokens(const Document& d) {
  const auto begin = uint64_t(d.begin), length = uint64_t(d.length);
  check(kPreparedBody + begin * sizeof(int32_t), length * sizeof(int32_t));
  check(layout_->trained + begin / 8, (begin + length + 7) / 8 - begin / 8);
  if (header_.has_labels) check(layout_->labels + begin * sizeof(int32_t), length * sizeof(int32_t));
}

void PreparedFile::check_chunk(uint64_t chunk) {
  const uint64_t begin = kPreparedBody + chunk * kPreparedChunk;
  const uint64_t end = std::min(begin + kPreparedChunk, layout_->documents);
  if (checksums_[chunk] != XXH3_64bits(bytes_.data() + begin, end - begin)) {
    bad_file("{}: bytes {} to {} are damaged: their checksum does not match; run `prepare` again", name_, begin, end - 1);
  }
  const auto vocab_size = int32_t(header_.vocab_size);
  const auto values = [&](uint64_t from, uint64_t count) {
    const uint64_t first = std::max(from, begin), last = std::min(from + count * sizeof(int32_t), end);
    return first < last ? std::span(reinterpret_cast<const int32_t*>(bytes_.data() + first), (last - first) / sizeof(int32_t))
                        : std::span<const int32_t>();
  };
  for (const int32_t id : values(kPreparedBody, header_.tokens))
    require(id >= 0 && id < vocab_size, "a token id is not below vocab_size");
  for (const int32_t id : values(layout_->labels, header_.has_labels ? header_.tokens : 0)) {
    require(id == kNotTrained || (id >= 0 && id < vocab_size), "a label is neither -100 nor an id below vocab_size");
  }
  // What was read here alone is not resident memory any more.
  if (mapped_) mapped_->forget(begin, end - begin);
  checked_[chunk].store(1, std::memory_order_release);
}

DocumentTexts PreparedFile::texts(uint64_t offset) {
  constexpr std::string_view kRule = "the strings do not add up";
  const std::string_view all(reinterpret_cast<const char*>(bytes_.data() + layout_->strings), header_.string_bytes);
  uint32_t size;
  require(offset <= all.size() && all.size() - offset >= sizeof size, kRule);
  check(layout_->strings + offset, sizeof size);
  std::memcpy(&size, all.data() + offset, sizeof size);
  require(size <= all.size() - offset - sizeof size, kRule);
  check(layout_->strings + offset, sizeof size + size);
  std::optional<DocumentTexts> texts = read_texts(all.substr(offset, sizeof size + size));
  require(texts.has_value(), kRule);
  return std::move(*texts);
}

std::string dataset_bytes(const Dataset& data) {
  // In one piece, whatever lies between the documents now.
  std::vector<Document> documents(data.documents.begin(), data.documents.end());
  std::vector<int32_t> tokens, labels;
  std::vector<char> strings;
  for (Document& d : documents) {
    const std::span<const int32_t> ids = data.tokens_of(d);
    const std::vector<int32_t> trained = data.labels_of(d);
    if (d.strings >= 0) {
      const auto begin = int64_t(strings.size());
      append_texts(strings, data.texts_of(d));
      d.strings = begin;
    }
    d.begin = int64_t(tokens.size());
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    labels.insert(labels.end(), trained.begin(), trained.end());
  }
  std::vector<uint8_t> trained((tokens.size() + 7) / 8);
  bool differ = false;
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (labels[t] == tokens[t]) trained[t / 8] |= uint8_t(1 << t % 8);
    differ |= labels[t] != tokens[t] && labels[t] != kNotTrained;
  }
  const std::string facts = prepared_facts(data);
  PreparedHeader header = begin_header(data);
  header.has_labels = differ;
  header.documents = documents.size(), header.tokens = tokens.size();
  header.string_bytes = strings.size(), header.fact_bytes = facts.size();
  header.tokens_hash = data.tokens_hash();
  const PreparedLayout layout(header);

  std::string file(kPreparedBody, '\0');
  PreparedBody body([&](std::string_view bytes) { file += bytes; });
  const auto part = [&](uint64_t at, const auto& values) {
    body.pad(at);
    body.append(values.data(), values.size() * sizeof(values[0]));
  };
  part(kPreparedBody, tokens);
  part(layout.trained, trained);
  if (differ) part(layout.labels, labels);
  part(layout.strings, strings);
  body.pad(layout.documents);
  const auto append = [&](const auto& values) {
    file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  append(documents);
  append(body.finish());
  append(facts);
  header.table_checksum = XXH3_64bits(file.data() + layout.documents, file.size() - layout.documents);
  const std::string first = prepared_header(header);
  return file.replace(0, first.size(), first);
}

Dataset parse_dataset(std::string_view bytes, const std::string& name) { return PreparedFile::parse(bytes, name); }

}  // namespace tll
