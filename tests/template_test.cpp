// Templates. The expected texts are those of transformers 5.24's apply_chat_template with the published templates of the models;
// dev/template_compare compares many more. Which parts are trained is what TRL's training templates mark.
#include "data/template.h"

#include <gtest/gtest.h>

#include "data/chat_template.h"
#include "data/squad.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "tests/fake_tokenizer.h"
#include "tests/refusal.h"
#include "tests/temporary_directory.h"

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

const Messages kTwoTurns = {{"user", "Hi"}, {"assistant", "Hello!"}, {"user", " a\n"}, {"assistant", " b "}};
const Messages kWithSystem = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yes"}};
const Messages kQuestion = {{"user", "Hi"}};

TEST(Template, Chatml) {
  EXPECT_EQ(shown(TemplateName::kChatml, kTwoTurns),
            "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n«‹Hello!›<|im_end|>\n»"
            "<|im_start|>user\n‹ a\n›<|im_end|>\n<|im_start|>assistant\n«‹ b ›<|im_end|>\n»");
  EXPECT_EQ(shown(TemplateName::kChatml, kQuestion, true), "<|im_start|>user\n‹Hi›<|im_end|>\n<|im_start|>assistant\n");
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
  EXPECT_EQ(shown(TemplateName::kLlama2, kTwoTurns), "<s>[INST] ‹Hi› [/INST]« ‹Hello!› </s>»<s>[INST] ‹a› [/INST]« ‹b› </s>»");
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
  EXPECT_TRUE(says(refusal_of([&] { render(m, {.name = TemplateName::kMixtral}, false); }), "no place for a system text"));
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
            "‹Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n›"
            "‹### Instruction:\n1\n\n### Response:\n›«‹2›$»\n\n‹### Instruction:\n3\n\n### Response:\n›");
  const Example row{.kind = ExampleKind::kInstruction, .prompt = "Add", .context = "1 2", .response = "3"};
  const Sample sample = make_sample(row, {.name = TemplateName::kAlpaca});
  EXPECT_EQ(shown(sample.spans),
            "‹Below is an instruction that describes a task, paired with an input that provides further context. Write a "
            "response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n›‹1 2›"
            "‹\n\n### Response:\n›«‹3›$»");
  EXPECT_FALSE(sample.one_text);
}

// Their order in the text is that of the options: a system text of --system, markers that count, BOS and EOS of the tokenizer.
TEST(Template, Options) {
  const Messages m = {{"user", "<s>"}, {"assistant", "x"}};
  EXPECT_EQ(shown(render(m, {.name = TemplateName::kLlama2, .system = "S", .bos = "[B]", .eos = "[E]"}, false)),
            "[B][INST] <<SYS>>\n‹S›\n<</SYS>>\n\n‹<s>› [/INST]« ‹x› [E]»");
  EXPECT_EQ(shown(render(m, {.name = TemplateName::kZephyr, .parse_special = true}, false)),
            "<|user|>\n<s></s>\n<|assistant|>\n«x</s>\n»");
  // A system text of the conversation counts more.
  EXPECT_EQ(plain(render(kWithSystem, {.name = TemplateName::kChatml, .system = "Other"}, false)),
            plain(render(kWithSystem, {.name = TemplateName::kChatml}, false)));
  FakeTokenizer tokenizer;
  const TemplateOptions options = template_options(TemplateName::kZephyr, {.system = "S", .template_date = "D"}, &tokenizer);
  EXPECT_EQ(options.eos, "</s>");
  EXPECT_EQ(options.system, "S");
  EXPECT_EQ(options.date, "D");
}

TEST(Template, MarksThatTheTokenizerHasNot) {
  FakeTokenizer tokenizer;  // no added token; EOS
  EXPECT_TRUE(says(note_of_missing_marks(TemplateName::kLlama3, tokenizer),
                   "llama3 ends an answer with <|eot_id|>, and the tokenizer has no"));
  EXPECT_EQ(note_of_missing_marks(TemplateName::kZephyr, tokenizer), "");
  EXPECT_EQ(note_of_missing_marks(TemplateName::kNone, tokenizer), "");
}

TEST(Template, TurnsAndMessagesThatAreNotTrained) {
  const Messages m = {{"system", "S"}, {"user", "1"}, {"assistant", "2", false}, {"user", "3"}, {"assistant", "4"}};
  for (const TemplateName name : {TemplateName::kLlama2, TemplateName::kMistral, TemplateName::kAlpaca}) {
    std::string left;  // what stays if the first turn leaves
    for (const Span& s : render(m, {.name = name}, false)) {
      EXPECT_FALSE(s.trained && s.turn == 0);
      if (s.turn < 0 || (s.turn == 1 && !s.between_turns)) left += s.text;
    }
    const Messages rest = {m[0], m[3], m[4]};
    EXPECT_EQ(left, plain(render(rest, {.name = name}, false)));
  }
  for (const TemplateName name :
       {TemplateName::kChatml, TemplateName::kSmollm2, TemplateName::kQwen25, TemplateName::kQwen3, TemplateName::kLlama3,
        TemplateName::kLlama31, TemplateName::kMistral3, TemplateName::kPhi3, TemplateName::kZephyr}) {
    std::string left;
    for (const Span& s : render(m, {.name = name}, false)) {
      EXPECT_FALSE(s.trained && s.turn == 0);
      left += s.turn == 0 ? "" : s.text;
    }
    EXPECT_EQ(left, plain(render({m[0], m[3], m[4]}, {.name = name}, false))) << template_names()[size_t(name)];
  }
}

TEST(Template, RefusesWhatItHasNoPlaceFor) {
  const auto says_of = [](TemplateName name, const Messages& m, std::string_view words) {
    const std::string message = refusal_of([&] { render(m, {.name = name}, false); });
    EXPECT_TRUE(says(message, words)) << message;
  };
  says_of(TemplateName::kChatml, {}, "no message");
  says_of(TemplateName::kQwen25, {{"tool", "x"}}, "not \"tool\"");
  says_of(TemplateName::kLlama31, {{"user", "x"}, {"ipython", "x"}}, "not \"ipython\"");
  says_of(TemplateName::kLlama2, {{"user", "x"}, {"user", "y"}}, "turn 2 has the role user");
  says_of(TemplateName::kMistral, {{"assistant", "x"}}, "the first turn has the role assistant");
  says_of(TemplateName::kMistral3, {{"user", "x"}, {"system", "y"}}, "not \"system\"");
  says_of(TemplateName::kLlama2, {{"system", "y"}}, "a system text only");
  says_of(TemplateName::kNone, kQuestion, "the form none is not for conversations");
  const Example e{.where = "line 7", .messages = {{"user", "x"}, {"user", "y"}}};
  EXPECT_TRUE(says(refusal_of([&] { make_sample(e, {.name = TemplateName::kMistral}); }), "line 7: in this template"));
}

TEST(MakeSample, QuestionsInTheirFormAndInAChatTemplate) {
  const Example question{
      .kind = ExampleKind::kQuestion, .id = "q", .prompt = "Who?", .context = "A and B.", .answers = {"A", "B", "A"}};
  const Sample squad = make_sample(question, {.name = TemplateName::kSquad});
  EXPECT_EQ(shown(squad.spans), "‹Context: ›‹A and B.›‹\nQuestion: Who?\nAnswer:›«‹ A›$»");
  EXPECT_TRUE(squad.spans[1].may_shorten);
  EXPECT_EQ(squad.answers, (std::vector<std::string>{"A", "B"}));
  EXPECT_TRUE(squad.question && !squad.one_text && !squad.left_out);
  const Sample chat = make_sample(question, {.name = TemplateName::kChatml});
  EXPECT_EQ(shown(chat.spans),
            "<|im_start|>user\n‹Context: ›‹A and B.›‹\nQuestion: Who?›<|im_end|>\n<|im_start|>assistant\n«‹A›<|im_end|>\n»");
  EXPECT_TRUE(chat.spans[2].may_shorten && chat.one_text);
  Example none = question;
  none.answers.clear();
  EXPECT_TRUE(make_sample(none, {.name = TemplateName::kSquad}).left_out);
  const Sample trained = make_sample(none, {.name = TemplateName::kSquad, .unanswerable = Unanswerable::kTrain});
  EXPECT_EQ(trained.spans.back().text, fmt::format(" {}", kNoAnswer));
  EXPECT_TRUE(trained.question && trained.answers.empty());
}

TEST(MakeSample, OtherKinds) {
  const Sample text = make_sample({.kind = ExampleKind::kText, .text = "a b"}, {.name = TemplateName::kNone});
  EXPECT_TRUE(text.plain_text && text.spans[0].trained && text.spans[0].ends_text);
  const Sample pair =
      make_sample({.kind = ExampleKind::kCompletion, .prompt = "1+1=", .response = "2"}, {.name = TemplateName::kNone});
  EXPECT_EQ(shown(pair.spans), "‹1+1=›«‹2›$»");
  EXPECT_EQ(pair.answers, std::vector<std::string>{"2"});
  const Sample ids = make_sample({.kind = ExampleKind::kTokens, .ids = {1, 2}, .labels = {-100, 2}, .part_of_trained_row = true},
                                 {.name = TemplateName::kNone});
  EXPECT_EQ(ids.spans[0].ids, (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(ids.part_of_trained_row && !ids.question);
  const Sample talk = make_sample({.messages = kTwoTurns}, {.name = TemplateName::kLlama3});
  EXPECT_EQ(talk.answers, std::vector<std::string>{" b "});  // a generator is asked for the last one
  EXPECT_FALSE(make_sample({.messages = kQuestion}, {.name = TemplateName::kLlama3}).question);
  EXPECT_TRUE(
      says(refusal_of([&] { make_sample({.messages = kQuestion}, {.name = TemplateName::kNone}); }), "not a conversation"));
}

const char kChatmlJinja[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplate, KnownByWhatItSays) {
  EXPECT_EQ(recognise_template(kChatmlJinja), TemplateName::kChatml);
  // Other spaces, quotes, line ends and comments that do not show.
  EXPECT_EQ(
      recognise_template("{#- a comment -#}\r\n{%- for message in messages -%}\n  {{- \"<|im_start|>\"+message['role'] + '\\n' + "
                         "message['content']+'<|im_end|>' + \"\\n\" -}}\n{%- endfor -%}\n\n"
                         "{%- if add_generation_prompt -%} {{- '<|im_start|>assistant\n' -}} {%- endif %}\n"),
      TemplateName::kChatml);
  // What would show another text is another template.
  for (const auto& [from, to] : {std::pair("{% endfor %}", "{% endfor %} "),
                                 {"'\n'}}", "' \n'}}"},
                                 {"message['role']", "message.role"},
                                 {"{% if", "x{% if"},
                                 {"'<|im_end|>' +", ""}}) {
    std::string other = kChatmlJinja;
    other.replace(other.find(from), std::string_view(from).size(), to);
    EXPECT_EQ(recognise_template(other), std::nullopt) << other;
  }
  EXPECT_EQ(recognise_template(""), std::nullopt);
  for (const char* broken : {"{%", "{{ 'a", "{#", "{{ a", "{% a -", "{", "{{\"\\"})
    EXPECT_EQ(recognise_template(broken), std::nullopt);
}

// The rules of Jinja's documentation, with trim_blocks and lstrip_blocks.
TEST(ChatTemplate, SpacesThatShow) {
  EXPECT_EQ(canonical_jinja("  {% a %}\nx"), canonical_jinja("{% a %}x"));
  EXPECT_NE(canonical_jinja("y  {% a %}\nx"), canonical_jinja("y{% a %}x"));
  EXPECT_EQ(canonical_jinja("y \n {%- a -%} \n x"), canonical_jinja("y{% a %}x"));
  EXPECT_NE(canonical_jinja("{{ a }}\nx"), canonical_jinja("{{ a }}x"));
  EXPECT_NE(canonical_jinja("  {%+ a +%}\nx"), canonical_jinja("{% a %}x"));
  EXPECT_EQ(canonical_jinja("x\n"), canonical_jinja("x"));
  EXPECT_NE(canonical_jinja("{{ 'a b' }}"), canonical_jinja("{{ 'ab' }}"));
  EXPECT_NE(canonical_jinja("{{ a b }}"), canonical_jinja("{{ ab }}"));
}

TEST(ChatTemplate, ReadFromTheModelsFiles) {
  const TemporaryDirectory directory;
  EXPECT_EQ(read_chat_template(directory.path()), "");
  directory.write("tokenizer_config.json", R"({"eos_token": "x"})");
  EXPECT_EQ(read_chat_template(directory.path()), "");
  directory.write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(read_chat_template(directory.path()), "one");
  directory.write("tokenizer_config.json",
                  R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "two"}]})");
  EXPECT_EQ(read_chat_template(directory.path()), "two");
  directory.write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "r"}]})");
  // What is no template stops nobody who needs none.
  const auto unknown = [&](std::string_view begin) {
    const PrepareOptions options{.model_template = read_chat_template(directory.path())};
    EXPECT_EQ(recognise_template(options.model_template), std::nullopt);
    EXPECT_EQ(choose_template(DataFormat::kSquad, options).name, TemplateName::kSquad);
    const std::string message = refusal_of([&] { choose_template(DataFormat::kMessages, options); }, kExitUsage);
    EXPECT_TRUE(says(message, begin));
    EXPECT_TRUE(says(message, "--template"));
  };
  unknown("it begins \"[{");
  for (const char* value : {"7", "[]", "{}", R"([{"name": "default", "template": 3}])", R"([7, ["default"]])", "true"}) {
    directory.write("tokenizer_config.json", fmt::format(R"({{"chat_template": {}}})", value));
    unknown("chat_template is not one of those");
  }
  directory.write("chat_template.jinja", "three");  // counts more
  EXPECT_EQ(read_chat_template(directory.path()), "three");
  directory.write("chat_template.jinja", "\xff\xfe");
  unknown("it begins \"\\xff");
  directory.write("chat_template.jinja", kChatmlJinja + std::string(1 << 20, '\n'));
  unknown("bytes, which are not read");
}

TEST(ChooseTemplate, ByTheDataAndTheModel) {
  const auto chosen = [](DataFormat format, const PrepareOptions& options) { return choose_template(format, options).name; };
  const PrepareOptions known{.model_template = kChatmlJinja}, unknown{.model_template = "{{ x }}"};
  EXPECT_EQ(chosen(DataFormat::kSquad, known), TemplateName::kSquad);
  EXPECT_EQ(chosen(DataFormat::kAlpaca, {}), TemplateName::kAlpaca);
  EXPECT_EQ(chosen(DataFormat::kDolly, known), TemplateName::kChatml);
  EXPECT_EQ(chosen(DataFormat::kMessages, known), TemplateName::kChatml);
  EXPECT_EQ(chosen(DataFormat::kPrompt, unknown), TemplateName::kNone);
  EXPECT_EQ(chosen(DataFormat::kText, unknown), TemplateName::kNone);
  EXPECT_EQ(chosen(DataFormat::kMessages, {.template_name = TemplateName::kZephyr, .model_template = "{{ x }}"}),
            TemplateName::kZephyr);
  EXPECT_EQ(chosen(DataFormat::kSquad, {.template_name = TemplateName::kChatml}), TemplateName::kChatml);
  const auto refused = [](DataFormat format, const PrepareOptions& options, std::string_view words) {
    const std::string message = refusal_of([&] { choose_template(format, options); }, kExitUsage);
    EXPECT_TRUE(says(message, words)) << message;
  };
  refused(DataFormat::kShareGpt, {}, "the model has no chat_template: name one with --template");
  refused(DataFormat::kMessages, unknown, "fingerprint ");
  refused(DataFormat::kAlpaca, unknown, "name the template that shows the same text with --template");
  refused(DataFormat::kMessages, {.template_name = TemplateName::kNone}, "rows are conversations");
  refused(DataFormat::kAlpaca, {.template_name = TemplateName::kSquad}, "rows are of the format alpaca");
  refused(DataFormat::kText, {.template_name = TemplateName::kChatml}, "the data are texts");
  refused(DataFormat::kPrompt, {.system = "S"}, "--system");
}

}  // namespace
}  // namespace tll
