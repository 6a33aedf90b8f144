#include "data/data_source.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "data/columns.h"
#include "data/csv.h"
#include "data/data_file.h"
#include "data/example_reader.h"
#include "data/json_row.h"
#include "data/row_kind.h"
#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/units.h"
#include "tokenizer/utf8.h"

namespace tll {

void SourceFindings::note(const char* text, int64_t count, int64_t more, const std::string& first) {
  Note& n = notes[text];
  if (n.count == 0) n.first = first;
  n.count += count;
  n.more += more;
}

void SourceFindings::add(const SourceFindings& later) {
  constexpr size_t kMostKeys = 1000;
  offset_mismatches += later.offset_mismatches;
  unanswerable += later.unanswerable;
  for (const auto& [text, n] : later.notes) note(text.c_str(), n.count, n.more, n.first);
  for (const auto& [key, times] : later.unknown_keys) {
    if (unknown_keys.size() < kMostKeys || unknown_keys.contains(key)) unknown_keys[key] += times;
  }
}

std::vector<std::string> SourceFindings::lines(const std::string& file) const {
  std::vector<std::string> out = unknown_key_notes(unknown_keys, file);
  for (const auto& [text, n] : notes) out.push_back(fmt::format(fmt::runtime(text), n.count, n.more, n.first));
  return out;
}

namespace {

// How many rows have one shape, and the first of them.
struct ShapeCount {
  RowShape shape = {};  // columns renamed
  bool object = true;   // false: the rows are no objects, but
  std::string found = {};
  int64_t rows = 0, first_row = 0;
  std::string where = {};
};

// The shapes of the rows that one thread saw.
class ShapeCounts {
 public:
  explicit ShapeCounts(const Columns* columns) : columns_(columns) {}

  void add(const SourceBlock& block, const std::string& file) {
    size_t begin = 0;
    for (size_t i = 0; i < block.ends.size(); ++i) {
      const std::string_view row = std::string_view(block.text).substr(begin, block.ends[i] - begin);
      begin = block.ends[i];
      add_row(row, block.first_row + int64_t(i), block.where[i], file);
    }
  }
  void add(const ShapeCount& count) {
    const auto same = [&](const ShapeCount& c) {
      return c.shape == count.shape && c.object == count.object && c.found == count.found;
    };
    const auto found = std::find_if(counts.begin(), counts.end(), same);
    if (found == counts.end()) {
      counts.push_back(count);
      return;
    }
    found->rows += count.rows;
    if (count.first_row < found->first_row) found->first_row = count.first_row, found->where = count.where;
  }

  std::vector<ShapeCount> counts;
  std::vector<std::string> keys;  // of the data

 private:
  void add_row(std::string_view row, int64_t index, const std::string& where, const std::string& file) {
    const std::optional<uint64_t> hash = scanner_.scan(row);
    RowShape shape;
    if (hash) {
      const auto known = by_hash_.find(*hash);
      if (known != by_hash_.end()) {
        ++counts[known->second].rows;
        return;
      }
      shape = scanner_.shape();
    } else {
      const Json value = parse_row(row, file + ": " + where);
      if (!value.is_object()) {
        add({.object = false,
             .found = value.is_array() ? "a list" : shown(value).substr(0, 60),
             .rows = 1,
             .first_row = index,
             .where = where});
        return;
      }
      shape = shape_of(value);
    }
    constexpr size_t kMostKeys = 1000, kMostShapes = 2000;
    for (const auto& [key, kind] : shape) {
      if (keys.size() < kMostKeys && std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
    shape = columns_->renamed(std::move(shape));
    // Of many shapes only that is kept which tells their format.
    if (counts.size() >= kMostShapes) {
      std::erase_if(shape, [](const auto& member) { return !tells_kind(member.first); });
      std::sort(shape.begin(), shape.end());
    }
    const size_t before = counts.size();
    add({.shape = std::move(shape), .rows = 1, .first_row = index, .where = where});
    if (hash && counts.size() > before) by_hash_.emplace(*hash, before);
  }

  const Columns* columns_;
  ShapeScanner scanner_;
  std::unordered_map<uint64_t, size_t> by_hash_;
};

// Threads that look through blocks. The error of the first row that has one is thrown.
class Scan {
 public:
  Scan(int threads, const Columns* columns, std::string file) : file_(std::move(file)) {
    for (int t = 0; t < std::max(1, threads); ++t) counts_.emplace_back(columns);
    if (threads <= 1) return;
    threads_.reserve(counts_.size());
    try {
      for (ShapeCounts& counts : counts_) threads_.emplace_back([this, &counts] { work(counts); });
    } catch (const std::system_error&) {
      // Those that could be started do the work; without any, add() does it.
    }
  }
  ~Scan() { end(); }
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  void add(SourceBlock block) {
    if (threads_.empty()) {
      counts_[0].add(block, file_);
      return;
    }
    std::unique_lock lock(mutex_);
    free_.wait(lock, [&] { return queue_.size() < 2 * threads_.size() || error_; });
    if (error_) {
      lock.unlock();
      end();
      std::rethrow_exception(error_);
    }
    queue_.push_back(std::move(block));
    ready_.notify_one();
  }

  ShapeCounts finish() {
    end();
    if (error_) std::rethrow_exception(error_);
    for (size_t t = 1; t < counts_.size(); ++t) {
      for (const ShapeCount& count : counts_[t].counts) counts_[0].add(count);
      std::vector<std::string>& keys = counts_[0].keys;
      for (std::string& key : counts_[t].keys) {
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
      }
    }
    const auto earlier = [](const ShapeCount& a, const ShapeCount& b) { return a.first_row < b.first_row; };
    std::sort(counts_[0].counts.begin(), counts_[0].counts.end(), earlier);
    std::sort(counts_[0].keys.begin(), counts_[0].keys.end());
    return std::move(counts_[0]);
  }

 private:
  void work(ShapeCounts& counts) {
    for (;;) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [&] { return !queue_.empty() || ended_; });
      if (queue_.empty()) return;
      const SourceBlock block = std::move(queue_.front());
      queue_.pop_front();
      free_.notify_one();
      lock.unlock();
      try {
        counts.add(block, file_);
      } catch (...) {
        lock.lock();
        if (!error_ || block.first_row < error_row_) error_ = std::current_exception(), error_row_ = block.first_row;
        free_.notify_one();
      }
    }
  }
  void end() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    ready_.notify_all();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  std::string file_;
  std::deque<ShapeCounts> counts_;  // of each thread
  std::mutex mutex_;
  std::condition_variable ready_, free_;
  std::deque<SourceBlock> queue_;
  bool ended_ = false;
  std::exception_ptr error_;
  int64_t error_row_ = 0;
  std::vector<std::thread> threads_;
};

class FileSource : public DataSource {
 public:
  FileSource(const std::filesystem::path& path, const PrepareOptions& options, int threads, const ReadLimits& limits)
      : path_(path.string()),
        options_(options),
        columns_(options.columns),
        limits_(limits),
        files_(find_data_files(path, options)) {
    facts_.notes = files_.notes;
    look_through(threads);
    seek(0, 0);
  }

  std::optional<SourceBlock> next() override {
    while (file_ < files_.files.size()) {
      DataFile& file = files_.files[file_];
      if (!reader_) reader_ = open_rows(file, {}, limits_.row_bytes, nullptr);
      SourceBlock block = read_block(file);
      if (!block.ends.empty()) return block;
      const RowPosition end = reader_->position();
      if (end.bytes != file.bytes || end.row != file.rows) {
        bad_file("{}: the file has changed while it was read: it had {} rows, and has {}", file.label, file.rows, end.row);
      }
      reader_.reset();
      ++file_;
    }
    return std::nullopt;
  }

  void seek(int64_t end_bytes, int64_t rows) override {
    const auto behind = [&](const Mark& mark) { return mark.rows > rows; };
    const auto mark = std::find_if(marks_.begin(), marks_.end(), behind) - 1;
    file_ = mark->file;
    failed_ = nullptr;
    reader_.reset();
    if (file_ == files_.files.size()) return;
    const DataFile& file = files_.files[file_];
    reader_ = open_rows(file, mark->position, limits_.row_bytes, nullptr);
    std::string row;
    while (file.first_row + reader_->position().row < rows && reader_->next(row)) row.clear();
    const RowPosition at = reader_->position();
    const bool right = file.first_row + at.row == rows && (at.row == 0 || file.first_byte + at.bytes == end_bytes);
    if (!right) bad_file("{}: row {} does not end at byte {}; has the file changed?", file.label, rows, end_bytes);
  }

  std::vector<Example> parse(const SourceBlock& block, SourceFindings& findings) const override {
    std::vector<Example> out;
    out.reserve(block.ends.size());
    const std::unique_ptr<ExampleReader> reader =
        example_reader(facts_.format, {.seed = options_.seed, .vocab_size = options_.vocab_size, .columns = &columns_});
    size_t begin = 0;
    for (size_t i = 0; i < block.ends.size(); ++i) {
      const std::string_view row = std::string_view(block.text).substr(begin, block.ends[i] - begin);
      begin = block.ends[i];
      if (block.plain) {
        out.push_back(text_example(std::string(row), block.where[i], block.file, options_.seed));
        continue;
      }
      Json value = parse_row(row, path_ + ": " + block.where[i]);
      columns_.rename(value);
      reader->read({value, path_, block.where[i]}, out);
    }
    findings.add(reader->findings());
    return out;
  }

 private:
  // Where reading can go on.
  struct Mark {
    int64_t rows;
    size_t file;
    RowPosition position = {};
  };

  SourceBlock read_block(const DataFile& file) {
    SourceBlock block{.text = {}, .ends = {}, .where = {}, .file = file.name, .plain = file.plain()};
    block.first_row = file.first_row + reader_->position().row;
    if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    while (block.text.size() < limits_.block_bytes && next_row(block)) {
      block.ends.push_back(uint32_t(block.text.size()));
      block.where.push_back(file.name.empty() ? reader_->where() : file.name + ": " + reader_->where());
    }
    block.end_bytes = file.first_byte + reader_->position().bytes;
    return block;
  }

  // The rows before one that cannot be read still make a block, so that what is wrong with them is told first.
  bool next_row(SourceBlock& block) {
    const size_t before = block.text.size();
    try {
      if (!reader_->next(block.text)) return false;
      // SourceBlock::ends has 32 bits.
      if (block.text.size() > UINT32_MAX) {
        bad_file("{}: {}: this row is longer than {}", path_, reader_->where(), Bytes{int64_t(UINT32_MAX - before)});
      }
      return true;
    } catch (const Error&) {
      if (block.ends.empty()) throw;
      block.text.resize(before);
      failed_ = std::current_exception();
      return false;
    }
  }

  // The first pass: over all rows, to find their format.
  void look_through(int threads) {
    constexpr int64_t kMarkBytes = int64_t(64) << 20;
    Scan scan(threads, &columns_, path_);
    Phase phase("looking through the data", files_.bytes);
    UnknownKeys beside_data({"data"});
    int64_t divided = 0;
    try {
      for (file_ = 0; file_ < files_.files.size(); ++file_) {
        DataFile& file = files_.files[file_];
        file.first_row = facts_.rows, file.first_byte = facts_.bytes;
        marks_.push_back({facts_.rows, file_});
        Json beside = Json::object();
        reader_ = open_rows(file, {}, limits_.row_bytes, &beside);
        for (int64_t consumed = 0, marked = 0;;) {
          SourceBlock block = read_block(file);
          if (block.ends.empty()) break;
          phase.advance(reader_->consumed() - consumed);
          consumed = reader_->consumed();
          if (const RowPosition at = reader_->position(); at.bytes - marked >= kMarkBytes) {
            marks_.push_back({file.first_row + at.row, file_, at});
            marked = at.bytes;
          }
          if (block.plain) {
            check_texts(block);
          } else {
            scan.add(std::move(block));
          }
        }
        constexpr std::string_view kHarmless[] = {"version"};
        beside["data"] = nullptr;  // the list itself, so that no key is taken for it
        beside_data.meet(beside, file.label, kHarmless);
        const RowPosition end = reader_->position();
        file.rows = end.row, file.bytes = end.bytes;
        facts_.rows += end.row, facts_.bytes += end.bytes;
        plain_rows_ += file.plain() ? end.row : 0;
        divided += file.plain() && end.row > 1;
        if (const TableHeader* header = reader_->header()) file.header = *header;
        reader_.reset();
      }
    } catch (const Error&) {
      scan.finish();  // an earlier row may have an error, too
      throw;
    }
    marks_.push_back({facts_.rows, files_.files.size()});
    for (std::string& note : beside_data.notes(path_)) facts_.notes.push_back(std::move(note));
    if (divided) {
      facts_.notes.push_back(fmt::format("{}: {} longer than {}, divided at ends of lines into {} texts", path_,
                                         Counted{divided, "file"}, Bytes{kTextBytes}, Count{plain_rows_}));
    }
    decide(scan.finish());
  }

  void check_texts(const SourceBlock& block) const {
    size_t begin = 0;
    for (size_t i = 0; i < block.ends.size(); ++i) {
      const std::string_view text = std::string_view(block.text).substr(begin, block.ends[i] - begin);
      if (const size_t at = find_invalid_utf8(text); at != text.npos) refuse_encoding(text, at, block.where[i]);
      begin = block.ends[i];
    }
  }

  [[noreturn]] void refuse_encoding(std::string_view text, size_t at, const std::string& where) const {
    const std::string_view before = text.substr(0, at);
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
    const size_t number = where.rfind(' ') + 1;        // of the line where the text begins
    const int64_t line = std::stoll(where.substr(number)) + std::count(before.begin(), before.end(), '\n');
    bad_file(
        "{}: {}{}, byte {}: found the byte 0x{:02X}, which is not UTF-8; save the file as UTF-8, such as with `iconv -f "
        "WINDOWS-1252 -t UTF-8`",
        path_, where.substr(0, number), line, at - line_begin, uint8_t(text[at]));
  }

  void decide(ShapeCounts found) {
    if (facts_.rows == 0) bad_file("{}: there is no sample in this file{}", path_, files_.files.empty() ? "" : ", only blanks");
    columns_.check(found.keys);
    const bool forced =
        options_.format != DataFormat::kAuto && options_.format != DataFormat::kCsv && options_.format != DataFormat::kParquet;
    for (const ShapeCount& count : found.counts) {
      if (!count.object)
        bad_file("{}: {}: expected an object, found {}; expected {}", path_, count.where, count.found, kReadable);
    }
    facts_.format = forced ? force(found.counts) : choose(found.counts);
    facts_.decision = decision(forced);
  }

  DataFormat force(const std::vector<ShapeCount>& counts) const {
    const DataFormat format = options_.format;
    const std::string_view name = data_format_names()[size_t(format)];
    if (plain_rows_ && format != DataFormat::kText) {
      bad_file("{}: this is plain text, and --format {} expects rows with {}", path_, name, needs_of(format));
    }
    for (const ShapeCount& count : counts) {
      if (fits_format(format, count.shape)) continue;
      bad_file("{}: {}: --format {} needs {}, and this row has {}{}", path_, count.where, name, needs_of(format),
               keys_text(count.shape), columns_.empty() ? "; --columns FIELD=NAME gives fields other names" : "");
    }
    return format;
  }

  DataFormat choose(const std::vector<ShapeCount>& counts) const {
    struct Kind {
      RowKind kind;
      int64_t rows = 0;
      std::string where, keys;
      RowShape shape;
    };
    std::vector<Kind> kinds;
    for (const ShapeCount& count : counts) {
      RowKind kind = kind_of_row(count.shape);
      const auto same = [&](const Kind& k) {
        return k.kind.format == kind.format && (kind.format != DataFormat::kAuto || k.kind.what == kind.what);
      };
      auto known = std::find_if(kinds.begin(), kinds.end(), same);
      if (known == kinds.end()) {
        known = kinds.insert(kinds.end(), {std::move(kind), 0, count.where, keys_text(count.shape), count.shape});
      }
      known->rows += count.rows;
    }
    if (plain_rows_) {
      const auto text =
          std::find_if(kinds.begin(), kinds.end(), [](const Kind& k) { return k.kind.format == DataFormat::kText; });
      if (text == kinds.end()) {
        const auto plain = std::find_if(files_.files.begin(), files_.files.end(), [](const DataFile& f) { return f.plain(); });
        kinds.push_back({{DataFormat::kText, "plain text", ""}, plain_rows_, plain->name, "", {}});
      }
    }
    if (kinds.size() == 1 && kinds[0].kind.format != DataFormat::kAuto) return kinds[0].kind.format;
    if (kinds.size() > 1) refuse_mixture(kinds);
    const Kind& only = kinds[0];
    if (!only.kind.what.empty()) {
      bad_file("{}: this looks like {}; expected {}; {}", path_, only.kind.what, kReadable, only.kind.advice);
    }
    UnknownKeys near_miss({"input_ids", "data", "paragraphs", "context", "question", "answers", "messages", "conversations",
                           "instruction", "response", "prompt", "completion"});
    const std::string where = path_ + ": " + only.where;
    const auto has = [&](std::string_view key) {
      return std::any_of(only.shape.begin(), only.shape.end(), [&](const auto& member) { return member.first == key; });
    };
    for (const auto& [key, kind] : only.shape) near_miss.meet(key, where, has);
    bad_file("{}: {}: the first row has {}; expected {}; names of columns are given by --columns FIELD=NAME", path_, only.where,
             only.keys, kReadable);
  }

  template <class Kinds>
  [[noreturn]] void refuse_mixture(const Kinds& kinds) const {
    constexpr size_t kShown = 4;
    std::vector<std::string> parts;
    for (size_t i = 0; i < std::min(kinds.size(), kShown); ++i) {
      const auto& k = kinds[i];
      const std::string what = k.kind.what.empty() ? "rows with " + k.keys : k.kind.what;
      parts.push_back(fmt::format("{} ({}, the first is {})", what, Counted{k.rows, "row"}, k.where));
    }
    if (kinds.size() > kShown) parts.push_back("...");
    bad_file("{}: rows of several formats: {}; write each format to a file of its own, or force one by --format", path_,
             fmt::join(parts, "; "));
  }

  std::string decision(bool forced) const {
    const std::string_view name = data_format_names()[size_t(facts_.format)];
    const std::string by = forced ? " (--format)" : "";
    std::vector<std::string> containers;
    for (const DataFile& file : files_.files) {
      std::string kind = file.kind();
      if (std::find(containers.begin(), containers.end(), kind) == containers.end()) containers.push_back(std::move(kind));
    }
    const std::string of = files_.folder ? fmt::format("{} of {}", Counted{int64_t(files_.files.size()), "file"}, path_) : path_;
    const std::string columns = columns_.empty() ? "" : fmt::format(", with {}", columns_.text());
    if (plain_rows_ == facts_.rows) return fmt::format("{}{}: {} ({})", name, by, of, fmt::join(containers, ", "));
    return fmt::format("{}{}: {} of {} ({}) {} {}{}", name, by, Counted{facts_.rows, "row"}, of, fmt::join(containers, ", "),
                       facts_.rows == 1 ? "has" : "have", needs_of(facts_.format), columns);
  }

  std::string path_;
  PrepareOptions options_;
  Columns columns_;
  ReadLimits limits_;
  DataFiles files_;
  int64_t plain_rows_ = 0;
  std::vector<Mark> marks_;
  size_t file_ = 0;
  std::unique_ptr<RowReader> reader_;
  std::exception_ptr failed_;  // what next() throws behind the rows that it gave
};

}  // namespace

std::unique_ptr<DataSource> DataSource::open(const std::filesystem::path& path, const PrepareOptions& options, int threads,
                                             const ReadLimits& limits) {
  return std::make_unique<FileSource>(path, options, threads, limits);
}

}  // namespace tll
