// Commands that run a model without training it: evaluate, generate, dump.
#include <algorithm>
#include <cmath>

#include "data/tokenize.h"
#include "src/base/file.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/session.h"
#include "src/files/safetensors.h"
#include "src/model/plan.h"
#include "src/report/profile.h"
#include "src/train/evaluate.h"

namespace tll {
namespace {

constexpr int kSequences = 8;  // answered at once: up to here a product with a few rows is bound by reading the weights

// An adapter that was named, or none at all: unlike in training, there is no fresh one.
AdapterSource named_adapter(const Options& options, const LlamaConfig& config) {
  return options.adapter.empty() ? AdapterSource{} : open_adapter(options, config, options.adapter);
}

// The documents that --split asks for, all marked kValidation; the others kTrain.
void choose_split(Dataset& data, SplitOption split) {
  if (split == SplitOption::kAuto) split = data.count(Split::kValidation) > 0 ? SplitOption::kValidation : SplitOption::kAll;
  for (Document& d : data.documents) {
    const bool chosen = split == SplitOption::kAll || (split == SplitOption::kValidation) == (d.split == Split::kValidation);
    d.split = chosen ? Split::kValidation : Split::kTrain;
  }
}

template <class Float>
int evaluate_with(const Options& options) {
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  PrepareOptions p = prepare_options(options, source.config);
  p.allow_empty = true;  // samples without targets change no mean
  Dataset data = load_dataset(options.data, source.tokenizer.get(), p);
  if (!options.quiet)
    for (const std::string& note : data.report.notes()) fmt::print(stderr, "note: {}\n", note);
  choose_split(data, options.split);
  if (options.max_samples > 0) {
    int64_t left = options.max_samples;
    for (Document& d : data.documents)
      if (d.split == Split::kValidation && left-- <= 0) d.split = Split::kTrain;
  }
  const std::vector<int64_t> questions = source.tokenizer ? question_indices(data, Split::kValidation) : std::vector<int64_t>();

  const AdapterSource adapter = named_adapter(options, source.config);
  SessionNeeds needs;
  needs.tokens = options.batch_size * options.seq_len;
  needs.positions = options.seq_len + (questions.empty() ? 0 : options.max_new_tokens);
  needs.sequences = questions.empty() ? 0 : kSequences;
  Session<Float> session(options, source.config, adapter.targets, needs);
  session.start(source, adapter);

  LoaderOptions l;
  l.rows = static_cast<int32_t>(options.batch_size), l.seq_len = static_cast<int32_t>(options.seq_len);
  l.split = Split::kValidation, l.shuffle = false, l.packing = options.packing;
  Loader loader(data, l);
  const auto result = session.trainer.evaluate(session.device, loader);
  Json json = {{"loss", result.loss}, {"perplexity", std::exp(result.loss)},       {"exact_match", nullptr},
               {"f1", nullptr},       {"samples", data.count(Split::kValidation)}, {"target_tokens", result.target_tokens}};
  std::string answers;
  if (!questions.empty()) {
    EvaluationOptions e;
    e.max_new_tokens = static_cast<int>(options.max_new_tokens), e.eos = source.eos;
    const EvaluationResult r = evaluate_questions(session.device, *session.generator, data, questions, *source.tokenizer, e);
    json["exact_match"] = r.totals.exact_match(), json["f1"] = r.totals.f1(), json["questions"] = r.totals.questions;
    answers =
        fmt::format(", exact match {:.2f}, F1 {:.2f} on {} questions", r.totals.exact_match(), r.totals.f1(), r.totals.questions);
    if (!options.output.empty()) {  // as the official scoring scripts read it
      Json predictions = Json::object();
      for (const QuestionResult& q : r.questions) predictions[q.id] = q.prediction;
      write_file_atomic(options.output, predictions.dump(1) + "\n");
    }
  }
  if (options.json)
    fmt::print("{}\n", json.dump());
  else
    fmt::print("loss {:.4f}, perplexity {:.3f} over {} targets of {} samples{}\n", result.loss, std::exp(result.loss),
               result.target_tokens, data.count(Split::kValidation), answers);
  print_profile(session.device, session.peak_flops, session.peak_bytes);
  return kExitDone;
}

template <class Float>
int generate_with(const Options& options) {
  const ModelSource source = open_model(options, TokenizerNeed::required);
  const std::vector<int32_t> prompt = tokenize_prompt(*source.tokenizer, options.prompt);
  if (prompt.empty()) fail(kExitUsage, "--prompt is empty, and this model has no token that begins a text");
  const int64_t positions = static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  if (positions > source.config.max_positions)
    fail(kExitUsage, "the prompt has {} tokens and --max-new-tokens is {}, but the model has {} positions", prompt.size(),
         options.max_new_tokens, source.config.max_positions);
  const AdapterSource adapter = named_adapter(options, source.config);
  SessionNeeds needs;
  needs.tokens = static_cast<int64_t>(prompt.size()), needs.positions = positions, needs.sequences = 1;
  Session<Float> session(options, source.config, adapter.targets, needs);
  session.start(source, adapter);

  const GenerateRequest request{prompt, static_cast<int>(options.max_new_tokens)};
  const SamplingOptions sampling{options.temperature, static_cast<uint64_t>(options.seed), source.eos,
                                 source.tokenizer->vocab_size()};
  StreamDecoder stream(*source.tokenizer);
  const auto show = [&](size_t, int32_t token) {
    const std::string text = stream.push(token);
    if (!options.json) std::fwrite(text.data(), 1, text.size(), stdout), std::fflush(stdout);
    return true;
  };
  const auto ids = session.generator->generate(session.device, {&request, 1}, sampling, show);
  if (options.json)
    fmt::print("{}\n", Json{{"ids", ids[0]}, {"text", source.tokenizer->decode(ids[0])}}.dump());
  else
    fmt::print("{}\n", stream.finish());
  print_profile(session.device, session.peak_flops, session.peak_bytes);
  return kExitDone;
}

// One document as a batch of its own; `room` is that of the view.
void fill_batch(BatchView& view, int room, const Dataset& data, const Document& d) {
  const auto tokens = data.tokens_of(d), labels = data.labels_of(d);
  view.documents = 1, view.token_count = d.length, view.target_count = 0;
  view.cu_seqlens[0] = 0, view.cu_seqlens[1] = d.length;
  for (int t = d.length; t < room; t++) view.tokens[t] = 0, view.targets[t] = kNoTarget, view.positions[t] = t - d.length;
  for (int t = 0; t < d.length; t++) {
    const size_t i = static_cast<size_t>(t);
    const bool target = t + 1 < d.length && labels[i + 1] != kNotTrained;
    view.tokens[t] = tokens[i], view.positions[t] = t;
    view.targets[t] = target ? labels[i + 1] : kNoTarget;
    view.target_count += target;
  }
}

template <class Float>
int dump_with(const Options& options) {
  const ModelSource source = open_model(options, TokenizerNeed::wanted);
  PrepareOptions p = prepare_options(options, source.config);
  p.valid_split = 0;
  p.allow_empty = true;
  // Whole documents, unless a limit was asked for: logits.i is document i.
  if (!options.given("seq-len")) p.max_tokens = INT32_MAX, p.any_length = true;
  const Dataset data = load_dataset(options.data, source.tokenizer.get(), p);
  const size_t docs = std::min(static_cast<size_t>(options.docs), data.documents.size());
  const AdapterSource adapter =
      open_adapter(options, source.config, options.adapter.empty() ? options.init_adapter : options.adapter);
  SessionNeeds needs;
  needs.gradients = true;
  int64_t total_targets = 0;
  for (size_t i = 0; i < docs; i++) {
    needs.tokens = std::max<int64_t>(needs.tokens, data.documents[i].length);
    total_targets += data.documents[i].target_tokens;
  }
  needs.positions = needs.tokens;
  Session<Float> session(options, source.config, adapter.targets, needs);
  session.start(source, adapter);
  Llama<Float>& model = session.model;

  const int64_t V = source.config.vocab_size;
  const double scale = total_targets > 0 ? 1.0 / static_cast<double>(total_targets) : 0;
  // Gradients of fp16 are computed of a larger loss, as in training, and divided again.
  const double loss_scale = session.trainer.state.loss_scale;
  double sum = 0;
  std::vector<std::vector<float>> logits(docs);
  BatchBuffers& buffers = session.trainer.buffers();
  model.clear_gradients(session.device);
  for (size_t i = 0; i < docs; i++) {
    buffers.wait(session.device);
    fill_batch(buffers.view, model.options().max_tokens, data, data.documents[i]);
    const Batch batch = buffers.used(session.device, model.options().max_tokens);
    model.forward(session.device, batch);
    const int length = data.documents[i].length;
    for (int first = 0; first < length; first += model.logit_rows()) {
      const int count = std::min(model.logit_rows(), length - first);
      // In one document, position is row.
      const HostCopy rows(session.device, model.logits(session.device, batch.positions + first, count), count * V);
      logits[i].insert(logits[i].end(), rows.data(), rows.data() + count * V);
    }
    sum += model.loss(session.device, batch, scale * loss_scale, true);
    model.backward(session.device, batch);
  }
  const HostCopy copied(session.device, model.gradients(), model.trained_count());
  std::vector<float> gradients(copied.data(), copied.data() + model.trained_count());
  for (float& g : gradients) g = static_cast<float>(g / loss_scale);
  const float loss = static_cast<float>(sum * scale);
  std::vector<TensorEntry> entries = {{{"loss", FileDtype::F32, {}}, std::as_bytes(std::span(&loss, 1))}};
  for (size_t i = 0; i < docs; i++)
    entries.push_back(
        {{"logits." + std::to_string(i), FileDtype::F32, {data.documents[i].length, V}}, std::as_bytes(std::span(logits[i]))});
  for (const NamedTensor& t : model.trained())
    entries.push_back({{"grad." + t.name, FileDtype::F32, t.shape},
                       std::as_bytes(std::span(gradients.data() + t.offset, static_cast<size_t>(t.size())))});
  const std::filesystem::path output = options.output.empty() ? "dump.safetensors" : options.output;
  write_safetensors(output, entries);
  if (options.json)
    fmt::print("{}\n",
               Json{{"loss", loss}, {"documents", docs}, {"target_tokens", total_targets}, {"output", output.string()}}.dump());
  else if (!options.quiet)
    fmt::print("loss {:.6f} over {} targets of {} documents; wrote {}\n", loss, total_targets, docs, output.string());
  print_profile(session.device, session.peak_flops, session.peak_bytes);
  return kExitDone;
}

}  // namespace

int command_evaluate(Options& options) {
  resolve_options(options);
  return with_type(options, [&](auto type) { return evaluate_with<decltype(type)>(options); });
}
int command_generate(Options& options) {
  resolve_options(options);
  return with_type(options, [&](auto type) { return generate_with<decltype(type)>(options); });
}
int command_dump(Options& options) {
  resolve_options(options);
  return with_type(options, [&](auto type) { return dump_with<decltype(type)>(options); });
}

}  // namespace tll
