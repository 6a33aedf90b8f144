// --train-embeddings: what is refused beside it, and vocabularies that grow to the tokenizer's.
#include "src/commands/commands.h"
#include "src/commands/planner.h"
#include "src/files/adapter.h"
#include "tests/golden_run.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

const std::string kEmbedding = peft_name(std::string("model.embed_tokens.weight"));
const std::string kHead = peft_name(std::string("lm_head.weight"));
constexpr int kNewTokens = 3;

class Embeddings : public Run {
 protected:
  // A golden model whose tokenizer has three more tokens than it, and documents that need them.
  void grown_model(const std::string& golden) {
    const fs::path from = fs::path("tests/goldens") / golden;
    model_ = directory_ / golden;
    fs::create_directories(model_);
    for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(from / file, model_ / file);
    const LlamaConfig config = load_config(model_);
    vocabulary_ = config.vocab_size;
    Json tokenizer = small_json();
    for (int64_t id = 11; id < vocabulary_; id++) tokenizer["model"]["vocab"][fmt::format("x{}", id)] = id;
    for (int i = 0; i < kNewTokens; i++)
      tokenizer["added_tokens"].push_back({{"id", vocabulary_ + i}, {"content", fmt::format("<n{}>", i)}, {"special", true}});
    write_json(model_ / "tokenizer.json", tokenizer);
    std::ofstream data(directory_ / "new.jsonl");
    for (int d = 0; d < 8; d++)
      data << fmt::format("{{\"input_ids\":[1,{},{},{},{}]}}\n", 2 + d, vocabulary_ + d % kNewTokens, 5 + d,
                          vocabulary_ + (d + 1) % kNewTokens);
  }
  std::string paths() const {
    return fmt::format("--model {} --data {} --dtype fp32 --device cpu --threads 1 --quiet ", model_.string(),
                       (directory_ / "new.jsonl").string());
  }
  Options grown(const std::string& output, const std::string& more) const {
    Options options = parse_options(
        words(fmt::format("train {} --output {} --seq-len 16 --batch-size 4 --rank 2 --valid-split 0 --lr 1e-2 --max-steps 4 "
                          "--eval-samples 0 {}",
                          paths(), (directory_ / output).string(), more)));
    resolve_options(options);
    return options;
  }
  std::vector<float> saved(const std::string& output, const std::string& name) const {
    return floats(SafetensorsFile(directory_ / output / kAdapterTensors), name);
  }
  std::vector<float> first_logits(const std::string& more) const {
    const fs::path file = directory_ / "dump";
    Options options = parse_options(words(fmt::format("dump {} --docs 2 --output {} {}", paths(), file.string(), more)));
    EXPECT_EQ(command_dump(options), kExitDone);
    const SafetensorsFile dump(file);
    EXPECT_EQ(dump.find("logits.0")->shape, (std::vector<int64_t>{5, vocabulary_ + kNewTokens}));
    return floats(dump, "logits.0");
  }

  fs::path model_;
  int64_t vocabulary_ = 0;
};

TEST_F(Embeddings, GrowToTheTokenizer) {
  for (const char* golden : {"gqa_tied", "mha_biases"}) {
    SCOPED_TRACE(golden);
    grown_model(golden);
    const LlamaConfig config = load_config(model_);
    const int64_t C = config.hidden, V = vocabulary_;
    testing::internal::CaptureStderr();
    refusal_of([&] { train(grown("refused", "")); });
    testing::internal::GetCapturedStderr();

    // Untrained, the new rows are the mean of the others, in double; one rounding to float, and the sums are a few ulp off.
    train(grown("start", "--train-embeddings --lr 0 --max-steps 1 --overwrite"));
    const ModelFiles files(model_, config);
    for (const bool head : {false, true}) {
      const std::string name = head && !config.tie_embeddings ? "lm_head.weight" : "model.embed_tokens.weight";
      std::vector<float> base(static_cast<size_t>(V * C));
      files.load(name, base.data(), DType::f32, 0, V * C);
      const std::vector<float> values = saved("start", head ? kHead : kEmbedding);
      ASSERT_EQ(values.size(), base.size() + static_cast<size_t>(kNewTokens * C));
      EXPECT_TRUE(std::equal(base.begin(), base.end(), values.begin()));
      for (int64_t c = 0; c < C; c++) {
        double sum = 0;
        for (int64_t v = 0; v < V; v++) sum += static_cast<double>(base[static_cast<size_t>(v * C + c)]);
        for (int64_t v = V; v < V + kNewTokens; v++)
          EXPECT_NEAR(values[static_cast<size_t>(v * C + c)], sum / static_cast<double>(V), 1e-7);
      }
    }
    // Loaded again, the base grows in the same way.
    EXPECT_EQ(first_logits("--adapter " + (directory_ / "start").string()), first_logits("--train-embeddings"));
    EXPECT_TRUE(fs::exists(directory_ / "start/tokenizer.json"));
    const Json settings = parse_json(bytes("start", kAdapterSettings), "");
    EXPECT_EQ(settings.at("modules_to_save"), (Json{"embed_tokens", "lm_head"}));
    EXPECT_EQ(settings.value("ensure_weight_tying", false), config.tie_embeddings);

    // Training moves them, and a resumed run ends with the same bytes.
    train(grown("whole", "--train-embeddings --overwrite"));
    train(grown("parts", "--train-embeddings --overwrite"), 2);
    EXPECT_TRUE(says(refusal_of([&] { train(grown("parts", "--resume")); }), "is of a run with --train-embeddings"));
    train(grown("parts", "--train-embeddings --resume"));
    EXPECT_EQ(bytes("whole", kAdapterTensors), bytes("parts", kAdapterTensors));
    EXPECT_NE(saved("whole", kEmbedding), saved("start", kEmbedding));
    EXPECT_EQ(saved("whole", kEmbedding) == saved("whole", kHead), config.tie_embeddings);

    // A model that is exported has all of its rows.
    Options options = parse_options(
        words(fmt::format("export --model {} --adapter {} --format bnb-4bit --threads 1 --quiet --output {}", model_.string(),
                          (directory_ / "whole").string(), (directory_ / golden / "exported").string())));
    EXPECT_EQ(command_export(options), kExitDone);
    const fs::path exported = directory_ / golden / "exported";
    EXPECT_EQ(load_config(exported).vocab_size, V + kNewTokens);
    EXPECT_NO_THROW(ModelFiles(exported, load_config(exported)));
  }
}

TEST_F(Embeddings, GoOnFromAnAdapterThatHasThem) {
  train(parse("first", "--threads 1 --eval-samples 0 --train-embeddings --max-steps 2"));
  const std::string start = "--threads 1 --eval-samples 0 --init-adapter " + (directory_ / "first").string();
  EXPECT_TRUE(says(refusal_of([&] { train(parse("frozen", start)); }), "only with --train-embeddings: add it"));
  train(parse("second", start + " --train-embeddings --lr 0 --max-steps 1"));
  EXPECT_EQ(saved("second", kEmbedding), saved("first", kEmbedding));
  // An adapter without them starts from the model's.
  train(parse("plain", "--threads 1 --eval-samples 0 --max-steps 1"));
  train(parse("third", "--threads 1 --eval-samples 0 --init-adapter " + (directory_ / "plain").string() +
                           " --train-embeddings --lr 0 --max-steps 1"));
  EXPECT_NE(saved("third", kEmbedding), saved("first", kEmbedding));
}

TEST_F(Embeddings, ResumeBesideQuantizedWeightsInBf16) {
  const std::string settings = "--threads 1 --eval-samples 0 --dtype bf16 --weights nf4 --train-embeddings --max-steps 3 ";
  train<bf16>(parse("whole", settings));
  train<bf16>(parse("parts", settings), 1);
  train<bf16>(parse("parts", settings + "--resume"));
  EXPECT_EQ(bytes("whole", kAdapterTensors), bytes("parts", kAdapterTensors));
}

TEST_F(Embeddings, ContradictionsAreRefused) {
  const auto refusal = [&](const std::string& more) {
    return refusal_of(
        [&] {
          Options options = parse_options(words("plan --model " + kModel + " --memory 1TiB --train-embeddings " + more));
          resolve_options(options);
        },
        kExitUsage);
  };
  EXPECT_TRUE(says(refusal("--train full"), "leave out --train-embeddings"));
  EXPECT_TRUE(says(refusal("--gpu A100-80GB --offload embedding"), "--offload embedding keeps a frozen embedding"));
  EXPECT_TRUE(says(refusal("--lora-states bf16"), "--lora-states bf16"));
}

// In fp32 a tied matrix is V·C values frozen, and values, gradients and two moments trained; its place is a multiple of 64 bytes.
TEST_F(Embeddings, ThePlanHasTheirGradientsAndMoments) {
  const LlamaConfig config = load_config(kModel);
  const Planner planner(config, std::nullopt, training_needs);
  const auto bytes_with = [&](const std::string& more) {
    Options options = parse_options(words("plan --device cpu --dtype fp32 --memory 1TiB --threads 1 --seq-len 64 " + more));
    resolve_options(options);
    return planner.bytes(options);
  };
  const int64_t matrix = int64_t{config.vocab_size} * config.hidden * 4;
  EXPECT_NEAR(static_cast<double>(bytes_with("--train-embeddings") - bytes_with("")), static_cast<double>(3 * matrix), 5 * 64);
}

}  // namespace
}  // namespace tll
