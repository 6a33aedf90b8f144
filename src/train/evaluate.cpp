#include "src/train/evaluate.h"

#include <algorithm>
#include <numeric>

#include "data/squad.h"
#include "src/base/phase.h"

namespace tll {
std::vector<int64_t> question_indices(const Dataset& dataset, std::optional<Split> split, int64_t most) {
  std::vector<int64_t> indices;
  for (size_t i = 0; i < dataset.documents.size(); i++) {
    const Document& d = dataset.documents[i];
    if (d.prompt_tokens == 0 || (split && d.split != *split)) continue;
    if (most > 0 && static_cast<int64_t>(indices.size()) == most) break;
    indices.push_back(static_cast<int64_t>(i));
  }
  return indices;
}

template <class Float>
EvaluationResult evaluate_questions(const Device& device, Generator<Float>& generator, const Dataset& dataset,
                                    const std::vector<int64_t>& documents, const Tokenizer& tokenizer,
                                    const EvaluationOptions& options) {
  const auto document = [&](size_t i) -> const Document& { return dataset.documents[static_cast<size_t>(documents[i])]; };
  // Long prompts first: the rows of a forward pass fill up well, and no long sequence runs alone at the end.
  std::vector<size_t> order(documents.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return document(a).prompt_tokens > document(b).prompt_tokens; });

  EvaluationResult result;
  std::vector<GenerateRequest> requests;
  for (const size_t i : order) {
    requests.push_back({.prompt = dataset.prompt_of(document(i)), .max_new_tokens = options.max_new_tokens});
    result.prompt_tokens += document(i).prompt_tokens;
  }
  Phase phase("answering questions", static_cast<int64_t>(requests.size()));
  const auto on_token = [&](size_t, int32_t) {
    phase.advance(0);  // a signal to stop is answered within a token
    return true;
  };
  const auto on_end = [&](size_t) { phase.advance(); };
  const SamplingOptions greedy{.eos = options.eos, .vocab_size = tokenizer.vocab_size()};
  const std::vector<std::vector<int32_t>> answers = generator.generate(device, requests, greedy, on_token, on_end);

  result.questions.resize(documents.size());
  for (size_t r = 0; r < order.size(); r++) {
    const Document& d = document(order[r]);
    QuestionResult& q = result.questions[order[r]];
    q.document = documents[order[r]];
    q.id = dataset.id_of(d);
    const int room = std::min(options.max_new_tokens, generator.capacity() - d.prompt_tokens + 1);
    const bool ended = static_cast<int>(answers[r].size()) < room;
    q.prediction = answer_from_generation(tokenizer.decode(answers[r]), ended, dataset.unanswerable_trained);
    q.gold = dataset.answers_of(d, &tokenizer);
    q.score = score_question(q.prediction, q.gold, dataset.rules);
    result.new_tokens += static_cast<int64_t>(answers[r].size());
  }
  for (const QuestionResult& q : result.questions) result.totals.add(q.score);
  return result;
}

#define TLL_EVALUATE(Float)                                                                                                   \
  template EvaluationResult evaluate_questions(const Device&, Generator<Float>&, const Dataset&, const std::vector<int64_t>&, \
                                               const Tokenizer&, const EvaluationOptions&);
TLL_EVALUATE(float)
TLL_EVALUATE(bf16)
TLL_EVALUATE(half)
TLL_EVALUATE(double)

}  // namespace tll
