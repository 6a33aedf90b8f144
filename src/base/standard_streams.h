// The program's three standard streams: whole at the start, delivered at the end, and one line for each error.
#pragma once

#include <filesystem>
#include <string>

#include "src/base/check.h"

namespace tll {

// A program that was started with a standard stream closed would get its number for the next file that it opens, and print into
// that file: /dev/null takes the place.
void fill_closed_streams();

// What was printed may still be on its way. Error (kExitFault) if it cannot be delivered: the result is lost.
void flush_output();

// Prints "error: " and the message, always one line, whatever names of files it repeats. Returns the code.
int report(ExitCode code, const std::string& message);
// A path that leads nowhere is the user's to mend (kExitBadFile); what else the file system refuses is a fault of the machine.
int report(const std::filesystem::filesystem_error& error);

}  // namespace tll
