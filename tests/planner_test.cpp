// What `plan` answers: what is largest, what a search over all splits of a batch chooses, sweeps, and what is said.
#include "src/commands/planner.h"

#include <gtest/gtest.h>

#include <fstream>

#include "src/base/file.h"
#include "src/base/units.h"
#include "src/commands/commands.h"
#include "src/commands/plan_screen.h"
#include "src/commands/sweep.h"
#include "src/model/plan_picture.h"
#include "src/options/option_table.h"
#include "src/report/known_gpus.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {
namespace {

const std::string kTiny = "plan --config dev/bench/configs/tiny.json --threads 2 ";

Options resolved(const std::string& line) {
  Options options = parse_options(words(line));
  resolve_options(options);
  return options;
}

struct Planned {
  explicit Planned(const std::string& line)
      : options(resolved(line)),
        source(open_model(options, TokenizerNeed::none)),
        planner(source.config, std::nullopt, training_needs) {}
  Options options;
  ModelSource source;
  Planner planner;
};

TEST(LargestWithin, IsTheLastThatFitsOfAnythingThatNeverFalls) {
  int calls = 0;
  const std::vector<std::function<int64_t(int64_t)>> curves = {
      [](int64_t n) { return 7 * n + 100; },     [](int64_t n) { return n * n; },
      [](int64_t n) { return n / 64 * 64 + 3; }, [](int64_t n) { return n < 500 ? 10 : 10 * n; },
      [](int64_t) { return int64_t{5}; },        [](int64_t n) { return int64_t{1} << std::min<int64_t>(n / 20, 60); }};
  for (const auto& curve : curves)
    for (const int64_t room : {0, 5, 9, 10, 99, 500, 4999, 5000, 1000000}) {
      int64_t expected = 0;
      for (int64_t n = 1; n <= 1000 && curve(n) <= room; n++) expected = n;
      calls = 0;
      EXPECT_EQ(largest_within(
                    1, 1000, [&](int64_t n) { return calls++, curve(n); }, room),
                expected)
          << room;
      EXPECT_LE(calls, 2 + 3 * 10) << "a third of the turns halves what is left";
    }
  EXPECT_EQ(largest_within(4, 3, curves[0], 1000), 3);
  calls = 0;
  largest_within(
      1, 1 << 24, [&](int64_t n) { return calls++, 1000 * n + 12345; }, 123456789);
  EXPECT_LE(calls, 6) << "a straight line takes few";
}

TEST(Planner, WhatIsLargestFitsAndOneMoreDoesNot) {
  for (const std::string settings : {"--dtype fp32 --seq-len 64", "--dtype bf16 --recompute full --seq-len 128 --batch-size 3",
                                     "--dtype fp32 --train full --seq-len 100", "--device cuda --dtype fp16 --seq-len 33"})
    for (const int64_t mib : {1, 30, 60, 100, 500}) {
      const Planned p(fmt::format("{} {} --memory {}MiB", kTiny, settings, mib));
      SCOPED_TRACE(settings);
      const int64_t room = mib << 20;
      const Largest most = largest(p.planner, p.options, room);
      const auto bytes = [&](int64_t Options::*size, int64_t n) {
        Options changed = p.options;
        changed.*size = n;
        return p.planner.bytes(changed);
      };
      for (const auto& [size, n] : {std::pair(&Options::batch_size, most.batch_size), {&Options::seq_len, most.seq_len}}) {
        EXPECT_TRUE(n == 0 || bytes(size, n) <= room) << n;
        EXPECT_GT(bytes(size, n + 1), room) << n;
      }
    }
}

// Everything that --batch-size auto may choose, one after another.
TEST(Solver, NothingThatFitsIsFaster) {
  const std::vector<std::string> recomputes = {"none", "selective", "full"}, chunks = {"0", "auto"},
                                 offloads = {"none",
                                             "embedding",
                                             "activations",
                                             "activations,embedding",
                                             "optimizer",
                                             "optimizer,embedding",
                                             "optimizer,activations",
                                             "optimizer,activations,embedding"};
  int chosen = 0;
  std::set<std::string> answers;
  for (const std::string settings :
       {"--dtype fp32 --device cpu", "--dtype bf16 --device cuda", "--gpu t4 --dtype fp16 --rank 64"})
    for (const int rows : {1, 6, 16})
      for (const int64_t mib : {36, 40, 48, 64, 96, 160, 1000}) {
        const std::string line = fmt::format("{} {} --seq-len 512 --memory {}MiB ", kTiny, settings, mib);
        const Planned p(line + fmt::format("--batch-size auto --effective-batch {}", rows));
        SCOPED_TRACE(fmt::format("{}, {} rows", line, rows));
        double fastest = 0;
        for (int accumulate = 1; accumulate <= rows; accumulate++)
          for (const std::string& recompute : recomputes)
            for (const std::string& chunk : chunks)
              for (const std::string& offload : offloads) {
                if (rows % accumulate != 0 || (chunk != "0" && recompute != "full")) continue;
                std::string more =
                    fmt::format("--batch-size {} --grad-accum {} --recompute {}", rows / accumulate, accumulate, recompute);
                if (find_row("mlp-chunk")) more += " --mlp-chunk " + chunk;
                if (find_row("offload") && p.options.device == DeviceOption::kCuda) more += " --offload " + offload;
                Options options;
                try {
                  options = resolved(line + more);
                } catch (const Error&) {
                  continue;  // refused by name
                }
                if (p.planner.bytes(options) > mib << 20) continue;
                const double seconds = p.planner.seconds(options);
                fastest = fastest == 0 ? seconds : std::min(fastest, seconds);
              }
        if (fastest == 0) {
          EXPECT_TRUE(says(refusal_of([&] { solve(p.planner, p.options, mib << 20); }, kExitDoesNotFit), "no way to compute"));
          continue;
        }
        const Solution solution = solve(p.planner, p.options, mib << 20);
        chosen++;
        answers.insert(solution.text().substr(0, solution.text().find('(')));
        EXPECT_EQ(solution.seconds, fastest);
        EXPECT_LE(p.planner.bytes(solution.options), mib << 20);
        EXPECT_EQ(solution.options.batch_size * solution.options.grad_accum, rows);
        EXPECT_EQ(solution.seconds, p.planner.seconds(solution.options));
        EXPECT_EQ(solve(p.planner, p.options, mib << 20).text(), solution.text()) << "the same again";
        // More rows at once, all else equal, do not fit or are no faster.
        for (int more = static_cast<int>(solution.options.batch_size) + 1; more <= rows; more++) {
          if (rows % more != 0) continue;
          Options larger = solution.options;
          larger.batch_size = more, larger.grad_accum = rows / more;
          EXPECT_TRUE(p.planner.bytes(larger) > mib << 20 || p.planner.seconds(larger) >= solution.seconds);
        }
      }
  EXPECT_GT(chosen, 30);
  EXPECT_GT(answers.size(), 6u) << "memory decides what is chosen";
}

TEST(Solver, KeepsWhatWasAskedFor) {
  const Planned p(
      kTiny + "--seq-len 256 --dtype fp32 --memory 1GiB --batch-size auto --effective-batch 8 --recompute full --grad-accum 4");
  const Solution solution = solve(p.planner, p.options, 1 << 30);
  EXPECT_EQ(solution.options.batch_size, 2);
  EXPECT_EQ(solution.options.recompute, RecomputeOption::kFull);
  EXPECT_EQ(solution.json().at("grad_accum"), 4);
  EXPECT_TRUE(says(refusal_of([] { resolved(kTiny + "--batch-size auto"); }, kExitUsage), "go together"));
  EXPECT_TRUE(says(refusal_of([] { resolved(kTiny + "--effective-batch 8"); }, kExitUsage), "go together"));
  const Planned odd(kTiny + "--batch-size auto --effective-batch 7 --grad-accum 2 --memory 1GiB");
  EXPECT_TRUE(says(refusal_of([&] { solve(odd.planner, odd.options, 1 << 30); }, kExitUsage), "cannot be split into 2"));
}

// The time of a step is that of its ops: twice the batches take twice as long, but for the update.
TEST(DryRun, AddsUpWhatAStepDoes) {
  const Planned p(kTiny + "--seq-len 256 --gpu t4 --dtype fp16 --batch-size 2");
  Options two = p.options, none = p.options, full = p.options;
  two.grad_accum = 2, none.recompute = RecomputeOption::kNone, full.recompute = RecomputeOption::kFull;
  const double once = p.planner.seconds(p.options), twice = p.planner.seconds(two);
  EXPECT_GT(twice, 1.5 * once);
  EXPECT_LT(twice, 2 * once);
  EXPECT_GT(p.planner.seconds(full), p.planner.seconds(none)) << "computing again takes time";
  Options faster = p.options;
  faster.gpu = "H100";
  EXPECT_LT(p.planner.seconds(faster), once);
}

TEST(Sweep, IsReadAsWritten) {
  const auto swept = read_sweep("rank=4,8, 16;targets=q,v|all-linear;lora_alpha=8;weights=bf16");
  ASSERT_EQ(swept.size(), 4u);
  EXPECT_EQ(swept[0].row->name, "rank");
  EXPECT_EQ(swept[0].values, (std::vector<std::string>{"4", "8", "16"}));
  EXPECT_EQ(swept[1].values, (std::vector<std::string>{"q,v", "all-linear"})) << "a value may have a comma in it";
  EXPECT_EQ(swept[2].row->name, "alpha") << "aliases are names";
  const auto refused = [](const std::string& text) { return refusal_of([&] { read_sweep(text); }, kExitUsage); };
  EXPECT_TRUE(says(refused("rank"), "expected \"name=a,b;name=c,d\""));
  EXPECT_TRUE(says(refused("rnak=4"), "did you mean rank?"));
  EXPECT_TRUE(says(refused("rank=4;r=8"), "twice"));
  EXPECT_TRUE(says(refused("rank=4,,8"), "empty"));
  EXPECT_TRUE(says(refused("svg=a,b"), "is not an option that a plan depends on"));
  EXPECT_EQ(read_sweep("gpu=t4,l4").size(), 1u);
  EXPECT_TRUE(says(refused("prompt=a"), "is not an option that a plan depends on"));
  EXPECT_TRUE(says(refused("rank=1,2,3,4,5,6,7,8,9,10;alpha=1,2,3,4,5,6,7,8,9,10;seed=1,2,3,4,5,6,7,8,9,10;"
                           "threads=1,2,3,4,5,6,7,8,9,10;beta1=0,0.1"),
                   "more than 10000"));
}

std::string printed(const std::string& line, int code = kExitDone) {
  Options options = parse_options(words(line));
  testing::internal::CaptureStdout();
  int got = kExitDone;
  try {
    got = command_plan(options);
  } catch (const Error& error) {
    got = error.exit_code;
  }
  EXPECT_EQ(got, code) << line;
  return testing::internal::GetCapturedStdout();
}

TEST(PlanCommand, JsonHasWhatTheContractSays) {
  const Json plan = Json::parse(printed("plan --model llama-3.2-1b --gpu t4 --seq-len 256 --json"));
  EXPECT_EQ(plan.at("fits"), true);
  EXPECT_EQ(plan.at("limit"), (int64_t{15104} << 20) - (int64_t{300} << 20));
  EXPECT_EQ(plan.at("host_bytes").is_number_integer(), true);
  EXPECT_EQ(plan.at("peak_phase").is_string(), true);
  const Json& assumed = plan.at("assumed");
  EXPECT_EQ(assumed.at("model"), "meta-llama/Llama-3.2-1B");
  EXPECT_EQ(assumed.at("device"), "cuda");
  EXPECT_EQ(assumed.at("gpu"), "T4");
  EXPECT_EQ(assumed.at("dtype"), "fp16") << "a T4 has no bf16";
  EXPECT_EQ(assumed.at("weights"), "fp16");
  EXPECT_EQ(assumed.at("rank"), 16);
  EXPECT_EQ(assumed.at("batch_size"), 1);
  EXPECT_EQ(assumed.at("seq_len"), 256);
  EXPECT_GT(plan.at("largest").at("batch_size"), 1);
  EXPECT_GT(plan.at("largest").at("seq_len"), 256);
  EXPECT_EQ(plan.at("formula").at("parameters"), 4 * 1235814400LL);
  int64_t sum = 0;
  for (const char* category : {"parameters", "gradients", "optimizer", "activations", "scratch"})
    sum += plan.at("bytes").at(category).get<int64_t>();
  EXPECT_EQ(plan.at("bytes").at("total"), sum);
  for (const Json& t : plan.at("tensors")) EXPECT_EQ(t.at("phases").size(), 2u) << t;
  EXPECT_FALSE(plan.contains("solution"));

  const Json solved =
      Json::parse(printed("plan --model llama-3.2-1b --gpu t4 --seq-len 256 --json --batch-size auto --effective-batch 32"));
  const Json& solution = solved.at("solution");
  EXPECT_EQ(solution.at("batch_size").get<int64_t>() * solution.at("grad_accum").get<int64_t>(), 32);
  for (const char* key : {"recompute", "mlp_chunk", "offload", "seconds"}) EXPECT_TRUE(solution.contains(key)) << key;
  EXPECT_EQ(solved.at("assumed").at("batch_size"), solution.at("batch_size"));
}

TEST(PlanCommand, UnknownNamesAreUsageErrors) {
  const auto refused = [](const std::string& line) {
    Options options = parse_options(words(line));
    return refusal_of([&] { command_plan(options); }, kExitUsage);
  };
  EXPECT_TRUE(says(refused("plan --model meta-llama/Llama-3.2-1"), "did you mean meta-llama/Llama-3.2-1B?"));
  EXPECT_TRUE(says(refused("plan --model smollm2_135m"), "did you mean SmolLM2-135M?"));
  EXPECT_TRUE(says(refused("plan --gpu rtx-4091"), "did you mean RTX-4090?"));
  for (const char* option : {"gpu", "sweep"}) {
    Options empty = parse_options({"plan", fmt::format("--{}=", option)});
    EXPECT_TRUE(says(refusal_of([&] { command_plan(empty); }, kExitUsage), option));
  }
  EXPECT_TRUE(says(refused("plan --gpu t4 --device cpu"), "exclude each other"));
  EXPECT_TRUE(says(refused("plan --gpu t4 --dtype bf16"), "T4 has 7.5"));
  EXPECT_TRUE(says(refused("plan --csv"), "--sweep"));
  EXPECT_TRUE(says(refused("plan --sweep rank=4,8 --svg x.svg"), "leave out either"));
  EXPECT_TRUE(says(refused("plan --sweep rank=0 --memory 1GiB"), "--rank expects"));
}

TEST(PlanCommand, TheFirstScreenAnswers) {
  const std::string fits = printed("plan --model Qwen/Qwen3-4B --gpu rtx-3090 --seq-len 512");
  for (const char* part :
       {"Qwen/Qwen3-4B, 4,022,468,096 parameters", "RTX-3090: 23.7 GiB usable", "an estimate", "LoRA of rank 16", "bf16",
        "1 row of 512 tokens", "verdict  fits", "to spare", "peak     in the phase", "largest  ", "rule of textbooks"})
    EXPECT_TRUE(says(fits, part));
  EXPECT_EQ(fits.find("category"), fits.npos) << "the tensors are behind --tensors";
  EXPECT_TRUE(says(printed("plan --model Qwen/Qwen3-4B --gpu rtx-3090 --seq-len 512 --tensors"), "lives in"));
  EXPECT_TRUE(says(printed("plan --model llama-2-70b-hf --gpu t4", kExitDoesNotFit), "does not fit"));
}

// The rank of an adapter on joint rows is not that of one on each part. The first number is that of a PEFT adapter on Phi-3-mini.
TEST(PlanCommand, JointLayersHaveOneAdapter) {
  const std::string phi3 = "plan --model microsoft/Phi-3-mini-4k-instruct --gpu rtx-3090 --rank 16 --seq-len 64 ";
  for (const char* targets : {"--targets q,k,v", "--targets qkv"}) {
    const std::string text = printed(phi3 + targets);
    EXPECT_TRUE(says(text, "LoRA of rank 16 on qkv; "));
    EXPECT_TRUE(says(text,
                     "qkv_proj is one layer with one adapter of rank 16, 196,608 parameters; on its 3 parts they would be "
                     "294,912"));
    EXPECT_EQ(text.find("gate_up_proj"), text.npos);
  }
  EXPECT_TRUE(says(printed(phi3), "gate_up_proj is one layer"));
  EXPECT_TRUE(says(printed(phi3), "all linear layers"));
  Options options = parse_options(words("plan --model llama-3.2-1b --gpu t4 --targets q,qkv"));
  EXPECT_TRUE(says(refusal_of([&] { command_plan(options); }, kExitUsage),
                   "--targets qkv_proj: LlamaForCausalLM has no such layer; it has q_proj, k_proj, v_proj, o_proj, gate_proj"));
}

// RoPE that depends on the length of a document has none for longer ones.
TEST(PlanCommand, TheLongestRowIsOneThatTheModelCanRead) {
  const TemporaryDirectory directory;
  const std::string config = (directory / "config.json").string();
  std::ofstream(config)
      << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
      "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
      "rope_scaling": {"type": "dynamic", "factor": 2.0}})";
  const Json plan = Json::parse(printed("plan --gpu t4 --json --config " + config));
  EXPECT_EQ(plan.at("largest").at("seq_len"), 4096);
}

TEST(PlanCommand, SweepsAreTables) {
  const std::string sweep = "plan --model llama-3.2-1b --gpu t4 --seq-len 256 --sweep rank=4,64;targets=q,v|all-linear ";
  const Json list = Json::parse(printed(sweep + "--json"));
  ASSERT_EQ(list.size(), 4u);
  int64_t last = 0;
  for (const Json& plan : list) {
    EXPECT_FALSE(plan.contains("tensors"));
    EXPECT_GT(plan.at("largest").at("batch_size"), 1);
  }
  for (const size_t i : {0, 1, 3}) {
    const int64_t total = list[i].at("bytes").at("total");
    EXPECT_GT(total, last);
    last = total;
  }
  EXPECT_EQ(list[1].at("assumed").at("targets").size(), 7u);
  EXPECT_EQ(list[2].at("assumed").at("rank"), 64);
  const std::string csv = printed(sweep + "--csv");
  EXPECT_TRUE(csv.starts_with(
      "rank,targets,parameters_bytes,gradients_bytes,optimizer_bytes,activations_bytes,scratch_bytes,total_bytes,"));
  EXPECT_TRUE(says(csv, "\n4,\"q,v\"," + std::to_string(list[0].at("bytes").at("parameters").get<int64_t>()) + ","));
  const std::string table = printed(sweep);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 5);
  printed("plan --model llama-2-70b-hf --gpu t4 --sweep rank=4,8 --json", kExitDoesNotFit);
  const Json paged =
      Json::parse(printed("plan --model llama-3.2-1b --gpu t4 --json --sweep optimizer=adamw8bit,paged_adamw_8bit"));
  EXPECT_GT(paged[0].at("bytes").at("total"), paged[1].at("bytes").at("total"));
  EXPECT_LT(paged[0].at("host_bytes"), paged[1].at("host_bytes"));
}

// The figures of README.md.
TEST(PlanCommand, TheReadmeSaysWhatIsPlanned) {
  const std::string readme = read_file("README.md");
  const auto plan = [&](const std::string& settings, int code = kExitDone) {
    return Json::parse(printed("plan --json --threads 2 " + settings, code));
  };
  const auto gib = [](const Json& bytes) { return fmt::format("{}", Bytes{bytes.get<int64_t>()}); };
  const std::string llama = "--model meta-llama/Llama-2-7b-hf ";
  const Json small = plan(llama + "--gpu RTX-3090 --seq-len 256 --recompute full");
  EXPECT_TRUE(
      says(readme, fmt::format("| {}, fits; {} rows would | {} | {} |", gib(small["bytes"]["total"]),
                               small["largest"]["batch_size"].get<int>(), gib(small["limit"]), gib(small["formula"]["total"]))));
  const Json middle = plan(llama + "--gpu RTX-5090 --batch-size 4 --seq-len 512");
  EXPECT_TRUE(says(
      readme, fmt::format("| {}, fits; {} rows would | {} | {} |", gib(middle["bytes"]["total"]),
                          middle["largest"]["batch_size"].get<int>(), gib(middle["limit"]), gib(middle["formula"]["total"]))));
  const std::string full = llama + "--gpu A100-80GB --train full --batch-size 4 --seq-len 512 ";
  const Json large = plan(full, kExitDoesNotFit);
  EXPECT_TRUE(says(readme, fmt::format("| {}, does not fit | {} | {} |", gib(large["bytes"]["total"]), gib(large["limit"]),
                                       gib(large["formula"]["total"]))));
  const Json offloaded = plan(full + "--offload optimizer");
  EXPECT_TRUE(
      says(readme, fmt::format("| {}, and {} of the host |", gib(offloaded["bytes"]["total"]), gib(offloaded["host_bytes"]))));
  EXPECT_TRUE(says(readme, fmt::format("--recompute full` | {} |",
                                       gib(plan(full + "--optimizer adamw8bit --recompute full")["bytes"]["total"]))));
  // Phi-3-mini, loaded.
  const double context = static_cast<double>(known_gpu("RTX-4090")->context);
  std::string parameters = "| planned, parameters |", in_all = "estimate) |";
  for (const char* weights : {"fp32", "fp16", "int8", "nf4"}) {
    const Json phi =
        plan(fmt::format("--model microsoft/Phi-3-mini-4k-instruct --gpu RTX-4090 --rank 1 --targets o --seq-len 1 "
                         "--recompute full --weights {}",
                         weights));
    const auto number = [&](double bytes) {
      return bytes < 9.995 * (1 << 30) ? fmt::format(" {:.2f} |", bytes / (1 << 30))
                                       : fmt::format(" {:.1f} |", bytes / (1 << 30));
    };
    parameters += number(phi["bytes"]["parameters"].get<double>());
    in_all += number(phi["bytes"]["total"].get<double>() + context);
  }
  EXPECT_TRUE(says(readme, parameters));
  EXPECT_TRUE(says(readme, in_all));
}

TEST(PlanPicture, ShowsEveryByteOnce) {
  Arena arena;
  float* f;
  arena.place(f, "embed<&>", {1000, 100}, Category::parameters);
  for (int layer = 0; layer < 3; layer++)
    arena.place(f, fmt::format("layers.{}.qkv", layer), {1000}, Category::activations, {StepPhase::batch, StepPhase::update});
  arena.place(f, "logits", {50, 1000}, Category::activations, during(StepPhase::head));
  const std::string svg = plan_picture(arena, "a model & <its> title");
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_TRUE(says(svg, "a model &amp; &lt;its&gt; title"));
  EXPECT_TRUE(says(svg, "embed&lt;&amp;&gt;"));
  EXPECT_TRUE(says(svg, "layers 0–2: qkv"));
  EXPECT_TRUE(says(svg, "peak: head"));
  EXPECT_EQ(svg.find("href"), svg.npos) << "nothing is loaded from elsewhere";
}

}  // namespace
}  // namespace tll
