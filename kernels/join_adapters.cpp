#include "kernels/join_adapters.h"

#include "src/base/parallel.h"

namespace tll {

namespace {

template <class Out, class In>
void join(const JoinAdapters& op) {
  using Acc = acc_t<In>;
  const auto load = [](const ConstMatrix& m, int64_t i) { return to_acc(static_cast<const In*>(m.data)[i]); };
  const Matrix &a = op.a, &b = op.b;
  parallel_for(a.row_count, 2 * a.col_count, [&](int64_t r) {
    Out* const row = static_cast<Out*>(a.data) + r * a.stride;
    for (int c = 0; c < a.col_count; c++) row[c] = from_acc<Out>(load(op.a_value, r * op.a_value.stride + c));
  });
  parallel_for(b.row_count, 4 * b.col_count, [&](int64_t n) {
    Out* const row = static_cast<Out*>(b.data) + n * b.stride;
    for (int r = 0; r < b.col_count; r++) row[r] = from_acc<Out>(op.scaled<Acc>(static_cast<int>(n), r, load));
  });
}

}  // namespace

template <Isa>
void JoinAdapters::cpu() const {
  if (a.dtype == DType::f64) return join<double, double>(*this);
  if (a.dtype == DType::c128) return join<complex, complex>(*this);
  with_storage_type(
      a.dtype, [&](auto out) { with_storage_type(a_value.dtype, [&](auto in) { join<decltype(out), decltype(in)>(*this); }); });
}

template void JoinAdapters::cpu<kIsa>() const;

}  // namespace tll
