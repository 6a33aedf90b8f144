// A training run of the smallest golden model on forty documents, for tests.
#pragma once

#include <gtest/gtest.h>

#include <fstream>

#include "src/base/file.h"
#include "src/commands/training_run.h"
#include "src/options/resolve.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {

inline const std::string kModel = "tests/goldens/gqa_tied";

class Run : public testing::Test {
 protected:
  Run() {
    // Forty documents of 5 to 30 tokens.
    std::ofstream data(directory_ / "data.jsonl");
    for (int d = 0; d < 40; d++) {
      data << "{\"input_ids\":[";
      for (int t = 0; t < 5 + d * 7 % 26; t++) data << (t ? "," : "") << (d * 31 + t * t * 7 + 3) % 64;
      data << "]}\n";
    }
  }

  Options parse(const std::string& output, const std::string& more = "") const {
    const std::string paths = fmt::format("--model {} --data {} --output {} ", kModel, (directory_ / "data.jsonl").string(),
                                          (directory_ / output).string());
    const std::string settings =
        "--seq-len 32 --batch-size 2 --grad-accum 2 --dtype fp32 --quiet --rank 4 --lr 1e-2 --valid-split 0.1 ";
    Options options = parse_options(words("train " + paths + settings + more));
    resolve_options(options);
    return options;
  }
  // Does what train_llama_lora.cu does; stops as a signal would after so many steps, or in the evaluation before or after them.
  static constexpr int64_t kWhole = 1 << 30, kInLastEvaluation = -1;
  template <class Float = float>
  void train(const Options& options, int64_t stop_after = kWhole, Collectives* collectives = nullptr) const {
    TrainingRun<Float> run(options, collectives);
    if (run.already_done()) return;
    run.start();
    try {
      run.evaluate_before();
      for (int64_t done = 0; !run.finished(); done++) {
        if (done == stop_after) throw Stopped("training");
        run.step();
      }
      run.save();
      if (stop_after == kInLastEvaluation) throw Stopped("evaluating");
      run.evaluate_after();
    } catch (const Stopped& stopped) {
      run.interrupt(stopped);
      return;
    }
    run.finish();
  }
  std::string bytes(const std::string& output, const std::string& file) const { return read_file(directory_ / output / file); }

  const TemporaryDirectory directory_;
};

}  // namespace tll
