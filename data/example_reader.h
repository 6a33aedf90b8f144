// From the rows of a format to examples.
#pragma once

#include <memory>
#include <vector>

#include "data/columns.h"
#include "data/data_source.h"
#include "data/place.h"

namespace tll {

// Reads the rows of one block. One thread at a time.
class ExampleReader {
 public:
  virtual ~ExampleReader() = default;
  // Error (kExitBadFile), with the place, for a row that is not as the format demands.
  virtual void read(const Place& row, std::vector<Example>& out) = 0;
  // What was noticed since the beginning.
  virtual SourceFindings findings() const = 0;
};

struct ExampleOptions {
  uint64_t seed = 42;
  int32_t vocab_size = 0;  // of ids; 0: any
  const Columns* columns = nullptr;
};

// `format` is one of rows: not auto, csv or parquet. `file` is the name in messages, and as `options` must live longer.
std::unique_ptr<ExampleReader> example_reader(DataFormat format, const ExampleOptions& options);

std::unique_ptr<ExampleReader> squad_reader(uint64_t seed);
std::unique_ptr<ExampleReader> token_row_reader(uint64_t seed, int32_t vocab_size);

// A conversation outside a data set: its list of messages, with the names, contents and weights that rows of the format messages
// may have. `file` is its name in messages to people. Error (kExitBadFile) if it is none.
std::vector<Message> read_messages(const Json& list, const std::string& file, SourceFindings& findings);

// Texts, which are no JSON: `file` is what the pieces of one file share.
Example text_example(std::string text, std::string where, std::string_view file, uint64_t seed);

}  // namespace tll
