// Which format rows are of, by their keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "data/json_row.h"

namespace tll {

struct RowKind {
  DataFormat format = DataFormat::kAuto;  // kAuto: none that is read, and then
  std::string what, advice;               // what the rows look like, and what to do; no advice: their keys say nothing
};

// Columns are renamed already. A key whose value is null counts only where no other key tells the format.
RowKind kind_of_row(const RowShape& shape);

// Whether rows of the shape have what the format needs.
bool fits_format(DataFormat format, const RowShape& shape);
std::string_view needs_of(DataFormat format);  // R"("prompt" and "response")"

// Every key that kind_of_row looks at.
bool tells_kind(std::string_view key);
std::string keys_text(const RowShape& shape);  // "the keys "a", "b"", or "no keys"

// What is read, for messages.
inline constexpr std::string_view kReadable =
    R"(rows of questions (SQuAD), Alpaca, Dolly, prompt and response, messages, ShareGPT, text or input_ids, as JSON, CSV or Parquet; or plain text, or PDF)";

}  // namespace tll
