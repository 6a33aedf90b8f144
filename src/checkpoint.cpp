#include "src/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>

#include "src/check.h"
#include "src/file.h"
#include "src/safetensors.h"

namespace tll {
namespace {

constexpr int kVersion = 1;
constexpr const char* kPrefix = "checkpoint-";

std::string checksum(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return fmt::format("{:016x}", XXH3_64bits(mapped.bytes().data(), mapped.bytes().size()));
}

// The step of "checkpoint-N"; nothing for another name.
std::optional<int64_t> step_of(const std::filesystem::path& directory) {
  const std::string name = directory.filename().string(), prefix = kPrefix;
  int64_t step = 0;
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto [end, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return step;
}

void flush_directory(const std::filesystem::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

std::vector<std::pair<int64_t, std::filesystem::path>> checkpoints(const std::filesystem::path& output) {
  std::vector<std::pair<int64_t, std::filesystem::path>> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(output, none))
    if (const auto step = step_of(entry.path()); step && entry.is_directory()) found.emplace_back(*step, entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output) {
  const auto found = checkpoints(output);
  if (found.empty()) return std::nullopt;
  return found.back().second;
}

void write_checkpoint(const std::filesystem::path& output, const RunPosition& position, const float* m, const float* v,
                      int64_t count, const std::function<void(const std::filesystem::path&)>& write_values) {
  const std::string name = kPrefix + std::to_string(position.trainer.step);
  const std::filesystem::path temporary = output / ("." + name + ".tmp"), target = output / name;
  std::filesystem::remove_all(temporary);
  std::filesystem::create_directories(temporary);
  write_values(temporary);
  const auto bytes = [&](const float* data) { return std::as_bytes(std::span(data, static_cast<size_t>(count))); };
  write_safetensors(temporary / "optimizer.safetensors",
                    {{{"m", FileDtype::F32, {count}}, bytes(m)}, {{"v", FileDtype::F32, {count}}, bytes(v)}});
  Json sums = Json::object();
  for (const auto& entry : std::filesystem::directory_iterator(temporary))
    sums[entry.path().filename().string()] = checksum(entry.path());
  const TrainerState& t = position.trainer;
  const Json state = {
      {"version", kVersion},
      {"step", t.step},
      {"updates", t.updates},
      {"skipped_in_a_row", t.skipped_in_a_row},
      {"loader", {{"seed", position.loader.seed}, {"epoch", position.loader.epoch}, {"row", position.loader.row}}},
      {"settings", position.settings},
      {"xxh3_64", sums}};
  write_file_atomic(temporary / "state.json", state.dump(2) + "\n");
  flush_directory(temporary);
  std::filesystem::remove_all(target);
  std::filesystem::rename(temporary, target);
  flush_directory(output);
}

RunPosition read_checkpoint(const std::filesystem::path& directory, const Json& settings, float* m, float* v, int64_t count) {
  const std::filesystem::path file = directory / "state.json";
  const std::string where = file.string();
  const Json state = parse_json(read_file(file), where);
  RunPosition position;
  try {
    if (state.at("version").get<int>() != kVersion)
      bad_file("{}: checkpoint version {}, this program reads {}", where, state.at("version").get<int>(), kVersion);
    for (const auto& [name, sum] : state.at("xxh3_64").items()) {
      if (name.find('/') != std::string::npos) bad_file("{}: {} is not a file name", where, name);
      if (checksum(directory / name) != sum.get<std::string>())
        bad_file(
            "{}: its checksum is not the one in state.json; the file was changed or damaged, resume from an older checkpoint",
            (directory / name).string());
    }
    const Json& saved = state.at("settings");
    for (const auto& [key, value] : settings.items()) {
      if (!saved.contains(key) || saved.at(key) != value)
        bad_file("{}: {} was {} when the checkpoint was written and is {} now; resume with the same settings", where, key,
                 saved.contains(key) ? saved.at(key).dump() : "not set", value.dump());
    }
    position.settings = saved;
    position.trainer = {state.at("step").get<int64_t>(), state.at("updates").get<int64_t>(),
                        state.at("skipped_in_a_row").get<int64_t>()};
    const Json& loader = state.at("loader");
    position.loader = {loader.at("seed").get<uint64_t>(), loader.at("epoch").get<int64_t>(), loader.at("row").get<int64_t>()};
    if (position.trainer.step < 0 || position.trainer.updates < 0 || position.trainer.updates > position.trainer.step)
      bad_file("{}: step {} with {} updates cannot be", where, position.trainer.step, position.trainer.updates);
  } catch (const Json::exception& error) {
    bad_file("{}: not the state of a checkpoint: {}", where, error.what());
  }
  const SafetensorsFile optimizer(directory / "optimizer.safetensors");
  for (const auto& [name, to] : {std::pair{"m", m}, std::pair{"v", v}}) {
    const TensorInfo* info = optimizer.find(name);
    if (!info || info->dtype != FileDtype::F32 || info->shape != std::vector<int64_t>{count})
      bad_file("{}: expected {} of {} floats", optimizer.path().string(), name, count);
    const auto bytes = optimizer.bytes(*info);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::byte*>(to));
  }
  return position;
}

void remove_old_checkpoints(const std::filesystem::path& output, int64_t keep, int64_t last) {
  std::error_code none;
  std::vector<std::filesystem::path> unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(output, none)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(std::string(".") + kPrefix) && name.ends_with(".tmp")) unfinished.push_back(entry.path());
  }
  for (const auto& path : unfinished) std::filesystem::remove_all(path, none);
  if (keep <= 0) return;
  auto found = checkpoints(output);
  std::erase_if(found, [&](const auto& checkpoint) { return checkpoint.first > last; });
  for (size_t i = 0; i + static_cast<size_t>(keep) < found.size(); i++) std::filesystem::remove_all(found[i].second, none);
}

}  // namespace tll
