#include "data/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <thread>

#include "data/data_file.h"
#include "data/prepared_writer.h"
#include "data/squad.h"
#include "data/squad_bin.h"
#include "data/template.h"
#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/base/units.h"

namespace tll {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int64_t kInMemory = int64_t{512} << 20;  // bytes of text: their tokens take about as many

// A squad.bin, checked against what it is to be used with.
Dataset checked(Dataset data, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options) {
  if (tokenizer && !data.tokenizer_fingerprint.empty() && data.tokenizer_fingerprint != tokenizer->fingerprint()) {
    bad_file("{}: prepared with another tokenizer ({}) than the model's ({}); run `prepare` again with this --model", file,
             data.tokenizer_fingerprint, tokenizer->fingerprint());
  }
  if (options.vocab_size > 0 && data.vocab_size > options.vocab_size) {
    bad_file("{}: holds token ids below {}, and the model has {}; run `prepare` again with this --model", file, data.vocab_size,
             options.vocab_size);
  }
  if (data.documents.empty()) bad_file("{}: there is no sample in this file", file);
  for (const Document& d : data.documents) {
    if (d.length > options.max_tokens && !options.any_length) {
      bad_file(
          "{}: document {} has {} tokens, more than --seq-len {}; give --seq-len {} or more, or run `prepare` again with this "
          "one",
          file, &d - data.documents.data(), d.length, options.max_tokens, data.max_tokens);
    }
  }
  data.set_tokenizer(tokenizer);
  return data;
}

void check_options(const PrepareOptions& options) {
  if (options.max_tokens < 2) fail(kExitUsage, "--seq-len must be at least 2, not {}", options.max_tokens);
  if (!(options.valid_split >= 0 && options.valid_split < 1)) {
    fail(kExitUsage, "--valid-split must be at least 0 and below 1, not {}", options.valid_split);
  }
}

// What is made of a block of rows.
struct MadeBlock {
  PreparedBlock prepared;
  SourceFindings findings;
  int64_t end_bytes = 0, end_rows = 0;  // of the source
  std::exception_ptr error;             // it cannot be made
};

// Makes samples of rows: the part that any thread does.
class BlockMaker {
 public:
  BlockMaker(const DataSource& source, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options)
      : source_(source), file_(file), tokenizer_(tokenizer), options_(options) {
    const DataFormat format = source.facts().format;
    of_text_ = format != DataFormat::kIds;
    if (of_text_ && !tokenizer) {
      bad_file("{}: {} need a tokenizer, and the model has none; give a directory with one by --model", file,
               format == DataFormat::kSquad ? "questions" : "texts");
    }
    if (options_.vocab_size <= 0) options_.vocab_size = tokenizer ? tokenizer->vocab_size() : 0;
    if (of_text_) choice_ = choose_template(format, options);
    template_ = template_options(choice_.name, options, tokenizer);
  }

  bool of_text() const { return of_text_; }
  const TemplateChoice& choice() const { return choice_; }
  int32_t vocab_size() const { return options_.vocab_size; }

  void make(const SourceBlock& block, MadeBlock& out) const {
    out.end_bytes = block.end_bytes;
    out.end_rows = block.first_row + int64_t(block.ends.size());
    for (Example& example : source_.parse(block, out.findings)) add(std::move(example), out.prepared);
  }

 private:
  Sample sample_of(Example example) const {
    try {
      return make_sample(std::move(example), template_);
    } catch (const Error& error) {
      throw Error(error.exit_code, fmt::format("{}: {}", file_, error.what()));
    }
  }

  // An error of the tokenizer names the sample.
  TokenizedSample tokenized_sample(Sample& sample) const {
    try {
      return tokenize_sample(sample, file_, tokenizer_, options_);
    } catch (const Error& error) {
      if (std::string_view(error.what()).starts_with(file_)) throw;
      throw Error(error.exit_code, fmt::format("{}: {}: {}", file_, sample.where, error.what()));
    }
  }

  void add(Example example, PreparedBlock& out) const {
    Sample sample = sample_of(std::move(example));
    SampleRecord record{.keys = {sample.group, sample.subgroup}};
    out.report.unanswerable_left_out += sample.left_out;
    if (!sample.left_out) add_documents(sample, record, out);
    out.samples.push_back(record);
  }

  void add_documents(Sample& sample, SampleRecord& record, PreparedBlock& out) const {
    const TokenizedSample tokenized = tokenized_sample(sample);
    // Whether it is kept depends on the split alone, which is not known yet.
    const bool depends = tokenized.evidence_lost && tokenized.refused.empty() && !tokenized.untrained_part;
    if (!depends && !count_sample(out.report, tokenized, Split::kValidation)) return;
    if (depends) {
      record.evidence_lost = 1;
      record.empty = tokenized.empty, record.shortened = tokenized.shortened, record.end_lost = tokenized.end_lost;
    }
    record.needed_tokens = tokenized.needed_tokens;
    record.documents = uint32_t(tokenized.documents.size());
    if (!sample.id.empty()) record.id = XXH3_64bits(sample.id.data(), sample.id.size()) | 1;
    out.report.unanswerable_trained += sample.question && sample.answers.empty() && options_.unanswerable == Unanswerable::kTrain;
    int64_t texts = -1;
    for (const Tokens& tokens : tokenized.documents) {
      // Ids of the tokenizer. Formats check the ids that they read.
      const int32_t largest = *std::max_element(tokens.ids.begin(), tokens.ids.end());
      if (of_text_ && largest >= options_.vocab_size) {
        bad_file("{}: {}: the tokenizer makes token id {}, and the model has ids below {}; they do not belong together", file_,
                 sample.where, largest, options_.vocab_size);
      }
      const Document facts{.prompt_tokens = tokens.prompt_tokens,
                           .question = sample.question,
                           .answer_trained = tokenizer_ && sample.answers.size() == 1 && tokens.prompt_tokens > 0 &&
                                             trained_answer(*tokenizer_, tokens.ids, tokens.labels, tokens.prompt_tokens) ==
                                                 trimmed(sample.answers[0])};
      if (facts.answer_trained) sample.answers.clear();
      // The documents that a text is divided into share its texts.
      if (texts < 0 && (!sample.id.empty() || !sample.title.empty() || !sample.answers.empty())) {
        texts = int64_t(out.strings.size());
        append_texts(out.strings, {std::move(sample.id), std::move(sample.title), std::move(sample.answers)});
      }
      out.add(tokens, facts, texts);
    }
  }

  const DataSource& source_;
  const std::string& file_;
  const Tokenizer* tokenizer_;
  PrepareOptions options_;
  bool of_text_ = false;
  TemplateChoice choice_;
  TemplateOptions template_;
};

// Blocks in the order of the source, made by several threads, of which each waits when it is too far ahead.
class BlockQueue {
 public:
  BlockQueue(DataSource& source, const BlockMaker& maker, int threads)
      : source_(source), maker_(maker), slots_(size_t(threads) + 2) {
    try {
      for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      if (threads_.empty()) fail(kExitFault, "no thread can be started; the machine has too many already");
    }
  }
  ~BlockQueue() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  // The next block; nothing at the end. Throws what its making threw. Calls `wait` several times a second until it is there.
  template <class Wait>
  std::optional<MadeBlock> next(Wait&& wait) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[taken_ % slots_.size()];
    while (!slot.ready) {
      if (taken_ == end_) return std::nullopt;
      changed_.wait_for(lock, std::chrono::milliseconds(100));
      lock.unlock();
      wait();
      lock.lock();
    }
    MadeBlock out = std::move(slot.block);
    slot = {};
    ++taken_;
    lock.unlock();
    changed_.notify_all();
    if (out.error) std::rethrow_exception(out.error);
    return out;
  }

 private:
  struct Slot {
    bool ready = false;
    MadeBlock block;
  };

  void work() {
    for (;;) {
      std::optional<SourceBlock> block;
      MadeBlock made;
      uint64_t number;
      {
        // One thread at a time reads, so that blocks have the order of the source.
        const std::lock_guard reading(reading_);
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [&] { return stopped_ || end_ != UINT64_MAX || given_ < taken_ + slots_.size(); });
          if (stopped_ || end_ != UINT64_MAX) return;
          number = given_++;
        }
        try {
          block = source_.next();
        } catch (...) {
          made.error = std::current_exception();
        }
        if (!block) {
          const std::lock_guard lock(mutex_);
          end_ = made.error ? number + 1 : number;
          changed_.notify_all();
        }
      }
      if (!block && !made.error) return;
      if (block) {
        try {
          maker_.make(*block, made);
        } catch (...) {
          made.error = std::current_exception();
        }
      }
      const std::lock_guard lock(mutex_);
      slots_[number % slots_.size()] = {true, std::move(made)};
      changed_.notify_all();
    }
  }

  DataSource& source_;
  const BlockMaker& maker_;
  std::mutex reading_, mutex_;  // the second is for what follows
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  uint64_t given_ = 0, taken_ = 0;  // blocks that threads, and then the calling thread, have taken
  uint64_t end_ = UINT64_MAX;       // how many there are, once that is known
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

Json findings_json(const SourceFindings& f) {
  Json notes = Json::object();
  for (const auto& [text, note] : f.notes) notes[text] = {note.count, note.more, note.first};
  return {{"offset_mismatches", f.offset_mismatches},
          {"unanswerable", f.unanswerable},
          {"notes", notes},
          {"unknown_keys", f.unknown_keys}};
}

SourceFindings findings_of(const Json& json) {
  SourceFindings f;
  f.offset_mismatches = json.at("offset_mismatches").get<int64_t>();
  f.unanswerable = json.at("unanswerable").get<int64_t>();
  for (const auto& [text, note] : json.at("notes").items()) {
    f.notes[text] = {note.at(0).get<int64_t>(), note.at(1).get<int64_t>(), note.at(2).get<std::string>()};
  }
  for (const auto& [key, count] : json.at("unknown_keys").items()) f.unknown_keys[key] = count.get<int64_t>();
  return f;
}

// Prepares a source into parts, from its begin or from where an earlier run was.
class Preparation {
 public:
  Preparation(DataSource& source, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options,
              const PreparedWriter::MakePart& make)
      : source_(source),
        file_(file),
        tokenizer_(tokenizer),
        options_(options),
        maker_(source, file, tokenizer, options),
        writer_(make) {}

  PreparedWriter& writer() { return writer_; }
  int64_t done_bytes() const { return bytes_; }
  std::string decision() const {
    const std::string template_name =
        maker_.of_text() ? fmt::format("; template {} ({})", template_names()[size_t(maker_.choice().name)], maker_.choice().why)
                         : "";
    return source_.facts().decision + template_name;
  }

  void begin() { writer_.clear(); }

  Json save() {
    return {{"bytes", bytes_}, {"rows", rows_}, {"findings", findings_json(findings_)}, {"written", writer_.save()}};
  }

  // False if the parts are not as `saved` says.
  bool restore(const Json& saved) {
    try {
      if (!writer_.restore(saved.at("written"))) return false;
      findings_ = findings_of(saved.at("findings"));
      bytes_ = saved.at("bytes").get<int64_t>();
      rows_ = saved.at("rows").get<int64_t>();
      if (rows_ > 0) source_.seek(bytes_, rows_);
    } catch (const nlohmann::json::exception&) {
      return false;
    } catch (const Error&) {
      return false;
    }
    return true;
  }

  // Calls `save_if_due` between blocks.
  template <class SaveIfDue>
  void run(SaveIfDue&& save_if_due) {
    const int64_t total = source_.facts().bytes;
    Phase phase("tokenising", total);
    phase.advance(bytes_);
    BlockQueue queue(source_, maker_, thread_count(options_));
    while (std::optional<MadeBlock> block = queue.next([&] { phase.advance(0); })) {
      writer_.append(block->prepared);
      findings_.add(block->findings);
      const int64_t more = block->end_bytes - bytes_;
      bytes_ = block->end_bytes, rows_ = block->end_rows;
      char text[96];
      const auto written = fmt::format_to_n(text, sizeof text, "{} of {}, {}", Bytes{bytes_}, Bytes{total},
                                            Counted{int64_t(writer_.samples()), "sample"});
      phase.describe({text, std::min(written.size, sizeof text)});
      save_if_due();
      phase.advance(more);
    }
  }

  // Completes the file. Error if there is nothing in it.
  PrepareReport finish() {
    if (writer_.samples() == 0) bad_file("{}: there is no sample in this file", file_);
    Dataset data;
    data.vocab_size = maker_.vocab_size() > 0 ? maker_.vocab_size() : 1 + writer_.largest_id();
    data.max_tokens = options_.max_tokens;
    if (maker_.of_text()) {
      data.tokenizer_fingerprint = tokenizer_->fingerprint();
      data.template_name = template_names()[size_t(maker_.choice().name)];
    }
    data.format = source_.facts().format;
    data.train_on = options_.train_on;
    data.long_samples = options_.long_samples;
    data.rules = findings_.unanswerable ? SquadRules::kV2 : SquadRules::kV1;
    data.unanswerable_trained = data.format == DataFormat::kSquad && options_.unanswerable == Unanswerable::kTrain;
    PrepareReport& report = writer_.report();
    report.offset_mismatches = findings_.offset_mismatches;
    report.file_notes = source_.facts().notes;
    std::string note = maker_.of_text() ? note_of_missing_marks(maker_.choice().name, *tokenizer_) : "";
    if (!note.empty()) report.file_notes.push_back(std::move(note));
    for (std::string& line : findings_.lines(file_)) report.file_notes.push_back(std::move(line));
    writer_.finish(data, options_.valid_split);
    if (data.report.samples == 0) {
      bad_file("{}: no sample is left to train on: {}", file_, data.report.left_out_text(options_.max_tokens));
    }
    return data.report;
  }

 private:
  DataSource& source_;
  const std::string& file_;
  const Tokenizer* tokenizer_;
  const PrepareOptions& options_;
  BlockMaker maker_;
  PreparedWriter writer_;
  SourceFindings findings_;
  int64_t bytes_ = 0, rows_ = 0;  // of the source that are written
};

// Names, sizes and times of the files of a source.
std::string source_identity(const fs::path& path, const fs::path& output) {
  std::vector<std::string> files;
  const auto add = [&](const fs::path& file) {
    struct stat s;
    if (::stat(file.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return;
    files.push_back(fmt::format("{} {} {}.{:09}", file.string(), s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec));
  };
  std::error_code failed;
  if (fs::is_directory(path, failed)) {
    fs::recursive_directory_iterator entry(path, fs::directory_options::skip_permission_denied, failed);
    for (; entry != fs::recursive_directory_iterator(); entry.increment(failed)) {
      const bool ours = is_part_of_output(entry->path()) || fs::equivalent(entry->path(), output, failed);
      if (ours && entry->is_directory(failed)) entry.disable_recursion_pending();
      if (!ours) add(entry->path());
    }
  } else {
    add(fs::absolute(path, failed));
  }
  std::sort(files.begin(), files.end());
  uint64_t hash = 0;
  for (const std::string& f : files) hash = XXH3_64bits_withSeed(f.data(), f.size(), hash);
  return fmt::format("{:016x}", hash);
}

// Of the code that makes samples: to be raised where a template, a mask or the tokenising of a text changes, so that no prepared
// file has two kinds of them.
constexpr int kBehaviour = 1;

// What must be the same for a run to go on where another ended.
Json identity(const fs::path& path, const fs::path& output, const Tokenizer* tokenizer, const PrepareOptions& o) {
  return {{"layout", 2},
          {"made_by", kBehaviour},
          {"source", source_identity(path, output)},
          {"tokenizer", tokenizer ? tokenizer->fingerprint() : ""},
          {"max_tokens", o.max_tokens},
          {"long", uint32_t(o.long_samples)},
          {"unanswerable", uint32_t(o.unanswerable)},
          {"valid_split", o.valid_split},
          {"seed", o.seed},
          {"allow_empty", o.allow_empty},
          {"vocab_size", o.vocab_size},
          {"format", uint32_t(o.format)},
          {"columns", o.columns},
          {"template", uint32_t(o.template_name)},
          {"model_template", o.model_template},
          {"system", o.system},
          {"date", o.template_date},
          {"train_on", uint32_t(o.train_on)},
          {"parse_special", o.parse_special}};
}

// OUTPUT.part, which one process at a time writes into.
class WorkDirectory {
 public:
  explicit WorkDirectory(const fs::path& path) : path_(path) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) bad_file("{}: cannot be created: {}", path.string(), error.message());
    lock_ = ::open((path / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock_ < 0) bad_file("{}: cannot be written: {}", path.string(), std::strerror(errno));
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      ::close(lock_);
      fail(kExitUsage, "{}: another process is writing here; wait for it, or name another --output", path.string());
    }
  }
  ~WorkDirectory() { ::close(lock_); }
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  PartFile part(const char* name) const { return PartFile::named(path_ / name); }
  fs::path operator/(const char* name) const { return path_ / name; }
  void remove() const {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  std::optional<Json> state() const {
    try {
      return parse_json(read_file(path_ / "state.json"), "");
    } catch (const Error&) {
      return std::nullopt;
    }
  }

 private:
  fs::path path_;
  int lock_ = -1;
};

// To a pipe or a device.
void send(PartFile& file, const fs::path& output) {
  AtomicFile out(output);
  file.read_all(0, [&](std::string_view bytes) { out.write(bytes); });
  out.commit();
}

Prepared copy_prepared(const fs::path& path, const fs::path& output, const Tokenizer* tokenizer, const PrepareOptions& options) {
  const std::string file = path.string();
  const Dataset data = checked(PreparedFile::open(path, file), file, tokenizer, options);
  data.check_all();
  const MappedFile mapped(path);
  AtomicFile out(output);
  out.write(mapped.bytes().data(), mapped.bytes().size());
  out.commit();
  return {.report = data.report,
          .decision = file + ": already prepared; checked and copied",
          .source_bytes = int64_t(mapped.bytes().size())};
}

}  // namespace

int thread_count(const PrepareOptions& options) {
  return options.threads > 0 ? options.threads : int(std::max(1u, std::thread::hardware_concurrency()));
}

bool is_prepared_file(const fs::path& path) {
  if (!fs::is_regular_file(path)) return false;
  char begin[8] = {};
  std::ifstream(path).read(begin, sizeof begin);
  return is_prepared({begin, sizeof begin});
}

Dataset prepare_dataset(DataSource& source, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options) {
  check_options(options);
  const bool large = source.facts().bytes > kInMemory;
  Preparation preparation(source, file, tokenizer, options,
                          [&](const char*) { return large ? PartFile::unnamed() : PartFile::in_memory(); });
  preparation.begin();
  preparation.run([] {});
  preparation.finish();
  Dataset data = PreparedFile::open(preparation.writer().file().path(), file);
  data.set_tokenizer(tokenizer);
  return data;
}

Prepared prepare_file(const fs::path& path, const fs::path& output, const Tokenizer* tokenizer, const PrepareOptions& options,
                      std::chrono::milliseconds save_every) {
  refuse_no_file(path);
  if (is_prepared_file(path)) return copy_prepared(path, output, tokenizer, options);
  check_options(options);
  std::error_code error;
  fs::path target = fs::weakly_canonical(output, error);  // follows links, so that the target is replaced
  if (error) target = output;
  const fs::file_status status = fs::status(target, error);
  if (fs::is_directory(status)) bad_file("{}: expected a file to write, found a directory", output.string());
  const std::string file = path.string();
  const std::unique_ptr<DataSource> source = DataSource::open(path, options, thread_count(options));
  Prepared out;
  out.source_bytes = source->facts().bytes;
  // What comes out of a pipe, or goes into one, cannot be gone on with.
  const bool resumable = fs::is_regular_file(path) || fs::is_directory(path);
  if (!resumable || (fs::exists(status) && !fs::is_regular_file(status))) {
    Preparation preparation(*source, file, tokenizer, options, [](const char*) { return PartFile::unnamed(); });
    out.decision = preparation.decision();
    preparation.begin();
    preparation.run([] {});
    out.report = preparation.finish();
    send(preparation.writer().file(), target);
    return out;
  }

  const WorkDirectory work(target.string() + ".part");
  try {
    Preparation preparation(*source, file, tokenizer, options, [&](const char* name) { return work.part(name); });
    out.decision = preparation.decision();
    // As text: a template or a name of a column may have bytes that are not UTF-8.
    const std::string is = json_text(identity(path, target, tokenizer, options));
    const std::optional<Json> state = work.state();
    if (state && state->is_object() && state->contains("identity") && json_text((*state)["identity"]) == is &&
        preparation.restore(*state)) {
      out.resumed_bytes = preparation.done_bytes();
    } else {
      preparation.begin();
    }
    const auto save = [&] {
      Json json = preparation.save();
      json["identity"] = parse_json(is, "");
      write_file_atomic(work / "state.json", json_text(json));
    };
    Clock::time_point saved = Clock::now();
    try {
      preparation.run([&] {
        if (Clock::now() - saved < save_every) return;
        save();
        saved = Clock::now();
      });
    } catch (const Stopped& stopped) {
      save();
      throw StoppedInPart(stopped, target.string() + ".part");
    }
    save();
    out.report = preparation.finish();
    preparation.writer().file().sync();
    fs::rename(work / "squad.bin", target);
    flush_directory(target.has_parent_path() ? target.parent_path() : fs::path("."));
  } catch (const Error& e) {
    // Of data that cannot be used nothing can be used later.
    if (e.exit_code == kExitBadFile) work.remove();
    throw;
  }
  work.remove();
  return out;
}

Dataset load_dataset(const fs::path& path, const Tokenizer* tokenizer, const PrepareOptions& options) {
  refuse_no_file(path);
  const std::string file = path.string();
  if (is_prepared_file(path)) return checked(PreparedFile::open(path, file), file, tokenizer, options);
  const std::unique_ptr<DataSource> source = DataSource::open(path, options, thread_count(options));
  return prepare_dataset(*source, file, tokenizer, options);
}

}  // namespace tll
