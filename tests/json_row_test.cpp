// Rows of JSON read fast: the values, shapes and refusals of parse_json.
#include "data/json_row.h"

#include <gtest/gtest.h>

#include <random>

#include "src/base/check.h"
#include "tests/refusal.h"

namespace tll {
namespace {

TEST(JsonRow, ShapesNameKindsOfValues) {
  ShapeScanner scanner;
  ASSERT_TRUE(scanner.scan(R"( {"a":null,"b":"","c":"x","d":1.5,"e":true,"f":{},"g":[],"h":["x"],"i":[{}],"j":[[1]],"k":[0]} )"));
  std::string kinds;
  for (const auto& [key, kind] : scanner.shape()) kinds += char(kind);
  EXPECT_EQ(kinds, "0\"s1b{]SOLN");
  const auto hash = scanner.scan(R"({"a":1,"b":"x"})");
  EXPECT_EQ(hash, scanner.scan("{ \"a\" : 2 ,\n\"b\":\"y\\n\\u00e4\" }"));
  for (const char* other :
       {R"({"a":1,"b":""})", R"({"b":"x","a":1})", R"({"a":1})", R"({"a":1,"c":"x"})", R"({"a":"1","b":"x"})"})
    EXPECT_NE(hash, scanner.scan(other)) << other;
  for (const char* none : {"", "[]", "1", R"({"a":1,"a":2})", R"({"\u0061":1})", R"({"a":1)", R"({"a":1}})", R"({"a":tru})",
                           "{\"a\":\"\n\"}", R"({"a":01})"})
    EXPECT_FALSE(scanner.scan(none)) << none;
}

// Where it reads a value, it is parse_json's; where parse_json refuses, it does.
TEST(JsonRow, ReadsWhatTheStrictReaderReads) {
  std::vector<std::string> texts = {"0",
                                    "-0",
                                    "-0.0",
                                    "1e5",
                                    "1E+2",
                                    "1e400",
                                    "-1e-400",
                                    "123456789012345678",
                                    "1234567890123456789",
                                    "18446744073709551616",
                                    "01",
                                    "1.",
                                    ".5",
                                    "+1",
                                    "\"\\ud83c\\udf4e \\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                    "\"\\ud83c\"",
                                    "\"\\udf4e\"",
                                    "\"\\ud83cx\"",
                                    "\"\\x\"",
                                    "\"\\u12g4\"",
                                    "\"\t\"",
                                    "\"\xC3\xA4\"",
                                    "\"\xC3\"",
                                    "\"\xED\xA0\x80\"",
                                    "nul",
                                    "null",
                                    "true",
                                    "[1,]",
                                    "[,1]",
                                    "[1 2]",
                                    "{\"a\"}",
                                    "{\"a\":}",
                                    "{a:1}",
                                    "{\"a\":1,}",
                                    "{\"a\":1,\"a\":1}",
                                    "[] x",
                                    "\"a",
                                    std::string(127, '[') + std::string(127, ']'),
                                    std::string(128, '[') + std::string(128, ']'),
                                    std::string("\"a\0b\"", 5),
                                    std::string("[]\0", 3),
                                    "\xEF\xBB\xBF[]",
                                    "\"12345678\\\"0123456789\"",
                                    "\"1234567\x7F\xF0\x9F\x8D\x8E\""};
  const std::string seed =
      R"({"instruction":"Wr\u00efte \ud83c\udf4e \"x\"\n","input":null,"n":[1,-2.5e3,true,{"k":[]}],"output":"ä𝄞 ok"})";
  std::mt19937 random(1);
  constexpr std::string_view kBytes = "\"\\{}[]:,0123456789.eE+-truefalsnud \n\t\xC3\xA4\x80\xF0";
  for (int i = 0; i < 20000; ++i) {
    std::string text = seed;
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, 1 + random() % 3);
      else if (random() % 2)
        text[at] = kBytes[random() % kBytes.size()];
      else
        text.insert(at, 1, kBytes[random() % kBytes.size()]);
      if (text.empty()) text = "x";
    }
    texts.push_back(text);
  }
  int accepted = 0, plain = 0;
  for (const std::string& text : texts) {
    Json expected, found;
    bool good = true;
    try {
      expected = parse_json(text, "f");
    } catch (const Error&) {
      good = false;
    }
    const bool fast = parse_plain_row(text, found);
    if (fast) {
      ASSERT_TRUE(good) << text;
      ASSERT_EQ(found, expected) << text;
      ASSERT_EQ(found.dump(), expected.dump()) << text;
    }
    accepted += good, plain += fast;
    ShapeScanner scanner;
    if (scanner.scan(text)) {
      if (!good) {
        EXPECT_TRUE(says(message_of([&] { parse_json(text, "f"); }), "appears twice")) << text;
      }
    }
  }
  EXPECT_GT(accepted, 2000);
  EXPECT_GT(plain, accepted * 9 / 10);
}

TEST(JsonRow, ErrorsNameTheRowAndTheByte) {
  EXPECT_TRUE(says(refusal_of([] { parse_row("{\"a\": x}", "f: line 7"); }), "f: line 7, byte 6: not valid JSON"));
  EXPECT_TRUE(says(refusal_of([] { parse_row("{\"a\": \"\xE9\"}", "f: line 7"); }),
                   "f: line 7, byte 7: found the byte 0xE9, which is not UTF-8"));
  EXPECT_TRUE(says(refusal_of([] { parse_row("", "f: [3]"); }), "f: [3]"));
}

}  // namespace
}  // namespace tll
