// Ctrl-C, `kill`, and a terminal that is closed: SIGINT, SIGTERM and SIGHUP. The first signal asks the program to stop at the
// next safe place. The second ends it at once with exit code 130.
#pragma once

namespace tll {

// Installs the handlers. System calls that a signal interrupts are restarted. If SIGHUP is ignored (nohup), it stays ignored.
// SIGPIPE is ignored from now on, so a write to a pipe that nobody reads fails instead of ending the program.
void catch_stop_signals();

// Whether a first signal has come.
bool stop_requested();

}  // namespace tll
