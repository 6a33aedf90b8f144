// A squad.bin that is written as its samples come, in bounded memory. Tokens go straight into the file; what follows them waits
// in parts of its own. When all samples are known, it is decided which are held out, and the parts are put behind the tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/held_out.h"
#include "data/part_file.h"
#include "data/squad_bin.h"
#include "data/tokenize.h"

namespace tll {

// A sample as the parts hold it, kept or not: its keys count for the split whatever becomes of it.
struct SampleRecord {
  GroupKeys keys;
  uint64_t id = 0;            // hash of its id; 0: it has none
  int64_t needed_tokens = 0;  // of TokenizedSample
  uint32_t documents = 0;     // that are its, among those that follow one another
  uint8_t evidence_lost = 0;  // 1: it is kept where it is held out alone
  uint8_t empty = 0, shortened = 0, end_lost = 0;
  uint64_t reserved_too = 0;
};
static_assert(sizeof(SampleRecord) == 48);

// Some samples that follow one another, as any thread makes them.
struct PreparedBlock {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> trained;  // one bit for each token
  std::vector<int32_t> labels;   // of all tokens, if one is neither its token nor kNotTrained; else empty
  std::vector<char> strings;
  std::vector<Document> documents;  // begin and strings as in this block
  std::vector<uint64_t> hashes;     // of each document
  std::vector<SampleRecord> samples;
  PrepareReport report;    // but for the samples with evidence_lost
  int32_t largest_id = 0;  // of tokens and labels

  void add(const Tokens& tokens, Document facts, int64_t texts);  // `texts`: where they begin in `strings`, or -1
};

class PreparedWriter {
 public:
  using MakePart = std::function<PartFile(const char* name)>;
  explicit PreparedWriter(const MakePart& make);
  void clear();  // or restore(), before anything else

  void append(const PreparedBlock& block);
  PrepareReport& report() { return report_; }
  uint64_t samples() { return samples_.size(); }
  int32_t largest_id() const { return largest_id_; }

  // Everything appended so far is on the disk; the answer says how to restore() it. Keeps small numbers only.
  Json save();
  // Cuts the parts back to what they were. False if they are shorter: then nothing is changed.
  bool restore(const Json& saved);

  // Completes the file. `data` has what is said of the whole: vocab_size, template and so on; its report is set here.
  void finish(Dataset& data, double valid_split);
  PartFile& file() { return file_; }  // the squad.bin

 private:
  uint64_t tokens() const { return (body_.end() - kPreparedBody) / sizeof(int32_t); }
  void begin_labels();
  static bool keeps(const SampleRecord& sample, const HeldOut& held_out);
  void count_repeated_ids(const HeldOut& held_out);

  MakePart make_;
  PartFile file_;
  PreparedBody body_;
  Part<uint8_t> trained_;
  PartFile strings_;
  Part<Document> documents_;
  Part<uint64_t> hashes_, checksums_;
  Part<SampleRecord> samples_;
  std::optional<Part<int32_t>> labels_;
  uint8_t last_bits_ = 0;  // of the byte of trained_ that is not complete
  PrepareReport report_;
  int32_t largest_id_ = 0;
};

}  // namespace tll
