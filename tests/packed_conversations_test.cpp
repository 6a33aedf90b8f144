// Conversations in every chat template: packed into rows they give the gradients that they give alone, and what turns leave is
// what the shorter conversation would be.
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "data/loader.h"
#include "data/template.h"
#include "data/tokenize.h"
#include "kernels/cuda_device.h"
#include "src/base/check.h"
#include "src/train/batch_buffers.h"
#include "tests/chat_tokenizer.h"
#include "tests/golden_run.h"
#include "tests/temporary_directory.h"
#include "tests/tiny_model.h"

namespace tll {
namespace {

const ChatTokenizer kTokenizer;

std::vector<TemplateName> conversation_templates() {
  std::vector<TemplateName> names;
  for (size_t i = 0; i < template_names().size(); ++i) {
    const auto name = TemplateName(i);
    if (name != TemplateName::kAuto && (is_chat_template(name) || name == TemplateName::kAlpaca)) names.push_back(name);
  }
  return names;
}

class Packed : public testing::TestWithParam<TemplateName> {
 protected:
  Sample sample_of(const std::vector<Message>& messages) const {
    TemplateOptions options = template_options(GetParam(), {}, &kTokenizer);
    return make_sample({.kind = ExampleKind::kConversation, .where = "line 1", .messages = messages}, options);
  }
  bool takes_system() const { return GetParam() != TemplateName::kMistral01 && GetParam() != TemplateName::kMixtral; }
  std::string word(size_t longest) {
    std::string text(1 + random_() % longest, 'a');
    for (char& c : text) c = char('a' + random_() % 26);
    return text;
  }
  // The system text, if there is one, and turns of a question and an answer.
  std::vector<Message> conversation(size_t turns, bool system, size_t longest) {
    std::vector<Message> messages;
    if (system && takes_system()) messages.push_back({"system", word(longest)});
    for (size_t i = 0; i < turns; ++i) {
      messages.push_back({"user", word(longest)});
      messages.push_back({"assistant", word(longest), i + 1 == turns || random_() % 4 != 0});
    }
    return messages;
  }
  std::mt19937 random_{17};
};

// Without its first k turns.
std::vector<Message> without_turns(const std::vector<Message>& messages, size_t k) {
  const size_t system = messages[0].role == "system";
  std::vector<Message> out(messages.begin(), messages.begin() + std::ptrdiff_t(system));
  out.insert(out.end(), messages.begin() + std::ptrdiff_t(system + 2 * k), messages.end());
  return out;
}

TEST_P(Packed, TurnsThatLeaveGiveTheShorterConversation) {
  int shortened = 0;
  for (int round = 0; round < 60; ++round) {
    const size_t turns = 1 + random_() % 12;
    const std::vector<Message> messages = conversation(turns, random_() % 2, 30);
    std::vector<Tokens> shorter;
    for (size_t k = 0; k < turns; ++k) {
      const Sample sample = sample_of(without_turns(messages, k));
      shorter.push_back(tokenize_sample(sample, "f", &kTokenizer, {.max_tokens = 1 << 20}).documents.at(0));
    }
    const auto limit = int32_t(shorter.back().ids.size() + random_() % shorter[0].ids.size());
    size_t k = 0;
    while (int32_t(shorter[k].ids.size()) > limit) ++k;
    const TokenizedSample got =
        tokenize_sample(sample_of(messages), "f", &kTokenizer, {.max_tokens = limit, .long_samples = LongSamples::kDrop});
    ASSERT_EQ(got.documents.size(), 1u);
    EXPECT_EQ(got.turns_left_out, int32_t(k));
    EXPECT_EQ(kTokenizer.decode(got.documents[0].ids, false), kTokenizer.decode(shorter[k].ids, false));
    ASSERT_EQ(got.documents[0].ids, shorter[k].ids);
    EXPECT_EQ(got.documents[0].labels, shorter[k].labels);
    EXPECT_EQ(got.documents[0].prompt_tokens, shorter[k].prompt_tokens);
    shortened += k > 0;
  }
  EXPECT_GT(shortened, 10);
}

// Gradients of one epoch, of the mean over all targets, in double precision.
struct Epoch {
  std::vector<double> gradients;
  double loss = 0;
  int64_t rows = 0;
};
Epoch epoch(const Dataset& data, const LoaderOptions& options) {
  LlamaConfig config = tiny_config();
  config.vocab_size = kTokenizer.vocab_size();
  config.max_positions = options.seq_len;
  ModelOptions model_options = tiny_generator_options(options.seq_len, options.seq_len);
  model_options.gradients = true;
  for (const Module& m : adaptable_modules(config)) model_options.lora.push_back({m, 2, 1.0});
  TinyGenerator<double> tiny(config, model_options, 1, options.seq_len);
  Arena batches;
  BatchBuffers buffers;
  buffers.place(batches, nullptr, options.seq_len);
  batches.allocate();
  buffers.place(batches, nullptr, options.seq_len);
  tiny.model.enter(tiny.device, StepPhase::step);
  tiny.model.trained().clear_gradients(tiny.device);
  Loader loader(data, options);
  Epoch out;
  out.rows = loader.rows_per_epoch();
  int64_t targets = 0;
  for (const Document& d : data.documents) targets += d.target_tokens;
  for (int64_t row = 0; row < out.rows; ++row) {
    loader.next_step();
    loader.micro_batch(0, buffers.view);
    const Batch batch = buffers.upload(tiny.device, options.seq_len);
    tiny.model.forward(tiny.device, batch);
    out.loss += tiny.model.loss(tiny.device, batch, 1.0 / double(targets), true) / double(targets);
    tiny.model.backward(tiny.device, batch);
  }
  const auto count = tiny.model.trained().count;
  for (int64_t i = 0; i < count; ++i) out.gradients.push_back(tiny.model.trained().acc_gradients()[i]);
  return out;
}

TEST_P(Packed, GradientsAreThoseOfConversationsAlone) {
  Dataset data;
  for (const size_t turns : {1, 2, 1, 3, 1, 2}) {
    const Sample sample = sample_of(conversation(turns, turns % 2, 12));
    const Tokens tokens = tokenize_sample(sample, "f", &kTokenizer, {.max_tokens = 4096}).documents.at(0);
    data.add(tokens.ids, tokens.labels, {});
  }
  int32_t longest = 0;
  for (const Document& d : data.documents) longest = std::max(longest, d.length);
  longest *= 2;
  const Epoch packed = epoch(data, {.seq_len = longest, .packing = true, .shuffle = false});
  const Epoch alone = epoch(data, {.seq_len = longest, .packing = false, .shuffle = false});
  EXPECT_LT(packed.rows, alone.rows);
  EXPECT_EQ(alone.rows, 6);
  EXPECT_NEAR(packed.loss, alone.loss, 1e-12 * alone.loss);
  double size = 0;
  for (const double g : alone.gradients) size = std::max(size, std::abs(g));
  ASSERT_GT(size, 0);
  // Sums of some 10^4 roundings of 1e-16, in another order.
  for (size_t i = 0; i < alone.gradients.size(); ++i) {
    ASSERT_NEAR(packed.gradients[i], alone.gradients[i], 1e-11 * size) << i;
  }
}

std::string template_test_name(const testing::TestParamInfo<TemplateName>& info) {
  std::string name(template_names()[size_t(info.param)]);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Templates, Packed, testing::ValuesIn(conversation_templates()), template_test_name);

// A step of the whole program in 32 bits, on every device.
TEST(PackedRun, OneStepIsTheSamePackedAndAlone) {
  const TemporaryDirectory directory;
  std::mt19937 random(3);
  std::ofstream rows(directory / "chat.jsonl");
  for (const size_t turns : {1, 2, 1}) {
    std::vector<Message> messages;
    for (size_t i = 0; i < turns; ++i) {
      messages.push_back({"user", std::string(1 + random() % 6, char('a' + random() % 26))});
      messages.push_back({"assistant", std::string(1 + random() % 6, char('a' + random() % 26))});
    }
    const std::vector<Span> spans = render(messages, {.name = TemplateName::kChatml}, false);
    Tokens tokens = tokenize_as_one_text(kTokenizer, spans);
    for (int32_t& id : tokens.ids) id %= 64;  // of the golden model
    for (int32_t& label : tokens.labels) label = label == kNotTrained ? label : label % 64;
    rows << Json{{"input_ids", tokens.ids}, {"labels", tokens.labels}}.dump() << "\n";
  }
  rows.close();
  const std::filesystem::path model = "tests/goldens/gqa_tied";
  const auto step = [&](const std::string& device, const std::string& packing) {
    Options options = golden_options(
        "train --seq-len 128 --batch-size 3 --shuffle off --lr 1e-2 --schedule constant --warmup-ratio 0 --valid-split 0 "
        "--rank 4 --seed 5 --packing " +
            packing + (device == "cpu" ? " --max-steps 2" : " --max-steps 1"),
        model, directory / "chat.jsonl", directory / (device + packing), device);
    resolve_options(options);
    TrainingRun<float> run(options);
    run.start();
    while (!run.finished()) run.step();
    std::vector<std::array<double, 2>> steps;
    for (const Json& line : json_lines(directory / (device + packing) / "metrics.jsonl")) {
      if (line.contains("loss")) steps.push_back({line.at("loss").get<double>(), line.at("grad_norm").get<double>()});
    }
    return steps;
  };
  for (const std::string device : {"cpu", "cuda"}) {
    if (device == "cuda" && cuda_device_count() == 0) continue;
    SCOPED_TRACE(device);
    const auto packed = step(device, "on"), alone = step(device, "off");
    ASSERT_EQ(packed.size(), device == "cpu" ? 2u : 1u);
    ASSERT_EQ(alone.size(), packed.size());
    // Sums of some thousand products in 32 bits; the second loss shows that the first update was the same.
    for (size_t s = 0; s < packed.size(); ++s) {
      EXPECT_NEAR(packed[s][0], alone[s][0], 1e-5 * alone[s][0]);
      EXPECT_NEAR(packed[s][1], alone[s][1], 1e-4 * alone[s][1]);
    }
  }
}

}  // namespace
}  // namespace tll
