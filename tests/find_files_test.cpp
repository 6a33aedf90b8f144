#include "src/files/find_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "tests/refusal.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

namespace fs = std::filesystem;
using std::string_literals::operator""s;

class FindFiles : public testing::Test {
 protected:
  std::string model(const fs::path& name) const {
    return refusal_of([&] { find_model(dir / name); });
  }
  std::string adapter(const fs::path& name) const {
    return refusal_of([&] { find_adapter(dir / name); });
  }
  const TemporaryDirectory dir;
};

TEST_F(FindFiles, AModelInTheHubsCache) {
  const fs::path cached = fs::path("hub") / "models--org--name";
  dir.write(cached / "refs/main", "abc123\n").write(cached / "snapshots/abc123/config.json", "{}");
  dir.write(cached / "snapshots/older/config.json", "{}");
  EXPECT_EQ(find_model(dir / cached), dir / cached / "snapshots/abc123");
  EXPECT_TRUE(says(model("hub"), "this is the Hub's cache; give one of its models: \"models--org--name\""));
  EXPECT_TRUE(says(model(""), "the Hub's cache is in it"));
  EXPECT_TRUE(says(model(cached / "snapshots"), "in these directories: \"abc123\", \"older\""));
  dir.write(cached / "refs/main", "gone");
  EXPECT_TRUE(says(model(cached), "no snapshot \"gone\""));
  dir.write(cached / "refs/main", "../../../x");
  EXPECT_TRUE(says(model(cached), "which refs/main names"));
  fs::remove_all(dir / cached / "refs");
  EXPECT_TRUE(says(model(cached), "refs/main is missing; give one of its snapshots: \"abc123\", \"older\""));
  fs::remove_all(dir / cached / "snapshots/older");
  EXPECT_EQ(find_model(dir / cached), dir / cached / "snapshots/abc123");  // the only one
  fs::remove(dir / cached / "snapshots/abc123/config.json");
  EXPECT_TRUE(says(model(cached), "has no config.json"));
  fs::remove_all(dir / cached / "snapshots/abc123");
  EXPECT_TRUE(says(model(cached), "there is none, so download it"));
}

// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~Variable() { set(old_ ? old_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const char* value) const { value ? setenv(name_, value, 1) : unsetenv(name_); }
  const char* name_;
  std::optional<std::string> old_;
};

TEST_F(FindFiles, NamesOnTheHub) {
  const Variable none("HF_HUB_CACHE", nullptr), legacy("HUGGINGFACE_HUB_CACHE", nullptr), home("HF_HOME", dir.path().c_str());
  const auto refused = [](const char* path) { return refusal_of([&] { find_model(path); }); };
  const std::string message = refused("meta-llama/Llama-3.2-1B");
  EXPECT_TRUE(message.ends_with("run: hf download meta-llama/Llama-3.2-1B")) << message;
  EXPECT_TRUE(says(message, (dir / "hub").string()));
  EXPECT_TRUE(says(refused("https://huggingface.co/org/na.me/tree/main"), "run: hf download org/na.me"));
  for (const char* path : {"tests/no-such-model", "/no/such", "../no", "nothing", "a/b/c", "a/", "./a/b", "a b/c"})
    EXPECT_TRUE(says(refused(path), "no such directory; --model takes a Hugging Face directory")) << path;
  EXPECT_TRUE(says(refusal_of([] { find_adapter("org/lora"); }), "run: hf download org/lora"));
}

// As huggingface_hub lays it out: the files of a snapshot are links to blobs.
TEST_F(FindFiles, ANameOnTheHubMeansTheCache) {
  const fs::path cached = fs::path("hub") / "models--org--na.me", snapshot = cached / "snapshots/abc";
  dir.write(cached / "refs/main", "abc").write(cached / "blobs/1", "{}").write(cached / "blobs/2", "x");
  fs::create_directories(dir / snapshot);
  fs::create_symlink("../../blobs/1", dir / snapshot / "config.json");
  const Variable home("HF_HOME", dir.path().c_str());
  {
    const Variable none("HF_HUB_CACHE", nullptr), legacy("HUGGINGFACE_HUB_CACHE", nullptr);
    EXPECT_EQ(find_model("org/na.me"), dir / snapshot);
    EXPECT_EQ(find_model("https://huggingface.co/org/na.me"), dir / snapshot);
    EXPECT_EQ(hub_name_of("org/na.me"), "org/na.me");
    EXPECT_EQ(hub_name_of(dir / snapshot), "org/na.me");
    EXPECT_EQ(hub_name_of(dir / cached), "org/na.me");
    EXPECT_EQ(hub_name_of("org/other"), "");
    EXPECT_EQ(hub_name_of(dir.path()), "");
    EXPECT_TRUE(
        says(refusal_of([] { find_adapter("org/na.me"); }), "has no adapter_config.json; run again: hf download org/na.me"));
    fs::create_symlink("../../blobs/1", dir / snapshot / "adapter_config.json");
    fs::create_symlink("../../blobs/2", dir / snapshot / "adapter_model.safetensors");
    EXPECT_EQ(find_adapter("org/na.me"), dir / snapshot);
    EXPECT_EQ(find_adapter(dir / cached), dir / snapshot);
  }
  const Variable elsewhere("HF_HUB_CACHE", (dir / "elsewhere").c_str());
  EXPECT_TRUE(says(refusal_of([] { find_model("org/na.me"); }), (dir / "elsewhere").string()));
}

TEST_F(FindFiles, WhatElseIsGivenAsAModel) {
  dir.write("m/config.json", "{}").write("m/model.safetensors", "\x02\0\0\0\0\0\0\0{}"s);
  EXPECT_EQ(find_model(dir / "m"), dir / "m");
  EXPECT_TRUE(says(model("m/model.safetensors"), "found a file in it: give --model " + (dir / "m").string()));
  dir.write("model.safetensors", "\x02\0\0\0\0\0\0\0{}"s);
  EXPECT_TRUE(says(model("model.safetensors"), "a safetensors file alone"));
  dir.write("x.gguf", "GGUF\x03\0\0\0"s).write("x.bin", "\x80\x02}"s).write("x.txt", "hello");
  EXPECT_TRUE(says(model("x.gguf"), "looks like a GGUF file"));
  EXPECT_TRUE(says(model("x.bin"), "pickle"));
  EXPECT_TRUE(says(model("x.txt"), "this is a file; expected a Hugging Face directory"));
  dir.write("g/model-q4.gguf", "GGUF");
  EXPECT_TRUE(says(model("g"), "\"model-q4.gguf\": GGUF is not read"));
  dir.write("a/adapter_config.json", R"({"base_model_name_or_path": "org/base"})");
  EXPECT_TRUE(says(model("a"), "this looks like an adapter, not a model: give --model org/base --adapter"));
  for (const char* broken : {"not JSON", R"({"base_model_name_or_path": 5})", "[]", R"({"base_model_name_or_path": ""})"}) {
    dir.write("a/adapter_config.json", broken);
    EXPECT_TRUE(says(model("a"), "give --model MODEL --adapter")) << broken;
  }
  dir.write("meta/params.json", "{}").write("meta/consolidated.00.pth", "PK");
  EXPECT_TRUE(says(model("meta"), "Meta's own format"));
  for (const char* name : {"1", "2", "3", "4", "5"}) dir.write(fs::path("many") / name / "config.json", "{}");
  EXPECT_TRUE(says(model("many"), "\"1\", \"2\", \"3\" and 2 more; give one of them"));
  fs::create_directory(dir / "empty");
  EXPECT_TRUE(says(model("empty"), "there is no config.json; expected"));
  fs::create_directory_symlink(dir / "loop", dir / "loop");
  EXPECT_TRUE(says(model("loop"), "no such directory"));
}

TEST_F(FindFiles, WhatElseIsGivenAsAnAdapter) {
  dir.write("a/adapter_config.json", "{}").write("a/adapter_model.safetensors", "x");
  EXPECT_EQ(message_of([&] { find_adapter(dir / "a"); }), "");
  EXPECT_TRUE(says(adapter("a/adapter_model.safetensors"), "give --adapter " + (dir / "a").string()));
  EXPECT_TRUE(says(adapter("none"), "no such directory; --adapter takes PEFT's directory"));
  fs::remove(dir / "a/adapter_model.safetensors");
  EXPECT_TRUE(says(adapter("a"), "adapter_model.safetensors is missing"));
  dir.write("a/adapter_model.bin", "PK");
  EXPECT_TRUE(says(adapter("a"), "adapter_model.bin is pickled"));
  dir.write("t/adapter_model.safetensors", "x");
  EXPECT_TRUE(says(adapter("t"), "adapter_config.json is missing"));
  dir.write("m/config.json", "{}").write("m/model.safetensors", "x");
  EXPECT_TRUE(says(adapter("m"), "this looks like a model, not an adapter"));
  dir.write("g/lora.gguf", "GGUF").write("lora.gguf", "GGUF");
  EXPECT_TRUE(says(adapter("g"), "\"lora.gguf\" is a GGUF file"));
  EXPECT_TRUE(says(adapter("lora.gguf"), "this looks like a GGUF file"));
  dir.write("two/first/adapter_config.json", "{}").write("two/second/adapter_config.json", "{}");
  EXPECT_TRUE(says(adapter("two"), "in these directories: \"first\", \"second\""));
}

}  // namespace
}  // namespace tll
