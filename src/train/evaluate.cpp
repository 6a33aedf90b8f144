#include "src/train/evaluate.h"

#include <algorithm>
#include <numeric>

#include "data/squad.h"
#include "src/base/phase.h"

namespace tll {
namespace {

bool contains(const std::vector<int32_t>& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

}  // namespace

std::optional<Question> question_of(const Dataset& dataset, int64_t document, const Tokenizer& tokenizer,
                                    const std::vector<int32_t>& eos) {
  const Document& d = dataset.documents[static_cast<size_t>(document)];
  if (d.prompt_tokens == 0) return std::nullopt;
  const std::span<const int32_t> tokens = dataset.tokens_of(d);
  const auto trained = [&](int32_t t) { return dataset.label(d, t) != kNotTrained; };
  int32_t end = d.length;
  while (end > 0 && !trained(end - 1)) end--;
  int32_t begin = end;
  while (begin > 0 && trained(begin - 1)) begin--;
  Question q{.document = document, .prompt_tokens = d.prompt_tokens, .gold = dataset.answers_of(d)};
  q.stored = !q.gold.empty() || dataset.rules == SquadRules::kV2;
  if (!q.stored) {
    q.prompt_tokens = begin;
    const auto first_end =
        std::find_if(tokens.begin() + begin, tokens.begin() + end, [&](int32_t id) { return contains(eos, id); });
    q.gold = {tokenizer.decode({tokens.begin() + begin, first_end})};
    if (begin == 0 || squad_normalize(q.gold[0]).empty()) return std::nullopt;
  }
  q.answer_tokens = end - begin;
  return q;
}

std::vector<Question> questions_of(const Dataset& dataset, std::optional<Split> split, const Tokenizer& tokenizer,
                                   const std::vector<int32_t>& eos, int64_t most) {
  std::vector<Question> questions;
  for (size_t i = 0; i < dataset.documents.size(); i++) {
    if (split && dataset.documents[i].split != *split) continue;
    if (most > 0 && static_cast<int64_t>(questions.size()) == most) break;
    if (auto question = question_of(dataset, static_cast<int64_t>(i), tokenizer, eos)) questions.push_back(std::move(*question));
  }
  return questions;
}

int tokens_for_answers(const std::vector<Question>& questions, int short_answers, int most) {
  int tokens = short_answers;
  for (const Question& q : questions)
    if (!q.stored) tokens = std::max(tokens, std::min(most, q.answer_tokens));
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
    QuestionResult q{.document = question.document, .prompt_tokens = question.prompt_tokens};
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
