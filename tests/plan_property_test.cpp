// What must hold for every plan: it is the arena, nothing that lives together overlaps, and it follows sizes and precision.
#include <gtest/gtest.h>

#include <random>

#include "src/commands/planner.h"
#include "src/files/known_models.h"
#include "src/options/option_table.h"
#include "tests/words.h"

namespace tll {
namespace {

struct Configuration {
  LlamaConfig config;
  Options options;
  std::string text;
};

// Adds an option with one of these values, if this version has both.
void add(std::string& line, std::mt19937& random, const char* name, std::initializer_list<const char*> values) {
  const OptionRow* row = find_row(name);
  const char* value = values.begin()[random() % values.size()];
  if (row && accepts_value(*row, value)) line += fmt::format(" --{} {}", name, value);
}

Configuration drawn(std::mt19937& random) {
  const auto from = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1)); };
  Configuration c;
  LlamaConfig& l = c.config;
  l.kv_heads = from(1, 3), l.heads = l.kv_heads * from(1, 3), l.head_dim = 2 * from(2, 8);
  l.hidden = l.heads * from(4, 20), l.intermediate = from(8, 200), l.layers = from(1, 5), l.vocab_size = from(20, 900);
  l.tie_embeddings = random() % 2, l.attention_bias = random() % 4 == 0, l.mlp_bias = random() % 4 == 0;
  const Architecture* architectures[] = {&kLlama, &kLlama, &kQwen2, &kQwen3, &kPhi3, &kMistral};
  l.architecture = architectures[random() % std::size(architectures)];
  const bool cuda = random() % 2;
  std::string line = fmt::format("plan --memory 1TiB --threads {} --batch-size {} --seq-len {} --grad-accum {} --rank {}",
                                 from(1, 8), from(1, 6), from(1, 300), from(1, 3), from(1, 20));
  line += cuda ? " --device cuda" : " --device cpu";
  add(line, random, "dtype", {"fp32", "bf16", cuda ? "fp16" : "bf16"});
  add(line, random, "train", {"lora", "lora", "full"});
  add(line, random, "weights", {"fp32", "bf16", "fp16", "int8", "nf4"});
  add(line, random, "double-quant", {"on", "off"});
  add(line, random, "optimizer", {"adamw", "adamw8bit"});
  add(line, random, "lora-states", {"fp32", "bf16"});
  add(line, random, "train-embeddings", {"false", "false", "true"});
  add(line, random, "targets", {"q,v", "all-linear", "down", "o,gate"});
  add(line, random, "eval-samples", {"0", "0", "3"});
  const bool full = random() % 2;
  if (full)
    line += " --recompute full";
  else
    add(line, random, "recompute", {"none", "selective"});
  if (full) add(line, random, "mlp-chunk", {"0", "auto", "16", "100"});
  if (full && cuda) add(line, random, "offload", {"none", "activations", "optimizer", "optimizer,activations"});
  add(line, random, "dropout", {"0", "0", "0.1"});
  add(line, random, "logits", {"auto", "auto", "fp32", "16bit"});
  c.text = line;
  c.options = parse_options(words(line));
  resolve_options(c.options);
  return c;
}

// The first that is drawn whose options do not contradict each other.
Configuration generated(unsigned seed) {
  std::mt19937 random(seed);
  while (true) {
    try {
      return drawn(random);
    } catch (const Error& error) {
      if (error.exit_code != kExitUsage) throw;
    }
  }
}

int64_t planned(const LlamaConfig& config, const Options& options) {
  return Planner(config, std::nullopt, training_needs).bytes(options);
}

TEST(PlanProperty, ThePlanIsTheArenaAndNothingThatLivesTogetherOverlaps) {
  int shared = 0;
  for (unsigned seed = 0; seed < 600; seed++) {
    const Configuration c = generated(seed);
    SCOPED_TRACE(fmt::format("configuration {}: {}", seed, c.text));
    Planner(c.config, std::nullopt, training_needs).with_session(c.options, [&](auto&& session) {
      const Json plan = session.plan_json();
      int64_t sum = 0, end = 0;
      for (const char* category : {"parameters", "gradients", "optimizer", "activations", "scratch"})
        sum += plan.at("bytes").at(category).template get<int64_t>();
      EXPECT_EQ(sum, session.arena.total());
      std::vector<TensorRecord> tensors = session.arena.tensors();
      std::erase_if(tensors, [](const TensorRecord& t) { return t.bytes == 0; });
      for (size_t i = 0; i < tensors.size(); i++) {
        const TensorRecord& a = tensors[i];
        end = std::max(end, a.offset + a.bytes);
        EXPECT_TRUE(is_alignment(a) || a.offset % 64 == 0) << a.name;
        for (size_t k = 0; k < i; k++) {
          const TensorRecord& b = tensors[k];
          const bool overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
          if (!overlap) continue;
          shared++;
          EXPECT_FALSE(a.life.meets(b.life)) << a.name << " and " << b.name;
        }
      }
      EXPECT_EQ(end, session.arena.total()) << "no byte above the last tensor";
      EXPECT_GE(session.arena.total(), session.arena.bytes_in(session.arena.peak()));
      EXPECT_LE(static_cast<double>(session.arena.total()),
                1.02 * static_cast<double>(session.arena.bytes_in(session.arena.peak())))
          << "lives nest, so that hardly anything lies fallow at the peak";
      // A dry run places all tensors again, which compares them with the plan one by one, and walks through a step.
      EXPECT_GT(session.step_seconds(), 0);
      EXPECT_EQ(session.plan_json(), plan);
      return 0;
    });
    if (HasFailure()) break;
  }
  EXPECT_GT(shared, 1000) << "bytes are shared by tensors that never meet";
}

TEST(PlanProperty, GrowingAnySizeNeverShrinksThePlan) {
  for (unsigned seed = 0; seed < 500 && !HasFailure(); seed++) {
    const Configuration c = generated(seed);
    SCOPED_TRACE(fmt::format("configuration {}: {}", seed, c.text));
    const int64_t before = planned(c.config, c.options);
    const auto grows = [&](const char* what, const auto& change) {
      LlamaConfig config = c.config;
      Options options = c.options;
      change(config, options);
      EXPECT_GE(planned(config, options), before) << what;
    };
    // With 8-bit AdamW, a tensor that grows to 4,096 values goes from 32-bit states to 8-bit ones.
    const bool steps_down = c.options.optimizer == OptimizerKind::kAdamw8bit;
    grows("batch", [](LlamaConfig&, Options& o) { o.batch_size++; });
    grows("length", [](LlamaConfig&, Options& o) { o.seq_len += 7; });
    if (!steps_down) grows("rank", [](LlamaConfig&, Options& o) { o.rank++; });
    grows("layers", [](LlamaConfig& l, Options&) { l.layers++; });
    if (!steps_down || (c.options.train == TrainMode::kLora && !c.options.train_embeddings))
      grows("vocabulary", [](LlamaConfig& l, Options&) { l.vocab_size += 16; });
    if (!steps_down) grows("intermediate", [](LlamaConfig& l, Options&) { l.intermediate += 8; });
    if (!steps_down) grows("hidden", [](LlamaConfig& l, Options&) { l.hidden += 8 * l.heads; });
    if (!steps_down) grows("heads", [](LlamaConfig& l, Options&) { l.heads *= 2, l.hidden = std::max(l.hidden, l.heads); });
    if (!steps_down) grows("head size", [](LlamaConfig& l, Options&) { l.head_dim += 4; });
    grows("threads", [](LlamaConfig&, Options& o) { o.threads++; });
  }
}

TEST(PlanProperty, FewerBitsAndLessTrainedTakeLessForEveryKnownModel) {
  std::vector<std::string> ladder = {"--train full --dtype bf16", "--dtype bf16 --weights bf16"};
  for (const char* code : {"int8", "nf4"})
    if (accepts_value(*find_row("weights"), code)) ladder.push_back(fmt::format("--dtype bf16 --weights {}", code));
  for (const std::string_view name : known_model_names()) {
    const LlamaConfig config = known_model(name)->config;
    for (const int rows : {1, 4, 16})
      for (const char* recompute : {"none", "full"}) {
        int64_t last = std::numeric_limits<int64_t>::max();
        for (const std::string& rung : ladder) {
          Options options = parse_options(
              words(fmt::format("plan --device cuda --memory 1TiB --threads 1 --seq-len 512 --batch-size {} --recompute {} {}",
                                rows, recompute, rung)));
          resolve_options(options);
          const int64_t bytes = planned(config, options);
          EXPECT_LT(bytes, last) << name << ", " << rows << " rows, recompute " << recompute << ": " << rung;
          last = bytes;
        }
      }
  }
}

}  // namespace
}  // namespace tll
