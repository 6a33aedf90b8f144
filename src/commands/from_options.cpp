#include "src/commands/from_options.h"

#include <limits>
#include <utility>

#include "src/base/check.h"

namespace tll {

SessionNeeds training_needs(const Options& options) {
  constexpr int kAnsweredAtOnce = 4;
  SessionNeeds needs;
  needs.training = true;
  needs.tokens = options.batch_size * options.seq_len;
  needs.positions = options.seq_len;
  needs.sequences = options.eval_samples > 0 ? kAnsweredAtOnce : 0;
  return needs;
}

ModelOptions model_options(const Options& options, std::vector<LoraTarget> lora, const SessionNeeds& needs) {
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max() - 1;  // of a batch: its offsets are 32-bit
  if (needs.tokens > kMaxTokens)
    fail(kExitUsage, "{} tokens at once are more than the {} of a batch; lower --batch-size or --seq-len", needs.tokens,
         kMaxTokens);
  ModelOptions m;
  m.device = options.device == DeviceOption::kCuda ? DeviceKind::cuda : DeviceKind::cpu;
  m.max_tokens = static_cast<int>(needs.tokens);
  m.max_positions = static_cast<int>(needs.positions);
  m.gradients = needs.training || needs.gradients;
  m.train_all = m.gradients && options.train == TrainMode::kFull;
  m.recompute = options.recompute != RecomputeOption::kNone;
  m.dropout = m.gradients && !m.train_all ? options.dropout : 0;
  m.threads = static_cast<int>(options.threads);
  m.weights = options.weights == DtypeOption::kFp32   ? DType::f32
              : options.weights == DtypeOption::kFp16 ? DType::f16
                                                      : DType::bf16;
  if (!m.train_all) m.lora = std::move(lora);
  return m;
}

PrepareOptions prepare_options(const Options& o, const LlamaConfig& config) {
  PrepareOptions p;
  p.max_tokens = static_cast<int32_t>(o.seq_len);
  p.unanswerable = o.unanswerable == UnanswerableOption::kTrain ? Unanswerable::kTrain : Unanswerable::kSkip;
  p.valid_split = o.valid_split;
  p.seed = static_cast<uint64_t>(o.seed);
  p.allow_empty = o.allow_empty;
  p.vocab_size = config.vocab_size;
  return p;
}

LoaderOptions loader_options(const Options& o, Split split) {
  LoaderOptions l;
  l.rows = static_cast<int32_t>(o.batch_size);
  l.seq_len = static_cast<int32_t>(o.seq_len);
  l.split = split;
  l.seed = static_cast<uint64_t>(o.seed);
  l.packing = o.packing;
  l.shuffle = split == Split::kTrain && o.shuffle;
  if (split == Split::kTrain) l.grad_accum = static_cast<int32_t>(o.grad_accum);
  return l;
}

OptimizerOptions optimizer_options(const Options& o) { return {o.optimizer, o.beta1, o.beta2, o.eps, o.weight_decay}; }

Schedule schedule(const Options& o, int64_t total_steps) {
  return {o.schedule, o.lr, total_steps, warmup_updates(total_steps, o.warmup_steps, o.warmup_ratio)};
}

TrainerOptions trainer_options(const Options& options) {
  TrainerOptions t;
  t.clip = options.clip;
  t.seed = static_cast<uint64_t>(options.seed);
  t.grad_accum = static_cast<int>(options.grad_accum);
  return t;
}

}  // namespace tll
