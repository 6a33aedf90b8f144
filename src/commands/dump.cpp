// dump: logits, loss and gradients of the first documents, as one step, to compare with another framework.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "src/base/phase.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/session.h"
#include "src/files/safetensors.h"
#include "src/options/resolve.h"

namespace tll {
namespace {

// The first --docs documents of the file, whatever their split, all marked kTrain.
Dataset first_documents(const Options& options, const ModelSource& source) {
  PrepareOptions p = prepare_options(options, source);
  p.valid_split = 0;
  p.allow_empty = true;
  // Whole documents, unless a limit was asked for: logits.i is document i.
  if (!options.given("seq-len")) p.max_tokens = INT32_MAX, p.any_length = true;
  Dataset data = load_dataset(options.data, source.tokenizer.get(), p);
  refuse_other_choices(options, options.data, data);
  print_notes(options, data.report);
  data.documents = data.documents.first(std::min(static_cast<size_t>(options.docs), data.documents.size()));
  for (Document& d : data.documents) d.split = Split::kTrain;
  return data;
}

struct Dump {
  int64_t targets = 0;                     // of all documents
  float loss = 0;                          // mean over them; NaN where there are none
  std::vector<std::vector<float>> logits;  // [document] (length, V)
  std::vector<float> gradients;            // of the loss, as the range of what is trained
};

// A forward pass for the logits of each document, then a forward and a backward pass for its loss. Each is a batch of its own;
// `longest` is the length of the longest.
template <class Float>
Dump run_documents(Session<Float>& session, const Dataset& data, int64_t longest) {
  Dump dump;
  for (const Document& d : data.documents) dump.targets += d.target_tokens;
  const double scale = dump.targets > 0 ? 1.0 / static_cast<double>(dump.targets) : 0;
  // In fp16 the loss is scaled, as in training, and the gradients are divided by the scale at the end.
  const double loss_scale = session.trainer.state.loss_scale;
  Llama<Float>& model = session.model;
  BatchBuffers& buffers = session.trainer.buffers();
  Loader loader(data, {.seq_len = static_cast<int32_t>(longest), .packing = false, .shuffle = false});
  double sum = 0;
  model.enter(session.device, StepPhase::step);
  model.trained().clear_gradients(session.device);
  Phase phase("computing logits and gradients", static_cast<int64_t>(data.documents.size()));
  for (const Document& d : data.documents) {
    buffers.wait(session.device);
    loader.next_step();
    loader.micro_batch(0, buffers.view);
    Batch batch = buffers.upload(session.device, model.options().max_tokens);
    const auto forward = [&](RowsRead read) {
      batch.read = read;
      model.enter(session.device, StepPhase::batch);
      model.send_embedding(session.device, buffers.view.tokens, batch.N);
      model.forward(session.device, batch);
    };
    forward(RowsRead::all);
    std::vector<float>& logits = dump.logits.emplace_back();
    for (int first = 0; first < d.length; first += model.logit_rows()) {
      const int count = std::min(model.logit_rows(), d.length - first);
      const size_t before = logits.size();
      logits.resize(before + static_cast<size_t>(count) * static_cast<size_t>(model.config().vocab_size));
      model.download_logits(session.device, logits.data() + before, model.logits_from(session.device, first, count), count);
      synchronize(session.device);
    }
    forward(RowsRead::targets);  // as a step of training computes the loss
    sum += model.loss(session.device, batch, scale * loss_scale, true);
    model.backward(session.device, batch);
    phase.advance();
  }
  const TrainedRange<Float>& trained = model.trained();
  const HostFloats copied(session.device, trained.gradients, trained.dtype, trained.count);
  dump.gradients.assign(copied.data(), copied.data() + trained.count);
  for (float& g : dump.gradients) g = static_cast<float>(g / loss_scale);
  dump.loss = dump.targets > 0 ? static_cast<float>(sum * scale) : std::numeric_limits<float>::quiet_NaN();
  return dump;
}

void write_dump(const std::filesystem::path& file, const Dump& dump, int64_t vocab_size,
                const std::vector<NamedTensor>& trained) {
  std::vector<TensorEntry> entries = {{{"loss", FileDtype::F32, {}}, std::as_bytes(std::span(&dump.loss, 1))}};
  for (size_t i = 0; i < dump.logits.size(); i++) {
    const std::vector<float>& logits = dump.logits[i];
    const int64_t length = static_cast<int64_t>(logits.size()) / vocab_size;
    entries.push_back({{fmt::format("logits.{}", i), FileDtype::F32, {length, vocab_size}}, std::as_bytes(std::span(logits))});
  }
  for (const NamedTensor& t : trained)
    entries.push_back({{"grad." + t.name, FileDtype::F32, t.shape},
                       std::as_bytes(std::span(dump.gradients.data() + t.offset, static_cast<size_t>(t.size())))});
  write_safetensors(file, entries);
}

}  // namespace

int command_dump(Options& options) {
  return with_resolved_type(options, [&](auto type) {
    using Float = decltype(type);
    refuse_output_over_inputs(options, options.output);
    const ModelSource source = open_model(options, TokenizerNeed::wanted);
    const Dataset data = first_documents(options, source);
    const AdapterSource adapter =
        open_adapter(options, source.config, options.adapter.empty() ? options.init_adapter : options.adapter);
    int64_t longest = 0;
    for (const Document& d : data.documents) longest = std::max<int64_t>(longest, d.length);
    const SessionNeeds needs{.gradients = true, .tokens = longest, .positions = longest};
    Session<Float> session(options, source.config, adapter.targets, [needs](const Options&) { return needs; });
    session.start(source, adapter);
    const Dump dump = run_documents(session, data, longest);
    write_dump(options.output, dump, source.config.vocab_size, session.model.trained().tensors);
    const size_t docs = data.documents.size();
    const std::string output = options.output.string();
    if (options.json)
      fmt::print("{}\n",
                 json_text({{"loss", dump.loss}, {"documents", docs}, {"target_tokens", dump.targets}, {"output", output}}));
    else if (!options.quiet)
      fmt::print("loss {:.6f} over {} of {}; wrote {}\n", dump.loss, Counted{dump.targets, "target"},
                 Counted{static_cast<int64_t>(docs), "document"}, output);
    print_profile(session.device, session.ceilings);
    return kExitDone;
  });
}

}  // namespace tll
