// Published models and GPUs: the shapes add up to the published numbers of parameters, and names are found as people type them.
#include "src/files/known_models.h"

#include <gtest/gtest.h>

#include <set>

#include "src/base/spelling.h"
#include "src/report/known_gpus.h"
#include "tests/refusal.h"

namespace tll {
namespace {

TEST(KnownModels, ShapesAddUpToThePublishedNumbersOfParameters) {
  const std::pair<const char*, int64_t> published[] = {{"meta-llama/Llama-2-7b-hf", 6738415616},
                                                       {"meta-llama/Llama-2-13b-chat-hf", 13015864320},
                                                       {"meta-llama/Llama-2-70b-hf", 68976648192},
                                                       {"meta-llama/Meta-Llama-3-8B-Instruct", 8030261248},
                                                       {"meta-llama/Meta-Llama-3-70B", 70553706496},
                                                       {"meta-llama/Llama-3.1-8B", 8030261248},
                                                       {"meta-llama/Llama-3.3-70B-Instruct", 70553706496},
                                                       {"meta-llama/Llama-3.1-405B", 405853388800},
                                                       {"meta-llama/Llama-3.2-1B", 1235814400},
                                                       {"meta-llama/Llama-3.2-3B-Instruct", 3212749824},
                                                       {"TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1100048384},
                                                       {"HuggingFaceTB/SmolLM2-135M", 134515008},
                                                       {"HuggingFaceTB/SmolLM2-360M-Instruct", 361821120},
                                                       {"HuggingFaceTB/SmolLM2-1.7B", 1711376384},
                                                       {"mistralai/Mistral-7B-v0.1", 7241732096},
                                                       {"mistralai/Mistral-7B-Instruct-v0.3", 7248023552},
                                                       {"Qwen/Qwen2.5-0.5B", 494032768},
                                                       {"Qwen/Qwen2.5-1.5B-Instruct", 1543714304},
                                                       {"Qwen/Qwen2.5-3B", 3085938688},
                                                       {"Qwen/Qwen2.5-7B", 7615616512},
                                                       {"Qwen/Qwen2.5-14B", 14770033664},
                                                       {"Qwen/Qwen2.5-32B", 32763876352},
                                                       {"Qwen/Qwen2.5-72B-Instruct", 72706203648},
                                                       {"Qwen/Qwen3-0.6B", 596049920},
                                                       {"Qwen/Qwen3-1.7B-Base", 1720574976},
                                                       {"Qwen/Qwen3-4B", 4022468096},
                                                       {"Qwen/Qwen3-8B", 8190735360},
                                                       {"Qwen/Qwen3-14B", 14768307200},
                                                       {"Qwen/Qwen3-32B", 32762123264},
                                                       {"microsoft/Phi-3-mini-4k-instruct", 3821079552},
                                                       {"microsoft/Phi-3-mini-128k-instruct", 3821079552}};
  for (const auto& [name, parameters] : published) {
    const auto model = known_model(name);
    ASSERT_TRUE(model) << name;
    EXPECT_EQ(parameter_count(model->config), parameters) << name;
  }
}

TEST(KnownModels, NamesAreFoundInAnyCaseAndWithoutTheOwner) {
  std::set<std::string> short_names;
  for (const std::string_view name : known_model_names()) {
    const std::string_view alone = name.substr(name.find('/') + 1);
    EXPECT_TRUE(short_names.insert(lower_case(alone)).second) << alone << " would be two models";
    for (const std::string& typed : {std::string(name), lower_case(name), std::string(alone), lower_case(alone)}) {
      const auto found = known_model(typed);
      ASSERT_TRUE(found) << typed;
      EXPECT_EQ(found->name, name);
    }
  }
  EXPECT_FALSE(known_model("meta-llama"));
  EXPECT_FALSE(known_model(""));
}

TEST(KnownModels, ModulesOfEachArchitecture) {
  const std::string sizes = R"("vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2})";
  for (const std::string type : {"mistral", "qwen2", "qwen3"}) {
    const std::string text = fmt::format(R"({{"model_type": "{}", )", type) + sizes;
    const LlamaConfig config = parse_config(text, "config.json");
    EXPECT_EQ(config.architecture->model_type, type);
    EXPECT_EQ(config.head_dim, config.architecture == &kQwen3 ? 128 : 8);
  }
  const LlamaConfig llama = parse_config(R"({"model_type": "llama", )" + sizes, "c"),
                    qwen2 = parse_config(R"({"model_type": "qwen2", )" + sizes, "c"),
                    phi3 = parse_config(R"({"model_type": "phi3", )" + sizes, "c");
  EXPECT_EQ(parameter_count(qwen2) - parameter_count(llama), 2 * (32 + 2 * 16)) << "biases of q, k and v";
  EXPECT_EQ(parameter_count(phi3), parameter_count(llama)) << "the same matrices, joined";
  const std::vector<Module> fused = adaptable_modules(phi3);
  ASSERT_EQ(fused.size(), 2u * 4);
  EXPECT_TRUE(fused[0].is_among({"q_proj"}) && fused[0].is_among({"v_proj"}) && fused[0].is_among({"qkv_proj"}));
  EXPECT_FALSE(fused[0].is_among({"o_proj", "gate_proj", "proj"}));
}

TEST(KnownGpus, NamesAreFoundAsPeopleTypeThem) {
  for (const std::string_view name : known_gpu_names()) {
    const KnownGpu* gpu = known_gpu(name);
    ASSERT_NE(gpu, nullptr) << name;
    EXPECT_EQ(gpu->name, name);
    EXPECT_GT(gpu->available(), gpu->usable * 9 / 10);
    EXPECT_GT(gpu->flops, gpu->bandwidth) << "16-bit matmuls are bound by arithmetic when they are large";
    EXPECT_GT(gpu->bandwidth, gpu->link);
  }
  for (const char* typed : {"RTX-4090", "rtx 4090", "Rtx_4090", "rtx4090", "NVIDIA GeForce RTX 4090"})
    EXPECT_EQ(known_gpu(typed), known_gpu("RTX-4090")) << typed;
  EXPECT_EQ(known_gpu("rtx 3060"), known_gpu("RTX-3060-12GB")) << "there is only one";
  EXPECT_EQ(known_gpu("A100"), nullptr) << "there are two";
  EXPECT_EQ(known_gpu("a100 40gb"), known_gpu("A100-40GB"));
  EXPECT_EQ(known_gpu("NVIDIA A100-SXM4-80GB"), known_gpu("A100-80GB")) << "as nvidia-smi says";
  EXPECT_EQ(known_gpu(""), nullptr);
  EXPECT_EQ(known_gpu("T40"), nullptr);
  EXPECT_EQ(known_gpu("T4")->usable, int64_t{15104} << 20) << "14.75 GiB";
}

TEST(KnownGpus, NamesOfDriversAreRecognised) {
  for (const auto& [driver, name] : {std::pair{"NVIDIA A100-SXM4-40GB", "A100-40GB"},
                                     {"NVIDIA A100 80GB PCIe", "A100-80GB"},
                                     {"Tesla T4", "T4"},
                                     {"NVIDIA GeForce RTX 4090", "RTX-4090"},
                                     {"NVIDIA H100 80GB HBM3", "H100"},
                                     {"NVIDIA H100 PCIe", "H100-PCIe"},
                                     {"NVIDIA A10G", "A10G"}})
    EXPECT_EQ(gpu_of_driver_name(driver), known_gpu(name)) << driver;
  EXPECT_EQ(gpu_of_driver_name("NVIDIA Quadro K620"), nullptr);
  EXPECT_EQ(gpu_of_driver_name(""), nullptr);
}

}  // namespace
}  // namespace tll
