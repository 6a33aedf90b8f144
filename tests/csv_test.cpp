// Tables in text: records as RFC 4180 has them, and what looks like a table.
#include "data/csv.h"

#include <gtest/gtest.h>

#include "src/base/json.h"
#include "tests/refusal.h"

namespace tll {
namespace {

// The rows as JSON, one a line, each behind its place.
std::string rows(const std::string& text, std::string* columns = nullptr) {
  const auto reader = table_rows(RowBuffer(bytes_of(text), "f.csv", {}, 1000000), std::nullopt, 0);
  std::string out;
  for (std::string row; reader->next(row); row.clear()) out += reader->where() + " " + parse_json(row, "row").dump() + "\n";
  EXPECT_EQ(reader->position().bytes, int64_t(text.size()));
  if (columns && reader->header()) {
    for (const std::string& c : reader->header()->columns) *columns += c + "|";
  }
  return out;
}

TEST(Csv, Records) {
  const std::string expected = "line 2 {\"a\":\"1\",\"b\":\"2\"}\nline 3 {\"a\":\"\",\"b\":\"x y\"}\n";
  for (const char* text :
       {"a,b\n1,2\n,x y\n", "a,b\r\n1,2\r\n,x y",
        "\xEF\xBB\xBF"
        "a,b\n1,2\n,x y\n",
        "a;b\n1;2\n;x y\n", "a\tb\n1\t2\n\tx y\n", "\"a\",\"b\"\n\"1\",\"2\"\n\"\",\"x y\"\n", "a,b\r1,2\r,x y\r"}) {
    EXPECT_EQ(rows(text), expected) << text;
  }
}

TEST(Csv, QuotedFields) {
  EXPECT_EQ(rows("a,b\n\"x,\"\"y\"\"\",\"1\n2\r\n3\"\n\"\"\"\",z\"q\n"),
            "line 2 {\"a\":\"x,\\\"y\\\"\",\"b\":\"1\\n2\\r\\n3\"}\nline 5 {\"a\":\"\\\"\",\"b\":\"z\\\"q\"}\n");
  std::string control = "a,b\n\x01\x1f\\,\x7F\n";
  EXPECT_EQ(rows(control), "line 2 {\"a\":\"\\u0001\\u001f\\\\\",\"b\":\"\x7F\"}\n");
}

TEST(Csv, BlankLinesAndEnds) {
  EXPECT_EQ(rows("text\n\n\nx\n\n\n"), "line 4 {\"text\":\"x\"}\n");
  EXPECT_EQ(rows("a,b\n,\n"), "line 2 {\"a\":\"\",\"b\":\"\"}\n");
  EXPECT_EQ(rows("a,b\n1,"), "line 2 {\"a\":\"1\",\"b\":\"\"}\n");
  EXPECT_EQ(rows("a,b\n"), "");
  EXPECT_EQ(rows(""), "");
  std::string columns;
  rows(",\"q,r\"\n0,x\n", &columns);
  EXPECT_EQ(columns, "|q,r|") << "an index without a name, as pandas writes it";
}

// Chunks of the file end anywhere.
TEST(Csv, AcrossChunks) {
  std::string text = "a,b\r\n", expected;
  for (int i = 0; text.size() < 400000; ++i) {
    const std::string field(size_t(i % 97), char('a' + i % 26));
    text += fmt::format("\"{}\"\"\r\n{}\",{}\r\n", field, field, field);
    expected += fmt::format("line {} {}\n", 2 + 2 * i, Json{{"a", field + "\"\r\n" + field}, {"b", field}}.dump());
  }
  EXPECT_EQ(rows(text), expected);
}

TEST(Csv, EscapesCountInALongRow) {
  const auto read = [](size_t controls) {
    const std::string text = "a,b\nx," + std::string(controls, '\x01') + "\n";
    std::string row;
    table_rows(RowBuffer(bytes_of(text), "f.csv", {}, 1000), std::nullopt, 0)->next(row);
    return row.size();
  };
  EXPECT_EQ(read(150), std::string(R"({"a":"x","b":""})").size() + 6 * 150);
  EXPECT_TRUE(says(refusal_of([&] { read(200); }), "f.csv: line 2: this row is longer than 0.98 KiB"));
}

TEST(Csv, LooksLikeATable) {
  for (const char* head : {"instruction,input,output\nDo,,done\n", "\"question\";\"answer\"\r\nq;a\r\n", "id\ttext\n1\thi\n",
                           "a,b\n\"long\ntext\",x\n"})
    EXPECT_TRUE(looks_like_table(head)) << head;
  for (const char* head : {"a,", ",a\n1,2", "a,,b\n1,2,3", "a, b\n1, 2", "a\n1\n", "a,b\n", "a,b\n\n1,2", "a,b\n1,2,3\n", "",
                           "Hello world,\nfriend,\n"})
    EXPECT_FALSE(looks_like_table(head)) << head;
}

}  // namespace
}  // namespace tll
