#include "kernels/join_adapters.h"

#include "src/base/parallel.h"

namespace tll {

template <Isa>
void JoinAdapters::cpu() const {
  with_storage_type(a.dtype, [&](auto out_type) {
    with_storage_type(a_value.dtype, [&](auto in_type) {
      using Out = decltype(out_type);
      using In = decltype(in_type);
      const auto load = [](const ConstMatrix& m, int64_t i) { return to_acc(static_cast<const In*>(m.data)[i]); };
      parallel_for(a.row_count, 2 * a.col_count, [&](int64_t r) {
        Out* const row = static_cast<Out*>(a.data) + r * a.stride;
        for (int c = 0; c < a.col_count; c++) row[c] = from_acc<Out>(load(a_value, r * a_value.stride + c));
      });
      parallel_for(b.row_count, 4 * b.col_count, [&](int64_t n) {
        Out* const row = static_cast<Out*>(b.data) + n * b.stride;
        for (int r = 0; r < b.col_count; r++) row[r] = from_acc<Out>(scaled(static_cast<int>(n), r, load));
      });
    });
  });
}

template void JoinAdapters::cpu<kIsa>() const;

}  // namespace tll
