#include "data/parquet.h"
#include "src/base/check.h"

namespace tll {

std::unique_ptr<RowReader> parquet_rows(const std::filesystem::path& path, const std::string& name, RowPosition, size_t) {
  bad_file(
      "{}: this is a Parquet file, and this program was built without Apache Arrow (make ARROW=DIR); build it with, or convert "
      "the "
      "file: python3 -c 'import pandas; pandas.read_parquet(\"{}\").to_json(\"data.jsonl\", orient=\"records\", lines=True)'",
      name, path.string());
}

}  // namespace tll
