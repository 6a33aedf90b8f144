// evaluate: loss and perplexity of a data set, and exact match and F1 of the answers to its questions.
#include "src/train/evaluate.h"

#include <cmath>
#include <limits>

#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/commands/score.h"
#include "src/commands/session.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

constexpr int kSequences = 8;  // answered at once: up to here a matmul with few rows is bound by reading the weights

// The documents to evaluate, all marked kValidation; the others kTrain.
Dataset load_chosen(const Options& options, const ModelSource& source) {
  PrepareOptions p = prepare_options(options, source.config);
  p.allow_empty = true;  // samples without targets change no mean
  Dataset data = load_dataset(options.data, source.tokenizer.get(), p);
  if (!options.quiet)
    for (const std::string& note : data.report.notes()) fmt::print(stderr, "note: {}\n", note);
  SplitOption split = options.split;
  if (split == SplitOption::kAuto) split = data.count(Split::kValidation) > 0 ? SplitOption::kValidation : SplitOption::kAll;
  int64_t left = options.max_samples > 0 ? options.max_samples : std::numeric_limits<int64_t>::max();
  for (Document& d : data.documents) {
    const bool asked = split == SplitOption::kAll || (split == SplitOption::kValidation) == (d.split == Split::kValidation);
    d.split = asked && left-- > 0 ? Split::kValidation : Split::kTrain;
  }
  return data;
}

}  // namespace

int command_evaluate(Options& options) {
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    const ModelSource source = open_model(options, TokenizerNeed::wanted);
    const Dataset data = load_chosen(options, source);
    const std::vector<int64_t> questions = source.tokenizer ? question_indices(data, Split::kValidation) : std::vector<int64_t>();
    const AdapterSource adapter = open_named_adapter(options, source.config);
    const auto needs_of = [asked = !questions.empty()](const Options& o) {
      return SessionNeeds{.sequences = asked ? kSequences : 0,
                          .tokens = o.batch_size * o.seq_len,
                          .positions = o.seq_len + (asked ? o.max_new_tokens : 0)};
    };
    Session<Float> session(options, source.config, adapter.targets, needs_of);
    session.start(source, adapter);

    Loader loader(data, loader_options(options, Split::kValidation));
    const auto result = session.trainer.evaluate(session.device, loader);
    if (result.loss && !std::isfinite(*result.loss))
      fail(kExitCannotTrain, "the loss is {} over {} targets of {}: check the weights and the adapter", std::abs(*result.loss),
           result.target_tokens, options.data.string());
    Score score{result.loss, std::nullopt};
    if (!questions.empty()) {
      EvaluationOptions e;
      e.max_new_tokens = static_cast<int>(options.max_new_tokens), e.eos = source.eos;
      score.answers = evaluate_questions(session.device, *session.generator, data, questions, *source.tokenizer, e);
      if (!options.output.empty()) {
        Json predictions = Json::object();  // as the official scoring scripts read them: {id: text}
        for (const QuestionResult& q : score.answers->questions) predictions[q.id] = q.prediction;
        write_file_atomic(options.output, predictions.dump(1) + "\n");
      }
    }
    const int64_t samples = data.count(Split::kValidation);
    if (options.json) {
      Json json = {{"loss", nullptr}, {"perplexity", nullptr}, {"exact_match", nullptr},
                   {"f1", nullptr},   {"samples", samples},    {"target_tokens", result.target_tokens}};
      json.update(score.json());
      fmt::print("{}\n", json.dump());
    } else {
      const std::string loss = score.loss ? fmt::format("loss {:.4f}, perplexity {:.3f} over {} targets", *score.loss,
                                                        score.perplexity(), result.target_tokens)
                                          : std::string("no loss, since there are no targets,");
      fmt::print("{} of {} samples{}\n", loss, samples, score.answered(2));
    }
    print_profile(session.device, session.ceilings);
    return kExitDone;
  });
}

}  // namespace tll
