// The trainer on a CUDA device, which in `make test` is the emulator: beside the CPU, and beside itself.
#include "kernels/cuda_device.h"
#include "tests/emulated_gpu.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

struct CudaRun : Run {
  void train_in_its_type(const Options& options) const {
    if (options.dtype == DtypeOption::kFp16)
      train<half>(options);
    else if (options.dtype == DtypeOption::kBf16)
      train<bf16>(options);
    else
      train(options);
  }
};

std::vector<double> training_losses(const std::filesystem::path& output) {
  std::vector<double> all;
  for (const Json& line : json_lines(output / "metrics.jsonl"))
    if (line.contains("loss")) all.push_back(line.at("loss").get<double>());
  return all;
}

// The emulator as a GPU that fails.
using FailingGpu = EmulatedGpu<Run>;

// Whatever is closed on the way out finds a GPU that refuses everything; what is reported is the fault, once.
TEST_F(FailingGpu, AFaultEndsTheRunWithItsMessage) {
  const std::string settings = "--device cuda --max-steps 3 --eval-samples 0 --offload optimizer,activations --recompute full ";
  for (const int launch : {1, 300, 600}) {  // while weights are loaded, in the first steps, in a graph
    emulator::options().failing_launch = launch;
    const std::string text = refusal_of([&] { train(parse("faulty", settings)); }, kExitFault);
    EXPECT_TRUE(says(text, "the GPU failed")) << launch;
    EXPECT_TRUE(says(text, "an illegal memory access was encountered")) << launch;
    EXPECT_EQ(emulator::options().failing_launch, 0) << "there are not so many launches";
    emulator::repair_device();
  }
  train(parse("faulty", settings));  // the same process can go on
}

// A step that cannot be captured runs kernel by kernel, with the same bytes.
TEST_F(FailingGpu, StepsThatCannotBeCapturedRunAllTheSame) {
  struct Way {
    std::string name, settings;
    int limit;  // operations after which a capture fails
  };
  for (const Way& way : {Way{"parts", "--grad-accum 2", 0},
                         Way{"offloaded", "--grad-accum 1 --offload optimizer,activations --recompute full", 30}}) {
    const auto run = [&](const std::string& output, int limit) {
      emulator::options().capture_limit = limit;
      testing::internal::CaptureStderr();
      train(parse(way.name + output, "--device cuda --max-steps 4 --eval-samples 0 " + way.settings));
      return testing::internal::GetCapturedStderr();
    };
    EXPECT_EQ(run("graphs", -1), "");
    EXPECT_TRUE(
        says(run("eager", way.limit), "tokens run kernel by kernel, which is slower: they cannot be captured as a graph"));
    for (const char* file : {"adapter_model.safetensors", "checkpoint-4/optimizer.safetensors"})
      EXPECT_EQ(bytes(way.name + "graphs", file), bytes(way.name + "eager", file)) << way.name << file;
  }
}

// Graphs take memory beside the plan: so much and no more.
TEST_F(FailingGpu, GraphsStopAtTheMemoryThatIsSetAsideForThem) {
  const auto count_graphs = [&](size_t node_bytes) {
    emulator::options().graph_node_bytes = node_bytes;
    TrainingRun<float> run(parse("graphs", "--device cuda --max-steps 3 --grad-accum 2 --eval-samples 0"));
    run.start();
    while (!run.finished()) run.step();
    const StepGraphs& graphs = run.session().trainer.graphs();
    EXPECT_EQ(graphs.bytes() > 0, node_bytes > 0);
    return graphs.count();
  };
  EXPECT_EQ(count_graphs(0), 2) << "of a batch, and of an update";
  EXPECT_EQ(count_graphs(StepGraphs::kMostBytes), 1) << "the first one takes too much already";
}

// On a CUDA device: the same as on the CPU, from data to adapter.
TEST_F(CudaRun, ResumesWithTheSameBytesAndTrainsAsTheCpuDoes) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  const std::string settings = "--dropout 0.1 --max-steps 4 --eval-samples 0", cuda = settings + " --device cuda";
  train(parse("cpu", settings));
  train(parse("whole", cuda));
  train(parse("parts", cuda), 2);
  train(parse("parts", cuda + " --resume"));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("parts", "adapter_model.safetensors"));
  const std::vector<Json> on_cpu = json_lines(directory_ / "cpu/metrics.jsonl");
  const std::vector<Json> on_cuda = json_lines(directory_ / "whole/metrics.jsonl");
  ASSERT_LE(on_cpu.size(), on_cuda.size());
  for (size_t i = 0; i < on_cpu.size(); i++) {
    const Json &left = on_cpu[i], &right = on_cuda[i];
    // Sums of at most 64 terms through 2 layers: some 10 ulp of 6e-8, which four steps of AdamW may enlarge tenfold.
    const char* key = left.contains("loss") ? "loss" : "eval_loss";
    EXPECT_NEAR(left.at(key).get<double>(), right.at(key).get<double>(), 1e-5 * left.at(key).get<double>());
  }
  EXPECT_GE(on_cpu.size(), 5u);
}

// Offloaded state, in graphs of steps and in steps of several batches, changes no bit; nor does a checkpoint in between.
TEST_F(CudaRun, OffloadedStateTrainsAndResumesWithTheSameBytes) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  for (const std::string optimizer : {"adamw", "adamw8bit"}) {
    const std::string cuda = " --device cuda --rank 128 --max-steps 4 --grad-accum 1 --eval-samples 0 --optimizer ";
    const std::string resident = optimizer + "_resident", offloaded = optimizer + "_offloaded";
    train(parse(resident, cuda + optimizer));
    train(parse(offloaded, cuda + optimizer + " --offload optimizer"), 2);
    train(parse(offloaded, cuda + optimizer + " --offload optimizer --resume"));
    EXPECT_EQ(bytes(resident, "adapter_model.safetensors"), bytes(offloaded, "adapter_model.safetensors"));
    EXPECT_EQ(bytes(resident, "checkpoint-4/optimizer.safetensors"), bytes(offloaded, "checkpoint-4/optimizer.safetensors"));
  }
}

// Adapters in bf16 alone, on both devices and in both types of activations: the losses are those of fp32 states but for
// roundings of the adapter to 8 bits.
TEST_F(CudaRun, AdaptersInBf16TrainOnBothDevices) {
  std::vector<std::string> devices = {"cpu"};
  if (cuda_device_count() > 0) devices.push_back("cuda");
  for (const std::string& device : devices)
    for (const std::string dtype : {"fp32", "bf16"}) {
      const std::string common = fmt::format("--device {} --dtype {} --max-steps 4 --eval-samples 0", device, dtype);
      const auto run = [&](const std::string& name, const std::string& more) {
        dtype == "fp32" ? train<float>(parse(name, common + more)) : train<bf16>(parse(name, common + more));
        return training_losses(directory_ / name);
      };
      const std::vector<double> masters = run(device + dtype + "32", ""),
                                alone = run(device + dtype + "16", " --lora-states bf16");
      ASSERT_EQ(masters.size(), alone.size());
      EXPECT_NE(masters, alone);
      for (size_t i = 0; i < alone.size(); i++) EXPECT_NEAR(masters[i], alone[i], 0.02 * masters[i]) << device << dtype << i;
    }
}

// Logits of training steps in 16 bits, as a GPU has them by default. The first loss is off by 2·u·max|z| at most, as derived in
// kernels/cross_entropy.h; the gradient is by as large a part of it, and so is what training makes of the loss. Before training
// and after no step nothing differs in evaluations, which have fp32.
TEST_F(CudaRun, LogitsIn16BitsTrainAsThoseInFp32) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  const auto compare = [&]<class Float>(Float, const std::string& dtype, double u) {
    double most = 0;  // |z|
    std::vector<std::vector<double>> losses, evaluations;
    for (const std::string logits : {"fp32", "auto"}) {
      const std::string name = dtype + logits;
      const Options options = parse(name, fmt::format("--device cuda --dtype {} --logits {} --max-steps 10 --eval-samples 0 "
                                                      "--grad-accum 1",
                                                      dtype, logits));
      EXPECT_EQ(options.logits, logits == "fp32" ? LogitsOption::kFp32 : LogitsOption::k16Bit);
      TrainingRun<Float> run(options);
      run.start();
      run.evaluate_before();
      Llama<Float>& model = run.session().model;  // which still has the last batch's normalised rows
      const Device& device = run.session().device;
      std::vector<float> z(static_cast<size_t>(model.config().vocab_size));
      model.download_logits(device, z.data(), model.logits_from(device, 0, 1, PassKind::inference), 1);
      synchronize(device);
      for (const float x : z) most = std::max<double>(most, std::abs(x));
      while (!run.finished()) run.step();
      run.save();
      run.evaluate_after();
      run.finish();
      for (auto* all : {&losses, &evaluations}) all->emplace_back();
      for (const Json& line : json_lines(directory_ / name / "metrics.jsonl"))
        line.contains("loss") ? losses.back().push_back(line.at("loss")) : evaluations.back().push_back(line.at("eval_loss"));
    }
    ASSERT_EQ(losses[0].size(), 10u);
    ASSERT_EQ(losses[1].size(), 10u);
    EXPECT_NE(losses[0], losses[1]);
    EXPECT_EQ(evaluations[0].front(), evaluations[1].front());
    // Rows other than the one that was looked at have logits of the same distribution: twice as large at most.
    const double bound = 2 * u * 2 * most;
    for (size_t i = 0; i < 10; i++)
      EXPECT_NEAR(losses[0][i], losses[1][i], bound * (1 + std::abs(losses[0][i] - losses[0][0]))) << dtype << i;
  };
  compare(bf16{}, "bf16", 0x1p-8);
  compare(half{}, "fp16", 0x1p-11);
}

// The residual stream and the embedding in memory of the host: every wait between the two streams is checked, with and without a
// graph (shapes that come twice). Six blocks, so that buffers come round.
TEST_F(CudaRun, OffloadedActivationsAndEmbeddingGiveTheSameBytes) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  std::ofstream(directory_ / "config.json")
      << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
           "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "rms_norm_eps": 1e-5,
           "max_position_embeddings": 64, "tie_word_embeddings": false})";
  const std::string settings = "--device cuda --init random --config " + (directory_ / "config.json").string() +
                               " --recompute full --max-steps 5 --eval-samples 0 --eval-steps 2 --save-steps 5 --dropout 0.1 ";
  for (const std::string more : {"--dtype fp32 ", "--dtype bf16 --mlp-chunk 24 --grad-accum 1 ", "--dtype fp16 --weights nf4 "}) {
    const std::string name = std::to_string(more.size());
    const auto run = [&](const std::string& output, const std::string& offload) {
      train_in_its_type(parse(output, settings + more + offload));
    };
    run(name + "resident", "");
    run(name + "offloaded", "--offload activations,embedding,optimizer");
    for (const char* file : {"adapter_model.safetensors", "checkpoint-5/optimizer.safetensors"})
      EXPECT_EQ(bytes(name + "resident", file), bytes(name + "offloaded", file)) << more << file;
    EXPECT_EQ(json_lines(directory_ / (name + "resident/metrics.jsonl")).back().at("eval_loss"),
              json_lines(directory_ / (name + "offloaded/metrics.jsonl")).back().at("eval_loss"));
  }
}

// The same sums in another order, and rounded once instead of twice: in fp32 some thousand roundings of 2^-24; in 16 bits the
// losses of this model differ by less than the roundings of its activations, 2^-9 of each.
TEST_F(CudaRun, JoinedAdaptersTrainAsSeparateOnesDo) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  int run = 0;
  for (const std::string more : {"fp32 --dropout 0.1", "bf16 --recompute selective", "fp16 --weights nf4 --recompute full"}) {
    const auto losses = [&](const std::string& gemm) {
      const Options options = parse(gemm + std::to_string(run++),
                                    "--device cuda --max-steps 3 --eval-samples 0 --lora-gemm " + gemm + " --dtype " + more);
      train_in_its_type(options);
      return training_losses(options.output);
    };
    const std::vector<double> joined = losses("joined"), separate = losses("separate");
    ASSERT_EQ(joined.size(), 3u);
    EXPECT_NE(joined, separate) << "the option does nothing";
    const double relative = more.starts_with("fp32") ? 1e-5 : 0.01;
    for (size_t i = 0; i < joined.size(); i++) EXPECT_NEAR(joined[i], separate[i], relative * separate[i]) << more << " " << i;
  }
}

// fp16: the loss scale is too large at first, so steps are skipped until it fits; it is part of the checkpoint.
TEST_F(CudaRun, LossScalingFindsItsPlaceAndIsResumed) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  const std::string settings = "--device cuda --dtype fp16 --max-steps 6 --eval-samples 0";
  TrainerState state;
  {
    TrainingRun<half> run(parse("fp16", settings));
    run.start();
    run.session().trainer.state.loss_scale = 16777216;
    for (int step = 0; step < 5; step++) run.step();
    run.interrupt(Stopped("training"));
    state = run.session().trainer.state;
  }
  EXPECT_LT(state.loss_scale, 16777216);
  EXPECT_GT(state.loss_scale, 1);
  EXPECT_LT(state.updates, state.step);
  EXPECT_GT(state.updates, 0);
  EXPECT_EQ(state.skipped_in_a_row, 0);
  TrainingRun<half> resumed(parse("fp16", settings + " --resume"));
  resumed.start();
  EXPECT_EQ(resumed.session().trainer.state.loss_scale, state.loss_scale);
  EXPECT_EQ(resumed.session().trainer.state.steady, state.steady);
}

// Greedy text and scores are those of the CPU: many sequences at once, with slots that move.
TEST_F(CudaRun, GeneratesWhatTheCpuGenerates) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  std::vector<std::vector<int32_t>> answers[2];
  for (const bool cuda : {false, true}) {
    Options options = parse(cuda ? "g" : "c", cuda ? "--device cuda" : "--device cpu");
    const ModelSource source = open_model(options, TokenizerNeed::none);
    SessionNeeds needs;
    needs.tokens = 32, needs.positions = 24, needs.sequences = 3;
    Session<float> session(options, source.config, {}, [&](const Options&) { return needs; });
    session.start(source, {});
    std::vector<std::vector<int32_t>> prompts;
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 7; i++) {
      prompts.emplace_back();
      for (int t = 0; t < 3 + 2 * i; t++) prompts.back().push_back((7 * i + 3 * t + 1) % source.config.vocab_size);
    }
    for (size_t i = 0; i < prompts.size(); i++) requests.push_back({prompts[i], 2 + static_cast<int>(i * 5 % 7)});
    answers[cuda] = session.generator->generate(session.device, requests, {});
  }
  EXPECT_EQ(answers[0], answers[1]);
}

}  // namespace
}  // namespace tll
