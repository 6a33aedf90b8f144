// The three standard streams: open at the start, flushed at the end, and one line per error.
#pragma once

#include <filesystem>
#include <string>

#include "src/base/check.h"

namespace tll {

// Opens /dev/null for each standard stream that is closed at the start. Otherwise the next file that is opened would get its
// descriptor, and the program would print into that file.
void fill_closed_streams();

// Flushes standard output. Error (kExitFault) if it cannot be written, since the result is then lost.
void flush_output();

// Prints "error: " and the message to standard error, and returns the code. Always one line: control characters, as in names of
// files, are escaped.
int report(ExitCode code, const std::string& message);
// The same, with kExitBadFile if the path is wrong (too long, too many links, not a directory, not permitted), else kExitFault.
int report(const std::filesystem::filesystem_error& error);

}  // namespace tll
