#include "src/base/json.h"

#include <gtest/gtest.h>

#include <string>

#include "src/base/check.h"
#include "tests/refusal.h"

namespace tll {
namespace {

// The message of the Error that `text` is refused with; empty if it is accepted.
std::string refusal(const std::string& text) {
  return message_of([&] { parse_json(text, "f.json"); });
}

std::string nested(int depth) { return std::string(size_t(depth), '[') + std::string(size_t(depth), ']'); }

TEST(Json, ReadsEveryKindOfValue) {
  const Json value = parse_json(R"({"a": [1, -2, 2.5, "\u00e4\n", true, false, null], "b": {"c": {}}})", "f.json");
  EXPECT_EQ(value.at("a").dump(), R"([1,-2,2.5,"ä\n",true,false,null])");
  EXPECT_TRUE(value.at("b").at("c").empty());
  EXPECT_TRUE(value.at("a").at(0).is_number_unsigned());
  EXPECT_EQ(parse_json(" 7 \n", "f.json").get<int>(), 7);
  EXPECT_EQ(parse_json("18446744073709551615", "f").get<uint64_t>(), 18446744073709551615u);
  EXPECT_TRUE(parse_json("-0", "f").is_number_integer());
  EXPECT_FALSE(parse_json("-0", "f").is_number_unsigned());  // strict readers of sizes rely on this
}

TEST(Json, OrderedKeepsTheOrderOfTheFile) {
  const OrderedJson value = parse_ordered_json(R"({"z": 1, "a": {"y": 2, "b": 3}, "m": [{"q": 1, "c": 2}]})", "f.json");
  EXPECT_EQ(value.dump(), R"({"z":1,"a":{"y":2,"b":3},"m":[{"q":1,"c":2}]})");
  EXPECT_THROW(parse_ordered_json(R"({"z": 1, "a": 2, "z": 3})", "f.json"), Error);
}

TEST(Json, TextOfWhatIsNotUtf8) {
  EXPECT_EQ(json_text({{"path", "a\xFFz"}, {"n", 1}}), "{\"n\":1,\"path\":\"a\xEF\xBF\xBDz\"}");
  EXPECT_EQ(json_text(Json::array({1}), 1), "[\n 1\n]");
}

TEST(Json, RefusesWithFileLineAndByte) {
  EXPECT_EQ(refusal("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}"), "f.json: line 3, byte 21: the key \"a\" appears twice");
  EXPECT_EQ(refusal("{\"a\": 1,\n \"b\" 2}").find("f.json: line 2, byte 14: not valid JSON: "), 0u)
      << refusal("{\"a\": 1,\n \"b\" 2}");
  EXPECT_EQ(refusal("{\"a\": 1} x").find("f.json: line 1, byte 9: not valid JSON"), 0u) << refusal("{\"a\": 1} x");
  EXPECT_TRUE(says(refusal("{\"a\": "), "unexpected end of input"));
}

TEST(Json, MessagesAreShort) {
  EXPECT_EQ(refusal(""), "f.json: expected JSON, found nothing");
  EXPECT_TRUE(says(refusal("{\"a\": 1e999}"), "number too large"));
  EXPECT_LT(refusal(std::string(1'000'000, '9')).size(), 200u);
}

TEST(Json, RefusesWhatIsNotStrictJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "{a:1}",
                           "'a'",
                           "01",
                           "1.",
                           "+1",
                           ".5",
                           "NaN",
                           "Infinity",
                           "1e999",
                           "tru",
                           "{\"a\":1}{}",
                           "// c\n1",
                           "\"\\ud800\"",
                           "\"\\udc00\\ud800\"",
                           "\"\x80\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xc0\x80\"",
                           "\"a\nb\"",
                           "\"\\x41\"",
                           "\xEF\xBB\xBF{}",
                           "[1",
                           "\"",
                           "\"\\u12"})
    EXPECT_NE(refusal(text), "") << text;
  EXPECT_NE(refusal(std::string("{}\0x", 4)), "");  // nlohmann alone takes NUL for the end
  EXPECT_NE(refusal(std::string("{\"a\0\":1}", 8)), "");
  EXPECT_NE(refusal(R"({"a": {"b": 1, "c": [{"b": 2, "b": 3}]}})"), "");
  EXPECT_NE(refusal(R"({"a": 1, "\u0061": 2})"), "");  // the same key written in two ways
  EXPECT_EQ(refusal(R"({"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]})"), "");
}

TEST(Json, LimitsDepth) {
  EXPECT_EQ(refusal(nested(127)), "");
  EXPECT_TRUE(says(refusal(nested(128)), "nested deeper than 127"));
  EXPECT_NE(refusal(std::string(2'000'000, '[')), "");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_NE(refusal(objects), "");
  EXPECT_THROW(parse_json("[[1]]", "f", 1), Error);
  EXPECT_EQ(parse_json("[1]", "f", 1).size(), 1u);
}

TEST(Json, ManyKeysInOneObjectAreFast) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  text.back() = '}';
  EXPECT_EQ(parse_ordered_json(text, "f").size(), 200'000u);
}

TEST(Json, InQuotesIsOneLineAndShort) {
  EXPECT_EQ(in_quotes("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\x0a\\x01\"");
  EXPECT_EQ(in_quotes("ä€😀"), "\"ä€😀\"");
  EXPECT_EQ(in_quotes("\xff\xc3(\xed\xa0\x80"), "\"\\xff\\xc3(\\xed\\xa0\\x80\"");
  EXPECT_EQ(in_quotes(std::string(1000, 'x'), 3), "\"xxx...\"");
}

}  // namespace
}  // namespace tll
