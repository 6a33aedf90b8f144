#include "data/prepared_writer.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "src/base/check.h"

namespace tll {

void PreparedBlock::add(const Tokens& t, Document facts, int64_t texts) {
  const size_t begin = tokens.size(), size = t.ids.size();
  facts.begin = int64_t(begin), facts.length = int32_t(size), facts.target_tokens = count_targets(t.labels);
  facts.strings = texts;
  tokens.insert(tokens.end(), t.ids.begin(), t.ids.end());
  trained.resize((tokens.size() + 7) / 8);
  bool differ = false;
  int32_t largest = largest_id;
  for (size_t i = 0; i < size; ++i) {
    const int32_t id = t.ids[i], label = t.labels[i];
    trained[(begin + i) / 8] |= uint8_t((label == id) << (begin + i) % 8);
    differ |= label != id && label != kNotTrained;
    largest = std::max({largest, id, label});
  }
  largest_id = largest;
  if (differ && labels.empty()) {
    for (size_t i = 0; i < begin; ++i) labels.push_back(trained[i / 8] >> i % 8 & 1 ? tokens[i] : kNotTrained);
  }
  if (differ || !labels.empty()) labels.insert(labels.end(), t.labels.begin(), t.labels.end());
  documents.push_back(facts);
  hashes.push_back(document_hash(t.ids, t.labels));
}

PreparedWriter::PreparedWriter(const MakePart& make)
    : make_(make),
      file_(make("squad.bin")),
      body_([this](std::string_view bytes) { file_.append(bytes.data(), bytes.size()); }),
      trained_(make("trained")),
      strings_(make("strings")),
      documents_(make("documents")),
      hashes_(make("hashes")),
      checksums_(make("checksums")),
      samples_(make("samples")) {}

void PreparedWriter::clear() {
  restore(Json{{"tokens", 0},
               {"trained", 0},
               {"strings", 0},
               {"documents", 0},
               {"samples", 0},
               {"checksums", 0},
               {"labels", false},
               {"largest_id", 0},
               {"report", report_facts({})}});
}

void PreparedWriter::append(const PreparedBlock& b) {
  const uint64_t first_token = tokens(), count = b.tokens.size();
  const auto first_string = int64_t(strings_.size());
  if (!b.labels.empty() && !labels_) begin_labels();
  body_.append(b.tokens.data(), count * sizeof(int32_t));
  const unsigned shift = first_token % 8;
  if (shift == 0) {
    const uint64_t whole = count / 8;
    trained_.append(b.trained.data(), whole);
    last_bits_ = count % 8 ? b.trained[whole] : 0;
  } else {
    std::vector<uint8_t> bytes;
    bytes.reserve(b.trained.size() + 1);
    uint64_t bits = shift;  // so many of last_bits_ are set
    for (size_t i = 0; i < b.trained.size(); ++i) {
      const uint64_t more = std::min<uint64_t>(8, count - i * 8);
      const unsigned both = unsigned(last_bits_) | unsigned(b.trained[i]) << bits;
      if (bits + more >= 8) {
        bytes.push_back(uint8_t(both));
        last_bits_ = uint8_t(both >> 8);
        bits = bits + more - 8;
      } else {
        last_bits_ = uint8_t(both);
        bits += more;
      }
      if (more < 8) break;
    }
    trained_.append(bytes.data(), bytes.size());
  }
  if (labels_ && !b.labels.empty()) labels_->append(b.labels.data(), b.labels.size());
  if (labels_ && b.labels.empty()) {
    for (size_t i = 0; i < count; ++i) labels_->append(b.trained[i / 8] >> i % 8 & 1 ? b.tokens[i] : kNotTrained);
  }
  strings_.append(b.strings.data(), b.strings.size());
  for (Document d : b.documents) {
    d.begin += int64_t(first_token);
    if (d.strings >= 0) d.strings += first_string;
    documents_.append(d);
  }
  hashes_.append(b.hashes.data(), b.hashes.size());
  samples_.append(b.samples.data(), b.samples.size());
  report_.add(b.report);
  largest_id_ = std::max(largest_id_, b.largest_id);
}

// Labels of their own are needed from here on: those of the tokens before follow from their bits.
void PreparedWriter::begin_labels() {
  labels_.emplace(make_("labels"));
  labels_->file().truncate(0);
  std::vector<uint8_t> bits;
  trained_.for_each([&](uint8_t byte) { bits.push_back(byte); });
  bits.push_back(last_bits_);
  uint64_t i = 0;
  const uint64_t count = tokens();
  file_.read_all(kPreparedBody, [&](std::string_view bytes) {
    const auto* ids = reinterpret_cast<const int32_t*>(bytes.data());
    for (size_t t = 0; t < bytes.size() / sizeof(int32_t) && i < count; ++t, ++i) {
      labels_->append(bits[i / 8] >> i % 8 & 1 ? ids[t] : kNotTrained);
    }
  });
}

Json PreparedWriter::save() {
  const std::vector<uint64_t>& sums = body_.checksums();
  checksums_.append(sums.data() + checksums_.size(), sums.size() - checksums_.size());
  for (PartFile* f :
       {&file_, &trained_.file(), &strings_, &documents_.file(), &hashes_.file(), &checksums_.file(), &samples_.file()})
    f->sync();
  if (labels_) labels_->file().sync();
  return {{"tokens", tokens()},
          {"trained", last_bits_},
          {"strings", strings_.size()},
          {"documents", documents_.size()},
          {"samples", samples_.size()},
          {"checksums", checksums_.size()},
          {"labels", labels_.has_value()},
          {"largest_id", largest_id_},
          {"report", report_facts(report_)}};
}

bool PreparedWriter::restore(const Json& s) {
  const auto number = [&](const char* key) { return s.at(key).get<uint64_t>(); };
  const uint64_t tokens = number("tokens"), documents = number("documents");
  const uint64_t end = kPreparedBody + tokens * sizeof(int32_t), chunks = (end - kPreparedBody) / kPreparedChunk;
  const bool labels = s.at("labels").get<bool>();
  labels_.reset();
  if (labels) labels_.emplace(make_("labels"));
  if (tokens > 0 && (file_.size() < end || trained_.size() < tokens / 8 || strings_.size() < number("strings") ||
                     documents_.size() < documents || hashes_.size() < documents || samples_.size() < number("samples") ||
                     checksums_.size() < chunks || number("checksums") != chunks || (labels && labels_->size() < tokens))) {
    return false;
  }
  file_.truncate(end);  // the header is written last
  trained_.file().truncate(tokens / 8);
  strings_.truncate(number("strings"));
  documents_.file().truncate(documents * sizeof(Document));
  hashes_.file().truncate(documents * sizeof(uint64_t));
  samples_.file().truncate(number("samples") * sizeof(SampleRecord));
  checksums_.file().truncate(chunks * sizeof(uint64_t));
  if (labels) labels_->file().truncate(tokens * sizeof(int32_t));
  last_bits_ = uint8_t(number("trained"));
  largest_id_ = int32_t(number("largest_id"));
  report_ = {};
  restore_report(report_, s.at("report"), file_.path().string());
  std::vector<uint64_t> sums(chunks);
  if (chunks) checksums_.file().read(0, sums.data(), chunks * sizeof(uint64_t));
  const uint64_t rest_at = kPreparedBody + chunks * kPreparedChunk;
  std::string rest(end - rest_at, '\0');
  if (!rest.empty()) file_.read(rest_at, rest.data(), rest.size());
  body_.restore(std::move(sums), rest);
  return true;
}

// Whose documents are kept.
bool PreparedWriter::keeps(const SampleRecord& sample, const HeldOut& held_out) {
  return sample.documents > 0 && (!sample.evidence_lost || held_out.contains(sample.keys));
}

// How many kept samples have the id of an earlier one, a range of their hashes after another.
void PreparedWriter::count_repeated_ids(const HeldOut& held_out) {
  constexpr uint64_t kMost = uint64_t{1} << 22;  // in memory at once
  const uint64_t ranges = 1 + samples_.size() / kMost, width = ranges == 1 ? 0 : UINT64_MAX / ranges + 1;
  uint64_t first = UINT64_MAX;  // document of the first sample that repeats one
  for (uint64_t range = 0; range < ranges; ++range) {
    std::vector<std::pair<uint64_t, uint64_t>> ids;  // the hash of an id, and the sample's first document
    uint64_t document = 0;
    samples_.for_each([&](const SampleRecord& s) {
      if (s.id && keeps(s, held_out) && (!width || s.id / width == range)) ids.push_back({s.id, document});
      document += s.documents;
    });
    std::sort(ids.begin(), ids.end());
    for (size_t i = 1; i < ids.size(); ++i) {
      if (ids[i].first != ids[i - 1].first) continue;
      ++report_.repeated_ids;
      first = std::min(first, ids[i].second);
    }
  }
  if (first == UINT64_MAX) return;
  Document d;
  documents_.file().read(first * sizeof d, &d, sizeof d);
  uint32_t size;
  strings_.read(uint64_t(d.strings), &size, sizeof size);
  std::string texts(sizeof size + size, '\0');
  strings_.read(uint64_t(d.strings), texts.data(), texts.size());
  report_.first_repeated_id = read_texts(texts)->id;
}

void PreparedWriter::finish(Dataset& data, double valid_split) {
  const HeldOut held_out = choose_held_out(valid_split, samples_.size(), [&](const std::function<void(const GroupKeys&)>& visit) {
    samples_.for_each([&](const SampleRecord& s) { visit(s.keys); });
  });

  PreparedHeader header = begin_header(data);
  header.tokens = tokens(), header.string_bytes = strings_.size(), header.has_labels = labels_.has_value();
  if (header.tokens % 8) trained_.append(last_bits_);
  PreparedLayout layout(header);  // of what is before the documents
  const auto append = [&](uint64_t at, PartFile& part) {
    body_.pad(at);
    part.read_all(0, [&](std::string_view bytes) { body_.append(bytes.data(), bytes.size()); });
  };
  append(layout.trained, trained_.file());
  if (labels_) append(layout.labels, labels_->file());
  append(layout.strings, strings_);
  body_.pad(layout.documents);

  // The documents, each with its split, behind the body. Their order is that of the samples.
  XXH3_state_t* const state = XXH3_createState();
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> owner(state, XXH3_freeState);
  XXH3_64bits_reset(state);
  const auto put = [&](const void* bytes, uint64_t count) {
    file_.append(bytes, count);
    XXH3_64bits_update(state, bytes, count);
  };
  Part<uint8_t> fates(make_("fates"));  // of each document: its split, or kDropped
  constexpr uint8_t kDropped = 2;
  fates.file().truncate(0);
  samples_.for_each([&](const SampleRecord& s) {
    const Split split = held_out.contains(s.keys) ? Split::kValidation : Split::kTrain;
    if (s.evidence_lost) {
      TokenizedSample sample;
      sample.empty = s.empty, sample.shortened = s.shortened, sample.end_lost = s.end_lost;
      sample.evidence_lost = true, sample.needed_tokens = s.needed_tokens;
      // It has no turns to leave out, and one answer, which is not blank: its other counts are 0.
      count_sample(report_, sample, split);
    }
    for (uint32_t d = 0; d < s.documents; ++d) fates.append(keeps(s, held_out) ? uint8_t(split) : kDropped);
  });
  uint64_t at = 0;
  std::vector<uint8_t> fate(1 << 16);
  std::vector<uint64_t> hashes(fate.size());
  int64_t train = 0;
  documents_.for_each([&](Document d) {
    const size_t i = at % fate.size();
    if (i == 0) {
      const uint64_t count = std::min<uint64_t>(fate.size(), fates.size() - at);
      fates.file().read(at, fate.data(), count);
      hashes_.file().read(at * sizeof(uint64_t), hashes.data(), count * sizeof(uint64_t));
    }
    ++at;
    if (fate[i] == kDropped) return;
    d.split = Split(fate[i]);
    put(&d, sizeof d);
    ++header.documents;
    header.tokens_hash = chained_hash(header.tokens_hash, hashes[i]);
    report_.tokens += d.length, report_.target_tokens += d.target_tokens;
    train += d.split == Split::kTrain;
  });
  report_.samples = int64_t(header.documents);
  report_.train_samples = train, report_.validation_samples = report_.samples - train;
  count_repeated_ids(held_out);
  data.report = report_;
  const std::vector<uint64_t>& sums = body_.finish();
  put(sums.data(), sums.size() * sizeof(uint64_t));
  const std::string facts = prepared_facts(data);
  put(facts.data(), facts.size());
  header.fact_bytes = facts.size();
  header.table_checksum = XXH3_64bits_digest(state);
  file_.flush();
  file_.write_at(0, prepared_header(header));
}

}  // namespace tll
