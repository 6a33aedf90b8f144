// Attention over bf16 on processors that multiply bf16. As on tensor cores, the probabilities P and their gradients dS are
// rounded to bf16 before they are multiplied; all else is fp32.
#pragma once

#include "kernels/attention.h"
#include "kernels/bf16_instructions.h"

namespace tll {

// Runs the op and returns true if the processor has such instructions; else does nothing and returns false. `with`: no more than
// bf16_instructions().
bool attention_bf16(const AttentionForward<bf16>& op, Bf16Instructions with = bf16_instructions());
bool attention_bf16(const AttentionBackward<bf16>& op, Bf16Instructions with = bf16_instructions());

#if defined(__x86_64__)
// The ops themselves, on a processor that has these instructions.
void attend_bf16(const AttentionForward<bf16>& op, Bf16Instructions with);
void attend_bf16(const AttentionBackward<bf16>& op, Bf16Instructions with);
#endif

}  // namespace tll
