#include "data/pdf.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/base/units.h"

extern char** environ;

namespace tll {
namespace {

// A child process whose standard output is read. It is ended, if it has not, with this.
class Child {
 public:
  Child(const char* program, const std::vector<std::string>& arguments, const PdfLimits& limits) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(kExitFault, "no pipe can be made: {}", std::strerror(errno));
    output_ = ends[0];
    std::vector<char*> argv = {const_cast<char*>(program)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    error_ = ::posix_spawnp(&process_, program, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    if (error_) return;
    const auto limit = [&](auto resource, int64_t value) {
      const rlimit most{rlim_t(value), rlim_t(value)};
      ::prlimit(process_, resource, &most, nullptr);
    };
    limit(RLIMIT_AS, limits.memory_bytes);
    limit(RLIMIT_CPU, limits.seconds);
    limit(RLIMIT_CORE, 0);
  }
  ~Child() {
    ::close(output_);
    if (error_ || ended_) return;
    ::kill(process_, SIGKILL);
    while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int error() const { return error_; }  // why it could not be started; 0: it was
  int output() const { return output_; }
  // Its status if it has ended.
  std::optional<int> status() {
    int status = 0;
    const pid_t got = ::waitpid(process_, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return std::nullopt;
    ended_ = true;
    return status;
  }

 private:
  pid_t process_ = -1;
  int output_ = -1, error_ = 0;
  bool ended_ = false;
};

}  // namespace

std::string pdf_text(const std::filesystem::path& path, const std::string& name, const PdfLimits& limits) {
  using Clock = std::chrono::steady_clock;
  // An absolute path does not begin with a dash, so it is no option.
  Child child("pdftotext", {"-q", "-enc", "UTF-8", "-eol", "unix", std::filesystem::absolute(path).string(), "-"}, limits);
  const char* install = "install it (Debian and Ubuntu: apt-get install poppler-utils), or convert the document to text";
  if (child.error() == ENOENT)
    bad_file("{}: this is a PDF document, which pdftotext reads, and there is none; {}", name, install);
  if (child.error()) bad_file("{}: pdftotext cannot be started: {}; {}", name, std::strerror(child.error()), install);
  std::string text;
  const auto end = Clock::now() + std::chrono::seconds(limits.seconds);
  const auto milliseconds_left = [&] {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0)
      bad_file("{}: pdftotext was ended: it needed more than {} s; convert the document to text", name, limits.seconds);
    return left;
  };
  for (;;) {
    const int64_t left = milliseconds_left();
    pollfd wait{child.output(), POLLIN, 0};
    const int ready = ::poll(&wait, 1, int(std::min<int64_t>(left, 200)));
    if (stop_requested()) throw Stopped("reading a PDF document");
    if (ready <= 0) continue;
    constexpr size_t kChunk = size_t(1) << 16;
    const size_t before = text.size();
    text.resize(before + kChunk);
    const ssize_t got = ::read(child.output(), text.data() + before, kChunk);
    text.resize(before + size_t(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno != EINTR) fail(kExitFault, "{}: what pdftotext writes cannot be read: {}", name, std::strerror(errno));
    if (got == 0) break;
    if (int64_t(text.size()) > limits.text_bytes) {
      bad_file("{}: pdftotext was ended: the document has more than {} of text; divide it", name, Bytes{limits.text_bytes});
    }
  }
  // It may close its output and go on.
  std::optional<int> ended;
  while (!(ended = child.status())) {
    if (stop_requested()) throw Stopped("reading a PDF document");
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min<int64_t>(milliseconds_left(), 2)));
  }
  const int status = *ended;
  if (WIFSIGNALED(status)) {
    bad_file("{}: pdftotext was ended by signal {}, within {} of memory and {} s; convert the document to text", name,
             WTERMSIG(status), Bytes{limits.memory_bytes}, limits.seconds);
  }
  constexpr int kNotPermitted = 3, kCannotRun = 127;
  const int code = WEXITSTATUS(status);
  if (code == kCannotRun) bad_file("{}: pdftotext cannot be started; {}", name, install);
  if (code == kNotPermitted) bad_file("{}: the PDF document does not permit to copy its text", name);
  if (code != 0)
    bad_file("{}: pdftotext cannot read it (its exit code is {}): the PDF document is damaged or locked", name, code);
  std::string out;
  for (const char c : text) {
    if (c == '\f')
      out += '\n';
    else
      out += c;
  }
  if (out.find_first_not_of(" \t\r\n") == out.npos) {
    bad_file(
        "{}: the PDF document has no text, only pictures, as scanned pages are; recognise its text first, such as with ocrmypdf",
        name);
  }
  return out;
}

}  // namespace tll
