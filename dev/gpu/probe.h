// Checks what the kernels and the emulator assume about a GPU, one line per point.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <utility>
#include <vector>

#include "dev/gpu/probe_kernels.h"

namespace tll::probe {

enum class Verdict { ok, differs, skipped };
struct Line {
  std::string point;
  Verdict verdict;
  std::string text;  // what was compared; if it differs, where first
};
inline Line line(std::string point, bool ok, std::string text) {
  return {std::move(point), ok ? Verdict::ok : Verdict::differs, std::move(text)};
}

inline std::string hexadecimal(const std::vector<uint8_t>& bytes) { return fmt::format("{:02x}", fmt::join(bytes, "")); }

struct Settings {
  bool quick = false;     // samples instead of all 2^32 floats, and fewer random tiles
  std::string fragments;  // a folder with mma-fragments.csv and ldmatrix-fragments.csv; empty: none
};

std::vector<Line> check_properties(const Properties&);
std::vector<Line> check_fragments(const Properties&, const Settings&);
std::vector<Line> check_sums(const Properties&, const Settings&);
std::vector<Line> check_numbers(const Settings&);
std::vector<Line> check_copies(const Properties&);

// Where a fragment's value lies in its matrix, by the formulas of kernels/mma.cuh. value: a lane's 16-bit values are numbered,
// the low half of register 0 is 0, its high half 1, …; so are C's four floats.
struct Place {
  int row, column;  // of A (m, k), of B (n, k), of C (m, n)
};
inline Place place_a(int lane, int value) {
  const int r = value / 2;
  return {lane / 4 + 8 * (r & 1), 2 * (lane % 4) + value % 2 + 8 * (r >> 1)};
}
inline Place place_b(int lane, int value) { return {lane / 4, 2 * (lane % 4) + value % 2 + 8 * (value / 2)}; }
inline Place place_c(int lane, int value) { return {lane / 4 + 8 * (value >> 1), 2 * (lane % 4) + (value & 1)}; }

// A sum of 16 products in bf16 that tells ways of accumulating apart, and the results of the two ways that were measured.
struct ProbeSum {
  const char* what;
  float c;
  std::vector<std::pair<int, float>> products;  // at k
  float before_sm90, from_sm90;
};
inline const ProbeSum kProbeSums[] = {
    {"1, 2 x 2^-24", 0, {{0, 1}, {1, 0x1p-24f}, {2, 0x1p-24f}}, 1 + 0x1p-23f, 1 + 0x1p-23f},
    {"1, 4 x 2^-25", 0, {{0, 1}, {1, 0x1p-25f}, {2, 0x1p-25f}, {3, 0x1p-25f}, {4, 0x1p-25f}}, 1, 1 + 0x1p-23f},
    {"1, 4 x 2^-25 at k 8", 0, {{0, 1}, {8, 0x1p-25f}, {9, 0x1p-25f}, {10, 0x1p-25f}, {11, 0x1p-25f}}, 1, 1 + 0x1p-23f},
    {"1, 3 x 2^-25", 0, {{0, 1}, {1, 3 * 0x1p-25f}}, 1, 1},
    {"c 1, -1, 2^-30", 1, {{0, -1}, {1, 0x1p-30f}}, 0, 0},
};

// The matrices of one mma.
struct Tile {
  float a[16][16] = {}, b[8][16] = {}, c[16][8] = {};
};
int inner_size(Form);
const char* form_name(Form);
float as_operand(Form, float x);  // rounded to the operand type
void append(Registers&, Form, const Tile&);

}  // namespace tll::probe
