// Which lane of a warp holds which elements of a matrix, by the formulas of NVIDIA's "PTX ISA" manual, sections "Matrix Fragments
// for mma.m16n8k8", "… for mma.m16n8k16" and "Warp-level matrix load instruction: ldmatrix". There groupID is lane / 4 and
// threadID_in_group is lane % 4.
#pragma once

namespace ptx {

struct Element {
  int row, column;
};

// mma.m16n8k8 and mma.m16n8k16 of 16-bit values; e counts the elements of one lane. A is 16 x k, B is k x 8, C is 16 x 8. The
// forms for k = 8 hold the first half of the elements of A and B.
inline Element element_of_a(int lane, int e) {
  const int group = lane / 4, thread = lane % 4;
  const bool upper = e < 2 || (e >= 4 && e < 6);
  return {upper ? group : group + 8, thread * 2 + (e & 1) + (e >= 4 ? 8 : 0)};
}
inline Element element_of_b(int lane, int e) {
  const int group = lane / 4, thread = lane % 4;
  return {thread * 2 + (e & 1) + (e >= 2 ? 8 : 0), group};
}
inline Element element_of_c(int lane, int e) {
  const int group = lane / 4, thread = lane % 4;
  return {e < 2 ? group : group + 8, thread * 2 + (e & 1)};
}

// wgmma.mma_async.m64nNk16: what a warp holds of A and D are 16 rows, the first those of the warpgroup's first warp. Of A they
// lie as those of mma.m16n8k16; of D, N / 8 times as its C.
inline Element element_of_d(int lane, int e) {
  const Element c = element_of_c(lane, e % 4);
  return {c.row, e / 4 * 8 + c.column};
}

// ldmatrix: half e (0 or 1) of the register that a lane gets of an 8 x 8 matrix.
inline Element element_of_ldmatrix(int lane, int e, bool transposed) {
  const int row = lane / 4, column = lane % 4 * 2 + e;
  return transposed ? Element{column, row} : Element{row, column};
}

}  // namespace ptx
