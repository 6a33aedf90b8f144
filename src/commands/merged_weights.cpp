#include "src/commands/merged_weights.h"

#include <algorithm>

#include "kernels/matmul.h"

namespace tll {
namespace {

constexpr ModelDtype kModelDtypes[] = {
    {"bfloat16", DType::bf16, FileDtype::BF16}, {"float16", DType::f16, FileDtype::F16}, {"float32", DType::f32, FileDtype::F32}};

}  // namespace

MergedWeights::MergedWeights(const ModelSource& source, const AdapterSource& adapter, int threads)
    : source_(source), adapter_(adapter), files_(open_weights(source, adapter, Replaces::all)), dtype_(&kModelDtypes[0]) {
  device_.threads = threads;
  scratch_.resize(static_cast<size_t>(Matmul<float>::scratch_floats(threads)));
  for (const ModelDtype& row : kModelDtypes)
    if (row.type == files_.dtype("model.embed_tokens.weight")) dtype_ = &row;
  for (const ModelDtype& row : kModelDtypes)
    if (row.name == source.config.dtype) dtype_ = &row;
}

const AdapterModule* MergedWeights::adapted(const Module& module) const {
  if (!adapter_.loaded || !module.adaptable) return nullptr;
  const std::vector<AdapterModule>& all = adapter_.loaded->modules;
  const auto found = std::find_if(all.begin(), all.end(), [&](const AdapterModule& a) { return a.module.name == module.name; });
  return found == all.end() ? nullptr : &*found;
}

std::string MergedWeights::what(const Module& module) const {
  return fmt::format("{}: tensor {}.weight{}", source_.directory.string(), module.name,
                     adapted(module) ? " with the adapter" : "");
}

int64_t MergedWeights::rows_of_piece(const Module& module, int64_t multiple) {
  return std::max(multiple, kPiece / std::max<int64_t>(module.cols, 1) / multiple * multiple);
}

void MergedWeights::read(const std::string& tensor, int64_t first, int64_t n, DType to, void* out) const {
  files_.load(tensor, out, to, first, n);
}

void MergedWeights::read_rows(const Module& module, int64_t first, int64_t n, DType to, void* out) {
  const int64_t cols = std::max<int64_t>(module.cols, 1), count = n * cols;
  const std::string tensor = module.name + ".weight";
  const AdapterModule* a = adapted(module);
  if (!a) return files_.load(tensor, out, to, first * cols, count);
  float* sum = static_cast<float*>(out);
  if (to != DType::f32) sum_.resize(static_cast<size_t>(count)), sum = sum_.data();
  files_.load(tensor, sum, DType::f32, first * cols, count);
  const int rows = static_cast<int>(n), width = static_cast<int>(cols);
  run(device_, Matmul<float>{.out = matrix(sum, rows, width),
                             .a = matrix(a->b.data() + first * a->rank, rows, a->rank),
                             .b = matrix(a->a.data(), a->rank, width),
                             .alpha = a->scale,
                             .accumulate = true,
                             .scratch = {scratch_.data(), static_cast<int64_t>(scratch_.size())}});
  if (to != DType::f32) convert_tensor({FileDtype::F32, {}, std::as_bytes(std::span(sum_))}, out, to, what(module));
}

}  // namespace tll
