// The library is column-major. A row-major matrix read by columns is its transpose, so the library computes
//
//   outᵀ (cols, rows) = alpha · Bᵀ (cols, inner) · Aᵀ (inner, rows)  [+ outᵀ]
//
// Its first operand is our b, its second our a. Reading by columns transposes an operand; the library transposes again what is
// stored transposed.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <map>
#include <memory>
#include <type_traits>

#include "kernels/cublas_lt.h"

namespace tll {
namespace {

// ---- the library ------------------------------------------------------------------------------------------------------------

// clang-format off
#define TLL_CUBLAS_FUNCTIONS(X)                                                                                             \
  X(Create) X(Destroy) X(GetVersion) X(GetStatusName) X(MatmulDescCreate) X(MatmulDescDestroy) X(MatmulDescSetAttribute)    \
  X(MatrixLayoutCreate) X(MatrixLayoutDestroy) X(MatmulPreferenceCreate) X(MatmulPreferenceDestroy)                         \
  X(MatmulPreferenceSetAttribute) X(MatmulAlgoGetHeuristic) X(Matmul)
// clang-format on

struct Library {
#define TLL_POINTER(name) decltype(&cublasLt##name) name = nullptr;
  TLL_CUBLAS_FUNCTIONS(TLL_POINTER)
#undef TLL_POINTER
};

#if !defined(TLL_EMULATED) && !defined(__CUDACC__)
#error "compiled neither by nvcc nor for the emulator, which would load the library of a GPU"
#endif
#ifdef TLL_EMULATED
bool load(Library& library, std::string&) {
#define TLL_ADDRESS(name) library.name = &cublasLt##name;
  TLL_CUBLAS_FUNCTIONS(TLL_ADDRESS)
#undef TLL_ADDRESS
  return true;
}
#else
// These versions have the same functions and constants.
constexpr const char* kFiles[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12",
                                  "/usr/local/cuda/lib64/libcublasLt.so.12"};

// Never unloaded: other libraries may have loaded it too, and it has work to do when the program exits.
bool load(Library& library, std::string& why_not) {
  void* file = nullptr;
  const char* found = nullptr;
  for (const char* name : kFiles)
    if (!file && (file = dlopen(name, RTLD_LAZY | RTLD_LOCAL))) found = name;
  if (!file) {
    why_not = fmt::format("neither {} nor {} was found (LD_LIBRARY_PATH may name its folder)", kFiles[0], kFiles[2]);
    return false;
  }
#define TLL_RESOLVE(name)                                                                       \
  if (why_not.empty()) {                                                                        \
    library.name = reinterpret_cast<decltype(library.name)>(dlsym(file, "cublasLt" #name));     \
    if (!library.name) why_not = fmt::format("{} has no function {}", found, "cublasLt" #name); \
  }
  TLL_CUBLAS_FUNCTIONS(TLL_RESOLVE)
#undef TLL_RESOLVE
  return why_not.empty();
}
#endif

// ---- matmuls seen before ----------------------------------------------------------------------------------------------------

// All that the choice of an algorithm depends on.
struct Shape {
  int rows, cols, inner;
  DType type, out_dtype;
  bool a_transposed, b_transposed;
  int64_t a_stride, b_stride, out_stride;
  size_t workspace;  // bytes
  auto operator<=>(const Shape&) const = default;
};

template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;

struct Prepared {
  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> b, a, out;  // in the library's order
  bool served = false;                      // false: it has no algorithm
  cublasLtMatmulAlgo_t algo = {};
};

cudaDataType_t data_type(DType type) { return type == DType::f32 ? CUDA_R_32F : type == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F; }

struct Blas {
  Library library;
  cublasLtHandle_t handle = nullptr;
  std::map<Shape, Prepared> prepared;

  void check(cublasStatus_t status, const char* what) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      fail(kExitFault, "the GPU failed: {} of cuBLASLt ({})", what, library.GetStatusName(status));
  }
  Owned<cublasLtMatrixLayout_t> layout(DType type, int64_t stored_rows, int64_t stored_cols, int64_t stride) const {
    cublasLtMatrixLayout_t made = nullptr;
    check(library.MatrixLayoutCreate(&made, data_type(type), static_cast<uint64_t>(stored_cols),
                                     static_cast<uint64_t>(stored_rows), stride),
          "MatrixLayoutCreate");
    return {made, library.MatrixLayoutDestroy};
  }
  Owned<cublasLtMatmulDesc_t> description(const Shape& s) const {
    cublasLtMatmulDesc_t made = nullptr;
    check(library.MatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "MatmulDescCreate");
    Owned<cublasLtMatmulDesc_t> desc{made, library.MatmulDescDestroy};
    const auto transpose = [&](cublasLtMatmulDescAttributes_t attribute, bool transposed) {
      const cublasOperation_t op = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
      check(library.MatmulDescSetAttribute(made, attribute, &op, sizeof(op)), "MatmulDescSetAttribute");
    };
    transpose(CUBLASLT_MATMUL_DESC_TRANSA, s.b_transposed);
    transpose(CUBLASLT_MATMUL_DESC_TRANSB, s.a_transposed);
    return desc;
  }
  void choose(const Shape& s, Prepared& op) const {
    cublasLtMatmulPreference_t made = nullptr;
    check(library.MatmulPreferenceCreate(&made), "MatmulPreferenceCreate");
    const Owned<cublasLtMatmulPreference_t> preference{made, library.MatmulPreferenceDestroy};
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(library.MatmulPreferenceSetAttribute(made, attribute, &value, sizeof(value)), "MatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{s.workspace});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                           CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(attribute, uint32_t{kBlasAlignment});
    constexpr int kMost = 8;
    cublasLtMatmulHeuristicResult_t results[kMost];
    int count = 0;
    const cublasStatus_t status = library.MatmulAlgoGetHeuristic(handle, op.desc.get(), op.b.get(), op.a.get(), op.out.get(),
                                                                 op.out.get(), made, kMost, results, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
    check(status, "MatmulAlgoGetHeuristic");
    for (int i = 0; i < count && !op.served; i++) {  // the fastest first
      op.served = results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize <= s.workspace;
      op.algo = results[i].algo;
    }
  }
  const Prepared& find(const Shape& s) {
    const auto seen = prepared.find(s);
    if (seen != prepared.end()) return seen->second;
    const DType t = s.type;
    Prepared op{description(s), s.b_transposed ? layout(t, s.cols, s.inner, s.b_stride) : layout(t, s.inner, s.cols, s.b_stride),
                s.a_transposed ? layout(t, s.inner, s.rows, s.a_stride) : layout(t, s.rows, s.inner, s.a_stride),
                layout(s.out_dtype, s.rows, s.cols, s.out_stride)};
    choose(s, op);
    return prepared.emplace(s, std::move(op)).first->second;
  }
};

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % kBlasAlignment == 0; }

}  // namespace

void* open_cublas(std::string& why_not) {
  auto blas = std::make_unique<Blas>();
  why_not.clear();
  if (!load(blas->library, why_not)) return nullptr;
  const cublasStatus_t status = blas->library.Create(&blas->handle);
  if (status == CUBLAS_STATUS_SUCCESS) return blas.release();
  why_not = fmt::format("cublasLtCreate failed ({})", blas->library.GetStatusName(status));
  return nullptr;
}

void close_cublas(void* opened) noexcept {
  const std::unique_ptr<Blas> blas(static_cast<Blas*>(opened));
  if (!blas) return;
  blas->prepared.clear();
  static_cast<void>(blas->library.Destroy(blas->handle));
}

std::string cublas_version(const void* opened) {
  const size_t version = static_cast<const Blas*>(opened)->library.GetVersion();
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

bool cublas_matmul(const Device& device, const Matmul<float>& op) {
  if (!cublas_serves(op) || !aligned(op.a.data) || !aligned(op.b.data) || !aligned(op.out.data) || !aligned(op.addend))
    return false;
  // The workspace begins at a multiple of 256 bytes. Its size is what is left in the worst case.
  constexpr size_t kUnit = 256;
  const size_t scratch = op.scratch.data ? static_cast<size_t>(op.scratch.size) * sizeof(float) : 0;
  const size_t workspace = scratch < kUnit ? 0 : (scratch - (kUnit - sizeof(float))) / kUnit * kUnit;
  char* const begin = reinterpret_cast<char*>(op.scratch.data);
  const size_t skipped = (kUnit - reinterpret_cast<uintptr_t>(begin) % kUnit) % kUnit;

  Blas& blas = *static_cast<Blas*>(device.blas);
  const Prepared& prepared = blas.find({op.rows(), op.cols(), op.inner(), op.a.dtype, op.out.dtype, op.a.transposed,
                                        op.b.transposed, op.a.stride, op.b.stride, op.out.stride, workspace});
  if (!prepared.served) return false;
  const float alpha = static_cast<float>(op.alpha), beta = op.accumulate ? 1.0f : 0.0f;
  const cublasStatus_t status = blas.library.Matmul(
      blas.handle, prepared.desc.get(), &alpha, op.b.data, prepared.b.get(), op.a.data, prepared.a.get(), &beta,
      op.accumulate && op.addend ? op.addend : op.out.data, prepared.out.get(), op.out.data, prepared.out.get(), &prepared.algo,
      workspace ? begin + skipped : nullptr, workspace, static_cast<cudaStream_t>(device.stream));
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(kExitFault, "the GPU failed: a product of {} x {} x {} by {} ({})", op.rows(), op.cols(), op.inner(),
         cublas_version(&blas), blas.library.GetStatusName(status));
  return true;
}

}  // namespace tll
