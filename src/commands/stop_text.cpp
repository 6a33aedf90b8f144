#include "src/commands/stop_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "src/base/check.h"
#include "src/base/json_object.h"

namespace tll {

std::vector<std::string> stop_texts(const std::string& option) {
  std::vector<std::string> texts;
  if (option.empty()) return texts;
  const Json list = option[0] == '[' ? Json::parse(option, nullptr, false) : Json();
  if (!list.is_array()) return {option};
  for (const Json& text : list) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      fail(kExitUsage, "--stop: expected texts in the list, found {}", shown(text));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::string StopText::push(const std::string& piece) {
  if (found_) return "";
  held_ += piece;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  // The longest end of the text with which a stop text begins. It may begin before the one that is whole already.
  size_t kept = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > kept; n--)
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) kept = n;
  if (end != std::string::npos && end <= held_.size() - kept) return cut(end);
  std::string text = held_.substr(0, held_.size() - kept);
  held_.erase(0, held_.size() - kept);
  return text;
}

std::string StopText::finish() {
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  return end == std::string::npos ? std::exchange(held_, "") : cut(end);
}

std::string StopText::cut(size_t end) {
  found_ = true;
  held_.resize(end);
  return std::exchange(held_, "");
}

}  // namespace tll
