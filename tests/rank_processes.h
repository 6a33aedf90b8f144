// Ranks that are processes of the test, for the emulator's GPUs.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "src/ranks/shared_memory.h"
#include "tests/emulated_gpu.h"

namespace tll::test {

using RankBody = std::function<std::string(int rank, const std::shared_ptr<SharedBlock>& block)>;

// What each rank's body returns, or throws; "killed" if its process is. Every rank is a process.
inline std::vector<std::string> run_processes(int size, const RankBody& body) {
  const auto block = SharedBlock::anonymous(size, 4096);
  std::vector<pid_t> pids;
  std::vector<int> pipes;
  for (int r = 0; r < size; r++) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      emulator::options().workers = 1;  // the threads of the others stayed in the parent
      emulator::options().print = false;
      std::string text;
      try {
        text = body(r, block);
      } catch (const Error& error) {
        text = std::string("Error: ") + error.what();
      }
      static_cast<void>(!write(ends[1], text.data(), text.size()));
      _exit(0);
    }
    close(ends[1]);
    block->of(r).set(ProcessIdentity::of_child(pid));
    pids.push_back(pid), pipes.push_back(ends[0]);
  }
  std::vector<std::string> texts;
  for (size_t r = 0; r < pids.size(); r++) {
    std::string text;
    char buffer[4096];
    pollfd end = {pipes[r], POLLIN, 0};
    if (::poll(&end, 1, 60000) <= 0) {
      ADD_FAILURE() << "rank " << r << " hangs";
      kill(pids[r], SIGKILL);
    }
    for (ssize_t n; (n = read(pipes[r], buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(n));
    close(pipes[r]);
    int status = 0;
    waitpid(pids[r], &status, 0);
    texts.push_back(WIFSIGNALED(status) ? "killed" : text);
  }
  return texts;
}

}  // namespace tll::test
