// squad.bin, a data set as a file that is mapped in training: its layout, and how one is read. Little-endian. With N tokens and D
// documents:
//
//   offset 0     8 bytes  "TLLSQUAD"
//          8     u32      version, 2
//         12     u32      vocab_size: every id is below it
//         16     u32      max_tokens: no document is longer
//         20     u32      1: there are labels, else 0
//         24     u64      D
//         32     u64      N
//         40     u64      bytes of the strings
//         48     u64      bytes of the facts
//         56     u64      hash of the tokens and labels (Dataset::tokens_hash)
//         64     u64      XXH3-64 of everything behind the body
//         72              zeros
//       4088     u64      XXH3-64 of the bytes before it
//   the body, at 4096; each part begins at a multiple of 8, with zeros before it:
//              N x i32    tokens
//              N bits     trained: whether the label is the token itself, the lowest bit of a byte first
//              N x i32    labels, an id or -100; only if one of them is neither its token nor -100
//              bytes      strings. Of a document: u32 bytes of what follows; varints: bytes of its id, bytes of its title, number
//              of
//                         gold answers, bytes of each; the id, the title and the answers, UTF-8
//   behind the body, which is filled up to a multiple of 8:
//              D x 32     documents, in the order of their tokens (struct Document). Tokens may be left between them
//              C x u64    XXH3-64 of each mebibyte of the body
//              bytes      facts, JSON: tokenizer, template, format, what is trained, report
//
// Opening reads what is not the body. A mebibyte of the body is checked, its ids too, when a document in it is first used.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "src/base/file.h"

namespace tll {

struct PreparedHeader {
  char magic[8];
  uint32_t version, vocab_size, max_tokens, has_labels;
  uint64_t documents, tokens, string_bytes, fact_bytes, tokens_hash, table_checksum;
};
static_assert(sizeof(PreparedHeader) == 72);

inline constexpr uint64_t kPreparedBody = 4096;                // where the body begins
inline constexpr uint64_t kPreparedChunk = uint64_t{1} << 20;  // bytes of the body with a checksum of their own

// Where the parts begin.
struct PreparedLayout {
  explicit PreparedLayout(const PreparedHeader& header);
  bool fits = true;  // false: the sizes are larger than any file's, and nothing else is set
  uint64_t trained = 0, labels = 0, strings = 0, documents = 0, checksums = 0, facts = 0, end = 0;
  uint64_t chunks = 0;  // of the body
};

// The body of a squad.bin as it is written from its begin to its end, and the checksums of its chunks.
class PreparedBody {
 public:
  using Sink = std::function<void(std::string_view)>;
  explicit PreparedBody(Sink sink) : sink_(std::move(sink)) {}
  // To go on behind a body of which some was written: the checksums of its complete chunks, and the bytes behind those.
  void restore(std::vector<uint64_t> checksums, std::string_view rest);
  void append(const void* data, uint64_t bytes);
  void pad(uint64_t to);  // zeros up to this offset of the file, at most 7
  uint64_t end() const { return kPreparedBody + bytes_; }
  const std::vector<uint64_t>& checksums() const { return checksums_; }  // of the chunks that are complete
  const std::vector<uint64_t>& finish();                                 // of all; nothing can be appended any more

 private:
  Sink sink_;
  std::string chunk_;  // the bytes of the chunk that is not complete
  std::vector<uint64_t> checksums_;
  uint64_t bytes_ = 0;
};

// Appends the texts of a document to the strings.
void append_texts(std::vector<char>& strings, const DocumentTexts& texts);
// The texts that `strings` begins with; nothing if they are not as the layout says.
std::optional<DocumentTexts> read_texts(std::string_view strings);
// The hash of a data set's tokens: from 0, it is chained with that of each document.
uint64_t document_hash(std::span<const int32_t> tokens, std::span<const int32_t> labels);
uint64_t chained_hash(uint64_t before, uint64_t next);
// The text of the trained tokens behind the prompt, up to the first one that is not trained, without special tokens and blanks
// around it.
std::string trained_answer(const Tokenizer& tokenizer, std::span<const int32_t> tokens, std::span<const int32_t> labels,
                           int32_t prompt_tokens);
// A report as JSON with all its members, and back. Error (kExitBadFile), with the name of the file, if one is missing.
Json report_facts(const PrepareReport& report);
void restore_report(PrepareReport& report, const Json& json, const std::string& file);
// The facts of a data set as the file holds them.
std::string prepared_facts(const Dataset& dataset);
// The bytes before the body.
std::string prepared_header(const PreparedHeader& header);
// A header without sizes and sums.
PreparedHeader begin_header(const Dataset& dataset);

// A squad.bin that is open. Any thread may use it.
class PreparedFile {
 public:
  // Error (kExitBadFile) unless header, documents and facts are as the layout says.
  static Dataset open(const std::filesystem::path& path, const std::string& name);
  // `bytes` are copied, and checked whole.
  static Dataset parse(std::string_view bytes, const std::string& name);

  // Checks the chunks that are needed and have not been checked. Error (kExitBadFile).
  void check_tokens(const Document& d);
  DocumentTexts texts(uint64_t offset);  // those that begin there among the strings
  uint64_t chunks() const { return layout_->chunks; }
  void check_chunk(uint64_t chunk);
  uint64_t tokens_hash() const { return header_.tokens_hash; }

 private:
  explicit PreparedFile(std::string name) : name_(std::move(name)) {}
  void require(bool good, std::string_view rule) const;
  void read_header();
  Dataset read_tables(const std::shared_ptr<PreparedFile>& self);
  void read_facts(Dataset& data, std::string_view text) const;
  void check(uint64_t begin, uint64_t bytes);  // of the file

  std::string name_;
  std::optional<MappedFile> mapped_;
  std::unique_ptr<uint64_t[]> copied_;
  std::span<const std::byte> bytes_;
  PreparedHeader header_{};
  std::optional<PreparedLayout> layout_;
  const uint64_t* checksums_ = nullptr;
  std::unique_ptr<std::atomic<uint8_t>[]> checked_;  // of each chunk: 1
};

}  // namespace tll
