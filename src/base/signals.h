// Ctrl-C, `kill`, and a terminal that was closed: the first SIGINT, SIGTERM or SIGHUP asks the program to stop at the next safe
// place, the second ends it at once with exit code 130.
#pragma once

namespace tll {

// Installs the handlers. System calls that a signal interrupts are restarted. A SIGHUP that is ignored (nohup) stays so. From
// now on a write to a pipe that nobody reads fails, instead of ending the program.
void catch_stop_signals();

// Whether a first signal has come.
bool stop_requested();

}  // namespace tll
