// Tokenised documents with labels: those of a squad.bin, or made from data of any format (data/data_source.h).
//
// Labels follow Hugging Face: labels[t] is the token to predict from the tokens before position t, or -100 if nothing is trained
// there. So labels[0] of a document never counts, and target_tokens counts labels[1..] != -100.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "data/metric.h"
#include "src/base/json.h"
#include "tokenizer/tokenizer.h"

namespace tll {

inline constexpr int32_t kNotTrained = -100;

enum class Split : uint8_t { kTrain = 0, kValidation = 1 };
// What became of the samples. `samples` are kept; refused and unanswerable_left_out are not among them.
struct PrepareReport {
  int64_t samples = 0, tokens = 0, target_tokens = 0;
  int64_t train_samples = 0, validation_samples = 0;
  int64_t truncated = 0;                   // kept, but shortened to max_tokens
  int64_t turns_left_out = 0;              // of conversations among them, to fit
  int64_t ends_lost = 0;                   // of these the last answer was cut, and has no end mark
  int64_t empty_answers = 0;               // blank, in samples that train other answers
  std::map<std::string, int64_t> refused;  // by reason: "too long", "answer cut off"
  int64_t unanswerable_left_out = 0, unanswerable_trained = 0;
  int64_t empty = 0;              // kept although they train nothing (allow_empty)
  int64_t offset_mismatches = 0;  // answers that are not at their answer_start
  int64_t repeated_ids = 0;       // samples with the id of an earlier one
  std::string first_repeated_id;
  // Not in json(), but kept in a squad.bin:
  std::vector<std::string> file_notes;   // of the format
  int64_t untrained_parts = 0;           // documents of packed rows that train nothing, left out
  int64_t shortest_refused = 0;          // tokens of the shortest sample that was refused
  void add(const PrepareReport& later);  // of samples that follow: the counts add up
  int64_t refused_total() const;
  Json json() const;                       // samples, tokens, target_tokens, truncated, refused and the rest
  std::vector<std::string> notes() const;  // for people: what was left out, shortened or odd; a line each
  std::string text() const;                // the counts, and the notes below
  // Why samples are left out, with counts, and what to do; "" if none is. `max_tokens` as in PrepareOptions.
  std::string left_out_text(int32_t max_tokens) const;
};

// A document, as a squad.bin holds it.
struct Document {
  int64_t begin = 0;          // its first token, counted over the data set
  int32_t length = 0;         // tokens, >= 1
  int32_t prompt_tokens = 0;  // those before the first trained one, which a generator is given; 0: there is none
  int32_t target_tokens = 0;
  Split split = Split::kTrain;
  uint8_t question = 0;        // 1: it can be scored: it has gold answers, or is known to have none
  uint8_t answer_trained = 0;  // 1: its only gold answer is what its first trained tokens decode to
  uint8_t reserved = 0;
  int64_t strings = -1;  // where id, title and other gold answers stand among the strings; -1: it has none
};
static_assert(sizeof(Document) == 32);

// Texts of a document.
struct DocumentTexts {
  std::string id = {}, title = {};        // may be empty
  std::vector<std::string> answers = {};  // gold answers without duplicates; of a question, empty: unanswerable
};

class PreparedFile;

// Tokens, labels and texts are owned, or are those of a squad.bin, which is mapped: its pages are read when they are touched, and
// checked then. So the accessors of a mapped data set may fail (kExitBadFile) where the file is damaged. They may be called by
// several threads at once. A data set can be moved, not copied.
class Dataset {
 public:
  std::span<Document> documents;                     // in file order. A change of a split stays in memory
  int32_t vocab_size = 0;                            // every id is below it
  int32_t max_tokens = 0;                            // no document is longer
  std::string tokenizer_fingerprint, template_name;  // empty: the ids came without
  DataFormat format = DataFormat::kAuto;             // of the rows; kAuto: not known
  TrainOn train_on = TrainOn::kAnswers;
  LongSamples long_samples = LongSamples::kCut;
  SquadRules rules = SquadRules::kV1;  // v2 if the file has unanswerable questions, kept or not
  bool unanswerable_trained = false;   // kNoAnswer stands for the empty answer
  PrepareReport report;

  std::span<const int32_t> tokens_of(const Document& d) const {
    if (file_) check(d);
    return {tokens_ + d.begin, size_t(d.length)};
  }
  std::span<const int32_t> prompt_of(const Document& d) const { return tokens_of(d).first(size_t(d.prompt_tokens)); }
  // Of position t: the token that is trained there, or kNotTrained. Call tokens_of() of the document before.
  int32_t label(const Document& d, int32_t t) const {
    const int64_t at = d.begin + t;
    if (labels_) return labels_[at];
    return trained_[at / 8] >> (at % 8) & 1 ? tokens_[at] : kNotTrained;
  }
  std::vector<int32_t> labels_of(const Document& d) const;
  std::string id_of(const Document& d) const;
  std::string title_of(const Document& d) const;
  // The only answer of a document may be what its trained tokens decode to: `tokenizer` decodes it.
  std::vector<std::string> answers_of(const Document& d, const Tokenizer* tokenizer) const;
  std::vector<std::string> answers_of(const Document& d) const { return answers_of(d, tokenizer_); }

  // Appends a document to a data set in memory: begin, length, target_tokens and strings of `facts` are set here.
  void add(std::span<const int32_t> tokens, std::span<const int32_t> labels, Document facts, const DocumentTexts& texts = {});
  // Checks all that is mapped.
  void check_all() const;
  // Which tokenizer decodes gold answers that are not stored. It must outlive the data set.
  void set_tokenizer(const Tokenizer* tokenizer) { tokenizer_ = tokenizer; }

  int64_t count(Split split) const;
  void count_documents();         // sets the report's samples, tokens, target_tokens, samples of each split and repeated ids
  uint64_t content_hash() const;  // of tokens, labels, lengths and splits: a resumed run checks it

 private:
  friend class PreparedFile;
  friend std::string dataset_bytes(const Dataset& dataset);
  void check(const Document& d) const;
  DocumentTexts texts_of(const Document& d) const;
  uint64_t tokens_hash() const;

  // Owned, unless file_ is set.
  std::vector<Document> own_documents_;
  std::vector<int32_t> own_tokens_, own_labels_;
  std::vector<uint8_t> own_trained_;
  std::vector<char> own_strings_;
  std::shared_ptr<PreparedFile> file_;

  const int32_t* tokens_ = nullptr;
  const uint8_t* trained_ = nullptr;  // a bit for each token, the lowest of a byte first: its label is the token itself
  const int32_t* labels_ = nullptr;   // null: the bits say all
  std::string_view strings_;
  const Tokenizer* tokenizer_ = nullptr;
};

// How many labels are trained. The first never counts.
int32_t count_targets(std::span<const int32_t> labels);

// Reads a squad.bin or data of any format, and tells by content which it is. `tokenizer` may be null for token ids, which are
// then checked against the model's vocab_size, and for squad.bin. It must outlive the data set. A squad.bin is mapped, and must
// not be written to meanwhile; one that was made with another tokenizer is refused. Errors (kExitBadFile) name the file and the
// line, or the place in the JSON.
Dataset load_dataset(const std::filesystem::path& path, const Tokenizer* tokenizer, const PrepareOptions& options);

// A squad.bin: layout in squad_bin.h. data/prepare.h writes one of any size.
std::string dataset_bytes(const Dataset& dataset);
// `bytes` is the whole file and `name` its name in messages. Error (kExitBadFile) unless every byte is as the layout says.
Dataset parse_dataset(std::string_view bytes, const std::string& name);
bool is_prepared(std::string_view bytes);  // whether they begin as a squad.bin does

// One sample with its trained part marked: «…» (and bold green with `color`). Control characters are made visible.
std::string show_text(const Dataset& dataset, int64_t index, const Tokenizer& tokenizer, bool color);
// {"index", "id", "title", "split", "tokens", "labels", "target_tokens", "prompt_tokens", "answers", "segments": [{"text",
// "trained"}]}
Json show_json(const Dataset& dataset, int64_t index, const Tokenizer& tokenizer);

}  // namespace tll
