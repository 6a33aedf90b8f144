// trainer_state.json, as transformers' Trainer leaves it and tools around it read it (transformers/trainer_callback.py).
#pragma once

#include <string>

#include "src/report/run_history.h"

namespace tll {

struct TrainerStateFacts {
  int64_t step = 0, total_steps = 0;
  double steps_per_epoch = 1, epochs = 1;
  int64_t eval_steps = 0, save_steps = 0;  // 0: at the end
  int64_t batch_size = 1;
  int64_t tokens = 0;                // trained so far, without padding
  double flops = 0;                  // done so far
  std::string best_checkpoint = {};  // that of the best evaluation; empty: there is none
  bool finished = false;             // the last entry is then the sum of the run
  double seconds = 0;                // of a finished run
  int64_t rows_per_step = 1;
};

// log_history has the losses as Trainer logs them with logging_steps = history.interval(): means over so many steps, at the last
// of them. An entry has no "loss" where no loss was finite, and no null: tools plot whatever is there.
Json trainer_state_json(const RunHistory& history, const TrainerStateFacts& facts);

}  // namespace tll
