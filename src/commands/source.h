// What a command works on: the model with its config and tokenizer, and the adapter.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "src/base/text_files.h"
#include "src/files/adapter.h"
#include "src/files/model_files.h"
#include "src/model/model_options.h"
#include "src/options/options.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// On standard error, one line each.
void print_notes(const std::vector<std::string>& notes);

// The model that the options name; the demo model if they name none.
struct ModelSource {
  std::filesystem::path directory;    // or the GGUF file; empty: there is only a config.json
  std::filesystem::path config_file;  // or the GGUF file
  std::string name;                   // of a published model of which there are no files; else empty
  LlamaConfig config;
  // Rows of the embedding and head in the model's files, where config.vocab_size is larger: the adapter's vocabulary, or with
  // --train-embeddings that of the tokenizer. 0: as many as config.vocab_size.
  int32_t rows_in_files = 0;
  std::unique_ptr<Tokenizer> tokenizer;  // null: the directory has none, or it is not needed
  std::string chat_template;             // as its files have it (read_chat_template); empty: none, or no tokenizer is needed
  std::vector<int32_t> eos;              // ids that end a generated text, or an answer in its chat template
};
enum class TokenizerNeed { none, wanted, required };  // wanted: data may come as token ids, then a directory without one will do
// From then on the options say how its weights are held (take_quantization). `adapter`: the directory of the adapter that it
// gets; empty: --adapter or --init-adapter.
ModelSource open_model(Options& options, TokenizerNeed need, const std::filesystem::path& adapter = {});

// The tokenizer's files of a model's directory, or those that a GGUF file stands for, of which there may be something to note.
TextFiles tokenizer_files(const std::filesystem::path& model, std::vector<std::string>* notes = nullptr);

// The template in which a model that is trained on these data is asked: that of --template; else the one that the data were
// prepared with; else the model's own. Nothing: it is not known, or there is none.
std::optional<TemplateName> template_in_force(const Options& options, const ModelSource& source, const Dataset& data);
// The marks that end an answer in the template of these data end a text, too: a squad.bin may have another one than the model.
void add_end_marks(ModelSource& source, const Dataset& data);

// The tokenizer of the model that the options name, and its chat_template. --model may also be a tokenizer's file, or a directory
// with nothing else.
struct TokenizerSource {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template;  // as in ModelSource
};
TokenizerSource open_tokenizer(Options& options);

// data/demo below the working directory or beside the program, or where `cmake --install` puts it. Error (kExitBadFile) if in
// none.
std::filesystem::path demo_directory();

// The adapter that the options name (--adapter, --init-adapter) or describe (--rank, --targets, …).
struct AdapterSource {
  std::optional<Adapter> loaded;
  std::vector<LoraTarget> targets;
};
// Makes of --targets the names of this model's layers: of all, if all are meant; qkv_proj of q_proj where that is a part of it.
// Error (kExitUsage) for a name that means no layer of the model.
void take_targets(Options& options, const LlamaConfig& config);
// The adapter in this directory, or, where it is empty, a fresh one as the options describe it. Prints what it warns of.
AdapterSource open_adapter(const Options& options, const LlamaConfig& config, const std::filesystem::path& directory);
// An adapter that a run starts from keeps its rank, alpha, scaling and targets. Other ones that were asked for are refused
// (kExitUsage); from here on the options say what is trained.
void adopt_adapter(Options& options, const Adapter& adapter);
// The adapter that --adapter names, or none at all: unlike in training, there is no fresh one.
AdapterSource open_named_adapter(const Options& options, const LlamaConfig& config);

// The model's files, whose embedding and head may have fewer rows than the vocabulary has now; these are added.
ModelFiles open_files(const ModelSource& source);
// The model's weights, with those that the adapter brings along in place of the model's. Which of these may differ from the
// model's, where a run trains the adapter: none, or the embedding and head that it trains too. Error (kExitBadFile) for others.
enum class Replaces { none, trained, all };
ModelFiles open_weights(const ModelSource& source, const AdapterSource& adapter, Replaces replaces);

// What a data set leaves out, or has that is not used, as notes on standard error. With --quiet nothing.
void print_notes(const Options& options, const PrepareReport& report);

// Error (kExitUsage) if options ask for something else than what a prepared file was made with: nothing of it can change any
// more.
void refuse_other_choices(const Options& options, const std::filesystem::path& path, const Dataset& data);

// Error (kExitUsage) if the file that is written is one of those that are read, which would be lost: of the data, the model or
// the adapter. `option` names it.
void refuse_output_over_inputs(const Options& options, const std::filesystem::path& output, const char* option = "output");

}  // namespace tll
