#include "data/data_options.h"

namespace tll {

const std::vector<std::string_view>& data_format_names() {
  static const std::vector<std::string_view> names = {"auto",     "squad", "alpaca", "dolly",   "prompt", "messages",
                                                      "sharegpt", "text",  "csv",    "parquet", "ids"};
  return names;
}

const std::vector<std::string_view>& template_names() {
  static const std::vector<std::string_view> names = {
      "auto",       "squad",   "chatml",   "smollm2",      "qwen2.5", "qwen3",  "llama2", "llama3", "llama3.1", "mistral",
      "mistral0.1", "mixtral", "mistral3", "mistral-nemo", "phi3",    "phi3.5", "zephyr", "alpaca", "none"};
  return names;
}

const std::vector<std::string_view>& train_on_names() {
  static const std::vector<std::string_view> names = {"answers", "last-answer", "all"};
  return names;
}

const std::vector<std::string_view>& long_samples_names() {
  static const std::vector<std::string_view> names = {"cut", "drop", "refuse"};
  return names;
}

}  // namespace tll
