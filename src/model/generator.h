// Generates text token by token, for many sequences at once, with a KV cache. Its memory is part of the plan.
//
//   prefill   waiting prompts are packed into one forward pass, as documents; their keys and values go into the cache
//   decode    one token of every live sequence is one row of a forward pass; attention reads the cache
//
// A sequence that ends leaves its slot to the next waiting prompt (continuous batching: Yu et al. 2022, "Orca"), so slots stay
// full while prompts wait. A decode step reads every weight once, whatever the number of sequences. So more sequences cost
// little, until the step is bound by arithmetic.
//
// With longrope, a sequence that becomes longer than the original length has other frequencies in every position. Its cache is
// then written again, by one forward pass over all its tokens (transformers: Phi3ForCausalLM.prepare_inputs_for_generation).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "src/model/llama.h"
#include "src/model/rope_frequencies.h"
#include "src/model/sampling.h"

namespace tll {

struct GenerateRequest {
  std::span<const int32_t> prompt;  // at least one token; the caller keeps it
  int max_new_tokens = 0;
};

template <class Float>
class Generator {
 public:
  using Acc = acc_t<Float>;

  // Called for every new token except an end id. false ends the sequence; the token is still part of it.
  using OnToken = std::function<bool(size_t request, int32_t token)>;
  // Called when a sequence has ended, for any reason.
  using OnEnd = std::function<void(size_t request)>;

  // `sequences` at once, each of at most `capacity` tokens in the cache (fewer if the model was planned with fewer
  // positions). It overwrites the model's activations, so no backward pass is possible afterwards. Where sequences
  // can become longer than the original length, the model must be planned with RopeRows::length_after_switch() tokens or more.
  Generator(Llama<Float>& model, int sequences, int capacity);

  // Places the KV cache and index buffers, "generation.*" in category scratch, after the model's own place(). `staging`: pinned
  // memory of the host beside a CUDA device; null on the CPU.
  void place(Arena& arena, Arena* staging = nullptr);

  // The new tokens of each request, without the end id. A sequence ends at an end id, at max_new_tokens, when on_token says so,
  // or when the cache is full (the last token need not fit, so a prompt of n tokens has room for capacity - n + 1).
  // Error (kExitUsage), before anything is computed: a prompt that is empty or does not fit, or an id outside the vocabulary.
  std::vector<std::vector<int32_t>> generate(const Device& device, std::span<const GenerateRequest> requests,
                                             const SamplingOptions& sampling, const OnToken& on_token = {},
                                             const OnEnd& on_end = {});

  int sequences() const { return sequences_; }
  int capacity() const { return capacity_; }              // tokens of one sequence in the cache
  int longest_prompt() const { return longest_prompt_; }  // the capacity, or the rows of one forward pass if they are fewer

 private:
  struct Run;  // one call of generate()

  void check(std::span<const GenerateRequest> requests) const;
  void prefill(const Device& device, Run& run);
  // The sequences whose next token is the first behind the original length of longrope.
  void write_caches_again(const Device& device, Run& run);
  // One forward pass over the documents in the indices, N tokens, whose last rows are those of slots from `first` on; and the
  // choice of their next tokens.
  void forward_documents(const Device& device, Run& run, int N, int docs, size_t first);
  void decode(const Device& device, Run& run);
  // Samples the next token of `count` slots from `first` on, that of slot first + i from the logits of row i of the final norm's
  // result. Then removes the sequences that ended.
  void choose(const Device& device, Run& run, size_t first, size_t count);
  void move_slot(const Device& device, int to, int from, int length);
  // Copies keys and values of one layer from N rows of qkv to the cache.
  void write_cache(const Device& device, int layer, const Float* qkv, int N);
  // Keys and values of one sequence in one layer.
  int64_t slot_size() const { return static_cast<int64_t>(capacity_) * kv_width_; }
  Float* keys(int layer, int slot) const { return keys_ + (static_cast<int64_t>(layer) * sequences_ + slot) * slot_size(); }
  Float* values(int layer, int slot) const { return values_ + (static_cast<int64_t>(layer) * sequences_ + slot) * slot_size(); }

  Llama<Float>& model_;
  int sequences_, capacity_, longest_prompt_, kv_width_;
  RopeRows rope_;
  Float *keys_ = nullptr, *values_ = nullptr;  // (L, sequences, capacity, G·D)
  Acc* scores_ = nullptr;                      // (sequences, H, capacity)
  Acc* logits_ = nullptr;                      // (sequences, V)  the host's copy, with CUDA only
  // Indices that a forward pass reads. The host fills its copy and uploads it; on the CPU both are the same.
  struct Indices {
    int32_t *tokens = nullptr, *positions = nullptr, *slots = nullptr;   // (N)  positions: Batch::positions; slot -1: padding
    int32_t* places = nullptr;                                           // (N)  in the sequence, and so in its slot
    int32_t *cu_seqlens = nullptr, *rows = nullptr, *lengths = nullptr;  // (sequences + 2), (sequences), (sequences)
  };
  Indices host_, on_device_;
  void upload_indices(const Device& device, int N);
};

}  // namespace tll
