// The program: options → data → plan → load → train → save. Everything that computes is in kernels/ and src/.
//
// This file holds no CUDA syntax; it is a .cu so that one compiler driver builds the program wherever nvcc is found.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "src/commands.h"
#include "src/help.h"
#include "src/training_run.h"

namespace tll {
namespace {

template <class Float>
int train(const Options& options) {
  TrainingRun<Float> run(options);  // reads the data, plans every byte; nothing large is allocated yet
  run.start();                      // takes the memory, loads weights, adapter, or the checkpoint to resume from
  run.evaluate_before();
  while (!run.finished()) {
    run.step();
    if (run.stop_requested()) return run.interrupt();
  }
  run.evaluate_after();
  run.save();
  return kExitDone;
}

int run_command(Options& options) {
  switch (options.command) {
    case Command::kTrain: {
      resolve_options(options);
      return options.dtype == DtypeOption::kBf16 ? train<bf16>(options) : train<float>(options);
    }
    case Command::kPlan:
      return command_plan(options);
    case Command::kPrepare:
      return command_prepare(options);
    case Command::kShow:
      return command_show(options);
    case Command::kEvaluate:
      return command_evaluate(options);
    case Command::kGenerate:
      return command_generate(options);
    case Command::kTokenize:
      return command_tokenize(options);
    case Command::kDump:
      return command_dump(options);
    case Command::kHelp:
    case Command::kCompletion:
      break;  // answered by help_text
  }
  return kExitDone;
}

// A program that was started with a standard stream closed would get its number for the next file that it opens, and print
// into that file.
void fill_closed_streams() {
  for (int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    while (fcntl(number, F_GETFD) < 0 && errno == EBADF)
      if (open("/dev/null", O_RDWR) < 0) return;
}

// What was printed may still be on its way; if it cannot be delivered the result is lost.
void flush_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  fail(kExitFault, "standard output cannot be written{}{}", errno ? ": " : "", errno ? std::strerror(errno) : "");
}

int run_program(const std::vector<std::string>& arguments) {
  try {
    Options options = parse_options(arguments);
    if (const auto text = help_text(options)) {
      std::fwrite(text->data(), 1, text->size(), stdout);
      flush_output();
      return kExitDone;
    }
    const int code = run_command(options);
    flush_output();
    return code;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: the machine has no memory left\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
  }
  return kExitFault;
}

}  // namespace
}  // namespace tll

int main(int argc, char** argv) {
  tll::fill_closed_streams();
  return tll::run_program({argv + std::min(argc, 1), argv + argc});
}
