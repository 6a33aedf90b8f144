#include "src/commands/source.h"

#include <gtest/gtest.h>

#include "src/commands/session.h"
#include "src/files/model_files.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class Source : public Run {
 protected:
  // Runs the action; what it prints to standard error.
  template <class Action>
  std::string notes_of(const Action& action) const {
    testing::internal::CaptureStderr();
    action();
    return testing::internal::GetCapturedStderr();
  }
  // An adapter on q_proj as this program writes it, with more keys in its configuration and more tensors, filled with 0.01.
  fs::path adapter(const Json& keys, const std::vector<TensorSpec>& more = {}) const {
    train(parse("base", "--max-steps 1"));
    const fs::path from = directory_ / "base", to = directory_ / "adapter";
    fs::create_directories(to);
    Json config = parse_json(read_file(from / "adapter_config.json"), "");
    config.update(keys);
    write_json(to / "adapter_config.json", config);
    const SafetensorsFile file(from / "adapter_model.safetensors");
    std::vector<TensorEntry> entries;
    for (const TensorInfo& t : file.tensors()) entries.push_back({{t.name, t.dtype, t.shape}, file.bytes(t)});
    const std::vector<float> values(1 << 16, 0.01f);
    for (const TensorSpec& spec : more)
      entries.push_back({spec, std::as_bytes(std::span(values)).first(size_t(element_count(spec.shape)) * sizeof(float))});
    write_safetensors(to / "adapter_model.safetensors", entries);
    return to;
  }
  // Loads the model with the adapter, as evaluate does.
  template <class Use>
  void with_session(const fs::path& adapter_directory, bool training, const Use& use) const {
    Options options = parse("unused");
    const ModelSource source = open_model(options, TokenizerNeed::none, adapter_directory);
    const AdapterSource adapter = open_adapter(options, source.config, adapter_directory);
    Session<float> session(options, source.config, adapter.targets,
                           [=](const Options&) { return SessionNeeds{.training = training, .tokens = 32, .positions = 32}; });
    session.start(source, adapter);
    use(session, source);
  }
};

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) found++;
  return found;
}

TEST_F(Source, NotesOfAnAdapterArePrintedOnce) {
  const fs::path directory = adapter({{"from_the_future", 7}});
  const std::string notes = notes_of([&] { with_session(directory, false, [](auto&...) {}); });
  EXPECT_EQ(count(notes, "note: " + (directory / "adapter_config.json").string() + ": key \"from_the_future\""), 1u) << notes;
}

TEST_F(Source, AnInterruptedRunHasACheckpoint) {
  const Options options = parse("stopped", "--max-steps 4");
  train(options, 2);
  const LlamaConfig config = load_config(kModel);
  EXPECT_TRUE(says(refusal_of([&] { open_adapter(options, config, directory_ / "stopped"); }),
                   "or give its newest checkpoint: " + (directory_ / "stopped/checkpoint-2").string()));
  EXPECT_TRUE(open_adapter(options, config, directory_ / "stopped/checkpoint-2").loaded);
}

// gqa_tied has one tensor for embedding and head.
TEST_F(Source, BaseTensorsOfAnAdapterAreUsed) {
  const LlamaConfig config = load_config(kModel);
  const TensorSpec head{"base_model.model.lm_head.weight", FileDtype::F32, {config.vocab_size, config.hidden}};
  const fs::path directory = adapter(Json::object(), {head});
  const std::string notes = notes_of([&] {
    with_session(directory, false, [&](Session<float>& session, const ModelSource&) {
      for (const Weight& w : session.model.weights())
        EXPECT_TRUE(w.joint != Joint::embed || static_cast<const float*>(w.data)[5] == 0.01f);
    });
  });
  EXPECT_EQ(count(notes, "lm_head.weight is used in place of the base model's"), 1u) << notes;
  EXPECT_TRUE(says(refusal_of([&] { with_session(directory, true, [](auto&...) {}); }), "only with --train-embeddings"));
  const fs::path saved = adapter({{"modules_to_save", {"lm_head"}}}, {head});
  EXPECT_EQ(
      notes_of([&] {
        EXPECT_TRUE(says(refusal_of([&] { with_session(saved, false, [](auto&...) {}); }), "modules_to_save makes two of it"));
      }),
      "");
}

}  // namespace
}  // namespace tll
