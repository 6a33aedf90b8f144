#include "kernels/embedding.h"

#include "src/base/parallel.h"

namespace tll {
namespace {

template <class Float, class Table>
void look_up(const EmbeddingForward<Float>& op) {
  parallel_for(op.N, 2 * op.C, [&](int64_t n) {
    const Table* row = static_cast<const Table*>(op.table) + static_cast<size_t>(op.ids[n]) * op.C;
    Float* out = op.out + static_cast<size_t>(n) * op.C;
    for (int c = 0; c < op.C; c++) out[c] = from_acc<Float>(to_acc(row[c]));
  });
}

}  // namespace

template <class Float>
template <Isa>
void EmbeddingForward<Float>::cpu() const {
  if constexpr (is_oracle<Float>) {
    look_up<Float, Float>(*this);
  } else {
    with_storage_type(table_dtype, [&](auto type) { look_up<Float, decltype(type)>(*this); });
  }
}

template <class Float>
template <Isa>
void EmbeddingBackward<Float>::cpu() const {
  // Two positions may share an id. So threads split the columns, and each walks all positions.
  constexpr int kColumns = 32;
  parallel_for((C + kColumns - 1) / kColumns, 2 * kColumns * N, [&](int64_t task) {
    const int c0 = static_cast<int>(task) * kColumns, c1 = c0 + kColumns < C ? c0 + kColumns : C;
    for (int n = 0; n < N; n++) {
      if (ids[n] == padding_id) continue;
      acc_t<Float>* row = dtable + static_cast<size_t>(ids[n]) * C;
      for (int c = c0; c < c1; c++) row[c] += to_acc(dout[n * dout_row() + c]);
    }
  });
}

TLL_INSTANTIATE(EmbeddingForward)
TLL_INSTANTIATE(EmbeddingBackward)

}  // namespace tll
