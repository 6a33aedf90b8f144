#include "data/data_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "data/csv.h"
#include "data/dataset.h"
#include "data/json_row.h"
#include "data/parquet.h"
#include "data/part_file.h"
#include "data/pdf.h"
#include "data/row_kind.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/file_kind.h"
#include "src/base/phase.h"
#include "src/base/spelling.h"
#include "src/base/units.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlanks = " \t\r\n";
constexpr size_t kHead = size_t(1) << 16;

[[noreturn]] void looks_like(const std::string& file, std::string_view what, std::string_view advice) {
  bad_file("{}: this looks like {}; expected {}; {}", file, what, kReadable, advice);
}

// The ending of the name in small letters, without that of a compression: ".jsonl" of "A.JSONL.gz".
std::string extension_of(const fs::path& path) {
  std::string extension = lower_case(path.extension().string());
  if (extension == ".gz" || extension == ".gzip" || extension == ".zst" || extension == ".zstd")
    extension = lower_case(path.stem().extension().string());
  return extension;
}

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A window that shows so many bytes, unless the file ends before.
bool fill(RowBuffer& buffer, size_t bytes) {
  while (buffer.view().size() < bytes && buffer.more()) {
  }
  return buffer.view().size() >= bytes;
}

// Finds out what one file is.
class Sniffer {
 public:
  Sniffer(DataFile& file, const PrepareOptions& options)
      : file_(file),
        format_(options.format),
        extension_(extension_of(file.path.empty() ? fs::path(file.label) : fs::path(file.label))) {}

  // False, with `what`, for a file that is none of data.
  bool sniff(std::string& what) {
    RowBuffer buffer = open();
    fill(buffer, kHead);
    const FileKind kind = kind_of(buffer.view());
    if (kind == FileKind::unknown && is_prepared(buffer.view())) {
      what = "a squad.bin";
      return false;
    }
    if (kind != FileKind::unknown && kind != FileKind::pdf && kind != FileKind::parquet) {
      what = kind_name(kind);
      return false;
    }
    if (kind == FileKind::unknown && buffer.view().substr(0, kHead).find('\0') != std::string_view::npos) {
      what = "a binary file";
      return false;
    }
    file_.container = container(buffer, kind);
    return true;
  }

  // For a file that sniff() has refused.
  [[noreturn]] void refuse() {
    RowBuffer buffer = open();
    fill(buffer, kHead);
    const FileKind kind = kind_of(buffer.view());
    if (kind == FileKind::utf16 || kind == FileKind::utf32) refuse_wide(buffer.view(), kind);
    if (kind == FileKind::gzip || kind == FileKind::zstd)
      looks_like(file_.label, "a file that was compressed twice", "unpack it once");
    if (kind == FileKind::html || kind == FileKind::xml) {
      looks_like(file_.label, kind_name(kind), "if its text is meant, with all its marks, give --format text");
    }
    if (kind != FileKind::unknown) looks_like(file_.label, kind_name(kind), kind_advice(kind));
    if (is_prepared(buffer.view())) looks_like(file_.label, "a squad.bin, which is prepared already", "name it alone by --data");
    looks_like(file_.label, "a binary file", "name the file with the data");
  }

 private:
  RowBuffer open() {
    return RowBuffer(open_bytes(file_.path, file_.label, &file_.compression), file_.label, {}, size_t(1) << 30);
  }

  FileKind kind_of(std::string_view head) const {
    const FileKind kind = file_kind(head);
    constexpr size_t kShort = 1024;
    // Words that a server says may also begin a text.
    if ((kind == FileKind::web_answer || kind == FileKind::link_text) && head.size() > kShort) return FileKind::unknown;
    if ((kind == FileKind::html || kind == FileKind::xml) && format_ == DataFormat::kText) return FileKind::unknown;
    return kind;
  }

  [[noreturn]] void refuse_wide(std::string_view head, FileKind kind) const {
    const bool marked =
        head.starts_with("\xFF\xFE") || head.starts_with("\xFE\xFF") || head.starts_with(std::string_view("\0\0\xFE\xFF", 4));
    const char* units = kind == FileKind::utf16 ? "UTF-16" : "UTF-32";
    const char* order = marked ? "" : head.substr(0, 1) == std::string_view("\0", 1) ? "BE" : "LE";
    looks_like(file_.label, kind_name(kind),
               fmt::format("save it as UTF-8: iconv -f {}{} -t UTF-8 {} > utf8{}", units, order, file_.label, extension_));
  }

  Container container(RowBuffer& buffer, FileKind kind) {
    const bool packed = file_.compression != Compression::kNone;
    if (kind == FileKind::parquet || kind == FileKind::pdf) {
      if (packed) looks_like(file_.label, fmt::format("{} that is compressed", kind_name(kind)), "unpack it first");
      if (kind == FileKind::pdf && !one_of(data_format_names()[size_t(format_)], {"auto", "text"}))
        bad_file("{}: this is a PDF document, which has text and no rows for --format {}", file_.label,
                 data_format_names()[size_t(format_)]);
      return kind == FileKind::pdf ? Container::kPdf : Container::kParquet;
    }
    if (format_ == DataFormat::kParquet) bad_file("{}: --format parquet: this is no Parquet file", file_.label);
    if (format_ == DataFormat::kCsv) return Container::kTable;
    const bool json_name = one_of(extension_, {".json", ".jsonl", ".ndjson"});
    const bool table_name = one_of(extension_, {".csv", ".tsv"});
    if (format_ == DataFormat::kText && !json_name && !table_name && extension_ != "") return Container::kText;
    const size_t begin = go_to_text(buffer);
    if (begin == std::string_view::npos) return json_name ? Container::kLines : Container::kText;  // blanks alone
    const std::string_view text = buffer.view().substr(begin);
    if (text.starts_with("{'") || text.starts_with("[{'"))
      looks_like(file_.label, "Python's notation of a value ('...' in place of \"...\")", "write it with json.dump");
    if (text[0] == '{' || text[0] == '[') {
      if (const std::optional<Container> json = json_container(buffer, begin, json_name)) return *json;
      return Container::kText;
    }
    if (json_name) {
      const std::string_view line = text.substr(0, text.find('\n'));
      if (looks_like_table(text))
        looks_like(file_.label, "a table in text (CSV)", "give it a name that ends in .csv, or --format csv");
      looks_like(file_.label, fmt::format("plain text ({}), named as JSON", in_quotes(line, 30)),
                 "give it a name that ends in .txt, if its text is meant");
    }
    if (format_ == DataFormat::kText && extension_ == "") return Container::kText;
    return table_name || looks_like_table(text) ? Container::kTable : Container::kText;
  }

  // Where the first byte is that is no blank; npos: there is none near.
  static size_t go_to_text(RowBuffer& buffer) {
    for (;;) {
      const size_t begin = buffer.view().find_first_not_of(kBlanks);
      if (begin != std::string_view::npos || buffer.view().size() > kHead || !buffer.more()) return begin;
    }
  }

  // What holds the JSON that begins at this byte; nothing: it is text that only begins like it.
  std::optional<Container> json_container(RowBuffer& buffer, size_t begin, bool json_name) {
    constexpr size_t kLongestLine = size_t(1) << 20;
    const bool list = buffer.view()[begin] == '[';
    while (buffer.view().find('\n', begin) == std::string_view::npos && buffer.view().size() < begin + kLongestLine &&
           buffer.more()) {
    }
    const size_t end = buffer.view().find('\n', begin);
    const std::string line(buffer.view().substr(begin, end == std::string_view::npos ? end : end - begin));
    Json value;
    if (!list && is_json(line, value)) {
      bool more = false;  // whether another row follows
      if (end != std::string_view::npos) {
        size_t next = end;
        while ((next = buffer.view().find_first_not_of(kBlanks, next)) == std::string_view::npos) {
          next = buffer.view().size();
          if (!buffer.more()) break;
        }
        more = next < buffer.view().size();
      }
      return !more && value.contains("data") && value["data"].is_array() ? Container::kDataList : Container::kLines;
    }
    if (!list && one_of(extension_, {".jsonl", ".ndjson"}) && end != std::string_view::npos) return Container::kLines;
    // Text may begin with a bracket; JSON goes on in one of these ways.
    const std::string_view text = buffer.view().substr(begin);
    const size_t second = text.find_first_not_of(kBlanks, 1);
    const char c = second == text.npos ? '\0' : text[second];
    const bool like = std::string_view(list ? "{[\"]" : "\"}").find(c) != std::string_view::npos;
    if (!json_name && !like && !(list && is_json(line, value))) return std::nullopt;
    if (list) return Container::kList;
    return has_data_list(open()) ? Container::kDataList : Container::kValues;
  }

  static bool is_json(std::string_view text, Json& value) {
    if (parse_plain_row(text, value)) return true;
    try {
      value = parse_json(text, "");
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  DataFile& file_;
  DataFormat format_;
  std::string extension_;
};

// A copy of what comes out of a pipe, in a file without a name.
std::shared_ptr<void> spool(const fs::path& path, fs::path& copy, int64_t& bytes) {
  const auto file = std::make_shared<PartFile>(PartFile::unnamed());
  const std::unique_ptr<ByteStream> from = open_pipe(path, path.string());
  std::string chunk(size_t(1) << 17, '\0');
  Phase phase("copying a pipe", 0);
  while (const size_t got = from->read(chunk.data(), chunk.size())) {
    file->append(chunk.data(), got);
    bytes += int64_t(got);
    phase.advance(int64_t(got));
  }
  file->flush();
  copy = file->path();
  return file;
}

// Files that lie beside the data in a folder and are no part of it.
bool is_about_data(const std::string& name) {
  const std::string small = lower_case(fs::path(name).filename().string());
  const std::string stem = small.substr(0, small.find('.'));
  if (one_of(stem, {"readme", "license", "licence", "citation", "changelog", "notice"})) return true;
  return one_of(small, {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "metadata.json"});
}

DataFiles find_in_folder(const fs::path& folder, const PrepareOptions& options) {
  const std::string label = folder.string();
  std::vector<std::pair<std::string, int64_t>> names;  // and sizes
  std::error_code failed;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied, failed);
  if (failed) bad_file("{}: this folder cannot be read: {}", label, failed.message());
  for (; entry != fs::recursive_directory_iterator(); entry.increment(failed)) {
    const bool hidden = entry->path().filename().string().starts_with(".");
    const bool left_out = hidden || is_part_of_output(entry->path());
    if (left_out && entry->is_directory(failed)) entry.disable_recursion_pending();
    if (left_out || !entry->is_regular_file(failed)) continue;
    names.emplace_back(entry->path().lexically_relative(folder).generic_string(), int64_t(entry->file_size(failed)));
  }
  if (failed) bad_file("{}: this folder cannot be read to its end: {}", label, failed.message());
  std::sort(names.begin(), names.end());
  DataFiles out{.folder = true};
  std::map<std::string, std::pair<int64_t, std::string>> others;  // what is left out: how many, the first
  const auto leave_out = [&](const std::string& what, const std::string& name) {
    auto& [count, first] = others[what];
    if (count++ == 0) first = name;
  };
  const bool data =
      std::any_of(names.begin(), names.end(), [](const auto& n) { return !is_about_data(n.first) && n.second > 0; });
  std::vector<std::string> held_out;
  for (const auto& [name, size] : names) {
    DataFile file{.path = folder / name, .label = (folder / name).string(), .name = name};
    std::string what;
    if (size == 0) {
      leave_out("empty", name);
    } else if (data && is_about_data(name)) {
      leave_out("about the data", name);
    } else if (extension_of(name) == ".arrow") {
      looks_like(label, "a data set that datasets' save_to_disk wrote",
                 R"(write it as JSON lines: datasets.load_from_disk(DIRECTORY).to_json("data.jsonl"))");
    } else if (Sniffer sniffer(file, options); !sniffer.sniff(what)) {
      if (what.find("UTF-") != what.npos || what.find("git-lfs") != what.npos) sniffer.refuse();
      leave_out(what, name);
    } else {
      const std::string small = lower_case(name);
      for (const char* word : {"test", "valid", "eval", "dev."})
        if (small.find(word) != small.npos) {
          held_out.push_back(name);
          break;
        }
      out.bytes += size;
      out.files.push_back(std::move(file));
    }
  }
  for (const auto& [what, files] : others) {
    out.notes.push_back(fmt::format("{}: {} left out: {}, such as {}", label, Counted{files.first, "file"}, what, files.second));
  }
  if (out.files.empty()) {
    bad_file("{}: there is no data file in this folder{}; expected {}", label,
             out.notes.empty() ? "" : " (" + out.notes[0].substr(label.size() + 2) + ")", kReadable);
  }
  if (!held_out.empty() && held_out.size() < out.files.size()) {
    out.notes.push_back(
        fmt::format("{}: {} of this folder is data, too ({} in all with such a name); name one file if it is to be held out",
                    label, held_out[0], Counted{int64_t(held_out.size()), "file"}));
  }
  return out;
}

}  // namespace

void refuse_no_file(const fs::path& path) {
  std::error_code failed;
  const std::string file = path.string();
  if (fs::exists(path, failed)) return;
  const auto names = std::distance(path.begin(), path.end());
  if (names == 2 && !path.is_absolute() && !path.has_extension() && !fs::exists(path.parent_path(), failed)) {
    looks_like(file, "the name of a data set on the hub, and no file",
               fmt::format(R"(write it to a file: datasets.load_dataset("{}", split="train").to_json("data.jsonl"))", file));
  }
  bad_file("{}: no such file or folder", file);
}

std::string DataFile::kind() const {
  const char* kind = "";
  switch (container) {
    case Container::kLines:
      kind = "JSON lines";
      break;
    case Container::kList:
      kind = "a JSON list";
      break;
    case Container::kDataList:
      kind = "a JSON list \"data\"";
      break;
    case Container::kValues:
      kind = "JSON values";
      break;
    case Container::kTable:
      kind = !header ? "CSV" : header->separator == '\t' ? "TSV" : header->separator == ';' ? "CSV with semicolons" : "CSV";
      break;
    case Container::kText:
      kind = "plain text";
      break;
    case Container::kPdf:
      kind = "PDF";
      break;
    case Container::kParquet:
      kind = "Parquet";
      break;
  }
  return fmt::format("{}{}", kind,
                     compression == Compression::kGzip   ? ", gzip"
                     : compression == Compression::kZstd ? ", zstd"
                                                         : "");
}

DataFiles find_data_files(const fs::path& path, const PrepareOptions& options) {
  refuse_no_file(path);
  std::error_code failed;
  if (fs::is_directory(path, failed)) return find_in_folder(path, options);
  DataFiles out;
  DataFile file{.path = path, .label = path.string()};
  if (!fs::is_regular_file(path, failed)) {
    if (!fs::is_fifo(path, failed) && !fs::is_character_file(path, failed))
      bad_file("{}: expected a file, a folder or a pipe, found a device or socket", path.string());
    out.spooled = spool(path, file.path, out.bytes);
  } else {
    out.bytes = int64_t(fs::file_size(path, failed));
  }
  if (out.bytes == 0) looks_like(file.label, kind_name(FileKind::empty), kind_advice(FileKind::empty));
  std::string what;
  Sniffer sniffer(file, options);
  if (!sniffer.sniff(what)) sniffer.refuse();
  out.files.push_back(std::move(file));
  return out;
}

std::unique_ptr<RowReader> open_rows(const DataFile& file, const RowPosition& from, size_t row_bytes, Json* beside) {
  const auto buffer = [&] { return RowBuffer(open_bytes(file.path, file.label), file.label, from, row_bytes); };
  switch (file.container) {
    case Container::kLines:
      return json_lines(buffer(), from.row);
    case Container::kList:
    case Container::kDataList:
    case Container::kValues:
      return json_values(buffer(), file.container, from.row, beside);
    case Container::kTable:
      return table_rows(buffer(), from.row > 0 ? file.header : std::nullopt, from.row);
    case Container::kText:
      return text_pieces(buffer(), from.row);
    case Container::kPdf:
      return text_pieces(RowBuffer(bytes_of(pdf_text(file.path, file.label)), file.label, from, row_bytes), from.row);
    case Container::kParquet:
      return parquet_rows(file.path, file.label, from, row_bytes);
  }
  TLL_CHECK(false, "container {}", int(file.container));
}

}  // namespace tll
