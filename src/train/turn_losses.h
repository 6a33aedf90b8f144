// Losses by turn. A turn is a run of trained tokens in a document, as an answer of a conversation is, counted from 1.
#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"

namespace tll {

struct TurnLoss {
  double sum = 0;  // of the cross entropies of its targets
  int64_t target_tokens = 0;
};

// Adds the losses of a batch's targets, in its order: those of turn k to turns[k - 1].
template <class Float>
void add_turn_losses(const BatchView& batch, const Float* losses, std::vector<TurnLoss>& turns) {
  for (int32_t d = 0; d < batch.documents; d++) {
    size_t turn = 0;
    bool in_turn = false;
    const int32_t end = d + 1 < batch.documents ? batch.cu_seqlens[d + 1] : batch.token_count;
    for (int32_t t = batch.cu_seqlens[d]; t < end; t++) {
      const bool trained = batch.targets[t] != kNoTarget;
      if (trained && !in_turn) turn++;
      in_turn = trained;
      if (!trained) continue;
      if (turns.size() < turn) turns.resize(turn);
      turns[turn - 1].sum += static_cast<double>(*losses++);
      turns[turn - 1].target_tokens++;
    }
  }
}

}  // namespace tll
