// The questions of a file in SQuAD's format, for tests.
#pragma once

#include "data/data_source.h"
#include "tests/temporary_directory.h"

namespace tll {

struct SquadQuestion {
  std::string id, title, context, question, where;
  std::vector<std::string> answers;
  bool answerable() const { return !answers.empty(); }
};

struct SquadFile {
  std::vector<SquadQuestion> questions = {};
  int64_t unanswerable = 0, offset_mismatches = 0;
  std::vector<std::string> notes = {};
};

// Errors and notes name the file by its whole path.
inline SquadFile read_squad_file(const std::filesystem::path& path) {
  const auto source = DataSource::open(path, {});
  SquadFile out{.notes = source->facts().notes};
  SourceFindings findings;
  while (const auto block = source->next()) {
    for (Example& e : source->parse(*block, findings))
      out.questions.push_back({e.id, e.title, e.context, e.prompt, e.where, e.answers});
  }
  for (std::string& line : findings.lines(path.string())) out.notes.push_back(std::move(line));
  out.unanswerable = findings.unanswerable;
  out.offset_mismatches = findings.offset_mismatches;
  return out;
}

// Errors and notes name the file by `name`.
inline SquadFile parse_squad(std::string_view text, const std::string& name) {
  static const TemporaryDirectory directory;
  directory.write(name, text);
  const std::string prefix = directory.path().string() + "/";
  const auto without = [&](std::string message) {
    for (size_t at; (at = message.find(prefix)) != message.npos;) message.erase(at, prefix.size());
    return message;
  };
  try {
    SquadFile out = read_squad_file(directory / name);
    for (std::string& note : out.notes) note = without(note);
    return out;
  } catch (const Error& error) {
    throw Error(error.exit_code, without(error.what()));
  }
}

}  // namespace tll
