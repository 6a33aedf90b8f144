#include "src/report/run_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "src/base/file.h"

namespace tll {
namespace {

// A double as JSON writes it: the shortest digits that read back the same, or null.
struct JsonNumber {
  double value;
};

// The length of the lines up to `step`: all whole lines before the first of a later step. What they say goes to `metrics`
// and `history`.
size_t length_up_to(const std::string& text, int64_t step, const std::filesystem::path& path, EarlierMetrics& metrics,
                    RunHistory& history) {
  const auto number = [](const Json& line, const char* key) {
    const auto found = line.find(key);
    return found != line.end() && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
  };
  size_t begin = 0;
  for (int line = 1;; ++line) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) return begin;
    const std::string where = fmt::format("{}, line {}", path.string(), line);
    const Json object = parse_json(std::string_view(text).substr(begin, end - begin), where);
    const auto found = object.is_object() ? object.find("step") : object.end();
    if (found == object.end() || !found->is_number_integer()) bad_file("{}: expected an object with an integer \"step\"", where);
    const int64_t at = found->get<int64_t>();
    if (at > step) return begin;
    if (object.contains("sample")) {
      metrics.sampled_at = at;
    } else if (object.contains("eval_loss")) {
      metrics.evaluated_at = at;
    } else {
      metrics.last_loss = number(object, "loss");
      if (at == 1) metrics.first_loss = metrics.last_loss;
    }
    history.line(object);
    begin = end + 1;
  }
}

}  // namespace
}  // namespace tll

template <>
struct fmt::formatter<tll::JsonNumber> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }

  template <class Context>
  auto format(tll::JsonNumber number, Context& context) const {
    if (!std::isfinite(number.value)) return fmt::format_to(context.out(), "null");
    return fmt::format_to(context.out(), "{}", number.value);
  }
};

namespace tll {

MetricsLog::MetricsLog(const std::filesystem::path& file, std::string run, int64_t resumed_step, int64_t total_steps)
    : path_(file), run_(std::move(run)), history_(total_steps) {
  size_t keep = 0;
  if (resumed_step > 0 && std::filesystem::exists(file))
    keep = length_up_to(read_file(file), resumed_step, file, earlier_, history_);
  file_ = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(keep)) != 0) {
    const int error = errno;
    if (file_ >= 0) close(file_);
    fail(kExitFault, "{}: cannot be written: {}", path_.string(), std::strerror(error));
  }
}

MetricsLog::~MetricsLog() { close(file_); }

template <class... Args>
void MetricsLog::write_line(fmt::format_string<Args...> format, Args&&... args) {
  char line[512];
  const auto end = fmt::format_to_n(line, sizeof line, format, std::forward<Args>(args)...);
  TLL_CHECK(end.size <= sizeof line, "a line of {} characters", end.size);
  if (!write_all(file_, {line, end.size})) fail(kExitFault, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
}

void MetricsLog::step(const StepMetrics& m) {
  history_.step(m);
  write_line(
      R"({{"step":{},"loss":{},"grad_norm":{},"lr":{},"tokens":{},"target_tokens":{},"seconds":{},"tokens_per_second":{},"run":"{}"}})"
      "\n",
      m.step, JsonNumber{m.loss}, JsonNumber{m.grad_norm}, JsonNumber{m.lr}, m.tokens, m.target_tokens, JsonNumber{m.seconds},
      JsonNumber{m.tokens_per_second()}, run_);
}

void MetricsLog::sample(int64_t step, const std::string& text) {
  if (earlier_.sampled_at == step) return;
  earlier_.sampled_at = step;
  history_.sample(step, text);
  const std::string line = json_text({{"step", step}, {"sample", text}, {"run", run_}}) + "\n";
  if (!write_all(file_, line)) fail(kExitFault, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
}

void MetricsLog::evaluation(int64_t step, double loss) {
  earlier_.evaluated_at = step;
  history_.evaluation(step, loss);
  write_line(R"({{"step":{},"eval_loss":{},"eval_perplexity":{},"run":"{}"}})"
             "\n",
             step, JsonNumber{loss}, JsonNumber{std::exp(loss)}, run_);
}

}  // namespace tll
