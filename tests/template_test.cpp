// Templates. Every expected text was printed by transformers 5.24's apply_chat_template with the published template of the
// model named; dev/template_compare does the same for many more conversations.
#include "data/template.h"

#include <gtest/gtest.h>

#include "data/chat_template.h"
#include "data/squad.h"
#include "src/base/check.h"

namespace tll {
namespace {

using Messages = std::vector<Message>;

// Trained parts in «», texts of users in ‹›.
std::string shown(const std::vector<Span>& spans) {
  std::string out;
  bool trained = false;
  for (const Span& s : spans) {
    if (s.trained != trained) out += trained ? "»" : "«";
    trained = s.trained;
    out += s.markup ? s.text : "‹" + s.text + "›";
    if (s.ends_text) out += "$";
  }
  return out + (trained ? "»" : "");
}

std::string plain(const std::vector<Span>& spans) {
  std::string out;
  for (const Span& s : spans) out += s.text;
  return out;
}

std::string shown(TemplateName name, const Messages& messages, bool answer_follows = false) {
  return shown(render(messages, {.name = name}, answer_follows));
}

template <class Function>
std::string refusal(Function&& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

const Messages kTwoTurns = {{"user", "Hi"}, {"assistant", "Hello!"}, {"user", " a\n"}, {"assistant", " b "}};
const Messages kWithSystem = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yes"}};
const Messages kQuestion = {{"user", "Hi"}};

TEST(Template, Chatml) {
  EXPECT_EQ(shown(TemplateName::kChatml, kTwoTurns),
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n«‹Hello!›<|im_end|>\n»"
            "<|im_start|>user\n‹ a\n›<|im_end|>\n<|im_start|>assistant\n«‹ b ›<|im_end|>\n»");
  EXPECT_EQ(shown(TemplateName::kChatml, kQuestion, true),
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(shown(TemplateName::kChatml, {{"tool", "7"}}), "<|im_start|>‹tool›\n‹7›<|im_end|>\n");
}

TEST(Template, Smollm2AndQwen25HaveASystemText) {
  EXPECT_EQ(shown(TemplateName::kSmollm2, kQuestion),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\n‹Hi›<|im_end|>\n");
  EXPECT_EQ(shown(TemplateName::kSmollm2, kWithSystem),
            "<|im_start|>system\n‹Be brief.›<|im_end|>\n<|im_start|>user\n‹Hi›<|im_end|>\n"
            "<|im_start|>assistant\n«‹Yes›<|im_end|>\n»");
  EXPECT_EQ(shown(TemplateName::kQwen25, {{"user", "Hi"}, {"assistant", "Yes"}}),
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant«\n‹Yes›<|im_end|>\n»");
}

// Thoughts of the last answer have a place even if there are none; those of earlier answers are left out.
TEST(Template, Qwen3) {
  EXPECT_EQ(shown(TemplateName::kQwen3, kTwoTurns),
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n«‹Hello!›<|im_end|>\n»"
            "<|im_start|>user\n‹ a\n›<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n‹ b ›<|im_end|>\n»");
  EXPECT_EQ(shown(TemplateName::kQwen3,
                  {{"user", "1"}, {"assistant", "<think>\nx\n</think>\n\ny"}, {"user", "2"}, {"assistant", "<think>z</think>w"}}),
            "<|im_start|>user\n‹1›<|im_end|>\n<|im_start|>assistant\n«‹y›<|im_end|>\n»"
            "<|im_start|>user\n‹2›<|im_end|>\n<|im_start|>assistant\n«<think>\n‹z›\n</think>\n\n‹w›<|im_end|>\n»");
  EXPECT_EQ(shown(TemplateName::kQwen3, kQuestion, true),
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

TEST(Template, Llama2) {
  EXPECT_EQ(shown(TemplateName::kLlama2, kTwoTurns),
            "<s>[INST] ‹Hi› [/INST]« ‹Hello!› </s>»<s>[INST] ‹a› [/INST]« ‹b› </s>»");
  EXPECT_EQ(shown(TemplateName::kLlama2, {{"system", " S "}, {"user", " Hi "}, {"assistant", "Yes"}}),
            "<s>[INST] <<SYS>>\n‹ S ›\n<</SYS>>\n\n‹ Hi› [/INST]« ‹Yes› </s>»");
  // System text and question are trimmed as one.
  EXPECT_EQ(shown(TemplateName::kLlama2, {{"system", "S"}, {"user", " "}}), "<s>[INST] <<SYS>>\n‹S›\n<</SYS>> [/INST]");
}

TEST(Template, Llama3) {
  EXPECT_EQ(shown(TemplateName::kLlama3, kTwoTurns),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n‹Hi›<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n«‹Hello!›<|eot_id|>»"
            "<|start_header_id|>user<|end_header_id|>\n\n‹a›<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n«‹b›<|eot_id|>»");
  EXPECT_EQ(shown(TemplateName::kLlama31, kWithSystem),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
            "Today Date: ‹26 Jul 2024›\n\n‹Be brief.›<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n‹Hi›<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n«‹Yes›<|eot_id|>»");
  EXPECT_EQ(plain(render(kQuestion, {.name = TemplateName::kLlama31, .date = "01 Jan 2026"}, true)),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
            "Today Date: 01 Jan 2026\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(Template, Mistral) {
  const Messages m = {{"system", "S"}, {"user", "1"}, {"assistant", " 2 "}, {"user", "3"}, {"assistant", "4"}};
  const Messages without(m.begin() + 1, m.end());
  EXPECT_EQ(shown(TemplateName::kMistral, m), "<s> [INST] ‹S›\n\n‹1› [/INST]« ‹ 2 ›</s>» [INST] ‹3› [/INST]« ‹4›</s>»");
  EXPECT_EQ(shown(TemplateName::kMistral01, without), "<s>[INST] ‹1› [/INST]«‹ 2 ›</s>» [INST] ‹3› [/INST]«‹4›</s>» ");
  EXPECT_EQ(shown(TemplateName::kMixtral, without), "<s>[INST] ‹1› [/INST]«‹ 2 ›</s>»[INST] ‹3› [/INST]«‹4›</s>»");
  EXPECT_EQ(shown(TemplateName::kMistral3, without), "<s>[INST] ‹1›[/INST]« ‹2›</s>»[INST] ‹3›[/INST]« ‹4›</s>»");
  EXPECT_EQ(shown(TemplateName::kMistralNemo, without), "<s>[INST]‹1›[/INST]«‹ 2 ›</s>»[INST]‹3›[/INST]«‹4›</s>»");
  // Not lost, as it would be by the published template, where an answer is last.
  EXPECT_EQ(shown(TemplateName::kMistral3, m), "<s>[INST] ‹1›[/INST]« ‹2›</s>»[INST] ‹S›\n\n‹3›[/INST]« ‹4›</s>»");
  EXPECT_NE(refusal([&] { render(m, {.name = TemplateName::kMixtral}, false); }).find("no place for a system text"),
            std::string::npos);
}

TEST(Template, Phi3AndZephyr) {
  EXPECT_EQ(shown(TemplateName::kPhi3, kWithSystem),
            "<|system|>\n‹Be brief.›<|end|>\n<|user|>\n‹Hi›<|end|>\n<|assistant|>\n«‹Yes›<|end|>\n<|endoftext|>»");
  EXPECT_EQ(shown(TemplateName::kPhi3, kQuestion, true), "<|user|>\n‹Hi›<|end|>\n<|assistant|>\n");
  EXPECT_EQ(shown(TemplateName::kPhi3, kQuestion), "<|user|>\n‹Hi›<|end|>\n<|endoftext|>");
  EXPECT_EQ(shown(TemplateName::kPhi3, {{"system", ""}, {"user", "Hi"}}, true),
            "<|system|>\n<|end|>\n<|user|>\n‹Hi›<|end|>\n<|assistant|>\n");
  EXPECT_EQ(shown(TemplateName::kPhi35, {{"system", ""}, {"user", "Hi"}}, true), "<|user|>\n‹Hi›<|end|>\n<|assistant|>\n");
  EXPECT_EQ(shown(TemplateName::kZephyr, kWithSystem),
            "<|system|>\n‹Be brief.›</s>\n<|user|>\n‹Hi›</s>\n<|assistant|>\n«‹Yes›</s>\n»");
}

// Not transformers': a template of this name does not exist. Single turns are stanford_alpaca's forms.
TEST(Template, Alpaca) {
  EXPECT_EQ(shown(TemplateName::kAlpaca, {{"user", "1"}, {"assistant", "2"}, {"user", "3"}}),
            "‹Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n1\n\n### Response:\n›«‹2›$»\n\n‹### Instruction:\n3\n\n### Response:\n›");
  const Example row{.kind = ExampleKind::kInstruction, .prompt = "Add", .context = "1 2", .response = "3"};
  const Sample sample = make_sample(row, {.name = TemplateName::kAlpaca});
  EXPECT_EQ(shown(sample.spans),
            "‹Below is an instruction that describes a task, paired with an input that provides further context. Write a "
            "response that appropriately completes the request.\n\n›‹### Instruction:\nAdd\n\n### Input:\n›‹1 2›"
            "‹\n\n### Response:\n›«‹3›$»");
  EXPECT_FALSE(sample.one_text);
}
}  // namespace
}  // namespace tll
