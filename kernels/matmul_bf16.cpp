#include "kernels/matmul_bf16.h"

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>
#include <map>

namespace tll {
namespace {

using dnnl::memory;

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}
dnnl::stream& stream() {
  static dnnl::stream s(engine());
  return s;
}

constexpr int64_t kLine = 64;  // bytes of a cache line, to which oneDNN wants its scratchpad aligned

// All that a primitive is made for.
struct Key {
  int64_t rows, cols, inner, stride_a, stride_b, stride_out;
  double alpha;
  bool transposed_a, transposed_b, out_float, accumulate;
  int64_t scratch;  // bytes
  auto operator<=>(const Key&) const = default;
};

struct MadeMatmul {
  dnnl::matmul primitive;  // empty: oneDNN has no optimised implementation for this shape on this processor
  memory a, b, out, scratchpad;
  int64_t rows = 0;  // of the result that it computes: those of the key, or as many as the scratch is enough for
  uint64_t last_use = 0;
};

// The rows of the head change with the targets of a step, so shapes would pile up. Making one again takes 0.1 ms.
constexpr size_t kMostMade = 256;

memory::desc layout(int64_t rows, int64_t cols, memory::data_type type, int64_t stride, bool transposed) {
  return transposed ? memory::desc({rows, cols}, type, memory::dims{1, stride})
                    : memory::desc({rows, cols}, type, memory::dims{stride, 1});
}

dnnl::primitive_attr attributes(const Key& k) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post;
#if DNNL_VERSION_MAJOR < 3
  if (k.alpha != 1) attr.set_output_scales(0, {static_cast<float>(k.alpha)});
#else
  if (k.alpha != 1) post.append_eltwise(dnnl::algorithm::eltwise_linear, static_cast<float>(k.alpha), 0.0f);
#endif
  if (k.accumulate) post.append_sum(1.0f);
  attr.set_post_ops(post);
  return attr;
}

// Adding to a bf16 result, or from an A, whose rows are not neighbours takes float sums of the whole result: fewer rows are
// taken, until the scratchpad fits into the scratch.
MadeMatmul make_matmul(Key k) {
  const auto bf = memory::data_type::bf16;
  for (;; k.rows = (k.rows / 2 + 15) / 16 * 16) {
    const memory::desc a = layout(k.rows, k.inner, bf, k.stride_a, k.transposed_a);
    const memory::desc b = layout(k.inner, k.cols, bf, k.stride_b, k.transposed_b);
    const memory::desc out = layout(k.rows, k.cols, k.out_float ? memory::data_type::f32 : bf, k.stride_out, false);
    try {
#if DNNL_VERSION_MAJOR < 3
      const dnnl::matmul::primitive_desc pd({a, b, out}, attributes(k), engine());
#else
      const dnnl::matmul::primitive_desc pd(engine(), a, b, out, attributes(k));
#endif
      if (std::strstr(pd.impl_info_str(), "ref")) return {};
      if (pd.scratchpad_desc().get_size() <= static_cast<size_t>(k.scratch))
        return {dnnl::matmul(pd),
                memory(a, engine(), nullptr),
                memory(b, engine(), nullptr),
                memory(out, engine(), nullptr),
                memory(pd.scratchpad_desc(), engine(), nullptr),
                k.rows};
    } catch (const dnnl::error&) {
      return {};
    }
    if (k.rows <= 16) return {};
  }
}

MadeMatmul& find_matmul(const Key& k) {
  static std::map<Key, MadeMatmul> made;
  static uint64_t uses = 0;
  auto found = made.find(k);
  if (found == made.end()) {
    if (made.size() == kMostMade)
      made.erase(std::min_element(made.begin(), made.end(),
                                  [](const auto& x, const auto& y) { return x.second.last_use < y.second.last_use; }));
    found = made.emplace(k, make_matmul(k)).first;
  }
  found->second.last_use = ++uses;
  return found->second;
}

// A vector whose elements are not neighbours. oneDNN 3 takes it for one whose elements are, and writes outside of it.
template <class AnyMatrix>
bool is_strided_vector(const AnyMatrix& m) {
  return (m.row_count == 1 && m.col_step() != 1) || (m.col_count == 1 && m.row_step() != 1);
}

}  // namespace

std::string onednn_version() {
  const dnnl_version_t& version = *dnnl_version();
  return fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
}

bool cpu_has_bf16_matmul() {
  static const bool has = [] {
    dnnl::set_primitive_cache_capacity(0);  // oneDNN would keep what is dropped here
    return bool(make_matmul(Key{64, 64, 64, 64, 64, 64, 1.0, false, true, false, false, 1 << 20}).primitive);
  }();
  return has;
}

bool matmul_bf16(const Matmul<float>& op) {
  if (op.a.dtype != DType::bf16 || op.b.dtype != DType::bf16 || !cpu_has_bf16_matmul()) return false;
  if (is_strided_vector(op.a) || is_strided_vector(op.b) || is_strided_vector(op.out)) return false;
  const uintptr_t scratch = (reinterpret_cast<uintptr_t>(op.scratch.data) + kLine - 1) / kLine * kLine;
  const int64_t bytes = op.scratch.size * static_cast<int64_t>(sizeof(float)) - kLine;
  if (bytes < 0) return false;
  Key key{op.rows(),     op.cols(), op.inner(),      op.a.stride,     op.b.stride,
          op.out.stride, op.alpha,  op.a.transposed, op.b.transposed, op.out.dtype == DType::f32,
          op.accumulate, bytes};
  MadeMatmul& most = find_matmul(key);
  if (!most.primitive) return false;
  key.rows = op.rows() % most.rows;
  MadeMatmul& rest = key.rows == 0 ? most : find_matmul(key);
  if (key.rows != 0 && (!rest.primitive || rest.rows != key.rows || is_strided_vector(op.a.rows(0, rest.rows)))) return false;
  for (int64_t row = 0; row < op.rows(); row += most.rows) {
    MadeMatmul& p = row + most.rows <= op.rows() ? most : rest;
    p.a.set_data_handle(const_cast<void*>(op.a.rows(row, p.rows).data));
    p.b.set_data_handle(const_cast<void*>(op.b.data));
    p.out.set_data_handle(op.out.rows(row, p.rows).data);
    p.scratchpad.set_data_handle(reinterpret_cast<void*>(scratch));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p.a.get()},
                                    {DNNL_ARG_WEIGHTS, p.b.get()},
                                    {DNNL_ARG_DST, p.out.get()},
                                    {DNNL_ARG_SCRATCHPAD, p.scratchpad.get()}};
    const dnnl_status_t status = dnnl_primitive_execute(p.primitive.get(), stream().get(), 4, args);
    TLL_CHECK(status == dnnl_success, "bf16 matmul {} {} {}: {}", op.rows(), op.cols(), op.inner(), static_cast<int>(status));
  }
  return true;
}

}  // namespace tll
