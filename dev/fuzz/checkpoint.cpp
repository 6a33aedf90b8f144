// Covers: src/train/checkpoint.cpp
#include "src/train/checkpoint.h"

#include <xxhash.h>

#include "dev/fuzz/fuzz.h"
#include "dev/fuzz/mutate.h"

namespace tll::fuzz {
namespace {

constexpr const char* kSum = "xxh3_64_of_this";
constexpr const char* kWords[] = {"version",
                                  "step",
                                  "updates",
                                  "skipped_in_a_row",
                                  "loss_scale",
                                  "steady",
                                  "loader",
                                  "seed",
                                  "epoch",
                                  "row",
                                  "settings",
                                  "xxh3_64",
                                  kSum,
                                  "optimizer.safetensors",
                                  "values",
                                  "..",
                                  "a/b",
                                  "state.json",
                                  "run",
                                  "lr",
                                  "best",
                                  "loss",
                                  "without_better",
                                  "evaluated",
                                  "best.safetensors"};

}  // namespace

// With the right checksum, most often.
std::string mutated(const std::string& bytes, Random& random) {
  const std::string changed = mutated_json(bytes, random, kWords);
  Json state = Json::parse(changed, nullptr, false);
  if (!state.is_object() || random.below(8) == 0) return changed;
  state.erase(kSum);
  const std::string text = state.dump(-1, ' ', false, Json::error_handler_t::replace);
  state[kSum] = fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  return state.dump(2, ' ', false, Json::error_handler_t::replace);
}

// The other files of the checkpoint are as write_checkpoint() made them.
void read(std::string_view bytes) {
  static const TemporaryDirectory output;
  static float m[] = {1, 2, 3}, v[] = {4, 5, 6};
  static const std::vector<StateTensor> optimizer = {{"m", DType::f32, 3, m}, {"v", DType::f32, 3, v}};
  static const Json settings = {{"lr", 1e-3}, {"seed", 42}};
  static const auto directory = [] {
    write_checkpoint(output, {"run", {5, 4, 1}, {42, 3, 1}, settings}, Device{}, optimizer,
                     [](const std::filesystem::path& place) { write_file_atomic(place / "values", "1234"); });
    return output / "checkpoint-5";
  }();
  put(directory / "state.json", bytes);
  check_checkpoint(directory);
  const RunPosition position = read_position(directory);
  if (const auto change = changed_setting(position, settings))
    check_line(fmt::format("{} was {}, now {}", change->name, change->then, change->now));
  read_optimizer(directory, Device{}, optimizer);
  static const Dataset data = [] {
    Dataset rows;
    rows.vocab_size = 5, rows.max_tokens = 2;
    for (const std::vector<int32_t>& ids : {std::vector<int32_t>{1, 2}, {3, 4}}) rows.add(ids, ids, {});
    return rows;
  }();
  Loader loader(data, {.rows = 1, .seq_len = 2});
  loader.restore(position.loader);
  for (int step = 0; step < 3; ++step) loader.next_step();
}

}  // namespace tll::fuzz
