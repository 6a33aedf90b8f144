// The head and the loss on a CUDA device, which in `make test` is the emulator, with a vocabulary that is no multiple of what
// aligns a row.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/model/llama.h"
#include "tests/tiny_llama.h"

namespace tll {
namespace {

constexpr int kRows = 256, kVocabulary = 259;

// Of all products only those of the head are large enough for cuBLASLt.
LlamaConfig config() {
  LlamaConfig c;
  c.vocab_size = kVocabulary, c.hidden = 128, c.intermediate = 40, c.layers = 1, c.heads = 2, c.kv_heads = 1, c.head_dim = 16;
  c.max_positions = kRows, c.rms_eps = 1e-5;
  return c;
}

template <class Float>
struct Head {
  OpenDevice device;
  Arena arena, staging;
  std::optional<Llama<Float>> model;
  std::optional<Generator<Float>> generator;
  int32_t *tokens = nullptr, *targets = nullptr, *positions = nullptr, *cu_seqlens = nullptr;

  explicit Head(bool train_head, bool logits_16 = false) {
    device.open();
    ModelOptions o;
    o.device = DeviceKind::cuda, o.max_tokens = o.max_positions = kRows;
    o.lora.push_back({adaptable_modules(config())[0], 4, 1.0});
    o.train_embeddings = train_head, o.evaluates = true, o.logits_16 = logits_16;
    model.emplace(config(), o);
    generator.emplace(*model, 3, 8);
    place();
    arena.allocate(device);
    staging.allocate(device, true);
    place();
    arena.seal(), staging.seal();
    model->initialize(device);
    std::mt19937 random(5);
    send_random_weights(device, *model, random);
    std::vector<int32_t> ids(kRows), next(kRows), at(kRows);
    for (size_t i = 0; i < kRows; i++) {
      ids[i] = static_cast<int32_t>(random() % kVocabulary), next[i] = static_cast<int32_t>(random() % kVocabulary);
      at[i] = static_cast<int32_t>(i);
    }
    next[7] = kVocabulary - 1;
    const int32_t bounds[] = {0, kRows};
    upload(device, tokens, ids.data(), sizeof(int32_t) * kRows);
    upload(device, targets, next.data(), sizeof(int32_t) * kRows);
    upload(device, positions, at.data(), sizeof(int32_t) * kRows);
    upload(device, cu_seqlens, bounds, sizeof(bounds));
    synchronize(device);
  }
  void place() {
    model->place(arena);
    generator->place(arena, &staging);
    for (int32_t** p : {&tokens, &targets, &positions}) arena.place(*p, "batch", {kRows}, Category::activations);
    arena.place(cu_seqlens, "bounds", {2}, Category::activations);
  }
  struct Result {
    std::vector<float> logits, gradients;
    double loss;
  };
  Result run_on(const Device& on) {
    const Batch batch{.N = kRows,
                      .docs = 1,
                      .tokens = tokens,
                      .targets = targets,
                      .positions = positions,
                      .cu_seqlens = cu_seqlens,
                      .target_rows = kRows};
    Result result;
    model->enter(on, StepPhase::step);
    model->trained().clear_gradients(on);
    model->enter(on, StepPhase::batch);
    model->forward(on, batch);
    if (!model->options().logits_16) {
      result.logits.resize(kRows * kVocabulary);
      model->download_logits(on, result.logits.data(), model->logits_from(on, 0, kRows), kRows);
      synchronize(on);
    }
    result.loss = model->loss(on, batch, 1.0 / kRows, true) / kRows;
    model->backward(on, batch);
    const HostFloats gradients(on, model->trained().gradients, model->trained().dtype, model->trained().count);
    result.gradients.assign(gradients.data(), gradients.data() + model->trained().count);
    return result;
  }
};

double norm(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += double{v} * v;
  return std::sqrt(sum);
}

// cuBLASLt adds up in another order than the project's kernels, so other bits show that it was used; results agree but for
// roundings. Rows of 259 logits without gaps would not be aligned, and it would not be used.
template <class Float>
void expect_cublas(bool train_head) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  Head<Float> head(train_head);
  if (!head.device.blas) GTEST_SKIP() << "no cuBLASLt";
  ASSERT_GE(head.model->logit_rows(), kRows);
  Device own = head.device;
  own.blas = nullptr;
  const auto by_library = head.run_on(head.device), by_kernels = head.run_on(own);
  EXPECT_TRUE(by_library.logits != by_kernels.logits);
  EXPECT_TRUE(by_library.gradients != by_kernels.gradients);
  // A logit is a sum of 128 products of about 1 · 0.2: at most 128 roundings in fp32 of its terms' absolute sum.
  for (size_t i = 0; i < by_library.logits.size(); i++)
    ASSERT_NEAR(by_library.logits[i], by_kernels.logits[i], 128 * 0x1p-24 * 128) << i;
  EXPECT_NEAR(by_library.loss, by_kernels.loss, 128 * 0x1p-24 * 128);
  // In bf16 the gradient of the head's input is rounded to 2^-9 of each element, and so is what follows from it.
  std::vector<float> difference = by_library.gradients;
  for (size_t i = 0; i < difference.size(); i++) difference[i] -= by_kernels.gradients[i];
  EXPECT_GT(norm(by_kernels.gradients), 1e-4);
  EXPECT_LE(norm(difference), 0x1p-7 * norm(by_kernels.gradients));
}

// In fp32 the adapter's gradient shows what computed that of the head's input. In bf16 that is rounded, and the head's own
// gradient, in fp32, shows it.
TEST(Head, CublasLtServesAnyVocabularyInFp32) { expect_cublas<float>(false); }
TEST(Head, CublasLtServesAnyVocabularyInBf16) { expect_cublas<bf16>(true); }

// Logits in 16 bits: loss and gradients are off by no more than kernels/cross_entropy.h derives from fp32's logits. In fp32 the
// loss itself has roundings of some 2^-17, and the gradient of a logit is rounded by u in both. A gradient is a linear function
// of those of the logits: where they change by random signs, it changes by no larger part of its norm.
template <class Float>
void expect_bound(double u) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  Head<Float> wide(true), narrow(true, true);
  EXPECT_GE(narrow.model->logit_rows(), wide.model->logit_rows());
  EXPECT_EQ(narrow.model->logit_rows(PassKind::inference), wide.model->logit_rows());
  const auto exact = wide.run_on(wide.device), rounded = narrow.run_on(narrow.device);
  double mean = 0, most = 0;
  for (size_t r = 0; r < kRows; r++) {
    double top = 0;
    for (size_t v = 0; v < kVocabulary; v++) top = std::max<double>(top, std::abs(exact.logits[r * kVocabulary + v]));
    mean += 2 * u * top / kRows, most = std::max(most, 2 * u * top);
  }
  EXPECT_NE(exact.loss, rounded.loss);
  EXPECT_NEAR(exact.loss, rounded.loss, mean + 0x1p-16);
  std::vector<float> difference = exact.gradients;
  for (size_t i = 0; i < difference.size(); i++) difference[i] -= rounded.gradients[i];
  EXPECT_GT(norm(difference), 0);
  EXPECT_LE(norm(difference), (std::expm1(most) + 2 * u) * norm(exact.gradients));
}
TEST(Head, LogitsInBf16StayWithinTheBound) { expect_bound<bf16>(0x1p-8); }
TEST(Head, LogitsInFp16StayWithinTheBound) { expect_bound<half>(0x1p-11); }

// Three sequences at once, whose rows of logits lie apart, and each alone.
TEST(Head, GeneratesFromAnyVocabulary) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  Head<float> head(false);
  const std::vector<int32_t> prompts[] = {{3, 250, 11}, {258}, {90, 91}};
  std::vector<GenerateRequest> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt, 3});
  head.model->enter(head.device, StepPhase::evaluation);
  const auto together = head.generator->generate(head.device, requests, {});
  for (size_t i = 0; i < 3; i++)
    EXPECT_EQ(together[i], head.generator->generate(head.device, std::span(requests).subspan(i, 1), {})[0]) << i;
  EXPECT_EQ(together[0].size(), 3u);
  EXPECT_NE(together[0], together[1]);
  EXPECT_NE(together[1], together[2]);
}

}  // namespace
}  // namespace tll
