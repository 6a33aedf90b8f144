// Parquet through Apache Arrow: batches of some rows at a time, each row as JSON.
#include <arrow/api.h>
#include <arrow/io/api.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/parquet.h"
#include "src/base/check.h"
#include "src/base/json.h"
#include "src/base/units.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// Of many rows only these are decoded at a time.
constexpr int64_t kBatchRows = 1024;

class ParquetRows : public RowReader {
 public:
  ParquetRows(const std::filesystem::path& path, std::string name, RowPosition from, size_t row_bytes)
      : name_(std::move(name)), row_bytes_(row_bytes), position_(from) {
    auto file = value_of(arrow::io::ReadableFile::Open(path.string()));
    file_bytes_ = value_of(file->GetSize());
    guarded([&] {
      auto properties = parquet::ArrowReaderProperties();
      properties.set_batch_size(kBatchRows);
      properties.set_pre_buffer(false);
      parquet::arrow::FileReaderBuilder builder;
      check(builder.Open(std::move(file)));
      builder.properties(properties);
      check(builder.Build(&reader_));
      // Whole row groups in front of the row are not read.
      const auto metadata = reader_->parquet_reader()->metadata();
      rows_ = metadata->num_rows();
      int group = 0;
      int64_t skipped = 0;
      while (group < metadata->num_row_groups() && skipped + metadata->RowGroup(group)->num_rows() <= from.row)
        skipped += metadata->RowGroup(group++)->num_rows();
      std::vector<int> groups(size_t(metadata->num_row_groups() - group));
      std::iota(groups.begin(), groups.end(), group);
      batches_ = value_of(reader_->GetRecordBatchReader(groups));
      skip_ = from.row - skipped;
    });
    for (const auto& field : batches_->schema()->fields()) check_type(*field->type(), field->name());
  }

  bool next(std::string& text) override {
    while (!batch_ || at_ == batch_->num_rows()) {
      guarded([&] { check(batches_->ReadNext(&batch_)); });
      if (!batch_) return false;
      at_ = std::min(skip_, batch_->num_rows());
      skip_ -= at_;
    }
    Json row = Json::object();
    for (int c = 0; c < batch_->num_columns(); ++c) {
      column_ = c;
      Json value = json_of(*batch_->column(c), at_);
      if (!row.emplace(batch_->column_name(c), std::move(value)).second)
        bad_file("{}: two columns have the name {}", name_, in_quotes(batch_->column_name(c)));
    }
    ++at_, ++position_.row;
    const size_t before = text.size();
    // Texts are UTF-8 here. A name of a column that is not is no name that a format knows.
    text += dump(row);
    if (text.size() - before > row_bytes_)
      bad_file("{}: {}: this row is longer than {}", name_, where(), Bytes{int64_t(row_bytes_)});
    position_.bytes += int64_t(text.size() - before);
    return true;
  }
  RowPosition position() const override { return position_; }
  std::string where() const override { return "row " + std::to_string(position_.row); }
  int64_t consumed() const override {
    return rows_ ? int64_t(double(file_bytes_) * (double(position_.row) / double(rows_))) : file_bytes_;
  }

 private:
  void check(const arrow::Status& status) const {
    if (!status.ok()) bad_file("{}: this Parquet file cannot be read: {}", name_, one_line(status.ToString()));
  }
  template <class Value>
  Value value_of(arrow::Result<Value> result) const {
    check(result.status());
    return std::move(result).ValueOrDie();
  }
  template <class Action>
  void guarded(const Action& action) const {
    try {
      action();
    } catch (const parquet::ParquetException& error) {
      bad_file("{}: this Parquet file cannot be read: {}", name_, one_line(error.what()));
    }
  }
  static std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text.substr(0, 200);
  }
  static std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

  void check_type(const arrow::DataType& type, const std::string& column) const {
    using arrow::Type;
    switch (type.id()) {
      case Type::NA:
      case Type::BOOL:
      case Type::INT8:
      case Type::INT16:
      case Type::INT32:
      case Type::INT64:
      case Type::UINT8:
      case Type::UINT16:
      case Type::UINT32:
      case Type::UINT64:
      case Type::HALF_FLOAT:
      case Type::FLOAT:
      case Type::DOUBLE:
      case Type::STRING:
      case Type::LARGE_STRING:
      case Type::BINARY:
      case Type::LARGE_BINARY:
      case Type::DICTIONARY:
      case Type::TIMESTAMP:
      case Type::DATE32:
      case Type::DATE64:
      case Type::DECIMAL128:
        return;
      case Type::LIST:
      case Type::LARGE_LIST:
      case Type::FIXED_SIZE_LIST:
      case Type::STRUCT:
      case Type::MAP:
        for (const auto& field : type.fields()) check_type(*field->type(), column);
        return;
      default:
        bad_file("{}: column {} is of the type {}, which no format has; leave it out of the file", name_, in_quotes(column),
                 type.ToString());
    }
  }

  // A text of the row that is being made.
  Json text_of(std::string_view text) const {
    if (const size_t at = find_invalid_utf8(text); at != text.npos) {
      bad_file("{}: row {}, column {}, byte {}: found the byte 0x{:02X}, which is not UTF-8; a column of strings must be UTF-8",
               name_, position_.row + 1, in_quotes(batch_->column_name(column_)), at, uint8_t(text[at]));
    }
    return std::string(text);
  }
  // Some programs write texts as bytes. Bytes that are no text, such as pictures, become an object, which no format takes for
  // one.
  static Json bytes_of(std::string_view bytes) {
    if (find_invalid_utf8(bytes) != bytes.npos) return {{"bytes", bytes.size()}};
    return std::string(bytes);
  }

  template <class Array>
  static Json number(const arrow::Array& array, int64_t i) {
    return static_cast<const Array&>(array).Value(i);
  }
  static Json real(double value) { return std::isfinite(value) ? Json(value) : Json(); }

  template <class Array>
  Json list(const arrow::Array& array, int64_t i) const {
    const auto& of = static_cast<const Array&>(array);
    Json out = Json::array();
    for (int64_t j = of.value_offset(i), end = j + of.value_length(i); j < end; ++j) out.push_back(json_of(*of.values(), j));
    return out;
  }

  Json json_of(const arrow::Array& array, int64_t i) const {
    using arrow::Type;
    if (array.IsNull(i)) return nullptr;
    switch (array.type_id()) {
      case Type::BOOL:
        return number<arrow::BooleanArray>(array, i);
      case Type::INT8:
        return number<arrow::Int8Array>(array, i);
      case Type::INT16:
        return number<arrow::Int16Array>(array, i);
      case Type::INT32:
        return number<arrow::Int32Array>(array, i);
      case Type::INT64:
        return number<arrow::Int64Array>(array, i);
      case Type::UINT8:
        return number<arrow::UInt8Array>(array, i);
      case Type::UINT16:
        return number<arrow::UInt16Array>(array, i);
      case Type::UINT32:
        return number<arrow::UInt32Array>(array, i);
      case Type::UINT64:
        return number<arrow::UInt64Array>(array, i);
      case Type::FLOAT:
        return real(double(static_cast<const arrow::FloatArray&>(array).Value(i)));
      case Type::DOUBLE:
        return real(static_cast<const arrow::DoubleArray&>(array).Value(i));
      case Type::STRING:
        return text_of(static_cast<const arrow::StringArray&>(array).GetView(i));
      case Type::LARGE_STRING:
        return text_of(static_cast<const arrow::LargeStringArray&>(array).GetView(i));
      case Type::BINARY:
        return bytes_of(static_cast<const arrow::BinaryArray&>(array).GetView(i));
      case Type::LARGE_BINARY:
        return bytes_of(static_cast<const arrow::LargeBinaryArray&>(array).GetView(i));
      case Type::DICTIONARY: {
        const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
        return json_of(*coded.dictionary(), coded.GetValueIndex(i));
      }
      case Type::LIST:
        return list<arrow::ListArray>(array, i);
      case Type::LARGE_LIST:
        return list<arrow::LargeListArray>(array, i);
      case Type::FIXED_SIZE_LIST:
        return list<arrow::FixedSizeListArray>(array, i);
      case Type::MAP:
        return list<arrow::MapArray>(array, i);
      case Type::STRUCT: {
        const auto& group = static_cast<const arrow::StructArray&>(array);
        Json out = Json::object();
        for (int f = 0; f < group.num_fields(); ++f) out[group.struct_type()->field(f)->name()] = json_of(*group.field(f), i);
        return out;
      }
      default:
        return value_of(array.GetScalar(i))->ToString();  // dates and the like, of columns that no format reads
    }
  }

  std::string name_;
  size_t row_bytes_;
  RowPosition position_;
  int64_t file_bytes_ = 0, rows_ = 0, skip_ = 0, at_ = 0;
  int column_ = 0;  // of which a value is being made
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
};

}  // namespace

std::unique_ptr<RowReader> parquet_rows(const std::filesystem::path& path, const std::string& name, RowPosition from,
                                        size_t row_bytes) {
  return std::make_unique<ParquetRows>(path, name, from, row_bytes);
}

}  // namespace tll
