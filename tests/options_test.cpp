#include "src/options/options.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>

#include "src/base/check.h"
#include "src/options/foreign_options.h"
#include "src/options/help.h"
#include "src/options/option_table.h"
#include "src/options/resolve.h"
#include "tests/refusal.h"
#include "tests/words.h"

namespace tll {
namespace {

Options parse(const std::string& line) { return parse_options(words(line)); }

// The message of the usage error that these arguments must give.
std::string refusal(const std::string& line) {
  SCOPED_TRACE(line);
  return refusal_of([&] { parse(line); }, kExitUsage);
}

TEST(Options, DefaultsOfTraining) {
  const Options options = parse("--data squad.bin");
  EXPECT_EQ(options.command, Command::kTrain);
  EXPECT_FALSE(options.command_named);
  EXPECT_EQ(options.data, "squad.bin");
  EXPECT_EQ(options.output, "adapter");
  EXPECT_EQ(options.rank, 16);
  EXPECT_EQ(options.alpha, 32);
  EXPECT_EQ(options.lr, 2e-4);
  EXPECT_EQ(options.schedule, ScheduleKind::kCosine);
  EXPECT_EQ(options.seq_len, 1024);
  EXPECT_EQ(options.seed, 42);
  EXPECT_EQ(options.clip, 1);
  EXPECT_EQ(options.targets.size(), adaptable_names().size());
  EXPECT_FALSE(options.resume.has_value());
  EXPECT_TRUE(options.given("data"));
  EXPECT_FALSE(options.given("output")) << "a default is not given";
}

TEST(Options, NamesSpellingsAndForms) {
  for (const char* form : {"--learning_rate 1e-3", "--learning-rate=1e-3", "--lr=0.001", "--lr 0.001"}) {
    const Options options = parse(std::string("train --data x ") + form);
    EXPECT_EQ(options.lr, 1e-3) << form;
    EXPECT_TRUE(options.given("lr")) << form;
  }
  EXPECT_TRUE(parse("--data x --grad_accum 3").given("grad_accum")) << "- and _ are equal there too";
  EXPECT_EQ(parse_options({"generate", "--prompt=a=b --c"}).prompt, "a=b --c");
  EXPECT_EQ(parse_options({"generate", "--prompt", "-- yes"}).prompt, "-- yes");
  EXPECT_EQ(parse_options({"generate", "--prompt="}).prompt, "");
  EXPECT_EQ(parse("--data x --lr 1 --lr 2").lr, 2) << "the last counts";
}

TEST(Options, AliasesOfTheContract) {
  const std::map<std::string, std::vector<std::string>> aliases = {
      {"output", {"output_dir"}},
      {"seq-len", {"max_seq_length", "max_length", "sequence_len", "cutoff_len"}},
      {"batch-size", {"per_device_train_batch_size", "micro_batch_size"}},
      {"grad-accum", {"gradient_accumulation_steps"}},
      {"epochs", {"num_train_epochs", "num_epochs"}},
      {"lr", {"learning_rate"}},
      {"schedule", {"lr_scheduler_type", "lr_scheduler"}},
      {"beta1", {"adam_beta1"}},
      {"beta2", {"adam_beta2"}},
      {"eps", {"adam_epsilon"}},
      {"clip", {"max_grad_norm"}},
      {"rank", {"lora_r", "r"}},
      {"alpha", {"lora_alpha"}},
      {"dropout", {"lora_dropout"}},
      {"targets", {"lora_target_modules", "target_modules"}},
      {"rslora", {"use_rslora"}},
      {"recompute", {"gradient_checkpointing"}},
      {"packing", {"sample_packing"}},
      {"resume", {"resume_from_checkpoint"}},
      {"optimizer", {"optim"}}};
  for (const auto& [name, others] : aliases) {
    const auto row = std::find_if(option_rows().begin(), option_rows().end(),
                                  [&, wanted = name](const OptionRow& r) { return r.name == wanted; });
    ASSERT_NE(row, option_rows().end()) << name;
    std::string value = value_text(*row, Options{});
    if (value.empty()) value = "x";
    for (const std::string& other : others)
      EXPECT_TRUE(parse_options({"train", "--data", "x", "--" + other, value}).given(name)) << other;
  }
}

TEST(Options, EveryNameIsUnique) {
  std::set<std::pair<Command, std::string_view>> seen;
  std::set<char> letters;
  Words sections;
  for (const OptionRow& row : option_rows()) {
    for (std::string_view name : names_of(row)) {
      for (const CommandRow& command : command_rows())
        if (row.taken_by(command.command)) {
          EXPECT_TRUE(seen.insert({command.command, name}).second) << command.name << " --" << name;
        }
      EXPECT_EQ(name.find('_'), std::string_view::npos) << name;
      EXPECT_EQ(find_foreign_option(name), nullptr) << name << " has a counterpart here";
    }
    if (row.letter) {
      EXPECT_TRUE(letters.insert(row.letter).second) << row.letter;
    }
    if (sections.empty() || sections.back() != row.section) sections.push_back(row.section);
    EXPECT_EQ(std::count(sections.begin(), sections.end(), row.section), 1) << row.name << ": its section is in two places";
    EXPECT_NE(row.commands, 0u) << row.name;
  }
  std::set<std::string_view> foreign;
  for (const ForeignOption& option : foreign_options()) {
    EXPECT_TRUE(foreign.insert(option.name).second) << option.name;
    EXPECT_EQ(option.name.find('_'), std::string_view::npos) << option.name;
  }
}

TEST(Options, EveryDefaultIsAValueOfItsOption) {
  for (const OptionRow& row : option_rows()) {
    for (const CommandRow& command : command_rows()) {
      const std::string value = default_text(row, command.command);
      EXPECT_TRUE(value.empty() || accepts_value(row, value)) << row.name << " " << value;
    }
    Options options;
    if (!value_text(row, options).empty()) {
      set_value(row, options, value_text(row, options), row.name);
      EXPECT_EQ(value_json(row, options), value_json(row, Options{})) << row.name;
    }
  }
}

TEST(Options, EveryWorkedExampleParses) {
  for (const CommandRow& row : command_rows()) {
    std::string line(row.example);
    line = line.substr(0, line.find_first_of("<>"));
    line.erase(std::remove(line.begin(), line.end(), '\''), line.end());
    if (row.command == Command::kGenerate) line.replace(line.find("Once upon a time"), 16, "Once");
    EXPECT_EQ(parse(line).command, row.command) << line;
  }
}

TEST(Options, Flags) {
  EXPECT_TRUE(parse("--data x --quiet").quiet);
  EXPECT_FALSE(parse("--data x --quiet false").quiet);
  EXPECT_FALSE(parse("--data x --packing off").packing);
  EXPECT_FALSE(parse("--data x --sample_packing=False").packing);
  EXPECT_TRUE(parse("--data x --packing").packing);
  EXPECT_TRUE(parse("--packing --data x").packing) << "the next option is not its value";
  EXPECT_TRUE(says(refusal("--data x --packing=maybe"), "--packing expects true or false (on or off), found \"maybe\""));
}

TEST(Options, RecomputeAndGradientCheckpointing) {
  EXPECT_EQ(parse("--data x").recompute, RecomputeOption::kNone);
  EXPECT_EQ(parse("--gradient_checkpointing --data x").recompute, RecomputeOption::kFull);
  EXPECT_EQ(parse("--gradient_checkpointing true --data x").recompute, RecomputeOption::kFull);
  EXPECT_EQ(parse("--gradient-checkpointing=false --data x").recompute, RecomputeOption::kNone);
  EXPECT_EQ(parse("--recompute selective --data x").recompute, RecomputeOption::kSelective);
  EXPECT_TRUE(says(refusal("--data x --recompute=some"), "one of none, selective, full"));
}

// As QLoRA's script, TRL and LLaMA-Factory spell it.
TEST(Options, QuantisedWeights) {
  EXPECT_EQ(parse("--data x --weights int8").weights, DtypeOption::kInt8);
  for (const char* nf4 : {"--weights nf4", "--load_in_4bit", "--load_in_4bit true", "--quantization_bit 4"})
    EXPECT_EQ(parse(std::string("--data x ") + nf4).weights, DtypeOption::kNf4) << nf4;
  EXPECT_EQ(parse("--data x --load_in_8bit").weights, DtypeOption::kInt8);
  EXPECT_EQ(parse("--data x --load_in_4bit false --load_in_8bit false").weights, DtypeOption::kAuto);
  EXPECT_TRUE(parse("--data x").double_quant);
  EXPECT_TRUE(parse("--data x --bnb_4bit_use_double_quant").double_quant);
  EXPECT_FALSE(parse("--data x --bnb_4bit_use_double_quant False").double_quant);
  EXPECT_FALSE(parse("--data x --double-quant off").double_quant);
  EXPECT_EQ(parse("--data x --bnb_4bit_compute_dtype bfloat16").dtype, DtypeOption::kBf16);
  EXPECT_EQ(parse("--data x --bnb_4bit_quant_type nf4 --bnb_4bit_quant_storage uint8").without_effect.size(), 2u);
  EXPECT_TRUE(says(refusal("--data x --bnb_4bit_quant_type fp4"), "fp4 is only read"));
  EXPECT_TRUE(says(refusal("--data x --weights nf3"), "nf4"));
  EXPECT_TRUE(says(refusal("--data x --dtype nf4"), "auto, fp32, bf16, fp16"));
}

TEST(Options, Export) {
  const Options options = parse("export --model x --adapter a --format bnb-4bit --output y --double_quant off");
  EXPECT_EQ(options.command, Command::kExport);
  EXPECT_FALSE(options.double_quant);
  EXPECT_TRUE(says(refusal("export --model x --format bnb-4bit"), "export needs --output"));
  EXPECT_TRUE(says(refusal("export --model x --output y"), "export needs --format"));
  // The loss is taken of the documents that training holds out.
  EXPECT_EQ(parse("export --output y --format gguf --data d").valid_split, parse("train --data d").valid_split);
}

TEST(Options, TypesAndShorthands) {
  EXPECT_EQ(parse("--data x --bf16").dtype, DtypeOption::kBf16);
  EXPECT_EQ(parse("--data x --fp16 true").dtype, DtypeOption::kFp16);
  EXPECT_EQ(parse("--data x --torch_dtype bfloat16").dtype, DtypeOption::kBf16);
  EXPECT_EQ(parse("--data x --weights bf16").weights, DtypeOption::kBf16);
  EXPECT_EQ(parse("--data x --load_in_8bit false").weights, DtypeOption::kAuto);
  EXPECT_EQ(parse("--data x --optim adamw_torch").optimizer, OptimizerKind::kAdamw);
}

TEST(Options, EightBitAndPagedOptimizers) {
  for (const char* name : {"adamw8bit", "adamw_8bit", "adamw_bnb_8bit", "AdamW_8bit"}) {
    const Options o = parse(std::string("--data x --optim ") + name);
    EXPECT_EQ(o.optimizer, OptimizerKind::kAdamw8bit) << name;
    EXPECT_TRUE(o.offload.empty()) << name;
  }
  EXPECT_EQ(parse("--data x --optim paged_adamw_8bit").optimizer, OptimizerKind::kAdamw8bit);
  for (const char* name : {"paged_adamw", "paged_adamw_32bit"})
    EXPECT_EQ(parse(std::string("--data x --optim ") + name).optimizer, OptimizerKind::kAdamw);
  for (const char* name : {"paged_adamw", "paged_adamw_32bit", "paged_adamw_8bit", "adamw --optim paged_adamw"})
    EXPECT_EQ(parse(std::string("--data x --optim ") + name).offload, std::vector<std::string>{"optimizer"}) << name;
  EXPECT_TRUE(parse("--data x --optim paged_adamw --optim adamw").offload.empty()) << "the last wins";
  EXPECT_TRUE(parse("--data x --offload none --optim paged_adamw").offload.empty()) << "what is given wins";
  EXPECT_EQ(parse("--data x --offload activations").offload, std::vector<std::string>{"activations"});
  for (const char* both : {"optimizer,activations", "activations,optimizer"}) {
    const Options o = parse(std::string("--data x --offload ") + both);
    EXPECT_TRUE(o.offloads("optimizer") && o.offloads("activations") && !o.offloads("embedding")) << both;
    EXPECT_EQ(options_json(o).at("offload"), "optimizer,activations");
  }
  EXPECT_TRUE(says(refusal("--data x --offload none,optimizer"), "none, or a list"));
  EXPECT_TRUE(
      says(refusal("--data x --offload weights"), "none, or a list, joined by commas, of optimizer, activations, embedding"));
}

TEST(Options, AChunkOfTheMlpNeedsFullRecomputation) {
  for (const char* chunk : {"64", "auto"}) {
    const auto resolved = [&](const std::string& more) {
      Options o = parse(std::string("--data x --device cpu --mlp-chunk ") + chunk + more);
      resolve_options(o);
      return o.mlp_chunk;
    };
    EXPECT_THROW(resolved(""), Error) << chunk;
    EXPECT_THROW(resolved(" --recompute selective"), Error) << chunk;
    EXPECT_NE(resolved(" --recompute full"), 0) << chunk;
  }
  EXPECT_TRUE(says(refusal("--data x --mlp-chunk 4294967297"), "from 0 to"));
}

TEST(Options, TypesOfAdaptersThatMakeNoSenseAreRefused) {
  EXPECT_EQ(parse("--data x --lora-states bfloat16").lora_states, LoraStatesOption::kBf16);
  EXPECT_TRUE(says(refusal("--data x --lora_states fp16"), "one of fp32, bf16"));
  Options full = parse("--data x --device cpu --train full --lora-states bf16");
  EXPECT_THROW(resolve_options(full), Error);
  Options offloaded = parse("--data x --device cpu --offload optimizer");
  resolve_options(offloaded);
  EXPECT_TRUE(offloaded.offload.empty()) << "the CPU's memory is the host's";
}

TEST(Options, LogitsHave16BitsOnAGpuAlone) {
  const auto resolved = [](const std::string& more) {
    Options options = parse("plan --data x --memory 1GiB " + more);
    resolve_options(options);
    return options.logits;
  };
  EXPECT_EQ(resolved("--device cpu --dtype bf16"), LogitsOption::kFp32);
  EXPECT_EQ(resolved("--device cpu --dtype fp32"), LogitsOption::kFp32);
  EXPECT_EQ(resolved("--device cpu --dtype bf16 --logits 16bit"), LogitsOption::k16Bit);
  for (const char* gpu : {"--gpu H100 --dtype bf16", "--gpu T4 --dtype fp16"}) {
    EXPECT_EQ(resolved(gpu), LogitsOption::k16Bit) << gpu;
    EXPECT_EQ(resolved(std::string(gpu) + " --logits fp32"), LogitsOption::kFp32) << gpu;
  }
  EXPECT_EQ(resolved("--gpu H100 --dtype fp32"), LogitsOption::kFp32);
  EXPECT_THROW(resolved("--gpu H100 --dtype fp32 --logits 16bit"), Error);
  EXPECT_TRUE(says(refusal("--data x --logits bf16"), "one of auto, fp32, 16bit"));
  EXPECT_TRUE(says(refusal("evaluate --data x --logits fp32"), "logits")) << "evaluation has fp32";
  // Not asked for, but what the run had that is repeated.
  Options repeated = parse("--data x --device cpu --dtype fp32");
  repeated.logits = LogitsOption::k16Bit;
  resolve_options(repeated);
  EXPECT_EQ(repeated.logits, LogitsOption::kFp32);
}

TEST(Options, ATypeThatIsTurnedOffIsNotChosen) {
  const auto resolved = [](const std::string& more) {
    Options options = parse("--data x --device cpu " + more);
    resolve_options(options);
    return options.dtype;
  };
  for (const char* none : {"--bf16 false", "--bf16=False --fp16=False", "--bf16 true --bf16 false", "--dtype bf16 --bf16 off"})
    EXPECT_EQ(resolved(none), DtypeOption::kFp32) << none;
  EXPECT_EQ(resolved("--fp16 false"), resolved("")) << "fp16 is not chosen on the CPU";
  EXPECT_EQ(resolved("--bf16 false --bf16 true"), DtypeOption::kBf16);
  EXPECT_EQ(resolved("--fp16 false --bf16 true"), DtypeOption::kBf16);
  EXPECT_EQ(resolved("--dtype fp32 --bf16 false"), DtypeOption::kFp32);
  EXPECT_FALSE(parse("--data x --bf16 false").given("dtype"));
}

TEST(Options, LettersAreShortNames) {
  const Options options = parse("-d x -o y -m z -q");
  EXPECT_EQ(options.data, "x");
  EXPECT_EQ(options.output, "y");
  EXPECT_EQ(options.model, "z");
  EXPECT_TRUE(options.quiet);
  EXPECT_EQ(parse("generate -p=hello").prompt, "hello");
  EXPECT_TRUE(says(refusal("--data -o y"), "--data needs a value"));
  EXPECT_TRUE(says(refusal("--o y --data x"), "unknown option --o"));
}

TEST(Options, WhatOtherTrainersHaveAndChangesNothingIsCounted) {
  const Options options = parse(
      "--data x --logging_steps 10 --report_to wandb --use_peft --tf32 True --save_strategy epoch --eval_strategy=no "
      "--per_device_eval_batch_size 4 --ddp_find_unused_parameters false --dataloader_num_workers 4 --push_to_hub false "
      "--attn_implementation flash_attention_2 --remove_unused_columns --logging-steps 5 --neftune_noise_alpha 0.0 "
      "--report_to Wandb,tensorboard --lr 1e-3");
  EXPECT_EQ(options.without_effect,
            words("--logging_steps --report_to=wandb --use_peft --tf32 --save_strategy --eval_strategy "
                  "--per_device_eval_batch_size --ddp_find_unused_parameters --dataloader_num_workers --push_to_hub "
                  "--attn_implementation --remove_unused_columns --logging-steps --neftune_noise_alpha --report_to=Wandb"))
      << "each spelling once";
  EXPECT_EQ(options.report_to, words("tensorboard"));
  EXPECT_TRUE(parse("--data x --report_to none").report_to.empty());
  EXPECT_TRUE(parse("--data x --report-to wandb").report_to.empty()) << "what is not written here is left out";
  EXPECT_EQ(parse("--data x --report_to all").report_to, words("tensorboard"));
  EXPECT_TRUE(says(refusal("--data x --report-to tensorbord"), "did you mean tensorboard?"));
  EXPECT_EQ(options.lr, 1e-3);
  EXPECT_TRUE(parse("--data x --optim adamw_torch --bf16").without_effect.empty()) << "these have a counterpart";
}

TEST(Options, WhatOtherTrainersHaveAndChangesResultsIsRefused) {
  const std::pair<const char*, const char*> cases[] = {{"--push_to_hub true", "nothing is uploaded"},
                                                       {"--push_to_hub", "nothing is uploaded"},
                                                       {"--neftune_noise_alpha 5", "no noise"},
                                                       {"--packing_strategy wrapped", "packed whole"},
                                                       {"--use_dora", "LoRA"},
                                                       {"--use_peft false", "--train full"},
                                                       {"--label_smoothing_factor=0.1", "cross entropy"},
                                                       {"--dataloader_drop_last true", "rows that are left"},
                                                       {"--deepspeed ds.json", "one device"},
                                                       {"--modules_to_save lm_head", "--train full"}};
  for (const auto& [line, reason] : cases) {
    const std::string message = refusal(std::string("--data x ") + line);
    EXPECT_TRUE(says(message, reason));
    EXPECT_TRUE(says(message, std::string(line).substr(0, std::string(line).find_first_of(" ="))));
  }
  EXPECT_TRUE(says(refusal("--data x --optim sgd"), "--optim expects one of adamw, adamw8bit"));
  EXPECT_TRUE(says(refusal("--data x --loging_stesp 3"), "unknown option --loging_stesp"));
  EXPECT_TRUE(says(refusal("--data x --use_peft squad.bin"), "found \"squad.bin\"")) << "no value of a flag";
}

// What the options of other trainers mean by a mask: on and off are both a value here.
TEST(Options, MasksByOtherNames) {
  const auto train_on = [](const char* line) { return parse(std::string("--data x ") + line).train_on; };
  for (const char* all : {"--train_on_inputs", "--completion_only_loss false", "--assistant_only_loss=off", "--mask_prompt 0"})
    EXPECT_EQ(train_on(all), TrainOn::kAll) << all;
  for (const char* answers : {"--train_on_inputs false", "--completion_only_loss", "--train-on all --assistant_only_loss true"})
    EXPECT_EQ(train_on(answers), TrainOn::kAnswers) << answers;
}

TEST(Options, ColumnsArePairs) {
  EXPECT_EQ(parse("--data x --columns prompt=question,response=the_answer").columns,
            (std::vector<std::string>{"prompt=question", "response=the_answer"}));
  for (const char* wrong : {"prompt", "=question", "prompt=", "prompt=question,"})
    EXPECT_TRUE(says(refusal(std::string("--data x --columns ") + wrong), "of NAME=FIELD")) << wrong;
}

// Commands may have options of one name.
TEST(Options, FormatIsOfTheDataOrOfWhatIsExported) {
  EXPECT_EQ(parse("train --data x --format sharegpt").data_format, DataFormat::kShareGpt);
  EXPECT_EQ(parse("export --model m --output o --format bnb-4bit").format, ExportFormat::kBnb4bit);
  EXPECT_TRUE(says(refusal("train --data x --format bnb-4bit"), "--format expects one of auto, squad"));
  EXPECT_TRUE(says(refusal("export --model m --output o --format alpaca"), "bnb-4bit"));
}

TEST(Options, AMistypedValueGetsAGuess) {
  const std::pair<const char*, const char*> cases[] = {{"--schedule cosin", "cosine"},
                                                       {"--schedule liner", "linear"},
                                                       {"--dtype fp23", "fp32"},
                                                       {"--recompute ful", "full"},
                                                       {"--packing=ture", "true"},
                                                       {"--targets q,vv_proj", "q,v_proj"},
                                                       {"--save-steps atuo", "auto"},
                                                       {"--lr 1e-4x", "1e-4"},
                                                       {"--lr 2e-4,", "2e-4"},
                                                       {"--lr 0,001", "0.001"},
                                                       {"--lr +1e-3", "1e-3"},
                                                       {"--max-steps 1_000", "1000"},
                                                       {"--max-steps 1,000", "1000"},
                                                       {"--max-steps 1,000,000", "1000000"},
                                                       {"--max-steps 1k", "1000 or 1024"},
                                                       {"--max-steps 1e3", "1000"},
                                                       {"--rank 64.0", "64"},
                                                       {"--valid-split 10%", "0.1"},
                                                       {"--seq-len 2k", "2000 or 2048"},
                                                       {"--dropout .1.", ".1"}};
  for (const auto& [line, guess] : cases)
    EXPECT_TRUE(says(refusal(std::string("--data x ") + line), fmt::format("; did you mean {}?", guess)));
  for (const char* line : {"--schedule step", "--lr abc", "--rank 1.5", "--rank 0", "--lr 1k", "--rank 99999", "--data="})
    EXPECT_FALSE(says(refusal(std::string("--data x ") + line), "did you mean")) << line;
  EXPECT_EQ(parse("--data x --schedule Cosine --dtype BF16").dtype, DtypeOption::kBf16) << "in any case";
}

TEST(Options, AMistypedCommandOrNameGetsAGuess) {
  EXPECT_TRUE(says(refusal("eval --data x"), "did you mean evaluate?"));
  EXPECT_TRUE(says(refusal("Train --data x"), "did you mean train?"));
  EXPECT_TRUE(says(refusal("--data x epochs=3"), "did you mean --epochs=3?"));
  EXPECT_TRUE(says(refusal("lora_r=8"), "did you mean --lora_r=8?"));
  EXPECT_TRUE(says(refusal("--data x \u2014lr 1"), "did you mean --lr?"));
  EXPECT_TRUE(says(refusal("--data x --num-train 1"), "did you mean --num-train-epochs?"));
}

TEST(Options, RefusalsOfHugeArgumentsAreShort) {
  const std::string huge(100000, 'x');
  for (const std::string& line : {huge, "--" + huge, "--data x --lr " + huge, "--data x --schedule " + huge,
                                  "--data x --push_to_hub=" + huge, "--data x " + huge, "--data x --targets " + huge})
    EXPECT_LT(refusal(line).size(), 400u);
}

TEST(Options, NothingIsTheOverview) {
  EXPECT_EQ(help_text(parse("")), overview());
  EXPECT_EQ(help_text(parse("--data x")), std::nullopt);
}

TEST(Options, Targets) {
  using List = std::vector<std::string>;
  EXPECT_EQ(parse("--data x --targets v,q").targets, (List{"q_proj", "v_proj"})) << "in the layer's order";
  EXPECT_EQ(parse("--data x --target_modules q_proj,gate,q").targets, (List{"q_proj", "gate_proj"})) << "each once";
  EXPECT_EQ(parse("--data x --targets all-linear").targets, Options{}.targets);
  EXPECT_EQ(parse("--data x --targets q --lora_target_linear true").targets, Options{}.targets);
  for (const char* bad : {"q,x", "", "q,,v", "lm_head"})
    EXPECT_TRUE(says(refusal(std::string("--data x --targets=") + bad), "q_proj, k_proj, v_proj")) << bad;
}

TEST(Options, Sizes) {
  const std::map<std::string, int64_t> sizes = {{"0", 0},
                                                {"1234567", 1234567},
                                                {"8GiB", 8LL << 30},
                                                {"8G", 8LL << 30},
                                                {"8g", 8LL << 30},
                                                {"1.5k", 1536},
                                                {"500MB", 500000000},
                                                {"2KiB", 2048},
                                                {"1e9", 1000000000},
                                                {"3kb", 3000},
                                                {"0.5 GiB", 1 << 29},
                                                {"7b", 7},
                                                {"1T", 1LL << 40},
                                                {"16Gi", 16LL << 30},
                                                {"16 GB ", 16000000000},
                                                {"0G", 0}};
  for (const auto& [text, bytes] : sizes) EXPECT_EQ(parse_options({"plan", "--memory", text}).memory, bytes) << text;
  for (const char* bad : {"", "G", "-1", "8GG", "8X", "8Gib8", "-16", "-1G", "nan", "inf", "1e30", "8GiBs"})
    EXPECT_TRUE(says(refusal(std::string("plan --memory=") + bad), "--memory expects a size such as 8GiB")) << bad;
  const std::map<std::string, std::string> without_unit = {
      {"16", "16 bytes; did you mean 16GB?"}, {"1.5", "1.5GB?"}, {"80", "80GB?"}, {"16384", "16384MB?"}, {"16.", "16GB?"}};
  for (const auto& [text, meant] : without_unit) {
    EXPECT_TRUE(says(refusal("plan --memory " + text), meant)) << text;
    EXPECT_TRUE(says(refusal("plan --memory " + text), "--memory")) << text;
  }
  EXPECT_LT(refusal("plan --memory=" + std::string(100000, '0') + "16").size(), 200u);
}

TEST(Options, SchedulesAreTransformersWords) {
  EXPECT_EQ(parse("--data x --schedule constant").schedule, ScheduleKind::kConstant);
  for (const char* word : {"constant_with_warmup", "constant-with-warmup"})
    EXPECT_EQ(parse(std::string("--data x --lr_scheduler_type ") + word).schedule, ScheduleKind::kConstantWithWarmup) << word;
  EXPECT_EQ(options_json(parse("--data x --schedule constant_with_warmup")).at("schedule"), "constant_with_warmup");
}

TEST(Options, CheckpointsByTheClockUnlessStepsAreGiven) {
  EXPECT_EQ(parse("--data x").save_steps, kAutomatic);
  EXPECT_EQ(parse("--data x --save-steps auto").save_steps, kAutomatic);
  EXPECT_EQ(parse("--data x --save-steps 0").save_steps, 0);
  EXPECT_EQ(options_json(parse("--data x")).at("save_steps"), "auto");
  EXPECT_EQ(options_json(parse("--data x --save-steps 7")).at("save_steps"), 7);
  EXPECT_TRUE(says(refusal("--data x --save-steps=-1"), ", or auto, found \"-1\""));
  EXPECT_TRUE(says(refusal("--data x --eval-steps auto"), "--eval-steps expects a whole number")) << "of this option alone";
}

TEST(Options, EvaluationsAndWhatAnEarlierRunLeft) {
  const Options defaults = parse("--data x");
  EXPECT_TRUE(defaults.eval_on_start);
  EXPECT_GT(defaults.eval_docs, 0) << "bounded";
  EXPECT_FALSE(defaults.overwrite || defaults.reschedule);
  const Options options = parse("--data x --eval_on_start off --eval_docs 0 --overwrite_output_dir --reschedule");
  EXPECT_FALSE(options.eval_on_start);
  EXPECT_EQ(options.eval_docs, 0);
  EXPECT_TRUE(options.overwrite && options.reschedule);
}

TEST(Options, Resume) {
  EXPECT_EQ(parse("--data x --resume").resume, std::filesystem::path()) << "the newest";
  EXPECT_EQ(parse("--resume --data x").resume, std::filesystem::path());
  EXPECT_EQ(parse("--data x --resume_from_checkpoint true").resume, std::filesystem::path());
  EXPECT_EQ(parse("--data x --resume a/checkpoint-3").resume, std::filesystem::path("a/checkpoint-3"));
  EXPECT_FALSE(parse("--data x --resume false").resume.has_value());
}

TEST(Options, ValuesOutsideTheRange) {
  EXPECT_EQ(parse("--data x --max_steps -1").max_steps, 0) << "what transformers users write for: by epochs";
  EXPECT_TRUE(says(refusal("--data x --rank 0"), "--rank expects a whole number, from 1 to 4096, found \"0\""));
  EXPECT_TRUE(says(refusal("--data x --lora_r 1.5"), "--lora_r expects a whole number"));
  EXPECT_TRUE(says(refusal("--data x --dropout 1"), "from 0 to 1 (not included), found \"1\""));
  EXPECT_TRUE(says(refusal("--data x --eps 0"), "above 0"));
  for (const char* bad : {"abc", "nan", "inf", "", "1e999", "2e-4x", "+1", "-1"})
    EXPECT_TRUE(says(refusal(std::string("--data x --lr=") + bad), "--lr expects a number, from 0 to 10")) << bad;
  EXPECT_TRUE(says(refusal("--data x --seed 99999999999999999999"), "--seed expects a whole number"));
  EXPECT_TRUE(says(refusal("--data x --schedule step"), "one of constant, constant_with_warmup, linear, cosine"));
  EXPECT_TRUE(says(refusal("--data="), "--data expects a path"));
}

TEST(Options, WhatIsUnknownIsRefusedWithTheNearest) {
  EXPECT_TRUE(says(refusal("--data x --learnign_rate 1"), "unknown option --learnign_rate; did you mean --learning-rate?"));
  EXPECT_TRUE(says(refusal("--data x --rnak 1"), "did you mean --rank?"));
  EXPECT_TRUE(says(refusal("--data x --zzzzzz 1"), "`train_llama_lora train --help` lists the options"));
  EXPECT_TRUE(says(refusal("trian --data x"), "unknown command \"trian\"; did you mean train?"));
  EXPECT_TRUE(says(refusal("zzzzzz"), "expected one of train, plan"));
  EXPECT_TRUE(says(refusal("-lr 1"), "did you mean --lr?"));
  EXPECT_TRUE(says(refusal("--data x squad.bin"), "found \"squad.bin\" where an option was expected"));
  EXPECT_TRUE(says(refusal("--"), "unknown option --"));
  for (const char* unlike : {"-v", "-x 1", "-", "--"})
    EXPECT_FALSE(says(refusal(unlike), "did you mean")) << "no letter in common with the short option r: " << unlike;
  EXPECT_TRUE(says(refusal("-r 8"), "did you mean --r?"));
  EXPECT_TRUE(says(refusal("--data x ---lr 1"), "unknown option ---lr; did you mean --lr?"));
  EXPECT_TRUE(says(refusal("Makefile"), "a data set is named with --data"));
  EXPECT_TRUE(says(refusal("--data x --targets x"), "q_proj, k_proj"));
  EXPECT_TRUE(says(refusal("--data x --targets x"), "short: q, k"));
  EXPECT_TRUE(says(refusal("help trian"), "did you mean train?"));
}

TEST(Options, WhatTheCommandDoesNotTake) {
  EXPECT_TRUE(says(refusal("generate --prompt x --lr 1"), "--lr is not an option of generate; it is one of train, plan"));
  EXPECT_TRUE(says(refusal("train --data x --prompt y"), "it is one of generate"));
}

TEST(Options, WhatIsMissing) {
  EXPECT_TRUE(says(refusal("train"), "train needs --data PATH"));
  EXPECT_TRUE(says(refusal("--quiet"), "train needs --data PATH"));
  EXPECT_TRUE(says(refusal("--data"), "--data needs a value: a path"));
  EXPECT_TRUE(says(refusal("--data --rank 3"), "--data needs a value"));
  EXPECT_TRUE(says(refusal("completion"), "completion needs a shell"));
}

TEST(Options, PlanIsTrainWithoutTraining) {
  EXPECT_EQ(parse("train --plan").command, Command::kPlan);
  EXPECT_EQ(parse("--plan --rank 4").rank, 4);
  EXPECT_EQ(parse("plan --rank 4").command, Command::kPlan);
}

TEST(Options, RunRecordHasEveryOption) {
  const Options options = parse("--data x --bf16 --targets q --resume --seq_len 77");
  const Json json = options_json(options);
  EXPECT_EQ(json.at("command"), "train");
  EXPECT_EQ(json.at("dtype"), "bf16");
  EXPECT_EQ(json.at("seq_len"), 77);
  EXPECT_EQ(json.at("targets"), Json::array({"q_proj"}));
  EXPECT_EQ(json.at("model"), nullptr);
  EXPECT_EQ(json.at("resume"), true);
  EXPECT_EQ(json.at("packing"), true);
  EXPECT_EQ(json.count("prompt"), 0u) << "not an option of train";
  size_t taken = 0;
  for (const OptionRow& row : option_rows()) taken += row.taken_by(Command::kTrain);
  EXPECT_EQ(json.size(), taken - 3 + 1) << "all but help, version and man, and the command";
}

TEST(Options, FlagsInAnySpelling) {
  for (const char* yes : {"true", "True", "TRUE", "on", "ON", "yes", "1"})
    EXPECT_TRUE(parse(std::string("--data x --rslora=") + yes).rslora) << yes;
  for (const char* no : {"false", "False", "FALSE", "off", "Off", "no", "0"})
    EXPECT_FALSE(parse(std::string("--data x --packing=") + no).packing) << no;
}

TEST(Options, EvaluateHoldsNothingOutUnlessAsked) {
  EXPECT_EQ(parse("evaluate --data x").valid_split, 0);
  EXPECT_EQ(parse("evaluate --data x --valid-split 0.2").valid_split, 0.2);
  EXPECT_EQ(parse("evaluate --data x --output answers.json").output, "answers.json");
  EXPECT_EQ(parse("--data x").valid_split, 0.1);
}

TEST(Help, NamesEveryOptionOfEveryCommand) {
  EXPECT_EQ(help_text(parse("--data x")), std::nullopt);
  for (const CommandRow& command : command_rows()) {
    const std::string text = *help_text(parse(std::string(command.name) + " --help"));
    EXPECT_TRUE(says(text, command.command == Command::kHelp ? "Commands:" : std::string(command.example)));
    for (const OptionRow& row : option_rows()) {
      const bool listed = command_help(command.command).find(fmt::format("\n  --{}", row.name)) != std::string::npos;
      EXPECT_TRUE(listed || !row.taken_by(command.command)) << command.name << " " << row.name;
    }
    EXPECT_TRUE(says(overview(), fmt::format("\n  {} ", command.name)));
    EXPECT_TRUE(says(man_page(), fmt::format("\n.B {}", command.name)));
    EXPECT_TRUE(
        says(*help_text(parse(fmt::format("help {}", command.name))), fmt::format("train_llama_lora {}: ", command.name)));
  }
  EXPECT_EQ(*help_text(parse("--help")), overview());
  EXPECT_EQ(*help_text(parse("-h")), overview());
  EXPECT_EQ(*help_text(parse("help --man")), man_page());
  EXPECT_TRUE(says(command_help(Command::kTrain), "  --lr X                    highest learning rate; "));
  EXPECT_TRUE(says(command_help(Command::kTrain), "(default 0.0002)"));
}

TEST(Help, LinesFitTheWidth) {
  for (const CommandRow& command : command_rows()) {
    std::istringstream lines(command_help(command.command) + overview());
    for (std::string line; std::getline(lines, line);) {
      const bool example = line.starts_with("Example: ");  // one line, to be copied
      EXPECT_TRUE(example || line.size() <= 80u) << line;
    }
  }
}

// What a shell says about a script on its standard input, and its exit status.
int shell_status(const std::string& shell, const std::string& script) {
  const std::string path = ::testing::TempDir() + "completion." + std::to_string(getpid());
  std::ofstream(path) << script;
  const int status = std::system((shell + " " + path).c_str());
  std::remove(path.c_str());
  return status;
}

TEST(Completion, BashOffersCommandsOptionsAndWords) {
  const std::string script = completion("bash");
  const std::string check = script + R"(
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _train_llama_lora; echo "${COMPREPLY[*]}"; }
[[ $(complete_line train_llama_lora pl) == plan ]] || exit 10
[[ $(complete_line train_llama_lora train --dty) == --dtype ]] || exit 11
[[ $(complete_line train_llama_lora train --dtype bf) == bf16 ]] || exit 12
[[ $(complete_line train_llama_lora generate --lr) == "" ]] || exit 13
[[ $(complete_line train_llama_lora --lea) == "" ]] || exit 14
[[ $(complete_line train_llama_lora --grad) == --grad-accum ]] || exit 15
[[ $(complete_line train_llama_lora completion z) == zsh ]] || exit 16
)";
  EXPECT_EQ(shell_status("bash", check), 0);
}

TEST(Completion, OtherShells) {
  for (const char* shell : {"zsh", "fish"}) {
    const std::string script = completion(shell);
    for (const OptionRow& row : option_rows()) EXPECT_TRUE(says(script, std::string(row.name))) << shell;
    if (std::system(fmt::format("command -v {} > /dev/null", shell).c_str()) == 0) {
      EXPECT_EQ(shell_status(fmt::format("{} -n", shell), script), 0) << shell;
    }
  }
  EXPECT_EQ(*help_text(parse("completion fish")), completion("fish"));
  EXPECT_THROW(completion("tcsh"), Error);
}

}  // namespace
}  // namespace tll
