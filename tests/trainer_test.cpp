// The batch that the engine computes: the loader's, without most of the padding behind it.
#include "src/train/trainer.h"

#include <gtest/gtest.h>

namespace tll {
namespace {

TEST(BatchBuffers, KeepTheDocumentsAndAtMostOneOfPadding) {
  constexpr int kRows = 2, kSeqLen = 128, kLength = 16;
  for (int documents = 1; documents <= kRows * kSeqLen / kLength; documents++) {
    for (int shorter = 0; shorter < kLength; shorter++) {  // every count of tokens, multiples of 64 and full rows among them
      Dataset data;
      for (int d = 0; d < documents; d++) {
        const int length = d == 0 ? kLength - shorter : kLength;
        const std::vector<int32_t> ids(static_cast<size_t>(length), d + 1);
        data.add(ids, ids, {});
      }
      Loader loader(data, {.rows = kRows, .seq_len = kSeqLen});
      Arena arena;
      BatchBuffers buffers;
      buffers.place(arena, nullptr, kRows * kSeqLen);
      arena.allocate();
      buffers.place(arena, nullptr, kRows * kSeqLen);
      const int64_t tokens = loader.next_step().tokens;
      loader.micro_batch(0, buffers.view);
      const Batch batch = buffers.upload(Device{}, kRows * kSeqLen);
      ASSERT_GE(batch.N, tokens);
      ASSERT_LT(batch.N, tokens + 64);
      ASSERT_EQ(batch.docs, documents + (batch.N > tokens ? 1 : 0)) << tokens << " tokens";
      ASSERT_EQ(batch.cu_seqlens[0], 0);
      ASSERT_EQ(batch.cu_seqlens[batch.docs], batch.N) << tokens << " tokens";
      for (int d = 0; d < documents; d++)
        for (int n = batch.cu_seqlens[d]; n < batch.cu_seqlens[d + 1]; n++)
          ASSERT_EQ(batch.tokens[n], batch.tokens[batch.cu_seqlens[d]]) << "a document goes on behind its end";
      for (int n = static_cast<int>(tokens); n < batch.N; n++) ASSERT_EQ(batch.targets[n], -1);
    }
  }
}

}  // namespace
}  // namespace tll
