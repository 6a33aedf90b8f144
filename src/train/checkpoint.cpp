#include "src/train/checkpoint.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/json_object.h"
#include "src/base/phase.h"
#include "src/files/safetensors.h"
#include "src/model/device_memory.h"

namespace tll {
namespace {

constexpr int kVersion = 5;
constexpr const char* kPrefix = "checkpoint-";
constexpr const char* kMend = "resume from an older checkpoint with --resume DIR";

constexpr const char* kFileSums = "xxh3_64";
constexpr const char* kStateSum = "xxh3_64_of_this";

std::string checksum(const void* data, size_t size) { return fmt::format("{:016x}", XXH3_64bits(data, size)); }
std::string checksum(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return checksum(mapped.bytes().data(), mapped.bytes().size());
}

// Of the whole state except the checksum itself. Keys are sorted, so the text depends only on the content.
std::string state_checksum(Json state) {
  state.erase(kStateSum);
  const std::string text = json_text(state);
  return checksum(text.data(), text.size());
}

std::filesystem::path state_file(const std::filesystem::path& directory) { return directory / "state.json"; }

// The step of "checkpoint-N"; nothing for another name.
std::optional<int64_t> step_of(const std::filesystem::path& directory) {
  const std::string name = directory.filename().string(), prefix = kPrefix;
  int64_t step = 0;
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto [end, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return step;
}

// The run of a checkpoint; empty if its state cannot be read.
std::string run_of(const std::filesystem::path& directory) {
  try {
    const std::string where = state_file(directory).string();
    return parse_json(read_file(where), where).at("run").get<std::string>();
  } catch (const std::exception&) {
    return "";
  }
}

// What write_checkpoint and AtomicFile write before they rename it.
bool is_unfinished(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(".") && name.ends_with(".tmp") &&
         (name.starts_with(std::string(".") + kPrefix) || name == fmt::format(".{}.tmp", kBestValues) ||
          name.find(".safetensors.") != std::string::npos || name.find(".json.") != std::string::npos ||
          name.find(".svg.") != std::string::npos || name.find(".html.") != std::string::npos);
}

FileDtype file_dtype(DType dtype) {
  TLL_CHECK(dtype == DType::f32 || dtype == DType::u8, "optimizer state in {}", dtype_name(dtype));
  return dtype == DType::f32 ? FileDtype::F32 : FileDtype::U8;
}

constexpr int64_t kPiece = 16 << 20;  // the host's copy, in bytes

// use(tensor, first, data, bytes) for all of the state in pieces, from byte `first` of each. All ranks together: each brings what
// it has, and gets all.
template <class Use>
void visit_state(const Device& device, Collectives* collectives, const std::vector<StateTensor>& optimizer, const Use& use) {
  std::vector<std::byte> piece;
  for (const StateTensor& t : optimizer) {
    const int64_t width = static_cast<int64_t>(dtype_bytes(t.dtype));
    const std::vector<StateSegment> whole = {{0, 0, 0, t.count}};
    for (const StateSegment& s : t.segments.empty() ? whole : t.segments)
      for (int64_t first = 0, all = s.count * width; first < all; first += kPiece) {
        const int64_t n = std::min(kPiece, all - first);
        const std::byte* const held = static_cast<const std::byte*>(t.data) + s.held * width + first;
        const Device& where = t.offloaded ? Device{} : device;
        if (t.segments.empty()) {
          use(t, first, HostCopy(where, held, n).data(), n);
          continue;
        }
        piece.resize(static_cast<size_t>(n));
        if (s.rank == collectives->rank()) std::memcpy(piece.data(), HostCopy(where, held, n).data(), piece.size());
        collectives->broadcast_host(piece.data(), n, s.rank);
        use(t, s.first * width + first, piece.data(), n);
      }
  }
}

void write_optimizer(const std::filesystem::path& file, const Device& device, Collectives* collectives,
                     const std::vector<StateTensor>& optimizer) {
  std::vector<TensorSpec> specs;
  for (const StateTensor& t : optimizer) specs.push_back({t.name, file_dtype(t.dtype), {t.count}});
  SafetensorsWriter writer(file, specs);
  visit_state(device, collectives, optimizer, [&](const StateTensor& t, int64_t first, const std::byte* data, int64_t n) {
    writer.put(t.name, static_cast<uint64_t>(first), data, static_cast<size_t>(n));
  });
  writer.commit();
}

}  // namespace

std::vector<CheckpointEntry> checkpoints(const std::filesystem::path& output) {
  std::vector<CheckpointEntry> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(output, none))
    if (const auto step = step_of(entry.path()); step && entry.is_directory())
      found.push_back({*step, entry.path(), run_of(entry.path())});
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::optional<CheckpointEntry> newest_checkpoint(const std::filesystem::path& output, const std::string& run) {
  std::optional<CheckpointEntry> newest;
  for (const CheckpointEntry& c : checkpoints(output))
    if (run.empty() || c.run == run || c.run.empty()) newest = c;
  return newest;
}

void write_checkpoint(const std::filesystem::path& output, const RunPosition& position, const Device& device,
                      const std::vector<StateTensor>& optimizer,
                      const std::function<void(const std::filesystem::path&)>& write_values, Collectives* collectives) {
  const std::string name = kPrefix + std::to_string(position.trainer.step);
  const std::filesystem::path temporary = output / ("." + name + ".tmp"), target = output / name;
  try {
    std::filesystem::remove_all(temporary);
    std::filesystem::create_directories(temporary);
    write_values(temporary);
    write_optimizer(temporary / "optimizer.safetensors", device, collectives, optimizer);
    Json sums = Json::object();
    for (const auto& entry : std::filesystem::directory_iterator(temporary))
      sums[entry.path().filename().string()] = checksum(entry.path());
    const TrainerState& t = position.trainer;
    Json state = {{"version", kVersion},
                  {"run", position.run},
                  {"step", t.step},
                  {"updates", t.updates},
                  {"skipped_in_a_row", t.skipped_in_a_row},
                  {"loss_scale", t.loss_scale},
                  {"steady", t.steady},
                  {"loader", {{"seed", position.loader.seed}, {"epoch", position.loader.epoch}, {"row", position.loader.row}}},
                  {"best",
                   {{"step", position.best.step},
                    {"loss", position.best.loss},
                    {"without_better", position.best.without_better},
                    {"evaluated", position.best.evaluated}}},
                  {"settings", position.settings},
                  {kFileSums, sums}};
    state[kStateSum] = state_checksum(state);
    write_file_atomic(state_file(temporary), json_text(state, 2) + "\n");
    flush_directory(temporary);
    replace_directory(temporary, target);
  } catch (...) {
    std::error_code none;
    std::filesystem::remove_all(temporary, none);
    throw;
  }
  flush_directory(output);
}

void check_checkpoint(const std::filesystem::path& directory) {
  if (!std::filesystem::is_directory(directory)) bad_file("{}: there is no such checkpoint", directory.string());
  const std::string where = state_file(directory).string();
  const Json state = parse_json(read_file(where), where);
  try {
    if (const Json& version = state.at("version"); version != kVersion)
      bad_file("{}: checkpoint version {}, this program reads {}", where, shown(version), kVersion);
    if (state.at(kStateSum).get<std::string>() != state_checksum(state))
      bad_file("{}: the file was changed or damaged: its checksum is not the one inside; {}", where, kMend);
    const Json& sums = state.at(kFileSums);
    Phase phase("checking the checkpoint", static_cast<int64_t>(sums.size()));
    for (const auto& [name, sum] : sums.items()) {
      constexpr size_t kLongest = 255;
      const bool plain = std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == '/'; });
      if (!plain || name.size() > kLongest) bad_file("{}: {} is not a file name", where, in_quotes(name));
      if (checksum(directory / name) != sum.get<std::string>())
        bad_file("{}: the file was changed or damaged: its checksum is not the one in state.json; {}",
                 (directory / name).string(), kMend);
      phase.advance();
    }
  } catch (const Json::exception& error) {
    bad_file("{}: not the state of a checkpoint: {}", where, error.what());
  }
}

RunPosition read_position(const std::filesystem::path& directory) {
  const std::string where = state_file(directory).string();
  const Json state = parse_json(read_file(where), where);
  const auto count = [&](const Json& object, const char* key) {
    constexpr uint64_t kMost = uint64_t{1} << 53;  // no run counts so far
    const Json& value = object.at(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kMost)
      bad_file("{}: \"{}\": expected a whole number of at least 0, found {}", where, key, shown(value));
    return value.get<int64_t>();
  };
  RunPosition position;
  try {
    position.run = state.at("run").get<std::string>();
    position.settings = state.at("settings");
    position.trainer = {count(state, "step"), count(state, "updates"), count(state, "skipped_in_a_row"),
                        state.at("loss_scale").get<double>(), count(state, "steady")};
    const Json &loader = state.at("loader"), &seed = loader.at("seed");
    if (!seed.is_number_unsigned()) bad_file("{}: \"seed\": expected a whole number of at least 0, found {}", where, shown(seed));
    position.loader = {seed.get<uint64_t>(), count(loader, "epoch"), count(loader, "row")};
    const Json& best = state.at("best");
    position.best = {count(best, "step"), best.at("loss").get<double>(), count(best, "without_better"), count(best, "evaluated")};
  } catch (const Json::exception& error) {
    bad_file("{}: not the state of a checkpoint: {}", where, error.what());
  }
  const TrainerState& t = position.trainer;
  if (!(t.loss_scale >= 1 && t.loss_scale <= UpdateDecision::kMostLossScale))
    bad_file("{}: a loss scale of {} cannot be", where, t.loss_scale);
  if (t.updates > t.step) bad_file("{}: step {} with {} updates cannot be", where, t.step, t.updates);
  const BestEvaluation& best = position.best;
  if (best.step > best.evaluated || best.evaluated > t.step || !std::isfinite(best.loss))
    bad_file("{}: a lowest loss of {} in step {}, evaluated until step {}, cannot be", where, best.loss, best.step,
             best.evaluated);
  if (!position.settings.is_object()) bad_file("{}: the settings are not an object", where);
  return position;
}

std::optional<SettingChange> changed_setting(const RunPosition& position, const Json& settings) {
  const auto text = [](const Json& value) {
    constexpr size_t kMost = 120;  // a list of adapters is long
    const std::string all = value.dump(-1, ' ', true);
    return all.size() > kMost ? all.substr(0, kMost) + "..." : all;
  };
  const Json& saved = position.settings;
  std::optional<SettingChange> of_weights;  // what made them differ says more
  for (const auto& [key, value] : settings.items()) {
    if (saved.contains(key) && saved.at(key) == value) continue;
    SettingChange change{key, saved.contains(key) ? text(saved.at(key)) : "not set", text(value)};
    if (key != "base_weights") return change;
    of_weights = std::move(change);
  }
  return of_weights;
}

void bring_optimizer(const Device& device, Collectives& collectives, const std::vector<StateTensor>& optimizer) {
  visit_state(device, &collectives, optimizer, [](const StateTensor&, int64_t, const std::byte*, int64_t) {});
}

void read_optimizer(const std::filesystem::path& directory, const Device& device, const std::vector<StateTensor>& optimizer,
                    int rank) {
  const SafetensorsFile file(directory / "optimizer.safetensors");
  for (const StateTensor& t : optimizer) {
    const TensorInfo* info = file.find(t.name);
    if (!info || info->dtype != file_dtype(t.dtype) || info->shape != std::vector<int64_t>{t.count})
      bad_file("{}: expected {} of {} values in {}", file.path().string(), t.name, t.count, dtype_name(t.dtype));
    const int64_t width = static_cast<int64_t>(dtype_bytes(t.dtype));
    const std::vector<StateSegment> whole = {{rank, 0, 0, t.count}};
    for (const StateSegment& s : t.segments.empty() ? whole : t.segments)
      if (s.rank == rank)
        upload(t.offloaded ? Device{} : device, static_cast<std::byte*>(t.data) + s.held * width,
               file.bytes(*info).data() + s.first * width, static_cast<size_t>(s.count * width));
  }
  synchronize(device);
}

OutputLock::OutputLock(const std::filesystem::path& directory)
    : descriptor_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(descriptor_);
    fail(kExitUsage, "{}: another run is writing there; wait for it, or choose another --output", directory.string());
  }
}

OutputLock::~OutputLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

void remove_unfinished_files(const std::filesystem::path& output) {
  std::error_code none;
  std::vector<std::filesystem::path> unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(output, none))
    if (is_unfinished(entry.path())) unfinished.push_back(entry.path());
  for (const auto& path : unfinished) std::filesystem::remove_all(path, none);
}

void remove_checkpoint(const std::filesystem::path& output, int64_t step) {
  std::error_code none;
  std::filesystem::remove_all(output / (kPrefix + std::to_string(step)), none);
}

void remove_old_checkpoints(const std::filesystem::path& output, int64_t keep, const std::string& run) {
  if (keep <= 0) return;
  auto found = checkpoints(output);
  std::erase_if(found, [&](const CheckpointEntry& c) { return c.run != run; });
  std::error_code none;
  for (size_t i = 0; i + static_cast<size_t>(keep) < found.size(); i++) std::filesystem::remove_all(found[i].path, none);
}

}  // namespace tll
