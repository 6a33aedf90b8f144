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
  std::vector<std::string> where;  // of each row: "line 7", "data[3]", in a folder "sub/a.jsonl: line 7"
  std::string file;                // in a folder: its name, relative to it
  bool plain = false;              // the rows are texts, and no JSON
  int64_t first_row = 0;           // counted from 0 over the whole source
  int64_t end_bytes = 0;           // of the source, uncompressed, up to the end of this block: progress, and where to go on
};

// What parsing notices, beside the examples. Blocks' findings add up in file order.
struct SourceFindings {
  int64_t offset_mismatches = 0;  // SQuAD: answers that are not at their answer_start
  int64_t unanswerable = 0;       // SQuAD: questions without an answer
  struct Note {
    int64_t count = 0, more = 0;
    std::string first;  // place
  };
  std::map<std::string, Note> notes;            // by their text, in which {0}, {1} and {2} stand for the members
  std::map<std::string, int64_t> unknown_keys;  // keys that are ignored, and how often they were met

  void note(const char* text, int64_t count, int64_t more, const std::string& first);
  void add(const SourceFindings& later);
  // For people, a line each: the notes and the keys. `file` is the name in front of the latter.
  std::vector<std::string> lines(const std::string& file) const;
};

struct ReadLimits {
  size_t block_bytes = size_t(1) << 20;  // a block ends with the row that reaches it
  size_t row_bytes = size_t(1) << 30;    // a longer row is refused
};

class DataSource {
 public:
  // Error (kExitBadFile): there is no such file, it is none that is read (it says what it looks like and what is accepted), its
  // rows are of several formats (with the lines), or not of the one that --format says; (kExitUsage) --columns names what is not
  // there. `threads` look through the rows. A pipe is copied to a temporary file, since it is read twice.
  static std::unique_ptr<DataSource> open(const std::filesystem::path& path, const PrepareOptions& options, int threads = 1,
                                          const ReadLimits& limits = {});
  virtual ~DataSource() = default;

  const SourceFacts& facts() const { return facts_; }

  // The next rows, about a mebibyte; nothing at the end. One thread at a time.
  virtual std::optional<SourceBlock> next() = 0;
  // Goes to the place behind a block that had these end_bytes, and so many rows up to its end; 0, 0: to the beginning.
  virtual void seek(int64_t end_bytes, int64_t rows) = 0;
  // The examples of a block. Any thread. Error (kExitBadFile), with the place, for a row that is not as its format demands.
  virtual std::vector<Example> parse(const SourceBlock& block, SourceFindings& findings) const = 0;

 protected:
  SourceFacts facts_;
};

}  // namespace tll
