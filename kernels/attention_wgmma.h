// Attention with wgmma, on sm_90: the ops' cuda() ask for it first. A GPU was not at hand when these kernels were written, so
// each run compares them with the mma kernels when the device is opened, and uses the mma kernels where they differ.
#pragma once

#include <string>

#include "kernels/attention.h"

namespace tll {

// Enqueues the op and returns true, or returns false: another GPU, float, or check_wgmma has refused.
template <class Float>
bool attention_with_wgmma(const Device& device, const AttentionForward<Float>& op);
// The same of dq, dk and dv, when delta_kernel is enqueued.
template <class Float>
bool attention_with_wgmma(const Device& device, const AttentionBackward<Float>& op);
bool wgmma_allowed(const Device& device);  // neither another GPU nor refused
// For tests: false refuses wgmma where it would be used, until the next call.
void use_wgmma(bool use);

// On sm_90: runs small cases with both kinds of kernels and waits for them. Empty: the wgmma kernels are right, and used from now
// on; else why they are not. Takes device memory for its tensors and gives it back.
std::string check_wgmma(const Device& device);

}  // namespace tll
