// The process among others: the signals that stop it, its three standard streams, and one line for an error.
#pragma once

#include <string>
#include <utility>

#include "src/base/check.h"

namespace tll {

// For a run. Ctrl-C, `kill`, and a terminal that is closed (SIGINT, SIGTERM and SIGHUP) end the program at once, with exit code
// 130. If SIGHUP is ignored (nohup), it stays ignored. SIGPIPE is ignored, so a write to a pipe that nobody reads fails instead
// of ending the program.
void end_on_stop_signals();

// From now on the first of these signals asks the program to stop at the next safe place, and the second ends it at once, if it
// comes a second later or more: `timeout` and terminals may send one signal twice. System calls that a signal interrupts are
// restarted.
void catch_stop_signals();

// Whether a first signal has come to this process.
bool stop_signalled();
// Whether to stop: the same, until the ranks of a run have agreed; then what they agreed on last, so that they stop together.
bool stop_requested();
void agree_to_stop(bool any);

// While one lives, a second signal does not end the program either: what is being saved is saved. Not nested.
class KeepFromStopping {
 public:
  KeepFromStopping();
  ~KeepFromStopping();
  KeepFromStopping(const KeepFromStopping&) = delete;
  KeepFromStopping& operator=(const KeepFromStopping&) = delete;
};

// What the program is doing, as in "evaluating": the handler of a first signal says so on a terminal. Null, as at the start,
// means training steps. Returns what was set before. See src/base/phase.h.
const char* set_activity(const char* activity);

// Opens /dev/null for each standard stream that is closed at the start. Otherwise the next file that is opened would get its
// descriptor, and the program would print into that file.
void fill_closed_streams();

// From now on this process shows nothing but errors: its standard streams become /dev/null, and what report() prints goes to what
// standard error was, with `prefix` after "error: ". For ranks other than the first.
void show_errors_alone(const std::string& prefix);
// From now on report() prints nothing: another process says it.
void show_no_errors();

// Flushes standard output. Error (kExitFault) if it cannot be written, since the result is then lost.
void flush_output();

// Prints "error: " and the message to standard error, and returns the code. Always one line: control characters, as in names of
// files, are escaped.
int report(ExitCode code, const std::string& message);
// Of the exception that is being handled: the exit code, and a message for report(). Of a file system's error kExitBadFile if the
// path is wrong (too long, too many links, not a directory, not permitted), else kExitFault.
std::pair<ExitCode, std::string> what_failed();

}  // namespace tll
