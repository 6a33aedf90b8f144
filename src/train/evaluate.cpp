#include "src/train/evaluate.h"

#include <algorithm>
#include <numeric>

#include "data/squad.h"
#include "src/base/phase.h"

namespace tll {

std::optional<Question> question_of(const Dataset& dataset, int64_t document, const Tokenizer& tokenizer) {
  const Document& d = dataset.documents[static_cast<size_t>(document)];
  if (!d.question || d.prompt_tokens == 0) return std::nullopt;
  return Question{.document = document,
                  .prompt_tokens = d.prompt_tokens,
                  .answer_tokens = d.length - d.prompt_tokens,
                  .phrase = dataset.format == DataFormat::kSquad || dataset.format == DataFormat::kAuto,
                  .gold = dataset.answers_of(d, &tokenizer)};
}

std::vector<Question> questions_of(const Dataset& dataset, std::optional<Split> split, const Tokenizer& tokenizer, int64_t most) {
  std::vector<Question> questions;
  for (size_t i = 0; i < dataset.documents.size(); i++) {
    if (split && dataset.documents[i].split != *split) continue;
    if (most > 0 && static_cast<int64_t>(questions.size()) == most) break;
    if (auto question = question_of(dataset, static_cast<int64_t>(i), tokenizer)) questions.push_back(std::move(*question));
  }
  return questions;
}

int tokens_for_answers(const std::vector<Question>& questions, int phrase, int most) {
  int tokens = phrase;
  for (const Question& q : questions)
    if (!q.phrase) tokens = std::max(tokens, std::min(most, q.answer_tokens));
  return tokens;
}

template <class Float>
void evaluate_questions(const Device& device, Generator<Float>& generator, const Dataset& dataset,
                        const std::vector<Question>& questions, const Tokenizer& tokenizer, const EvaluationOptions& options,
                        EvaluationResult& result) {
  // Long prompts first: the rows of a forward pass fill up well, and no long sequence runs alone at the end.
  std::vector<size_t> order(questions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return questions[a].prompt_tokens > questions[b].prompt_tokens; });

  std::vector<GenerateRequest> requests;
  for (const size_t i : order) {
    const Document& d = dataset.documents[static_cast<size_t>(questions[i].document)];
    const auto prompt = dataset.tokens_of(d).first(static_cast<size_t>(questions[i].prompt_tokens));
    requests.push_back({.prompt = prompt, .max_new_tokens = options.max_new_tokens});
  }
  std::vector<std::vector<int32_t>> answers(questions.size());
  std::vector<std::optional<QuestionResult>> results(questions.size());
  const auto score = [&](size_t request) {
    const Question& question = questions[order[request]];
    QuestionResult q;
    q.document = question.document, q.prompt_tokens = question.prompt_tokens;
    q.id = dataset.id_of(dataset.documents[static_cast<size_t>(q.document)]);
    const int room = std::min(options.max_new_tokens, generator.capacity() - q.prompt_tokens + 1);
    const bool ended = static_cast<int>(answers[request].size()) < room;
    const bool of_lines = std::any_of(question.gold.begin(), question.gold.end(),
                                      [](const std::string& gold) { return gold.find('\n') != std::string::npos; });
    q.prediction = answer_from_generation(tokenizer.decode(answers[request]), ended || of_lines, dataset.unanswerable_trained);
    q.gold = question.gold;
    q.score = score_question(q.prediction, q.gold, dataset.rules);
    result.prompt_tokens += q.prompt_tokens;
    result.new_tokens += static_cast<int64_t>(answers[request].size());
    results[order[request]] = std::move(q);
  };
  const auto collect = [&] {
    for (auto& q : results) {
      if (!q) continue;
      result.totals.add(q->score);
      result.questions.push_back(std::move(*q));
    }
  };

  Phase phase("answering questions", static_cast<int64_t>(requests.size()));
  const auto on_token = [&](size_t request, int32_t token) {
    answers[request].push_back(token);
    phase.advance(0);  // a signal to stop is answered within a token
    return true;
  };
  const auto on_end = [&](size_t request) {
    score(request);
    phase.advance();
  };
  const SamplingOptions greedy{.eos = options.eos, .vocab_size = tokenizer.vocab_size()};
  try {
    generator.generate(device, requests, greedy, on_token, on_end);
  } catch (const Stopped&) {
    collect();
    throw;
  }
  collect();
}

#define TLL_EVALUATE(Float)                                                                                        \
  template void evaluate_questions(const Device&, Generator<Float>&, const Dataset&, const std::vector<Question>&, \
                                   const Tokenizer&, const EvaluationOptions&, EvaluationResult&);
TLL_EVALUATE(float)
TLL_EVALUATE(bf16)
TLL_EVALUATE(half)
TLL_EVALUATE(double)

}  // namespace tll
