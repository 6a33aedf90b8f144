// --stop: texts at which generated text ends.
#pragma once

#include <string>
#include <vector>

namespace tll {

// The texts of the option: one text, or several as a JSON list of strings. Error (kExitUsage) for a list of something else, or an
// empty text.
std::vector<std::string> stop_texts(const std::string& option);

// Cuts a text, which comes in pieces, where the first of the stop texts begins. It holds back what may be the beginning of one,
// so a stop text may lie across pieces.
class StopText {
 public:
  explicit StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // What can be shown; nothing after a stop text was found.
  std::string push(const std::string& piece);
  std::string finish();  // what is still held back
  bool found() const { return found_; }

 private:
  std::string cut(size_t end);
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace tll
