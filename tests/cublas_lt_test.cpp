// Which matmuls cuBLASLt serves: a rule of sizes, types and strides.
#include "kernels/cublas_lt.h"

#include <gtest/gtest.h>

namespace tll::test {
namespace {

// x (N, in) · Wᵀ, as a linear layer forms it.
Matmul<float> linear(int N, int out, int in, DType type = DType::bf16) {
  return {.out = {nullptr, type, N, out, out}, .a = {nullptr, type, N, in, in}, .b = ConstMatrix{nullptr, type, out, in, in}.t()};
}

TEST(CublasLt, ServesLargeMatmulsAlone) {
  // Llama-3.1-8B: query and output, key and value, gate and up, down, and the head.
  for (const auto& [out, in] : {std::pair{4096, 4096}, {1024, 4096}, {14336, 4096}, {4096, 14336}, {128256, 4096}}) {
    EXPECT_TRUE(cublas_serves(linear(4096, out, in))) << out << " " << in;
    EXPECT_TRUE(cublas_serves(linear(128, out, in)));
    EXPECT_FALSE(cublas_serves(linear(127, out, in)));
    EXPECT_FALSE(cublas_serves(linear(1, out, in)));
  }
  for (int r : {8, 16, 64}) {  // LoRA: x·Aᵀ, z·Bᵀ, and the gradients of A and B
    EXPECT_FALSE(cublas_serves(linear(4096, r, 4096)));
    EXPECT_FALSE(cublas_serves(linear(4096, 4096, r)));
    EXPECT_FALSE(cublas_serves(linear(r, 4096, 4096)));
  }
}

TEST(CublasLt, ServesPairsOfTypesThatItHas) {
  const DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
  const auto served = [](DType a, DType b, DType out) {
    Matmul<float> op = linear(256, 256, 256);
    op.a.dtype = a, op.b.dtype = b, op.out.dtype = out;
    return cublas_serves(op);
  };
  for (DType type : {f32, bf16, f16}) {
    EXPECT_TRUE(served(type, type, type));
    EXPECT_TRUE(served(type, type, f32));
  }
  EXPECT_FALSE(served(bf16, f16, f32));
  EXPECT_FALSE(served(f32, bf16, f32));
  EXPECT_FALSE(served(f32, f32, bf16));
  EXPECT_FALSE(served(f16, f16, bf16));
  EXPECT_FALSE(served(DType::u8, DType::u8, f32));
}

TEST(CublasLt, ServesStridesThatAreMultiplesOf16Bytes) {
  const auto served = [](DType type, int a, int b, int out) {
    Matmul<float> op = linear(256, 256, 256, type);
    op.a.stride += a, op.b.stride += b, op.out.stride += out;
    return cublas_serves(op);
  };
  EXPECT_TRUE(served(DType::bf16, 8, 16, 24));
  EXPECT_FALSE(served(DType::bf16, 4, 0, 0));
  EXPECT_FALSE(served(DType::bf16, 0, 4, 0));
  EXPECT_FALSE(served(DType::bf16, 0, 0, 4));
  EXPECT_TRUE(served(DType::f32, 4, 4, 4));
  EXPECT_FALSE(served(DType::f32, 0, 0, 2));
}

}  // namespace
}  // namespace tll::test
