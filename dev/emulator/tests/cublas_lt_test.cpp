// The emulated cuBLASLt: what it computes and what it refuses. Also, that its constants are those of NVIDIA's library, where that
// is installed (descriptors need no GPU).
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cublasLt.h"
#include "emulator/emulator.h"
#include "kernels/numeric.h"

namespace {

// Small integers, so that every product and sum is exact.
double element(int matrix, int64_t row, int64_t col) { return static_cast<double>((row * 7 + col * 3 + matrix * 5) % 9 - 4); }

struct Spec {
  int m = 24, n = 20, k = 17;
  int64_t lda = 0, ldb = 0, ldd = 0;  // 0: as many as rows
  cublasOperation_t ta = CUBLAS_OP_T, tb = CUBLAS_OP_N;
  cudaDataType_t type_a = CUDA_R_32F, type_b = CUDA_R_32F, type_d = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = CUDA_R_32F;
  uint64_t workspace = 1 << 16;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = 16;
  float alpha = 1, beta = 0;
};

struct CublasLt : testing::Test {
  const emulator::Options before = emulator::options();
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t result = {};
  int count = 0;
  char *memory = nullptr, *pa = nullptr, *pb = nullptr, *pd = nullptr, *pw = nullptr;
  Spec s;

  CublasLt() { emulator::options().print = false; }
  ~CublasLt() override {
    destroy();
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    for (const emulator::Report& r : emulator::take_reports()) ADD_FAILURE() << r.message;
    emulator::options() = before;
  }
  void destroy() {
    if (!handle) return;
    EXPECT_EQ(cublasLtMatrixLayoutDestroy(a), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatrixLayoutDestroy(b), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatrixLayoutDestroy(d), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescDestroy(desc), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceDestroy(preference), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
    handle = nullptr;
  }
  int64_t a_rows() const { return s.ta == CUBLAS_OP_N ? s.m : s.k; }
  int64_t a_cols() const { return s.ta == CUBLAS_OP_N ? s.k : s.m; }
  int64_t b_rows() const { return s.tb == CUBLAS_OP_N ? s.k : s.n; }
  int64_t b_cols() const { return s.tb == CUBLAS_OP_N ? s.n : s.k; }

  // Creates the descriptors of `setup` and asks the heuristic.
  cublasStatus_t make(const Spec& setup) {
    destroy();
    s = setup;
    if (!s.lda) s.lda = a_rows();
    if (!s.ldb) s.ldb = b_rows();
    if (!s.ldd) s.ldd = s.m;
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&desc, s.compute, s.scale), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &s.ta, sizeof(s.ta)), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &s.tb, sizeof(s.tb)), CUBLAS_STATUS_SUCCESS);
    const auto layout = [](cublasLtMatrixLayout_t* l, cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld) {
      EXPECT_EQ(cublasLtMatrixLayoutCreate(l, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
                CUBLAS_STATUS_SUCCESS);
    };
    layout(&a, s.type_a, a_rows(), a_cols(), s.lda);
    layout(&b, s.type_b, b_rows(), b_cols(), s.ldb);
    layout(&d, s.type_d, s.m, s.n, s.ldd);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, s.workspace);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, s.reductions);
    for (int i = 0; i < 4; i++)
      prefer(static_cast<cublasLtMatmulPreferenceAttributes_t>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i), s.alignment);
    return heuristic();
  }
  cublasStatus_t heuristic() { return cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, preference, 1, &result, &count); }

  // Places a, b, d and the workspace with gaps between them. The elements of a and b get values, and those of d if it is read.
  template <class T, class Out>
  void fill(bool with_d = true) {
    if (!memory) {
      EXPECT_EQ(cudaMalloc(&memory, size_t{1} << 18), cudaSuccess);
      pa = memory, pb = memory + (1 << 14), pd = memory + (2 << 14), pw = memory + (1 << 17);
    }
    write<T>(pa, 0, a_rows(), a_cols(), s.lda);
    write<T>(pb, 1, b_rows(), b_cols(), s.ldb);
    if (with_d) write<Out>(pd, 2, s.m, s.n, s.ldd);
    const auto name = [](char* p, int64_t cols, int64_t ld, int64_t rows, size_t bytes, const char* text) {
      emulator::name_tensor(p, static_cast<size_t>((cols - 1) * ld + rows) * bytes, text);
    };
    name(pa, a_cols(), s.lda, a_rows(), sizeof(T), "a");
    name(pb, b_cols(), s.ldb, b_rows(), sizeof(T), "b");
    name(pd, s.n, s.ldd, s.m, sizeof(Out), "d");
    emulator::name_tensor(pw, 1 << 16, "workspace");
  }
  template <class T>
  void write(char* to, int matrix, int64_t rows, int64_t cols, int64_t ld) {
    for (int64_t c = 0; c < cols; c++) {
      std::vector<T> column(static_cast<size_t>(rows));
      for (int64_t r = 0; r < rows; r++)
        column[static_cast<size_t>(r)] = tll::from_acc<T>(static_cast<float>(element(matrix, r, c)));
      EXPECT_EQ(cudaMemcpy(to + c * ld * static_cast<int64_t>(sizeof(T)), column.data(), column.size() * sizeof(T),
                           cudaMemcpyHostToDevice),
                cudaSuccess);
    }
  }
  cublasStatus_t multiply() {
    return cublasLtMatmul(handle, desc, &s.alpha, pa, a, pb, b, &s.beta, pd, d, pd, d, &result.algo, pw, s.workspace, nullptr);
  }
  template <class Out>
  void expect_exact() {
    for (int64_t col = 0; col < s.n; col++) {
      std::vector<Out> got(static_cast<size_t>(s.m));
      ASSERT_EQ(cudaMemcpy(got.data(), pd + col * s.ldd * static_cast<int64_t>(sizeof(Out)), got.size() * sizeof(Out),
                           cudaMemcpyDeviceToHost),
                cudaSuccess);
      for (int64_t row = 0; row < s.m; row++) {
        double sum = 0;
        for (int64_t l = 0; l < s.k; l++)
          sum += (s.ta == CUBLAS_OP_N ? element(0, row, l) : element(0, l, row)) *
                 (s.tb == CUBLAS_OP_N ? element(1, l, col) : element(1, col, l));
        const auto expected = static_cast<float>(s.alpha * sum + s.beta * element(2, row, col));
        ASSERT_EQ(tll::to_acc(got[static_cast<size_t>(row)]), tll::to_acc(tll::from_acc<Out>(expected))) << row << ", " << col;
      }
    }
  }
  void expect_report(const std::string& text) {
    const std::vector<emulator::Report> reports = emulator::take_reports();
    ASSERT_EQ(reports.size(), 1u) << "expected: " << text;
    EXPECT_NE(reports[0].message.find(text), std::string::npos) << reports[0].message;
  }
  void expect_refused(const std::string& text) {
    EXPECT_EQ(multiply(), CUBLAS_STATUS_INVALID_VALUE) << text;
    expect_report(text);
  }
  // Refused only when it runs, since it depends on memory.
  void expect_fault(const std::string& text) {
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS) << text;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    expect_report(text);
  }
};

// ---- what it computes ---------------------------------------------------------------------------------------------------------
template <class T, class Out>
void all_transposes(CublasLt& t, cudaDataType_t type, cudaDataType_t type_d) {
  for (cublasOperation_t ta : {CUBLAS_OP_N, CUBLAS_OP_T})
    for (cublasOperation_t tb : {CUBLAS_OP_N, CUBLAS_OP_T})
      for (float beta : {0.0f, 1.0f}) {
        Spec s{.lda = 32, .ldb = 24, .ldd = 40, .ta = ta, .tb = tb, .type_a = type, .type_b = type, .type_d = type_d};
        s.alpha = 0.5f, s.beta = beta;
        ASSERT_EQ(t.make(s), CUBLAS_STATUS_SUCCESS);
        t.fill<T, Out>();
        ASSERT_EQ(t.multiply(), CUBLAS_STATUS_SUCCESS);
        t.expect_exact<Out>();
        // Nothing between the columns of D was written.
        EXPECT_FALSE(emulator::is_written(t.pd + (t.s.ldd - 1) * static_cast<int64_t>(sizeof(Out)), sizeof(Out)));
        emulator::forget_tensors(t.memory);
      }
}
TEST_F(CublasLt, MultipliesEveryTransposeOfFloats) { all_transposes<float, float>(*this, CUDA_R_32F, CUDA_R_32F); }
TEST_F(CublasLt, MultipliesEveryTransposeOfBf16) { all_transposes<tll::bf16, tll::bf16>(*this, CUDA_R_16BF, CUDA_R_16BF); }
TEST_F(CublasLt, MultipliesEveryTransposeOfBf16ToFloats) { all_transposes<tll::bf16, float>(*this, CUDA_R_16BF, CUDA_R_32F); }
TEST_F(CublasLt, MultipliesEveryTransposeOfHalf) { all_transposes<tll::half, tll::half>(*this, CUDA_R_16F, CUDA_R_16F); }
TEST_F(CublasLt, MultipliesEveryTransposeOfHalfToFloats) { all_transposes<tll::half, float>(*this, CUDA_R_16F, CUDA_R_32F); }

TEST_F(CublasLt, RunsInItsPlaceInTheStream) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  std::vector<float> zeros(static_cast<size_t>(a_rows() * a_cols()));
  ASSERT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cudaMemcpyAsync(pa, zeros.data(), zeros.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
  expect_exact<float>();  // of a before it became zero
}
TEST_F(CublasLt, DoesNotReadCWithoutBeta) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>(false);
  ASSERT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
  expect_exact<float>();
}
TEST_F(CublasLt, LeavesNothingInTheWorkspace) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  ASSERT_EQ(cudaMemset(pw, 0, s.workspace), cudaSuccess);
  EXPECT_EQ(result.workspaceSize, 24 * 20 * sizeof(float));
  ASSERT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
  std::vector<float> left(s.workspace / sizeof(float));
  ASSERT_EQ(cudaMemcpy(left.data(), pw, s.workspace, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(std::all_of(left.begin(), left.end(), [](float x) { return x != x; }));
}
// 8 parts of 33 products: 33 · 8, then 7 times 33 · 1, in total 495. From 256 to 512 bf16 has only the even numbers. Rounded
// once, 495 becomes 496. If each part is added in bf16, the sum is 264, 297 → 296, 329 → 328, … 489 → 488 and loses 1 each time.
TEST_F(CublasLt, RoundsPartsToTheResultsTypeWhereThatIsAllowed) {
  for (uint32_t reductions : {uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK}, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}}) {
    Spec setup{.m = 1, .n = 1, .k = 264, .type_a = CUDA_R_16BF, .type_b = CUDA_R_16BF, .type_d = CUDA_R_16BF};
    setup.reductions = reductions;
    ASSERT_EQ(make(setup), CUBLAS_STATUS_SUCCESS);
    fill<tll::bf16, tll::bf16>();
    const std::vector<tll::bf16> ones(264, tll::from_acc<tll::bf16>(1.0f));
    std::vector<tll::bf16> first = ones;
    std::fill_n(first.begin(), 33, tll::from_acc<tll::bf16>(8.0f));
    ASSERT_EQ(cudaMemcpy(pa, first.data(), 264 * 2, cudaMemcpyHostToDevice), cudaSuccess);
    ASSERT_EQ(cudaMemcpy(pb, ones.data(), 264 * 2, cudaMemcpyHostToDevice), cudaSuccess);
    ASSERT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    tll::bf16 got{};
    ASSERT_EQ(cudaMemcpy(&got, pd, 2, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(tll::to_acc(got), reductions == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ? 496.0f : 488.0f);
    emulator::forget_tensors(memory);
  }
}

// ---- what it refuses ----------------------------------------------------------------------------------------------------------
TEST_F(CublasLt, DoesNotSupportOtherTypes) {
  const Spec unsupported[] = {
      {.type_a = CUDA_R_16BF},
      {.type_a = CUDA_R_16BF, .type_b = CUDA_R_16F},
      {.type_d = CUDA_R_16BF},
      {.type_a = CUDA_R_16F, .type_b = CUDA_R_16F, .type_d = CUDA_R_16BF},
      {.type_a = CUDA_R_64F, .type_b = CUDA_R_64F, .type_d = CUDA_R_64F},
      {.type_a = CUDA_R_8I, .type_b = CUDA_R_8I},
      {.compute = CUBLAS_COMPUTE_32F_FAST_TF32},
      {.compute = CUBLAS_COMPUTE_16F},
      {.scale = CUDA_R_16F},
  };
  for (const Spec& setup : unsupported) {
    EXPECT_EQ(make(setup), CUBLAS_STATUS_NOT_SUPPORTED);
    EXPECT_EQ(count, 0);
  }
  emulator::options().arch = 750;
  EXPECT_EQ(make({.type_a = CUDA_R_16BF, .type_b = CUDA_R_16BF}), CUBLAS_STATUS_NOT_SUPPORTED);
}
TEST_F(CublasLt, RefusesLayoutsThatDoNotFit) {
  EXPECT_EQ(make({.lda = 16}), CUBLAS_STATUS_INVALID_VALUE);  // k = 17 rows
  expect_report("A (17 x 24) has a leading dimension of 16");
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  const cublasOperation_t op = CUBLAS_OP_N;
  ASSERT_EQ(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof(op)), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(heuristic(), CUBLAS_STATUS_INVALID_VALUE);
  expect_report("sizes do not match: op NN of A 17 x 24");
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, 1), CUBLAS_STATUS_INVALID_VALUE);
  expect_report("an attribute of 4 bytes is set from 1");
}
TEST_F(CublasLt, RefusesAlgorithmsOfOtherProducts) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  EXPECT_EQ(cublasLtMatmul(handle, desc, &s.alpha, pa, a, pb, b, &s.beta, pd, d, pd, d, nullptr, pw, s.workspace, nullptr),
            CUBLAS_STATUS_INVALID_VALUE);
  expect_report("no algorithm is given");
  const cublasLtMatmulAlgo_t of_float = result.algo;
  result.algo = {};
  expect_refused("an algorithm that the library did not give");
  const Spec others[] = {{.ldd = 25}, {.m = 23}, {.ta = CUBLAS_OP_N}, {.type_a = CUDA_R_16F, .type_b = CUDA_R_16F}};
  for (const Spec& setup : others) {
    ASSERT_EQ(make(setup), CUBLAS_STATUS_SUCCESS);
    result.algo = of_float;
    expect_refused("got for another description");
  }
}
TEST_F(CublasLt, RefusesAddressesThatAreLessAlignedThanStated) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  for (char** p : {&pa, &pb}) {
    *p += 8;
    expect_refused("is not aligned to 16 bytes");
    *p -= 8;
  }
  pd += 4;
  expect_refused("C is not aligned to 16 bytes");
  pd -= 4;
  pa = nullptr;
  expect_refused("A is null");
}
TEST_F(CublasLt, RefusesAWorkspaceThatIsNotThere) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  char* const whole = pw;
  s.workspace = result.workspaceSize - 1;
  expect_refused("needs a workspace of 1920 bytes, there are 1919");
  s.workspace++, pw = nullptr;
  expect_refused("needs a workspace of 1920 bytes, there are 0");
  pw = whole + 16;
  expect_refused("the workspace is not aligned to 256 bytes");
  pw = pd;
  expect_refused("the workspace overlaps C");
  pw = whole + (1 << 16) - 256;
  expect_fault("the workspace uses byte 0 behind workspace, which is outside every tensor");
}
TEST_F(CublasLt, RefusesResultsOverOperands) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  pd = pa + 16;
  expect_refused("D overlaps a matrix that is read");
}
TEST_F(CublasLt, FindsElementsOutsideOfTensorsAndWithoutValue) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  pb += 16;
  expect_fault("B (17 x 20, leading dimension 17), column 19, uses byte 0 behind b, which is outside every tensor");
  pb -= 16;
  pd += 16;
  expect_fault("D (24 x 20, leading dimension 24), column 19, uses byte 0 behind d, which is outside every tensor");
  pd -= 16;
  emulator::forget_tensors(memory);
  ASSERT_EQ(cudaFree(std::exchange(memory, nullptr)), cudaSuccess);
  s.beta = 1;
  fill<float, float>(false);
  expect_fault("C (24 x 20, leading dimension 24), column 0, uses byte 0 of d, which nobody has written");
  fill<float, float>();
  ASSERT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
  expect_exact<float>();
}
TEST_F(CublasLt, RefusesWhatWasDestroyed) {
  ASSERT_EQ(make({}), CUBLAS_STATUS_SUCCESS);
  fill<float, float>();
  cublasLtMatrixLayout_t once = nullptr;
  ASSERT_EQ(cublasLtMatrixLayoutCreate(&once, CUDA_R_32F, 1, 1, 1), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasLtMatrixLayoutDestroy(once), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatrixLayoutDestroy(once), CUBLAS_STATUS_INVALID_VALUE);
  expect_report("destroys a layout that does not exist");
  std::swap(a, once);
  expect_refused("a description or a layout that does not exist");
  std::swap(a, once);
}

// ---- NVIDIA's library ---------------------------------------------------------------------------------------------------------
// Calls NVIDIA's library through the declarations and constants of the emulator's header: it returns the attributes that were
// set.
TEST(RealCublasLt, HasTheConstantsOfTheEmulatorsHeader) {
  void* const file = dlopen("libcublasLt.so.13", RTLD_LAZY | RTLD_LOCAL);
  if (!file) GTEST_SKIP() << "libcublasLt.so.13 is not installed";
#define REAL(name)                                                                              \
  const auto name = reinterpret_cast<decltype(&cublasLt##name)>(dlsym(file, "cublasLt" #name)); \
  ASSERT_TRUE(name) << #name
  REAL(GetVersion);
  REAL(GetStatusName);
  REAL(MatmulDescCreate);
  REAL(MatmulDescDestroy);
  REAL(MatmulDescSetAttribute);
  REAL(MatrixLayoutCreate);
  REAL(MatrixLayoutDestroy);
  REAL(MatmulPreferenceCreate);
  REAL(MatmulPreferenceDestroy);
  REAL(MatmulPreferenceSetAttribute);
#undef REAL
  const auto get = [&](const char* of, void* object, int attribute, auto type) {
    using Get = cublasStatus_t (*)(void*, int, void*, size_t, size_t*);
    const auto function = reinterpret_cast<Get>(dlsym(file, of));
    size_t written = 0;
    EXPECT_EQ(function(object, attribute, &type, sizeof(type), &written), CUBLAS_STATUS_SUCCESS) << of << " " << attribute;
    EXPECT_EQ(written, sizeof(type));
    return static_cast<int64_t>(type);
  };
  EXPECT_EQ(GetVersion() / 10000, cublasLtGetVersion() / 10000);
  for (cublasStatus_t status :
       {CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED})
    EXPECT_STREQ(GetStatusName(status), cublasLtGetStatusName(status));

  cublasLtMatmulDesc_t desc = nullptr;
  ASSERT_EQ(MatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
  const auto of_desc = [&](int attribute) { return get("cublasLtMatmulDescGetAttribute", desc, attribute, int32_t{-1}); };
  EXPECT_EQ(of_desc(0), CUBLAS_COMPUTE_32F);
  EXPECT_EQ(of_desc(1), CUDA_R_32F);
  EXPECT_EQ(of_desc(2), 0);  // alpha and beta are in host memory
  const cublasOperation_t t = CUBLAS_OP_T;
  for (const auto attribute : {CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB}) {
    EXPECT_EQ(of_desc(attribute), CUBLAS_OP_N);
    EXPECT_EQ(MatmulDescSetAttribute(desc, attribute, &t, 1), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(MatmulDescSetAttribute(desc, attribute, &t, sizeof(t)), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(of_desc(attribute), CUBLAS_OP_T);
  }
  EXPECT_EQ(MatmulDescDestroy(desc), CUBLAS_STATUS_SUCCESS);

  for (cudaDataType_t type : {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF}) {
    cublasLtMatrixLayout_t layout = nullptr;
    ASSERT_EQ(MatrixLayoutCreate(&layout, type, 24, 20, 32), CUBLAS_STATUS_SUCCESS);
    const char* const of = "cublasLtMatrixLayoutGetAttribute";
    EXPECT_EQ(get(of, layout, 0, uint32_t{99}), type);
    EXPECT_EQ(get(of, layout, 1, int32_t{99}), 0);  // column-major
    EXPECT_EQ(get(of, layout, 2, uint64_t{99}), 24);
    EXPECT_EQ(get(of, layout, 3, uint64_t{99}), 20);
    EXPECT_EQ(get(of, layout, 4, int64_t{99}), 32);
    EXPECT_EQ(get(of, layout, 5, int32_t{99}), 1);  // batch
    EXPECT_EQ(MatrixLayoutDestroy(layout), CUBLAS_STATUS_SUCCESS);
  }

  cublasLtMatmulPreference_t preference = nullptr;
  ASSERT_EQ(MatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value, int64_t default_value) {
    const char* const of = "cublasLtMatmulPreferenceGetAttribute";
    EXPECT_EQ(get(of, preference, attribute, decltype(value){99}), default_value) << attribute;
    EXPECT_EQ(MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(get(of, preference, attribute, decltype(value){99}), static_cast<int64_t>(value)) << attribute;
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{3 << 20}, 0);
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
         CUBLASLT_REDUCTION_SCHEME_MASK);
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, uint32_t{16}, 256);
  EXPECT_EQ(MatmulPreferenceDestroy(preference), CUBLAS_STATUS_SUCCESS);
}

}  // namespace
