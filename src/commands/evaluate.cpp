// evaluate: loss and perplexity of a data set, its loss by turn, and exact match and F1 of the answers to its questions; with
// --stride the perplexity of a text.
#include "src/train/evaluate.h"

#include <unistd.h>

#include <cmath>
#include <limits>
#include <set>

#include "src/base/file.h"
#include "src/base/phase.h"
#include "src/base/process.h"
#include "src/commands/commands.h"
#include "src/commands/score.h"
#include "src/commands/session.h"
#include "src/commands/whole_text.h"
#include "src/options/resolve.h"
#include "src/report/terminal.h"
#include "src/train/text_windows.h"
#include "src/train/turn_losses.h"

namespace tll {
namespace {

constexpr int kSequences = 8;    // answered at once: up to here a matmul with few rows is bound by reading the weights
constexpr int64_t kAsked = 100;  // where answers are long: a few minutes' work
constexpr int kShortAnswer = 64, kLongAnswer = 512;  // tokens at most
constexpr size_t kTurns = 8;                         // that are printed one by one

// The documents to evaluate, all marked kValidation; the others kTrain.
Dataset load_chosen(const Options& options, const ModelSource& source) {
  PrepareOptions p = prepare_options(options, source);
  p.allow_empty = true;  // samples without targets change no mean
  Dataset data = load_dataset(options.data, source.tokenizer.get(), p);
  refuse_other_choices(options, options.data, data);
  print_notes(options, data.report);
  if (!options.quiet && !options.output.empty() && data.report.repeated_ids > 0)
    fmt::print(stderr, "note: in {} the answer to a question with an earlier one's id has the key ID#2, ID#3, ...\n",
               options.output.string());
  SplitOption split = options.split;
  if (split == SplitOption::kAuto) split = data.count(Split::kValidation) > 0 ? SplitOption::kValidation : SplitOption::kAll;
  int64_t left = options.max_samples > 0 ? options.max_samples : std::numeric_limits<int64_t>::max();
  for (Document& d : data.documents) {
    const bool asked = split == SplitOption::kAll || (split == SplitOption::kValidation) == (d.split == Split::kValidation);
    d.split = asked && left-- > 0 ? Split::kValidation : Split::kTrain;
  }
  if (data.count(Split::kValidation) == 0)
    bad_file("{}: no sample is in the {} split; choose another --split, or --valid-split", options.data.string(),
             split == SplitOption::kTrain ? "train" : "validation");
  return data;
}

// As the official scoring scripts read them: {id: text}. An id that an earlier question has gets a suffix, so that no answer is
// lost.
Json predictions(const std::vector<QuestionResult>& questions) {
  std::set<std::string> ids;
  for (const QuestionResult& q : questions) ids.insert(q.id);
  Json answers = Json::object();
  for (const QuestionResult& q : questions) {
    const std::string own = q.id.empty() ? std::to_string(q.document) : q.id;
    std::string id = own;
    for (int i = 2; answers.contains(id); i++) {
      id = fmt::format("{}#{}", own, i);
      if (ids.contains(id)) id = own;
    }
    answers[id] = q.prediction;
  }
  return answers;
}

// Those that are to be answered. Of a set whose answers are long, as in chats, only some, unless --eval-samples says how many.
std::vector<Question> choose_questions(Options& options, const ModelSource& source, const Dataset& data) {
  const bool given = options.given("eval-samples");
  if (given && options.eval_samples == 0) return {};
  if (!source.tokenizer) {
    if (given) fmt::print(stderr, "note: --eval-samples: nothing is answered, since the model has no tokenizer\n");
    return {};
  }
  const auto first = [&](int64_t most) { return questions_of(data, Split::kValidation, *source.tokenizer, most); };
  std::vector<Question> questions = first(given ? options.eval_samples : 1);
  if (given && questions.empty())
    fmt::print(stderr, "note: --eval-samples: nothing is answered, since no sample has a prompt and a reference answer\n");
  if (!given && !questions.empty()) questions = first(questions[0].phrase ? 0 : kAsked + 1);
  if (!given && !questions.empty() && !questions[0].phrase && static_cast<int64_t>(questions.size()) > kAsked) {
    questions.resize(kAsked);
    if (!options.quiet)
      fmt::print(stderr, "note: the first {} samples with a reference answer are answered; --eval-samples N answers N\n", kAsked);
  }
  if (!options.given("max-new-tokens")) options.max_new_tokens = tokens_for_answers(questions, kShortAnswer, kLongAnswer);
  return questions;
}

Json turns_json(const std::vector<TurnLoss>& turns) {
  Json json = Json::array();
  for (size_t k = 0; k < turns.size(); k++)
    json.push_back({{"turn", k + 1},
                    {"loss", turns[k].sum / static_cast<double>(turns[k].target_tokens)},
                    {"target_tokens", turns[k].target_tokens}});
  return json;
}

// A line each for the first turns, and one for all later ones.
void print_turns(const std::vector<TurnLoss>& turns) {
  if (turns.size() < 2) return;
  TurnLoss later;
  for (size_t k = 0; k < turns.size(); k++) {
    if (k < kTurns)
      fmt::print("turn {}: loss {:.4f} over {}\n", k + 1, turns[k].sum / static_cast<double>(turns[k].target_tokens),
                 Counted{turns[k].target_tokens, "target"});
    else
      later.sum += turns[k].sum, later.target_tokens += turns[k].target_tokens;
  }
  if (later.target_tokens > 0)
    fmt::print("later turns: loss {:.4f} over {}\n", later.sum / static_cast<double>(later.target_tokens),
               Counted{later.target_tokens, "target"});
}

// What an evaluation that a signal ended had found, and the exit code.
int interrupted(const Stopped& stopped, const std::string& found) {
  fmt::print(stderr, "note: {}{}\n", stopped.what(), found);
  return kExitInterrupted;
}
std::string loss_so_far(std::optional<double> loss, int64_t targets) {
  if (!loss) return "";
  return fmt::format("; until then: loss {:.4f}, perplexity {:.3f} over {}", *loss, std::exp(*loss), Counted{targets, "target"});
}

[[noreturn]] void not_finite(const Options& options, double loss, int64_t targets) {
  fail(kExitCannotTrain, "the loss is {} over {} targets of {}: check the weights and the adapter", std::abs(loss), targets,
       options.data.string());
}

// --stride: perplexity of a text in windows that overlap.
template <class Float>
int evaluate_text(Options& options) {
  if (options.stride > options.seq_len)
    fail(kExitUsage, "--stride {} is longer than a window, --seq-len {}, so tokens between them would be left out; lower it",
         options.stride, options.seq_len);
  for (const char* name : {"output", "eval-samples", "max-samples", "split"})
    if (options.given(name))
      fail(kExitUsage, "--{} is about samples, and with --stride there is one text: leave out either", name);
  const ModelSource source = open_model(options, TokenizerNeed::required);
  const std::vector<int32_t> tokens = whole_text_tokens(options, *source.tokenizer, prepare_options(options, source));
  const AdapterSource adapter = open_named_adapter(options, source.config);
  const auto needs_of = [](const Options& o) { return SessionNeeds{.tokens = o.batch_size * o.seq_len, .positions = o.seq_len}; };
  Session<Float> session(options, source.config, adapter.targets, needs_of);
  session.start(source, adapter);
  catch_stop_signals();
  TextWindows windows(tokens, options.seq_len, options.stride, options.batch_size);
  try {
    session.trainer.evaluate(session.device, windows, [&](const BatchView&, const float* losses) { windows.add(losses); });
  } catch (const Stopped& stopped) {
    return interrupted(stopped, loss_so_far(windows.guide_loss(), windows.targets()));
  }
  const std::optional<double> loss = windows.guide_loss(), by_token = windows.token_loss();
  if (loss && !std::isfinite(*loss)) not_finite(options, *loss, windows.targets());
  const auto number = [](std::optional<double> x) { return x ? Json(*x) : Json(); };
  const auto perplexity = [](std::optional<double> x) { return x ? std::optional(std::exp(*x)) : std::nullopt; };
  if (options.json)
    fmt::print("{}\n", json_text({{"loss", number(loss)},
                                  {"perplexity", number(perplexity(loss))},
                                  {"exact_match", nullptr},
                                  {"f1", nullptr},
                                  {"samples", windows.windows()},
                                  {"target_tokens", windows.targets()},
                                  {"tokens", tokens.size()},
                                  {"token_loss", number(by_token)},
                                  {"token_perplexity", number(perplexity(by_token))}}));
  else
    fmt::print(
        "loss {:.4f}, perplexity {:.3f} over {} of {} in {} (as Hugging Face weights windows; the mean over targets is "
        "{:.4f}, its perplexity {:.3f})\n",
        *loss, std::exp(*loss), Counted{windows.targets(), "target"}, Counted{static_cast<int64_t>(tokens.size()), "token"},
        Counted{windows.windows(), "window"}, *by_token, std::exp(*by_token));
  print_profile(session.device, session.ceilings);
  return kExitDone;
}

template <class Float>
int evaluate_documents(Options& options) {
  refuse_output_over_inputs(options, options.output);
  ModelSource source = open_model(options, TokenizerNeed::wanted);
  const Dataset data = load_chosen(options, source);
  add_end_marks(source, data);
  const std::vector<Question> questions = choose_questions(options, source, data);
  const AdapterSource adapter = open_named_adapter(options, source.config);
  const auto needs_of = [asked = !questions.empty()](const Options& o) {
    return SessionNeeds{.sequences = asked ? kSequences : 0,
                        .tokens = o.batch_size * o.seq_len,
                        .positions = o.seq_len + (asked ? o.max_new_tokens : 0)};
  };
  Session<Float> session(options, source.config, adapter.targets, needs_of);
  session.start(source, adapter);
  catch_stop_signals();

  Loader loader(data, loader_options(options, Split::kValidation));
  LoaderBatches batches(loader);
  std::vector<TurnLoss> turns;
  typename Trainer<Float>::Evaluation result;
  Score score;
  try {
    result = session.trainer.evaluate(
        session.device, batches, [&](const BatchView& batch, const float* losses) { add_turn_losses(batch, losses, turns); },
        &result);
    if (result.loss && !std::isfinite(*result.loss)) not_finite(options, *result.loss, result.target_tokens);
    score.loss = result.loss;
    if (!questions.empty()) {
      EvaluationOptions e;
      e.max_new_tokens = static_cast<int>(options.max_new_tokens), e.eos = source.eos;
      evaluate_questions(session.device, *session.generator, data, questions, *source.tokenizer, e, score.answers.emplace());
    }
  } catch (const Stopped& stopped) {
    return interrupted(stopped, loss_so_far(result.loss, result.target_tokens) + score.answered(2));
  }
  if (score.answers && !options.output.empty())
    write_file_atomic(options.output, json_text(predictions(score.answers->questions), 1) + "\n");
  const int64_t samples = data.count(Split::kValidation);
  if (options.json) {
    Json json = {{"loss", nullptr}, {"perplexity", nullptr}, {"exact_match", nullptr},
                 {"f1", nullptr},   {"samples", samples},    {"target_tokens", result.target_tokens}};
    json.update(score.json());
    json["loss_by_turn"] = turns_json(turns);
    fmt::print("{}\n", json_text(json));
  } else {
    const std::string loss = score.loss ? fmt::format("loss {:.4f}, perplexity {:.3f} over {}", *score.loss, score.perplexity(),
                                                      Counted{result.target_tokens, "target"})
                                        : std::string("no loss, since there are no targets,");
    const std::string line = fmt::format("{} of {}{}", loss, Counted{samples, "sample"}, score.answered(2));
    fmt::print("{}\n", wrapped(line, terminal_columns(STDOUT_FILENO), 0, 0));
    print_turns(turns);
  }
  if (!options.quiet && score.answers && score.answers->new_tokens == 0)
    fmt::print(stderr, "note: every answer is empty: the first token of each was one that ends a text\n");
  print_profile(session.device, session.ceilings);
  return kExitDone;
}

}  // namespace

int command_evaluate(Options& options) {
  end_on_stop_signals();  // there is nothing to say yet
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    return options.stride > 0 ? evaluate_text<Float>(options) : evaluate_documents<Float>(options);
  });
}

}  // namespace tll
