// Ctrl-C and `kill`: the first SIGINT or SIGTERM asks the program to stop at the next safe place, the second ends it at once
// with exit code 130.
#pragma once

namespace tll {

// Installs the handlers. System calls that a signal interrupts are restarted.
void catch_stop_signals();

// Whether a first signal has come.
bool stop_requested();

}  // namespace tll
