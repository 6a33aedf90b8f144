// Linked where there is no CUDA. The functions that take a Device, and those of the ops, only satisfy the linker: they are never
// called, because no CUDA device can be opened.
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "kernels/adamw8bit.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/cuda_device.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/join_adapters.h"
#include "kernels/matmul.h"
#include "kernels/nccl.h"
#include "kernels/qk_norm.h"
#include "kernels/quantized.h"
#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "kernels/update.h"

namespace tll {
namespace {

[[noreturn]] void no_cuda() { check_failed("built with CUDA", __FILE__, __LINE__, "this program has no GPU kernels"); }

}  // namespace

const char* cuda_backend() { return nullptr; }
int cuda_device_count() { return 0; }
bool cuda_seen() {
  // What the driver makes, under Linux and in WSL.
  constexpr const char* kFiles[] = {"/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1"};
  return std::any_of(std::begin(kFiles), std::end(kFiles), [](const char* file) { return access(file, F_OK) == 0; });
}
std::string cuda_name() { return ""; }
int cuda_arch() { return 0; }
std::string cuda_missing() {
  return "this program was built without CUDA: build it again where nvcc is (CUDA Toolkit 12.0 or later)";
}
void choose_cuda_device(int) { no_cuda(); }
Device open_cuda_device(int) { fail(kExitFault, "{}", cuda_missing()); }
void close_cuda_device(Device&) noexcept { no_cuda(); }
CudaProperties cuda_properties(const Device&) { no_cuda(); }
int64_t cuda_free_memory(const Device&) { no_cuda(); }
void* cuda_allocate(const Device&, size_t) { no_cuda(); }
void cuda_free(const Device&, void*) noexcept { no_cuda(); }
void* cuda_allocate_host(const Device&, size_t) { no_cuda(); }
void cuda_free_host(const Device&, void*) noexcept { no_cuda(); }
void copy_to_cuda(const Device&, void*, const void*, size_t) { no_cuda(); }
void copy_from_cuda(const Device&, void*, const void*, size_t) { no_cuda(); }
void copy_within_cuda(const Device&, void*, const void*, size_t) { no_cuda(); }
void cuda_fill(const Device&, void*, int, size_t) { no_cuda(); }
void cuda_synchronize(const Device&) { no_cuda(); }
bool cuda_done(const Device&) { no_cuda(); }
void* cuda_open_event(const Device&) { no_cuda(); }
void cuda_close_event(const Device&, void*) noexcept { no_cuda(); }
void cuda_record_event(const Device&, void*) { no_cuda(); }
void cuda_wait_event(const Device&, void*) { no_cuda(); }
void cuda_come_after(const Device&, void*) { no_cuda(); }
void* cuda_capture(const Device&, const std::function<void()>&) { no_cuda(); }
void cuda_launch_graph(const Device&, void*) { no_cuda(); }
void cuda_close_graph(const Device&, void*) noexcept { no_cuda(); }
void cuda_begin_range(const char*) { no_cuda(); }
void cuda_end_range() { no_cuda(); }
void cuda_name_tensor(const Device&, const void*, size_t, const std::string&) { no_cuda(); }
void cuda_forget_tensors(const Device&, const void*) { no_cuda(); }
void cuda_begin_tensor(const Device&, const void*, size_t, const std::string&) { no_cuda(); }
void cuda_end_tensor(const Device&, const void*, size_t) { no_cuda(); }
std::string cuda_faults(const Device&) { no_cuda(); }

bool nccl_found(std::string& why_not) {
  why_not = cuda_missing();
  return false;
}
std::string nccl_version() { no_cuda(); }
NcclId nccl_unique_id() { no_cuda(); }
void* nccl_open(int, int, const NcclId&) { no_cuda(); }
NcclState nccl_state(void*, std::string&) { no_cuda(); }
void nccl_abort(void*) noexcept { no_cuda(); }
void nccl_close(void*, double) noexcept { no_cuda(); }
void nccl_all_gather(const Device&, void*, void*, NcclBounds) { no_cuda(); }
void nccl_exchange(const Device&, void*, void*, const void*, NcclBounds) { no_cuda(); }
void nccl_broadcast(const Device&, void*, void*, int64_t, int) { no_cuda(); }

#define TLL_NO_CUDA(Op)                       \
  template <class Float>                      \
  void Op<Float>::cuda(const Device&) const { \
    no_cuda();                                \
  }                                           \
  TLL_INSTANTIATE_CUDA(Op)

TLL_NO_CUDA(AddUp)
TLL_NO_CUDA(AttentionBackward)
TLL_NO_CUDA(AttentionDecode)
TLL_NO_CUDA(AttentionForward)
TLL_NO_CUDA(BiasBackward)
TLL_NO_CUDA(BiasForward)
TLL_NO_CUDA(CacheWrite)
TLL_NO_CUDA(CastFromMaster)
TLL_NO_CUDA(Copy)
TLL_NO_CUDA(CopyRows)
TLL_NO_CUDA(CrossEntropy)
TLL_NO_CUDA(Dropout)
TLL_NO_CUDA(EmbeddingBackward)
TLL_NO_CUDA(EmbeddingForward)
TLL_NO_CUDA(GatherRows)
TLL_NO_CUDA(ListTargets)
TLL_NO_CUDA(QkNormBackward)
TLL_NO_CUDA(QkNormForward)
TLL_NO_CUDA(RmsnormBackward)
TLL_NO_CUDA(RmsnormForward)
TLL_NO_CUDA(Rope)
TLL_NO_CUDA(RopeTable)
TLL_NO_CUDA(ScatterRows)
TLL_NO_CUDA(SwigluBackward)
TLL_NO_CUDA(SwigluForward)
template <class Acc>
void Matmul<Acc>::cuda(const Device&) const {
  no_cuda();
}
template void Matmul<float>::cuda(const Device&) const;
void AddDoubles::cuda(const Device&) const { no_cuda(); }
void AddParts::cuda(const Device&) const { no_cuda(); }
void AdamW::cuda(const Device&) const { no_cuda(); }
void AdamW8bit::cuda(const Device&) const { no_cuda(); }
void Dequantize::cuda(const Device&) const { no_cuda(); }
void JoinAdapters::cuda(const Device&) const { no_cuda(); }
void QuantizeBlocks::cuda(const Device&) const { no_cuda(); }
void QuantizeScales::cuda(const Device&) const { no_cuda(); }
void QuantizedMatmul::cuda(const Device&) const { no_cuda(); }
void SumOfSquares::cuda(const Device&) const { no_cuda(); }
void UpdateDecision::cuda(const Device&) const { no_cuda(); }

}  // namespace tll
