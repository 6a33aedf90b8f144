#include "data/columns.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr std::string_view kFields[] = {"prompt",    "response", "completion", "instruction",   "input", "output", "context",
                                        "question",  "answers",  "messages",   "conversations", "text",  "id",     "title",
                                        "input_ids", "labels",   "role",       "content",       "from",  "value"};

}  // namespace

Columns::Columns(const std::vector<std::string>& assignments) {
  for (const std::string& assignment : assignments) {
    const size_t sign = assignment.find('=');
    const std::string field = assignment.substr(0, sign);
    const std::string key = sign == assignment.npos ? "" : assignment.substr(sign + 1);
    if (field.empty() || key.empty()) {
      fail(kExitUsage, "--columns: expected FIELD=NAME, as in prompt=question, found {}", in_quotes(assignment));
    }
    if (std::find(std::begin(kFields), std::end(kFields), field) == std::end(kFields)) {
      fail(kExitUsage,
           "--columns {}: there is no field {}; there are: {} (to the left of = stands the field, to the right its name in the "
           "data)",
           assignment, in_quotes(field), fmt::join(kFields, ", "));
    }
    std::string* part = field == "role" || field == "from"       ? &role_
                        : field == "content" || field == "value" ? &content_
                                                                 : nullptr;
    const auto same = [&](const auto& other) { return other.first == field || other.second == key; };
    if (part ? !part->empty() : std::any_of(fields_.begin(), fields_.end(), same)) {
      fail(kExitUsage, "--columns {}: a field or a name comes twice", assignment);
    }
    if (part)
      *part = key;
    else
      fields_.emplace_back(field, key);
  }
}

void Columns::rename(Json& row) const {
  if (fields_.empty() || !row.is_object()) return;
  std::vector<Json> values(fields_.size(), Json(Json::value_t::discarded));
  for (size_t i = 0; i < fields_.size(); ++i) {
    const auto found = row.find(fields_[i].second);
    if (found != row.end()) values[i] = std::move(*found);
  }
  for (const auto& [field, key] : fields_) row.erase(key), row.erase(field);
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (!values[i].is_discarded()) row[fields_[i].first] = std::move(values[i]);
  }
}

RowShape Columns::renamed(RowShape shape) const {
  RowShape out;
  for (auto& [key, kind] : shape) {
    const auto assigned = [&key = key](const auto& pair) { return pair.second == key; };
    const auto replaced = [&key = key](const auto& pair) { return pair.first == key; };
    const auto field = std::find_if(fields_.begin(), fields_.end(), assigned);
    if (field != fields_.end()) {
      out.emplace_back(field->first, kind);
    } else if (std::none_of(fields_.begin(), fields_.end(), replaced)) {
      out.emplace_back(std::move(key), kind);
    }
  }
  return out;
}

void Columns::check(const std::vector<std::string>& keys) const {
  for (const auto& [field, key] : fields_) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    constexpr size_t kShown = 20;
    std::vector<std::string> shown_keys;
    for (const std::string& k : keys) {
      if (shown_keys.size() < kShown) shown_keys.push_back(in_quotes(k, 40));
    }
    if (keys.size() > kShown) shown_keys.push_back("...");
    fail(kExitUsage, "--columns {}={}: no row has {}; the rows have {}", field, key, in_quotes(key), fmt::join(shown_keys, ", "));
  }
}

std::string Columns::text() const {
  std::vector<std::string> parts;
  for (const auto& [field, key] : fields_) parts.push_back(field + "=" + key);
  if (!role_.empty()) parts.push_back("role=" + role_);
  if (!content_.empty()) parts.push_back("content=" + content_);
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace tll
