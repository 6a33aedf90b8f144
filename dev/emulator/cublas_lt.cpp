// An emulated cuBLASLt: GEMMs of column-major matrices, enqueued like launches, with every element checked like an access of a
// kernel. It is stricter than the library, which leaves most misuse undefined:
//
//   an algorithm is valid only for the description, layouts and alignments that the heuristic returned it for
//   its workspace must be provided, and is filled with NaN afterwards
//   D may not overlap a matrix that is read, except C in place with the same layout
//
// CUBLAS_STATUS_NOT_SUPPORTED is no fault of the program and is not reported. Every other refusal is.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

#include "cublasLt.h"
#include "dev/emulator/block.h"
#include "dev/emulator/memory.h"
#include "emulator/half_types.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows, cols;
  int64_t ld;
  bool operator==(const cublasLtMatrixLayoutOpaque_t&) const = default;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;

cublasStatus_t refuse(const std::string& text) {
  emulator::add_report({.fault = emulator::Fault::host, .message = "cuBLASLt: " + text});
  return CUBLAS_STATUS_INVALID_VALUE;
}

// ---- objects ------------------------------------------------------------------------------------------------------------------
std::mutex mutex;
std::set<const void*> objects;  // created and not yet destroyed

template <class T>
cublasStatus_t make(T** to, const T& value) {
  const std::lock_guard lock(mutex);
  *to = new T(value);
  objects.insert(*to);
  return CUBLAS_STATUS_SUCCESS;
}
bool exists(const void* object) {
  const std::lock_guard lock(mutex);
  return objects.count(object) > 0;
}
template <class T>
cublasStatus_t destroy(T* object, const char* what) {
  {
    const std::lock_guard lock(mutex);
    if (objects.erase(object) > 0) {
      delete object;
      return CUBLAS_STATUS_SUCCESS;
    }
  }
  return refuse(fmt::format("destroys {} that does not exist", what));
}
template <class T>
cublasStatus_t set_value(T& field, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return refuse(fmt::format("an attribute of {} bytes is set from {}", sizeof(T), bytes));
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

// ---- elements -----------------------------------------------------------------------------------------------------------------
size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : type == CUDA_R_8I ? 1 : 2; }
uint16_t bits_of(cudaDataType_t type, float x) {
  return type == CUDA_R_16BF ? emulator::bf16_from_float(x) : emulator::f16_from_float(x);
}
float value_of(cudaDataType_t type, uint16_t bits) {
  return type == CUDA_R_16BF ? emulator::bf16_to_float(bits) : emulator::f16_to_float(bits);
}
float rounded(cudaDataType_t type, float x) { return type == CUDA_R_32F ? x : value_of(type, bits_of(type, x)); }

float load(const Layout& m, const void* p, uint64_t row, uint64_t col) {
  const uint64_t i = row + col * static_cast<uint64_t>(m.ld);
  return m.type == CUDA_R_32F ? static_cast<const float*>(p)[i] : value_of(m.type, static_cast<const uint16_t*>(p)[i]);
}
void store(const Layout& m, void* p, uint64_t row, uint64_t col, float x) {
  const uint64_t i = row + col * static_cast<uint64_t>(m.ld);
  if (m.type == CUDA_R_32F)
    static_cast<float*>(p)[i] = x;
  else
    static_cast<uint16_t*>(p)[i] = bits_of(m.type, x);
}

// ---- a GEMM -------------------------------------------------------------------------------------------------------------------
struct Gemm {
  cublasLtMatmulDescOpaque_t desc;
  Layout a, b, c, d;
  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.cols; }
  uint64_t k() const { return desc.trans_a == CUBLAS_OP_N ? a.cols : a.rows; }
  uint64_t fingerprint() const {
    uint64_t h = 0xcbf29ce484222325ull;
    const auto add = [&h](uint64_t x) { h = (h ^ x) * 0x100000001b3ull; };
    for (int x : {static_cast<int>(desc.compute), static_cast<int>(desc.scale), desc.trans_a, desc.trans_b})
      add(static_cast<uint64_t>(x));
    for (const Layout* l : {&a, &b, &c, &d}) add(l->type), add(l->rows), add(l->cols), add(static_cast<uint64_t>(l->ld));
    return h;
  }
};

// Algorithms differ in the number of split-K parts and in the type in which the parts are added.
struct Algorithm {
  uint64_t magic, fingerprint, workspace, parts, rounds_parts;
  uint16_t alignment[4];
  uint64_t reserved[2];
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
constexpr uint64_t kMagic = 0x6c61746c62757563ull;

const char* const kNames[] = {"A", "B", "C", "D"};

cublasStatus_t collect(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Gemm& p) {
  if (!exists(handle)) {
    refuse("a handle that does not exist");
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  if (!exists(desc) || !exists(a) || !exists(b) || !exists(c) || !exists(d))
    return refuse("a description or a layout that does not exist");
  p = {*desc, *a, *b, *c, *d};
  const auto size = [](const Layout& l) { return fmt::format("{} x {}", l.rows, l.cols); };
  int i = 0;
  for (const Layout* l : {&p.a, &p.b, &p.c, &p.d}) {
    if (l->ld < static_cast<int64_t>(l->rows))
      return refuse(fmt::format("{} ({}) has a leading dimension of {}", kNames[i], size(*l), l->ld));
    i++;
  }
  const bool ta = p.desc.trans_a == CUBLAS_OP_T, tb = p.desc.trans_b == CUBLAS_OP_T;
  if ((ta ? a->cols : a->rows) != p.m() || (tb ? b->rows : b->cols) != p.n() || (tb ? b->cols : b->rows) != p.k() ||
      c->rows != p.m() || c->cols != p.n())
    return refuse(fmt::format("sizes do not match: op {}{} of A {}, B {}, C {}, D {}", ta ? "T" : "N", tb ? "T" : "N", size(p.a),
                              size(p.b), size(p.c), size(p.d)));
  if (p.m() == 0 || p.n() == 0 || p.k() == 0) return refuse("a product of no elements");
  return CUBLAS_STATUS_SUCCESS;
}

bool supported(const Gemm& p) {
  if (p.desc.compute != CUBLAS_COMPUTE_32F || p.desc.scale != CUDA_R_32F) return false;
  const cudaDataType_t type = p.a.type;
  if (type != CUDA_R_32F && type != CUDA_R_16F && type != CUDA_R_16BF) return false;
  if (type == CUDA_R_16BF && emulator::arch() < 800) return false;
  return p.b.type == type && p.c.type == p.d.type && (p.d.type == type || p.d.type == CUDA_R_32F);
}

// Checks the elements of a matrix, column by column; returns what is wrong.
std::string check(const Layout& l, const void* p, int which, bool needs_value) {
  for (uint64_t col = 0; col < l.cols; col++) {
    const auto* from = static_cast<const char*>(p) + col * static_cast<uint64_t>(l.ld) * bytes_of(l.type);
    const std::string wrong = emulator::check_device_range(from, l.rows * bytes_of(l.type), needs_value);
    if (!wrong.empty())
      return fmt::format("{} ({} x {}, leading dimension {}), column {}, uses {}", kNames[which], l.rows, l.cols, l.ld, col,
                         wrong);
  }
  return "";
}

size_t extent(const Layout& l) { return ((l.cols - 1) * static_cast<uint64_t>(l.ld) + l.rows) * bytes_of(l.type); }
bool overlap(const void* p, size_t p_bytes, const void* q, size_t q_bytes) {
  return emulator::MemoryUse{p, p_bytes, false}.overlaps(q, q_bytes);
}

struct Call {
  Gemm product;
  Algorithm algorithm;
  float alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
  size_t workspace_bytes;
};

cudaError_t run(const Call& call) {
  const Gemm& p = call.product;
  std::string wrong = check(p.a, call.a, 0, true);
  if (wrong.empty()) wrong = check(p.b, call.b, 1, true);
  if (wrong.empty() && call.beta != 0) wrong = check(p.c, call.c, 2, true);
  if (wrong.empty()) wrong = check(p.d, call.d, 3, false);
  if (wrong.empty() && call.workspace_bytes > 0) {
    wrong = emulator::check_device_range(call.workspace, call.workspace_bytes, false);
    if (!wrong.empty()) wrong = "the workspace uses " + wrong;
  }
  if (!wrong.empty()) {
    refuse(wrong);
    return cudaErrorIllegalAddress;
  }
  const uint64_t m = p.m(), n = p.n(), k = p.k();
  const bool ta = p.desc.trans_a == CUBLAS_OP_T, tb = p.desc.trans_b == CUBLAS_OP_T;
  std::vector<float> a(m * k);  // op(A), column-major
  for (uint64_t l = 0; l < k; l++)
    for (uint64_t i = 0; i < m; i++) a[l * m + i] = ta ? load(p.a, call.a, l, i) : load(p.a, call.a, i, l);
  std::vector<float> sum(m), part(m);
  const uint64_t step = (k + call.algorithm.parts - 1) / call.algorithm.parts;
  for (uint64_t j = 0; j < n; j++) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (uint64_t begin = 0; begin < k; begin += step) {
      std::fill(part.begin(), part.end(), 0.0f);
      for (uint64_t l = begin; l < std::min(k, begin + step); l++) {
        const float b = tb ? load(p.b, call.b, j, l) : load(p.b, call.b, l, j);
        for (uint64_t i = 0; i < m; i++) part[i] += a[l * m + i] * b;
      }
      for (uint64_t i = 0; i < m; i++) {
        sum[i] += part[i];
        if (call.algorithm.rounds_parts) sum[i] = rounded(p.d.type, sum[i]);
      }
    }
    for (uint64_t i = 0; i < m; i++) {
      const float before = call.beta != 0 ? call.beta * load(p.c, call.c, i, j) : 0.0f;
      store(p.d, call.d, i, j, call.alpha * sum[i] + before);
    }
    emulator::set_written(static_cast<char*>(call.d) + j * static_cast<uint64_t>(p.d.ld) * bytes_of(p.d.type),
                          m * bytes_of(p.d.type));
  }
  if (call.workspace_bytes > 0) {
    std::memset(call.workspace, 0xff, call.workspace_bytes);
    emulator::set_written(call.workspace, call.workspace_bytes);
  }
  return cudaSuccess;
}

}  // namespace

size_t cublasLtGetVersion() { return 130100; }
const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "<unknown>";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return make(handle, cublasLtContext{}); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle, "a handle"); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  return make(desc, {compute, scale});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy(desc, "a description"); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  if (!exists(desc)) return refuse("a description that does not exist");
  int32_t op = 0;
  if (const cublasStatus_t status = set_value(op, value, bytes)) return status;
  if (op != CUBLAS_OP_N && op != CUBLAS_OP_T) return refuse(fmt::format("a transposition of {}", op));
  (attribute == CUBLASLT_MATMUL_DESC_TRANSA ? desc->trans_a : desc->trans_b) = op;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
  return make(layout, {type, rows, cols, ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout, "a layout"); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) { return make(preference, {}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference, "a preference");
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  if (!exists(preference)) return refuse("a preference that does not exist");
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set_value(preference->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return set_value(preference->reductions, value, bytes);
  uint32_t alignment = 0;
  if (const cublasStatus_t status = set_value(alignment, value, bytes)) return status;
  if (!std::has_single_bit(alignment) || alignment > 256) return refuse(fmt::format("an alignment of {}", alignment));
  preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES] = alignment;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  Gemm product;
  if (const cublasStatus_t status = collect(handle, desc, a, b, c, d, product)) return status;
  if (!exists(preference)) return refuse("a preference that does not exist");
  if (most <= 0 || !results || !count) return refuse(fmt::format("room for {} algorithms", most));
  *count = 0;
  if (!supported(product)) return CUBLAS_STATUS_NOT_SUPPORTED;
  // The least accurate algorithm that is allowed: parts added in the result's type; else in fp32, if the workspace holds them.
  Algorithm algorithm{};
  algorithm.magic = kMagic, algorithm.fingerprint = product.fingerprint(), algorithm.parts = 1;
  for (int i = 0; i < 4; i++) algorithm.alignment[i] = static_cast<uint16_t>(preference->alignment[i]);
  const uint64_t needed = product.m() * product.n() * sizeof(float);
  if (preference->reductions & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)) {
    algorithm.parts = 8, algorithm.rounds_parts = 1;
  } else if ((preference->reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) && needed <= preference->workspace) {
    algorithm.parts = 2, algorithm.workspace = needed;
  }
  cublasLtMatmulHeuristicResult_t& result = results[0];
  result = {{}, algorithm.workspace, CUBLAS_STATUS_SUCCESS, 1.0f, {}};
  std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  Call call{{}, {}, 0, 0, a, b, c, d, workspace, workspace_bytes};
  Gemm& product = call.product;
  if (const cublasStatus_t status = collect(handle, desc, a_layout, b_layout, c_layout, d_layout, product)) return status;
  if (!algo) return refuse("no algorithm is given: the library would choose one, perhaps another one each time");
  std::memcpy(&call.algorithm, algo, sizeof(Algorithm));
  if (call.algorithm.magic != kMagic) return refuse("an algorithm that the library did not give");
  if (call.algorithm.fingerprint != product.fingerprint())
    return refuse("an algorithm that was got for another description or other layouts");
  if (!alpha || !beta) return refuse("alpha or beta is null");
  std::memcpy(&call.alpha, alpha, sizeof(float));
  std::memcpy(&call.beta, beta, sizeof(float));
  const void* const matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; i++) {
    if (!matrices[i]) return refuse(fmt::format("{} is null", kNames[i]));
    if (reinterpret_cast<uintptr_t>(matrices[i]) % call.algorithm.alignment[i] != 0)
      return refuse(
          fmt::format("{} is not aligned to {} bytes, which the preference stated", kNames[i], call.algorithm.alignment[i]));
  }
  if (workspace_bytes < call.algorithm.workspace || (!workspace && workspace_bytes > 0))
    return refuse(fmt::format("the algorithm needs a workspace of {} bytes, there are {}", call.algorithm.workspace,
                              workspace ? workspace_bytes : 0));
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return refuse("the workspace is not aligned to 256 bytes");
  const bool in_place = c == d && product.c == product.d;
  const size_t written = extent(product.d);
  if (overlap(d, written, a, extent(product.a)) || overlap(d, written, b, extent(product.b)) ||
      (call.beta != 0 && !in_place && overlap(d, written, c, extent(product.c))))
    return refuse("D overlaps a matrix that is read");
  for (int i = 0; i < 4; i++) {
    const Layout* const layouts[] = {&product.a, &product.b, &product.c, &product.d};
    if (overlap(workspace, workspace_bytes, matrices[i], extent(*layouts[i])))
      return refuse(fmt::format("the workspace overlaps {}", kNames[i]));
  }
  return emulator::enqueue_work(stream, [call] { return run(call); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                                     : CUBLAS_STATUS_INVALID_VALUE;
}
