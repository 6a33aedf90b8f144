// From a file of any format to a squad.bin, in bounded memory, on several threads. The result does not depend on their number.
//
// Threads take blocks of rows, and parse, render and tokenise them; the calling thread puts what they make in the order of the
// file (data/prepared_writer.h).
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "data/data_source.h"
#include "data/dataset.h"
#include "src/base/phase.h"

namespace tll {

// prepare_file() was ended by a signal, and what was done is in the directory `part`.
class StoppedInPart : public Stopped {
 public:
  StoppedInPart(const Stopped& stopped, std::filesystem::path directory) : Stopped(stopped), part(std::move(directory)) {}
  const std::filesystem::path part;
};

struct Prepared {
  PrepareReport report;
  std::string decision;       // which format was found, and which template is used
  int64_t source_bytes = 0;   // of text, uncompressed
  int64_t resumed_bytes = 0;  // of these an earlier run had prepared
};

// Writes OUTPUT, which appears complete or not at all. What is written until then stands in the directory OUTPUT.part. If the run
// ends early, by StoppedInPart, a full disk or a kill, the same call goes on from there, as long as source, options and tokenizer
// are the same; else it begins anew. Stopped alone: nothing was done. If OUTPUT is a pipe or a device, the file is sent there. A
// squad.bin is checked and copied. Errors as load_dataset; kExitUsage if another process is writing to OUTPUT.part. `save_every`:
// how often what is done is made safe against a kill.
Prepared prepare_file(const std::filesystem::path& path, const std::filesystem::path& output, const Tokenizer* tokenizer,
                      const PrepareOptions& options, std::chrono::milliseconds save_every = std::chrono::seconds(5));

int thread_count(const PrepareOptions& options);           // those that reading and tokenising take
bool is_prepared_file(const std::filesystem::path& path);  // whether it begins as a squad.bin does

// A data set of a source that is open. Its tokens are in memory, or in an unnamed temporary file if the source is large. `file`
// is its name in messages.
Dataset prepare_dataset(DataSource& source, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options);

}  // namespace tll
