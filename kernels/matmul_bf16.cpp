#include "kernels/matmul_bf16.h"

#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <optional>

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

// All that a primitive is made for.
struct Key {
  int64_t rows, cols, inner, stride_a, stride_b, stride_out;
  double alpha;
  bool transposed_a, transposed_b, out_float, accumulate;
  auto operator<=>(const Key&) const = default;
};

struct CachedMatmul {
  dnnl::matmul primitive;
  memory a, b, out, scratchpad;
  std::unique_ptr<char[]> scratchpad_bytes;
};

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

// Empty if oneDNN has no optimised implementation for this shape on this processor.
std::optional<CachedMatmul> make_matmul(const Key& k) {
  const auto bf = memory::data_type::bf16;
  const memory::desc a = layout(k.rows, k.inner, bf, k.stride_a, k.transposed_a);
  const memory::desc b = layout(k.inner, k.cols, bf, k.stride_b, k.transposed_b);
  const memory::desc out = layout(k.rows, k.cols, k.out_float ? memory::data_type::f32 : bf, k.stride_out, false);
  try {
#if DNNL_VERSION_MAJOR < 3
    const dnnl::matmul::primitive_desc pd({a, b, out}, attributes(k), engine());
#else
    const dnnl::matmul::primitive_desc pd(engine(), a, b, out, attributes(k));
#endif
    if (std::strstr(pd.impl_info_str(), "ref")) return std::nullopt;
    const size_t bytes = pd.scratchpad_desc().get_size();
    auto room = std::make_unique<char[]>(bytes + 64);
    void* aligned = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(room.get()) + 63) / 64 * 64);
    return CachedMatmul{dnnl::matmul(pd),
                        memory(a, engine(), nullptr),
                        memory(b, engine(), nullptr),
                        memory(out, engine(), nullptr),
                        memory(pd.scratchpad_desc(), engine(), aligned),
                        std::move(room)};
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
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
  static const bool has = make_matmul(Key{64, 64, 64, 64, 64, 64, 1.0, false, true, false, false}).has_value();
  return has;
}

bool matmul_bf16(const Matmul<float>& op) {
  if (op.a.dtype != DType::bf16 || op.b.dtype != DType::bf16 || !cpu_has_bf16_matmul()) return false;
  if (is_strided_vector(op.a) || is_strided_vector(op.b) || is_strided_vector(op.out)) return false;
  static std::map<Key, std::optional<CachedMatmul>> made;
  const Key key{op.rows(),     op.cols(), op.inner(),      op.a.stride,     op.b.stride,
                op.out.stride, op.alpha,  op.a.transposed, op.b.transposed, op.out.dtype == DType::f32,
                op.accumulate};
  auto found = made.find(key);
  if (found == made.end()) found = made.emplace(key, make_matmul(key)).first;
  if (!found->second) return false;
  CachedMatmul& p = *found->second;
  p.a.set_data_handle(const_cast<void*>(op.a.data));
  p.b.set_data_handle(const_cast<void*>(op.b.data));
  p.out.set_data_handle(op.out.data);
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p.a.get()},
                                  {DNNL_ARG_WEIGHTS, p.b.get()},
                                  {DNNL_ARG_DST, p.out.get()},
                                  {DNNL_ARG_SCRATCHPAD, p.scratchpad.get()}};
  const dnnl_status_t status = dnnl_primitive_execute(p.primitive.get(), stream().get(), 4, args);
  TLL_CHECK(status == dnnl_success, "bf16 matmul {} {} {}: {}", op.rows(), op.cols(), op.inner(), static_cast<int>(status));
  return true;
}

}  // namespace tll
