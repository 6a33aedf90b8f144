// A run's run.json as defaults: `--config run.json` repeats the run, and what is typed beside it wins.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "src/options/options.h"

namespace tll {

struct RunOptions {
  std::filesystem::path file;
  Json options = Json::object();               // options_json() of the run
  std::optional<std::set<std::string>> given;  // names of those that its user gave; nothing: the file does not say
  std::string command, version;                // of the run, and of the program that did it; may be empty
};

// Nothing if the file is none that a run wrote: a model's config.json, or no JSON at all. Then others say what is wrong with it.
std::optional<RunOptions> read_run_options(const std::filesystem::path& file);

// Sets the options of the command, which `into` has already, to those of the run, except where `typed` names them: options that
// say what is computed and from what. Those that say how to go on, or what to print, are left as they are. A command other than
// train and plan gets the run's adapter besides, or its model.
// A key that no version of the table knows is noted on standard error. Error (kExitBadFile) for a value that is none.
void take_run_options(const RunOptions& run, const std::set<std::string, std::less<>>& typed, Options& into);

// What was typed, as one line for a shell, with the values of secrets (--hf-token and the like) left out.
std::string command_line(const std::vector<std::string>& arguments);
// A text as one word of such a line.
std::string shell_word(const std::string& text);

}  // namespace tll
