// Generated tokens are those of full forward passes over the growing text, whatever is generated beside them.
#include "src/model/generator.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/refusal.h"
#include "tests/tiny_model.h"

namespace tll {
namespace {

using Tokens = std::vector<int32_t>;

std::vector<Tokens> random_prompts(const std::vector<int>& lengths, int vocabulary) {
  std::mt19937 random(5);
  std::vector<Tokens> prompts;
  for (const int length : lengths) {
    Tokens& p = prompts.emplace_back();
    for (int i = 0; i < length; i++) p.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(vocabulary)));
  }
  return prompts;
}

std::vector<GenerateRequest> requests_of(const std::vector<Tokens>& prompts, int max_new_tokens) {
  std::vector<GenerateRequest> requests;
  for (const Tokens& p : prompts) requests.push_back({p, max_new_tokens});
  return requests;
}

constexpr int kNew = 14, kCapacity = 60;

// The tiny model with adapters on all linear layers of all blocks: generation must run them too.
template <class Float>
struct Adapted : TinyGenerator<Float> {
  explicit Adapted(int sequences, const ModelOptions& o = tiny_generator_options(), int capacity = kCapacity,
                   const LlamaConfig& c = tiny_config())
      : TinyGenerator<Float>(c, with_adapters(o, c), sequences, capacity) {}
  static ModelOptions with_adapters(ModelOptions o, const LlamaConfig& c) {
    int t = 0;
    for (const Module& m : adaptable_modules(c)) o.lora.push_back({m, 2 + t++ % 7 % 2, 0.5});
    return o;
  }
};

// The greedy continuation by full forward passes, without a cache; `gap` is the least distance of the best two logits.
template <class Float>
Tokens continue_without_cache(TinyGenerator<Float>& tiny, Tokens text, int new_tokens, double& gap) {
  const size_t prompt = text.size();
  for (int i = 0; i < new_tokens; i++) {
    const int32_t n = static_cast<int32_t>(text.size()), bounds[] = {0, n};
    Tokens positions;
    for (int32_t p = 0; p < n; p++) positions.push_back(p);
    tiny.model.forward(tiny.device,
                       {.N = n, .docs = 1, .tokens = text.data(), .positions = positions.data(), .cu_seqlens = bounds});
    const auto* logits = tiny.model.logits_from(tiny.device, n - 1, 1);
    const int V = tiny.model.config().vocab_size;
    const int32_t best = static_cast<int32_t>(std::max_element(logits, logits + V) - logits);
    for (int32_t v = 0; v < V; v++)
      if (v != best) gap = std::min(gap, static_cast<double>(logits[best]) - static_cast<double>(logits[v]));
    text.push_back(best);
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt), text.end()};
}

const std::vector<int> kLengths = {5, 1, 17, 9, 30, 2, 12, 3};

struct Expected {
  std::vector<Tokens> prompts, continuations;
  double gap = INFINITY;
};
const Expected& expected() {
  static const Expected e = [] {
    Adapted<double> tiny(1);
    Expected out;
    out.prompts = random_prompts(kLengths, tiny_config().vocab_size);
    for (const Tokens& p : out.prompts) out.continuations.push_back(continue_without_cache(tiny, p, kNew, out.gap));
    return out;
  }();
  return e;
}

// In double the cache can change a logit by some 1e-14, and the best two are further apart than that.
TEST(Generator, EqualsFullForwardPassesWhateverIsBeside) {
  const Expected& e = expected();
  ASSERT_GT(e.gap, 1e-6);
  EXPECT_GT(std::set<int32_t>(e.continuations[0].begin(), e.continuations[0].end()).size(), 2u);
  EXPECT_GT(std::set<Tokens>(e.continuations.begin(), e.continuations.end()).size(), 4u);
  for (const int sequences : {1, 2, 3, 8, 20}) {
    for (const int max_tokens : {30, 64}) {
      SCOPED_TRACE(fmt::format("sequences {} max_tokens {}", sequences, max_tokens));
      Adapted<double> tiny(sequences, tiny_generator_options(max_tokens));
      EXPECT_EQ(tiny.generator.generate(tiny.device, requests_of(e.prompts, kNew), {}), e.continuations);
    }
  }
}

// The cache holds keys that are normalised and rotated.
TEST(Generator, NormalisesQAndK) {
  LlamaConfig c = tiny_config();
  c.architecture = &kQwen3, c.head_dim = 10;
  const std::vector<Tokens> prompts = random_prompts({5, 1, 17}, c.vocab_size);
  std::vector<Tokens> continuations;
  double gap = INFINITY;
  Adapted<double> whole(1, tiny_generator_options(), kCapacity, c);
  for (const Tokens& p : prompts) continuations.push_back(continue_without_cache(whole, p, kNew, gap));
  ASSERT_GT(gap, 1e-6);
  for (const int sequences : {1, 3}) {
    Adapted<double> tiny(sequences, tiny_generator_options(), kCapacity, c);
    EXPECT_EQ(tiny.generator.generate(tiny.device, requests_of(prompts, kNew), {}), continuations);
  }
}

// Float: sums of at most 40 terms in 3 layers, some hundred roundings of 6e-8 on logits of about 10.
TEST(Generator, FloatEqualsDouble) {
  const Expected& e = expected();
  ASSERT_GT(e.gap, 100 * 6e-8 * 10);
  for (const int sequences : {1, 8, 12}) {
    Adapted<float> tiny(sequences);
    EXPECT_EQ(tiny.generator.generate(tiny.device, requests_of(e.prompts, kNew), {}), e.continuations);
  }
}

// Requests of different lengths end at different steps; their slots go to those that wait.
TEST(Generator, SlotsAreFilledAgain) {
  const Expected& e = expected();
  std::vector<GenerateRequest> requests;
  std::vector<Tokens> wanted;
  for (size_t i = 0; i < 30; i++) {
    const size_t p = i * 5 % e.prompts.size();
    const int n = static_cast<int>(i * 7 % (kNew + 1));  // 0 among them
    requests.push_back({e.prompts[p], n});
    wanted.push_back({e.continuations[p].begin(), e.continuations[p].begin() + n});
  }
  for (const int sequences : {1, 3, 4}) {
    Adapted<double> tiny(sequences);
    std::vector<int> ended(requests.size());
    std::vector<Tokens> told(requests.size());
    std::set<size_t> live;
    size_t most = 0;
    const auto results = tiny.generator.generate(
        tiny.device, requests, {},
        [&](size_t r, int32_t token) {
          told[r].push_back(token);
          live.insert(r);
          most = std::max(most, live.size());
          return true;
        },
        [&](size_t r) { ended[r]++, live.erase(r); });
    EXPECT_EQ(results, wanted);
    EXPECT_EQ(told, wanted);
    EXPECT_EQ(ended, std::vector<int>(requests.size(), 1));
    EXPECT_EQ(most, static_cast<size_t>(sequences));
  }
}

TEST(Generator, EndsAtAnEndIdOrWhenToldSo) {
  const Expected& e = expected();
  Adapted<double> tiny(3);
  const std::vector<int32_t> eos = {e.continuations[0][3], e.continuations[2][0]};
  std::vector<Tokens> until_eos, until_told;
  for (const Tokens& t : e.continuations) {
    until_eos.push_back({t.begin(), std::find_first_of(t.begin(), t.end(), eos.begin(), eos.end())});
    const auto told = std::find(t.begin(), t.end(), eos[0]);
    until_told.push_back({t.begin(), told == t.end() ? told : told + 1});
  }
  ASSERT_LE(until_eos[0].size(), 3u);
  ASSERT_EQ(until_eos[2].size(), 0u);
  const auto requests = requests_of(e.prompts, kNew);
  EXPECT_EQ(tiny.generator.generate(tiny.device, requests, {.eos = eos}), until_eos);
  EXPECT_EQ(tiny.generator.generate(tiny.device, requests, {}, [&](size_t, int32_t t) { return t != eos[0]; }), until_told);
}

// A model's vocabulary may be larger than the tokenizer's.
TEST(Generator, ChoosesIdsOfTheTokenizer) {
  const Expected& e = expected();
  Adapted<double> tiny(3);
  int32_t largest = 0;
  for (const Tokens& t : e.continuations) largest = std::max(largest, *std::max_element(t.begin(), t.end()));
  const auto generate = [&](int vocabulary) {
    return tiny.generator.generate(tiny.device, requests_of(e.prompts, kNew), {.vocab_size = vocabulary});
  };
  EXPECT_EQ(generate(largest + 1), e.continuations);
  EXPECT_EQ(generate(1000), e.continuations);
  for (const Tokens& t : generate(largest)) EXPECT_LT(*std::max_element(t.begin(), t.end()), largest);
}

// The last token need not be cached: n tokens of prompt leave room for capacity - n + 1.
TEST(Generator, EndsWhenTheCacheIsFull) {
  const Expected& e = expected();
  for (const bool by_positions : {false, true}) {
    Adapted<double> tiny(2, tiny_generator_options(64, by_positions ? 30 : 64), by_positions ? 1000 : 30);
    EXPECT_EQ(tiny.generator.capacity(), 30);
    const auto results = tiny.generator.generate(tiny.device, requests_of(e.prompts, 1000), {});
    for (size_t i = 0; i < results.size(); i++) {
      ASSERT_EQ(results[i].size(), 30 - e.prompts[i].size() + 1) << i;
      const auto n = static_cast<std::ptrdiff_t>(std::min<size_t>(results[i].size(), kNew));
      EXPECT_TRUE(std::equal(results[i].begin(), results[i].begin() + n, e.continuations[i].begin())) << i;
    }
  }
}

TEST(Generator, RefusesPromptsBeforeAnythingIsComputed) {
  TinyGenerator<float> narrow(tiny_config(), tiny_generator_options(), 2, 10);
  TinyGenerator<float> few_rows(tiny_config(), tiny_generator_options(8, 64), 2, 20);
  const auto refused = [&](TinyGenerator<float>& tiny, const Tokens& prompt) {
    const std::vector<Tokens> prompts = {{1, 2}, prompt};
    bool computed = false;
    const auto generate = [&] {
      tiny.generator.generate(tiny.device, requests_of(prompts, 3), {}, [&](size_t, int32_t) { return computed = true; });
    };
    const std::string message = message_of(generate, kExitUsage);
    EXPECT_NE(message.empty(), !computed);
    return message;
  };
  EXPECT_EQ(refused(narrow, Tokens(10, 1)), "");
  EXPECT_EQ(refused(narrow, Tokens(11, 1)),
            "the prompt has 11 tokens, but there is room for 10: shorten it, or give a larger --seq-len");
  EXPECT_EQ(refused(few_rows, Tokens(8, 1)), "");
  EXPECT_TRUE(says(refused(few_rows, Tokens(9, 1)), "room for 8"));
  EXPECT_TRUE(says(refused(narrow, {}), "no tokens"));
  EXPECT_TRUE(says(refused(narrow, {1, 37}), "token id 37"));
  EXPECT_TRUE(says(refused(narrow, {-1}), "token id -1"));
}

// More sequences than rows of logits that are held at once, which takes a large vocabulary.
TEST(Generator, LogitsComeInChunks) {
  LlamaConfig c = tiny_config();
  c.vocab_size = 270000, c.hidden = 4, c.heads = 2, c.kv_heads = 1, c.head_dim = 2, c.layers = 1, c.intermediate = 4;
  const std::vector<Tokens> prompts = random_prompts(std::vector<int>(40, 1), c.vocab_size);
  TinyGenerator<double> wide(c, tiny_generator_options(), 40, 4), narrow(c, tiny_generator_options(), 10, 4);
  ASSERT_LT(wide.model.logit_rows(), 40);
  const auto results = wide.generator.generate(wide.device, requests_of(prompts, 2), {});
  EXPECT_EQ(results, narrow.generator.generate(narrow.device, requests_of(prompts, 2), {}));
  EXPECT_GT(std::set<Tokens>(results.begin(), results.end()).size(), 5u);
}

// The dropout of a training step must not go on.
TEST(Generator, RunsWithoutDropout) {
  const Expected& e = expected();
  ModelOptions o = tiny_generator_options();
  o.dropout = 0.5, o.gradients = o.evaluates = true;
  Adapted<double> tiny(3, o);
  const int32_t n = 5, bounds[] = {0, n}, positions[] = {0, 1, 2, 3, 4};
  const uint64_t key = 99;
  tiny.model.forward(tiny.device,
                     {.N = n, .docs = 1, .tokens = positions, .positions = positions, .cu_seqlens = bounds, .dropout_key = &key});
  EXPECT_EQ(tiny.generator.generate(tiny.device, requests_of(e.prompts, kNew), {}), e.continuations);
}

TEST(Generator, SamplesByTheSeedAlone) {
  const Expected& e = expected();
  const auto requests = requests_of(e.prompts, kNew);
  Adapted<double> one(1), many(5);
  const auto sampled = one.generator.generate(one.device, requests, {.temperature = 2, .seed = 1});
  EXPECT_EQ(sampled, many.generator.generate(many.device, requests, {.temperature = 2, .seed = 1}));
  EXPECT_NE(sampled, many.generator.generate(many.device, requests, {.temperature = 2, .seed = 2}));
  EXPECT_NE(sampled, e.continuations);
  for (const double cold : {1e-9, 5e-324})
    EXPECT_EQ(many.generator.generate(many.device, requests, {.temperature = cold}), e.continuations);
}

TEST(Generator, PlanHoldsTheCache) {
  Arena arena;
  Llama<bf16> model(tiny_config(), tiny_generator_options());
  model.place(arena);
  const size_t before = arena.tensors().size();
  Generator<bf16> generator(model, 5, 50);
  generator.place(arena);
  int64_t cache = 0;
  for (size_t i = before; i < arena.tensors().size(); i++) {
    const TensorRecord& t = arena.tensors()[i];
    if (t.name == "alignment") continue;
    EXPECT_EQ(t.category, Category::scratch);
    EXPECT_TRUE(t.name.starts_with("generation.")) << t.name;
    if (t.name == "generation.keys" || t.name == "generation.values") cache += t.bytes;
  }
  EXPECT_EQ(cache, 2 * 3 * 5 * 50 * 8 * 2);  // keys and values · layers · sequences · capacity · G·D · bytes
}

}  // namespace
}  // namespace tll
