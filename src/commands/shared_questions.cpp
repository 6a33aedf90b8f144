#include "src/commands/shared_questions.h"

#include "src/base/json.h"

namespace tll {
namespace {

Json json_of(const QuestionResult& q) {
  return {{"document", q.document}, {"prompt_tokens", q.prompt_tokens},   {"id", q.id},      {"prediction", q.prediction},
          {"gold", q.gold},         {"exact_match", q.score.exact_match}, {"f1", q.score.f1}};
}

QuestionResult question_of(const Json& json) {
  QuestionResult q;
  q.document = json.at("document").get<int64_t>(), q.prompt_tokens = json.at("prompt_tokens").get<int32_t>();
  q.id = json.at("id").get<std::string>(), q.prediction = json.at("prediction").get<std::string>();
  for (const Json& gold : json.at("gold")) q.gold.push_back(gold.get<std::string>());
  q.score = {json.at("exact_match").get<double>(), json.at("f1").get<double>()};
  return q;
}

}  // namespace

std::vector<Question> own_questions(const Collectives& collectives, const std::vector<Question>& questions) {
  std::vector<Question> own;
  for (size_t i = static_cast<size_t>(collectives.rank()); i < questions.size(); i += static_cast<size_t>(collectives.size()))
    own.push_back(questions[i]);
  return own;
}

EvaluationResult gather_results(Collectives& collectives, const EvaluationResult& own) {
  Json json = {{"prompt_tokens", own.prompt_tokens}, {"new_tokens", own.new_tokens}, {"questions", Json::array()}};
  for (const QuestionResult& q : own.questions) json["questions"].push_back(json_of(q));
  std::vector<Json> ranks;
  for (const std::string& text : gather_texts(collectives, json_text(json)))
    ranks.push_back(parse_json(text, "a rank's answers"));
  EvaluationResult all;
  for (const Json& rank : ranks) {
    all.prompt_tokens += rank.at("prompt_tokens").get<int64_t>();
    all.new_tokens += rank.at("new_tokens").get<int64_t>();
  }
  for (size_t i = 0;; i++) {
    const Json& questions = ranks[i % ranks.size()].at("questions");
    if (i / ranks.size() >= questions.size()) return all;
    all.questions.push_back(question_of(questions.at(i / ranks.size())));
    all.totals.add(all.questions.back().score);
  }
}

}  // namespace tll
