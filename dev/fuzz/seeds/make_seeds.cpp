// Writes the files from which the fuzzers start, below the directory that it is given: small/FUZZER/ and, about a megabyte each,
// with many or deep entries, large/FUZZER/.
#include <fstream>
#include <functional>

#include "data/dataset.h"
#include "dev/fuzz/tiny.h"
#include "src/base/file.h"
#include "src/files/adapter.h"
#include "src/files/safetensors.h"
#include "src/train/checkpoint.h"
#include "tests/fake_tokenizer.h"
#include "tests/gguf_tokenizers.h"
#include "tests/quantized_files.h"
#include "tests/tokenizer_fixtures.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

class Seeds {
 public:
  Seeds(const fs::path& root, const std::string& fuzzer) : directory_(root / fuzzer) { fs::create_directories(directory_); }
  void add(std::string_view content) { std::ofstream(directory_ / std::to_string(count_++), std::ios::binary) << content; }
  void add(std::initializer_list<const char*> contents) {
    for (const char* content : contents) add(std::string_view(content));
  }

 private:
  fs::path directory_;
  int count_ = 0;
};

void write_tokenizers(const fs::path& root) {
  Seeds json(root, "tokenizer_json");
  const auto with = [&](const std::string& parts) {
    Json j = small_json();
    j.update(Json::parse(parts));
    json.add(j.dump());
  };
  with("{}");
  with(R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
           "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
           "added_tokens": [{"id": 11, "content": "ell", "lstrip": true, "rstrip": true},
                            {"id": 12, "content": "12", "single_word": true}, {"id": 13, "content": "hello", "normalized": false}]})");
  with(R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "NFC"},
             {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
           "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
             {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})");
  with(R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
             {"type": "Split", "pattern": {"String": "l"}, "behavior": "MergedWithPrevious", "invert": false},
             {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]},
           "decoder": {"type": "ByteLevel"},
           "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
             {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}})");
  with(R"({"pre_tokenizer": {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
             "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}})");
  Json fallback = small_json();
  fallback["model"]["byte_fallback"] = fallback["model"]["fuse_unk"] = fallback["model"]["ignore_merges"] = true;
  for (int b = 0; b < 16; ++b) fallback["model"]["vocab"][fmt::format("<0x{:02X}>", b * 16 + 9)] = 20 + b;
  json.add(fallback.dump());

  Seeds sentencepiece(root, "sentencepiece");
  for (const SmallSentencePiece& s :
       {SmallSentencePiece{}, SmallSentencePiece{.byte_fallback = false},
        SmallSentencePiece{.byte_fallback = false, .dummy_prefix = false, .remove_spaces = true},
        SmallSentencePiece{.byte_fallback = false, .unused = 6, .more_pieces = piece_field("<x>", 0, 4)}})
    sentencepiece.add(s.content());
  Seeds tiktoken(root, "tiktoken");
  tiktoken.add(tiktoken_content(small_tiktoken_tokens()));
  Seeds(root, "tokenizer_side_files")
      .add({R"({"bos_token": "<s>", "eos_token": {"content": "<unk>", "lstrip": false}, "pad_token": null, "add_bos_token": true,
                "add_eos_token": false, "added_tokens_decoder": {"300": {"content": "<x>", "special": true}}})",
            R"({"<x>": 16, "<y>": 17})", R"({"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0})"});
}

void write_models(const fs::path& root) {
  const TemporaryDirectory directory;
  const fs::path file = directory / "model.safetensors";
  const LlamaConfig config = fuzz::tiny_model();
  const std::vector<std::byte> zeros(4096);
  Seeds safetensors(root, "safetensors");
  for (const FileDtype dtype : {FileDtype::F32, FileDtype::BF16, FileDtype::F16}) {
    std::vector<TensorEntry> entries;
    for (const WeightSpec& spec : weight_specs(config))
      entries.push_back({{spec.name, dtype, spec.shape},
                         std::span(zeros).first(size_t(element_count(spec.shape)) * size_t(file_dtype_bits(dtype)) / 8)});
    write_safetensors(file, entries, {{"format", "pt"}});
    safetensors.add(read_file(file));
  }
  for (const bool nested : {false, true}) {
    FileTensors tensors = random_tensors(config);
    quantize_4bit(tensors, "model.layers.0.self_attn.q_proj", 32, nested);
    write_tensors(file, tensors);
    safetensors.add(read_file(file));
  }
  Seeds gguf(root, "gguf");
  write_tensors(file, random_tensors(config));
  for (const GgufType type : {GgufType::F32, GgufType::F16, GgufType::BF16}) gguf.add(gguf_of(directory, config, type).bytes());
  for (const char* pre : {"smollm", "llama-bpe", "qwen2", "default"}) gguf.add(gguf_bpe(pre).bytes());
  gguf.add(gguf_pieces().bytes());
  GgufBytes scaled = gguf_of(directory, config, GgufType::F32);
  scaled.tensors.resize(1);
  scaled.text("tokenizer.chat_template", "{{ messages }}"), scaled.flag("tokenizer.ggml.add_bos_token", true);
  scaled.text("llama.rope.scaling.type", "yarn"), scaled.f32("llama.rope.scaling.factor", 4);
  scaled.tensor("rope_freqs.weight", {1}, GgufType::F32, raw_of(std::vector<float>{8}));
  for (const GgufType type : {GgufType::Q4_0, GgufType::Q4_K, GgufType::Q6_K}) {
    const GgufTypeRow& row = gguf_type_row(type);
    scaled.tensor(fmt::format("blk.0.{}", row.name), {row.block}, type, std::string(static_cast<size_t>(row.bytes), 'x'));
  }
  gguf.add(scaled.bytes());

  const std::vector<float> values(64, 0.5f);
  std::vector<AdapterPart> parts;
  for (const Module& m : adaptable_modules(config))
    if (m.short_name() == "q_proj" || m.short_name() == "v_proj") parts.push_back({m, 2, 4, values.data(), values.data()});
  write_adapter(directory, {.base_model = "base", .layers = config.layers}, parts);
  safetensors.add(read_file(directory / "adapter_model.safetensors"));

  Json map = {{"more", "b.safetensors"}};
  for (const WeightSpec& spec : weight_specs(config))
    map[spec.name] = spec.name.ends_with("_proj.weight") ? "a.safetensors" : "b.safetensors";
  Seeds(root, "weight_index").add(Json{{"metadata", {{"total_size", 1000}}}, {"weight_map", map}}.dump());

  Seeds adapter(root, "adapter_config");
  adapter.add(read_file(directory / "adapter_config.json"));
  adapter.add({R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ".*\\.(q|v)_proj", "lora_dropout": 0.1,
                   "use_rslora": true, "rank_pattern": {"0.self_attn.q_proj": 4, "^.*v_proj$": 2}, "bias": "none"})",
               R"({"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 1],
                   "layers_pattern": ["layers"], "alpha_pattern": {"layers\\.[01].*": 8}, "init_lora_weights": "gaussian"})",
               R"({"peft_type": "LORA", "target_modules": "all-linear", "exclude_modules": "(.*)\\.(k|o|gate|up|down)_proj",
                   "task_type": "CAUSAL_LM", "peft_version": "0.21"})"});

  Seeds configs(root, "config");
  configs.add({R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 5, "hidden_size": 4,
                   "intermediate_size": 3, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
                   "head_dim": 2, "tie_word_embeddings": true, "eos_token_id": [2, 3], "torch_dtype": "bfloat16"})",
               R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 64, "intermediate_size": 128, "hidden_act": "silu",
                   "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
                   "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 1024}, "bos_token_id": 1, "attention_bias": true})",
               R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                   "num_attention_heads": 2, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
                   "mlp_bias": true, "pad_token_id": -1, "dtype": "float32"})"});
}

void write_data(const fs::path& root) {
  const char* const squad =
      R"({"version": "v2.0", "data": [{"title": "A", "paragraphs": [{"context": "hello a hello", "qas": [
          {"id": "1", "question": "who?", "answers": [{"text": "a", "answer_start": 6}, {"text": "a", "answer_start": 6}]},
          {"id": "2", "question": "what?", "answers": [], "is_impossible": true}]}]},
        {"title": "B", "paragraphs": [{"context": "héllo again and again", "qas": [
          {"id": "3", "question": "when?", "answers": [{"text": "again", "answer_start": 6}]}]}]}]})";
  Seeds json(root, "squad_json");
  json.add(
      {squad,
       R"([{"id": "1", "title": "t", "context": "hello", "question": "q", "answers": {"text": ["hello"], "answer_start": [0]}}])",
       R"({"id": "1", "context": "hello", "question": "q", "answers": {"text": ["ell"], "answer_start": [1]}}
{"id": "2", "context": "hello", "question": "q", "answers": {"text": [], "answer_start": []}}
)"});
  const char* const rows = R"({"input_ids": [1, 5, 6, 7], "labels": [-100, -100, 6, 7]}
{"input_ids": [1, 8, 9, 2]}
{"input_ids": [4, 5, 6, 7, 8, 9, 10, 11, 12, 13], "labels": [-100, 5, 6, 7, 8, 9, 10, 11, 12, 13]}
)";
  Seeds sources(root, "data_source");  // the first byte says how the rest is given
  sources.add(
      {"\x10{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}\n{\"instruction\": \"c\", \"output\": \"d\"}\n",
       "\x01[{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": [{\"type\": "
       "\"text\", "
       "\"text\": \"b\"}], \"weight\": 0}]},\n {\"messages\": [{\"role\": \"system\", \"content\": \"\"}]}]",
       "\x01{\"version\": 1, \"data\": [{\"title\": \"t\", \"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", "
       "\"answers\": []}]}]}], \"more\": [1]}",
       "\x22question,answer\r\n\"a \"\"b\"\"\nc\",d\r\n,\n", "\x03Some text,\nin lines.\n\nMore of it.\n",
       "\x40{\"conversations\": [{\"from\": \"gpt\", \"value\": \"x\"}, {\"from\": \"human\", \"value\": \"y\"}], \"id\": 3}\n",
       "\x07{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", \"content\": "
       "\"b\"}]}\n",
       "\x06prompt\tresponse\na\tb\n"});
  // gzip and zstd of {"text": "hello"} and a line end: zlib 1.2.13, zstd 1.5.4
  for (const std::string_view packed :
       {std::string_view("\005\037\213\010\000\000\000\000\000\002\003\253\126\052\111\255\050\121\262\122\120\312\110\315\311"
                         "\311\127\252\345\002\000\224\334\207\166\022\000\000\000",
                         39),
        std::string_view("\005\050\265\057\375\004\130\221\000\000\173\042\164\145\170\164\042\072\040\042\150\145\154\154\157"
                         "\042\175\012\262\254\302\262",
                         32)})
    sources.add(packed);
  Seeds(root, "rows").add({rows, R"({"input_ids": [3, 4, 0], "labels": [3, 4, -100], "attention_mask": [1, 1, 0]}
)"});
  Seeds prepared(root, "squad_bin");
  const TemporaryDirectory directory;
  directory.write("squad.json", squad).write("rows.jsonl", rows);
  const FakeTokenizer tokenizer({"he", "ll", " a"}, true);
  prepared.add(dataset_bytes(load_dataset(directory / "squad.json", &tokenizer, {.max_tokens = 64, .valid_split = 0.5})));
  prepared.add(dataset_bytes(load_dataset(directory / "rows.jsonl", nullptr, {.max_tokens = 16, .valid_split = 0.3})));

  float m[] = {1, 2, 3}, v[] = {4, 5, 6};
  write_checkpoint(directory, {"run", {5, 4, 1}, {42, 3, 1}, {{"lr", 1e-3}, {"seed", 42}}}, Device{},
                   {{"m", DType::f32, 3, m}, {"v", DType::f32, 3, v}},
                   [](const fs::path& place) { write_file_atomic(place / "values", "1234"); });
  Seeds(root, "checkpoint").add(read_file(directory / "checkpoint-5" / "state.json"));
}

std::string repeated(int64_t count, const std::function<std::string(int64_t)>& item, const char* between = ",") {
  std::string out;
  for (int64_t i = 0; i < count; ++i) out += (i ? between : "") + item(i);
  return out;
}

// What would take long if an entry's cost grew with the number of entries, or a byte's with the length of a text.
void write_large(const fs::path& root) {
  const auto number = [](int64_t i) { return std::to_string(i); };
  const auto quoted = [](int64_t i) { return fmt::format("\"n{}\"", i); };
  const std::string deep = std::string(100000, '[') + std::string(100000, ']'), many = std::string(1000000, 'a');

  const std::string head = R"({"model_type": "llama", "vocab_size": 2000000, "hidden_size": 4, "intermediate_size": 3, )"
                           R"("num_hidden_layers": 1024, "num_attention_heads": 2)";
  Seeds configs(root, "config");
  configs.add(head + R"(, "eos_token_id": [)" + repeated(150000, number) + "]}");
  configs.add(head + "," + repeated(50000, [&](int64_t i) { return quoted(i) + ":1"; }) + "}");
  configs.add(head + R"(, "x": )" + deep + "}");
  configs.add(head + R"(, "hidden_act": ")" + many + "\"}");

  const std::string lora = R"({"peft_type": "LORA", "r": 2)";
  Seeds adapters(root, "adapter_config");
  adapters.add(lora + R"(, "target_modules": [)" + repeated(100000, quoted) + "]}");
  adapters.add(lora + R"(, "target_modules": "all-linear", "layers_pattern": [)" + repeated(100000, quoted) +
               R"(], "layers_to_transform": [)" + repeated(100000, number) + "]}");
  adapters.add(lora + R"(, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {)" +
               repeated(10000, [&](int64_t i) { return quoted(i) + ":2"; }) + "}}");
  adapters.add(lora + R"(, "target_modules": ["q_proj", "v_proj"], "alpha_pattern": {)" +
               repeated(100, [](int64_t i) { return fmt::format("\"{}(.*.*)*{}\":2", std::string(300, 'a'), i); }) + "}}");
  for (const char* pattern : {"(a*)*(.*)*(.*)*x", "(.+.+)+y", "((.*?)+)+$", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)z", "(?=(.*.*)*)q",
                              "(.|.|.)*y", "(.{1,60}){1,60}y", "(?i)(.*_)*Y", ".*(?<=(q|v))_projx", "(\\\\w+\\\\.?)+!"})
    adapters.add(fmt::format(R"({}, "target_modules": "{}"}})", lora, pattern));
  adapters.add(lora + R"(, "target_modules": ")" + std::string(450, '(') + "q_proj" + std::string(450, ')') + "\"}");
  adapters.add(lora + R"(, "target_modules": ")" + many + "\"}");

  const auto tokenizer = [](const std::string& vocab, const std::string& merges, const std::string& added,
                            const std::string& more) {
    return fmt::format(
        R"({{"model": {{"type": "BPE", "unk_token": "<unk>", "vocab": {{"<unk>": 0, {}}}, "merges": [{}]}}, "added_tokens": [{}]{}}})",
        vocab, merges, added, more);
  };
  const auto entry = [](int64_t i) { return fmt::format("\"{}\":{}", std::string(size_t(i + 1), 'l'), i + 1); };
  const auto merge = [](int64_t i) { return fmt::format("\"{} l\"", std::string(size_t(i + 1), 'l')); };
  const auto added = [](int64_t i) { return fmt::format(R"({{"id": {}, "content": "<{}>"}})", 100 + i, i); };
  const std::string step = R"({"type": "Split", "pattern": {"String": "l"}, "behavior": "Isolated"})";
  const std::string replace = R"({"type": "Replace", "pattern": {"String": "l"}, "content": "ll"})";
  Seeds json(root, "tokenizer_json");
  json.add(tokenizer(repeated(1000, entry), repeated(999, merge), "", ""));
  json.add(tokenizer(R"("a": 2000000)", "", "", ""));
  json.add(tokenizer(repeated(60000, [&](int64_t i) { return fmt::format("\"n{}\":{}", i, i + 1); }), "", "", ""));
  json.add(tokenizer(repeated(9, entry), "", repeated(20000, added), R"(, "normalizer": {"type": "NFC"})"));
  json.add(tokenizer(
      repeated(9, entry), "", repeated(100, added),
      R"(, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [)" + repeated(60, [&](int64_t) { return step; }) + "]}"));
  json.add(tokenizer(
      repeated(9, entry), "", repeated(1000, added),
      R"(, "normalizer": {"type": "Sequence", "normalizers": [)" + repeated(60, [&](int64_t) { return replace; }) + "]}"));
  json.add(tokenizer(repeated(9, entry), "", "", R"(, "decoder": )" + deep));

  Seeds sentencepiece(root, "sentencepiece"), tiktoken(root, "tiktoken");
  std::string pieces;
  for (int i = 0; i < 1000; ++i) pieces += piece_field(std::string(size_t(i + 5), 'l'), float(-i), 1);
  sentencepiece.add(SmallSentencePiece{.byte_fallback = false, .more_pieces = pieces}.content());
  pieces.clear();
  for (int i = 0; i < 50000; ++i) pieces += piece_field(fmt::format("p{}", i), float(-i), i % 2 ? 1 : 4);
  sentencepiece.add(SmallSentencePiece{.more_pieces = pieces}.content());
  std::vector<std::string> tokens = small_tiktoken_tokens();
  for (int i = 0; i < 1000; ++i) tokens.push_back(std::string(size_t(i + 3), 'x'));
  tiktoken.add(tiktoken_content(tokens));
  tokens = small_tiktoken_tokens();
  for (int i = 0; i < 60000; ++i) tokens.push_back(fmt::format("t{}", i));
  tiktoken.add(tiktoken_content(tokens));

  const auto safetensors_file = [](const std::string& header) {
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = char(uint64_t(header.size()) >> (8 * i));
    return length + header;
  };
  Seeds safetensors(root, "safetensors");
  safetensors.add(safetensors_file(
      "{" + repeated(20000, [&](int64_t i) { return quoted(i) + R"(:{"dtype":"F32","shape":[0],"data_offsets":[0,0]})"; }) +
      "}"));
  safetensors.add(safetensors_file(R"({"a":{"dtype":"F32","shape":[)" + repeated(300000, [](int64_t) { return "1"; }) +
                                   R"(],"data_offsets":[0,4]}})"));
  safetensors.add(safetensors_file(R"({"a":{"x":)" + deep + "}}"));
  safetensors.add(safetensors_file("{\"" + many + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,1]}})"));
  safetensors.add(
      safetensors_file(R"({"__metadata__":{)" + repeated(50000, [&](int64_t i) { return quoted(i) + ":\"\""; }) + "}}"));

  Seeds gguf(root, "gguf");
  GgufBytes keys, names, words;
  for (int i = 0; i < 50000; ++i) keys.pairs.emplace_back(fmt::format("llama.k{}", i), gguf_raw(7u) + "\1");
  gguf.add(keys.bytes());
  for (int i = 0; i < 20000; ++i) names.tensor(fmt::format("t{}", i), {1}, GgufType::F32, "1234");
  gguf.add(names.bytes());
  words = gguf_bpe("smollm");
  std::vector<std::string> vocabulary;
  for (int i = 0; i < 60000; ++i) vocabulary.push_back(fmt::format("w{}", i));
  words.texts("tokenizer.ggml.tokens", vocabulary), words.remove("tokenizer.ggml.token_type");
  gguf.add(words.bytes());

  const auto question = [](int64_t i) {
    return fmt::format(R"({{"id": "{}", "question": "q", "answers": [{{"text": "a", "answer_start": 400}}]}})", i);
  };
  const auto squad = [](const std::string& context, const std::string& questions) {
    return fmt::format(R"({{"data": [{{"paragraphs": [{{"context": "{}", "qas": [{}]}}]}}]}})", context, questions);
  };
  Seeds questions(root, "squad_json");
  questions.add(squad(std::string(500, 'a'), repeated(2000, question)));
  questions.add(squad(many, question(0)));
  questions.add(squad("a", R"({"id": "1", "question": "q", "answers": [)" + repeated(20000, [](int64_t i) {
                             return fmt::format(R"({{"text": "a{}", "answer_start": 0}})", i);
                           }) + "]}"));
  questions.add(R"({"data": )" + deep + "}");

  Seeds rows(root, "rows");
  rows.add(R"({"input_ids": [)" + repeated(300000, [](int64_t i) { return std::to_string(i % 300); }) + "]}\n");
  rows.add(repeated(
      20000, [](int64_t i) { return fmt::format(R"({{"input_ids": [1, {}]}})", i % 300); }, "\n"));
  rows.add(R"({"input_ids": [1, 2], )" + repeated(50000, [&](int64_t i) { return quoted(i) + ":1"; }) + "}\n");
  rows.add(R"({"input_ids": )" + deep + "}\n");

  Dataset data;
  data.vocab_size = 2, data.max_tokens = 2;
  const std::vector<int32_t> ids = {1, 1};
  for (int64_t i = 0; i < 50000; ++i) data.add(ids, ids, {}, {.id = "i", .title = "t"});
  Seeds(root, "squad_bin").add(dataset_bytes(data));

  Seeds checkpoint(root, "checkpoint");
  checkpoint.add(R"({"version": 3, "xxh3_64_of_this": "0", "settings": {)" +
                 repeated(50000, [&](int64_t i) { return quoted(i) + ":1"; }) + "}}");
  checkpoint.add(R"({"version": 3, "settings": )" + deep + "}");
}

}  // namespace
}  // namespace tll

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: fuzz_seeds DIRECTORY\n", stderr), 2;
  const std::filesystem::path small = std::filesystem::path(argv[1]) / "small", large = std::filesystem::path(argv[1]) / "large";
  tll::write_tokenizers(small);
  tll::write_models(small);
  tll::write_data(small);
  tll::write_large(large);
}
