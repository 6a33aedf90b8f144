// A data set as a stream of examples, in bounded memory: a file or a folder, compressed or not, in any format of data_options.h.
//
// Reading has two passes. Opening goes through all rows once, cheaply, to find their format: a row has the shape of its keys, and
// all rows must be of one format. Then blocks of rows are taken one after another, and parsed by any number of threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/data_options.h"
#include "data/example.h"
#include "data/metric.h"

namespace tll {

// What opening found.
struct SourceFacts {
  DataFormat format = DataFormat::kAuto;  // of the rows: never kAuto, kCsv or kParquet
  std::string decision;                   // for people: "messages: 1,200 rows of data.jsonl.gz have \"messages\""
  int64_t rows = 0;                       // lines, elements, or texts
  int64_t bytes = 0;                      // of the text, uncompressed
  std::vector<std::string> notes;
};

// Rows that stand one after another. Owns what it needs, so that it can go to another thread.
struct SourceBlock {
  std::string text;                // of the rows, in the form that parse() of this source knows
  std::vector<uint32_t> ends;      // of each row in `text`
  std::vector<std::string> where;  // of each row, or of the first one, if the others follow from it
  int64_t first_row = 0;           // counted from 0 over the whole source
  int64_t end_bytes = 0;           // of the source, uncompressed, up to the end of this block: progress, and where to go on
};

// What parsing notices, beside the examples. Blocks' findings add up in file order.
struct SourceFindings {
  int64_t offset_mismatches = 0;         // SQuAD: answers that are not at their answer_start
  int64_t unanswerable = 0;              // SQuAD: questions without an answer
  std::map<std::string, int64_t> notes;  // a note for people, with "{}" where its count goes
  std::vector<std::string> first;        // places, for notes
  void add(const SourceFindings& later);
};

class DataSource {
 public:
  // Error (kExitBadFile): there is no such file, it is none that is read (it says what it looks like and what is accepted), its
  // rows are of several formats (with the lines), or not of the one that --format says. `threads` look through the rows.
  static std::unique_ptr<DataSource> open(const std::filesystem::path& path, const PrepareOptions& options, int threads = 1);
  virtual ~DataSource() = default;

  const SourceFacts& facts() const { return facts_; }

  // The next rows, about a mebibyte; nothing at the end. One thread at a time.
  virtual std::optional<SourceBlock> next() = 0;
  // Goes to the place behind a block that had these end_bytes, and so many rows up to its end.
  virtual void seek(int64_t end_bytes, int64_t rows) = 0;
  // The examples of a block. Any thread. Error (kExitBadFile), with the place, for a row that is not as its format demands.
  virtual std::vector<Example> parse(const SourceBlock& block, SourceFindings& findings) const = 0;

 protected:
  SourceFacts facts_;
};

}  // namespace tll
