// Large matrix products by cuBLASLt, NVIDIA's library of products, where it is installed. It is looked for when a device is
// opened, so that the program starts without it; then the kernels of matmul.cu do all.
//
// Which products go there is decided by sizes, types and strides. Their operands must be aligned to 16 bytes, as the tensors of
// an arena are; others stay with matmul.cu, and have its bits. Within either, bits do not depend on addresses:
// the library is told of 16 bytes whatever the alignment is, and of as much workspace as the scratch holds wherever it begins.
// An algorithm is chosen once for sizes, types, transposes, strides and workspace, and kept.
//
// Arithmetic is in fp32 (no TF32), and parts of a sum that was cut are added in fp32, in a fixed order. So bits are those of
// the library's version and the GPU's model.
#pragma once

#include <string>

#include "kernels/matmul.h"

namespace tll {

inline constexpr int kBlasLeastSize = 128;    // of rows, cols and inner: below, as in LoRA's products, tiles would be half empty
inline constexpr size_t kBlasAlignment = 16;  // bytes: of addresses and strides; the widest load, and what bulk copies need

inline bool cublas_serves(const Matmul<float>& op) {
  const DType type = op.a.dtype;
  if (op.rows() < kBlasLeastSize || op.cols() < kBlasLeastSize || op.inner() < kBlasLeastSize) return false;
  if (type != DType::f32 && type != DType::bf16 && type != DType::f16) return false;
  if (op.b.dtype != type || (op.out.dtype != type && op.out.dtype != DType::f32)) return false;
  const auto whole = [](int64_t stride, DType t) { return static_cast<size_t>(stride) * dtype_bytes(t) % kBlasAlignment == 0; };
  return whole(op.a.stride, type) && whole(op.b.stride, type) && whole(op.out.stride, op.out.dtype);
}

// For the current CUDA device. Null where the library is not found or does not start: then why_not says it.
void* open_cublas(std::string& why_not);
void close_cublas(void* blas);                 // null: nothing
std::string cublas_version(const void* blas);  // "cuBLASLt 13.1.0"

// Enqueues the product on the device's stream and returns true, or does nothing and returns false: device.blas, which must not be
// null, does not serve it. Uses op.scratch until the product is done. Of the device it allocates nothing, so that a stream may be
// capturing; of the host it does for sizes that it has not seen.
bool cublas_matmul(const Device& device, const Matmul<float>& op);

}  // namespace tll
