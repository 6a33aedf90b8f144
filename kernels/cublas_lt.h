// Large matmuls by cuBLASLt, where it is installed. The library is looked for when a device is opened, so the program starts
// without it; then the kernels of matmul.cu do everything.
//
// Sizes, types and strides decide which matmuls go there. Operands must be aligned to 16 bytes, as the tensors of an arena are;
// others stay with matmul.cu and have its bits. Otherwise bits do not depend on addresses: the library is told an alignment of 16
// bytes whatever it is, and the same size of workspace wherever the scratch begins. An algorithm is chosen once for sizes, types,
// transposes, strides and workspace, and kept.
//
// Arithmetic is fp32 (no TF32), and split-K adds in fp32 in a fixed order. So the bits are those of the library's version and the
// GPU's model.
#pragma once

#include <string>

#include "kernels/matmul.h"

namespace tll {

inline constexpr int kBlasLeastSize = 128;    // of rows, cols and inner; below, as with LoRA, tiles would be half empty
inline constexpr size_t kBlasAlignment = 16;  // bytes, of addresses and strides: the widest load, and what bulk copies need

inline bool cublas_serves(const Matmul<float>& op) {
  const DType type = op.a.dtype;
  if (op.rows() < kBlasLeastSize || op.cols() < kBlasLeastSize || op.inner() < kBlasLeastSize) return false;
  if (type != DType::f32 && type != DType::bf16 && type != DType::f16) return false;
  if (op.b.dtype != type || (op.out.dtype != type && op.out.dtype != DType::f32)) return false;
  const auto whole = [](int64_t stride, DType t) { return static_cast<size_t>(stride) * dtype_bytes(t) % kBlasAlignment == 0; };
  return whole(op.a.stride, type) && whole(op.b.stride, type) && whole(op.out.stride, op.out.dtype);
}

// For the current CUDA device. Null where the library is not found or does not start; why_not says why.
void* open_cublas(std::string& why_not);
void close_cublas(void* blas) noexcept;        // null: nothing
std::string cublas_version(const void* blas);  // "cuBLASLt 13.1.0"

// Enqueues the matmul on the device's stream and returns true, or does nothing and returns false where the library does not serve
// it. device.blas must not be null. Uses op.scratch until the matmul is done. Allocates no memory of the device, so the stream
// may be capturing, and memory of the host for sizes that it has not seen.
bool cublas_matmul(const Device& device, const Matmul<float>& op);

}  // namespace tll
