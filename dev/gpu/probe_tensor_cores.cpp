// Fragment layouts, and how tensor cores accumulate.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "dev/emulator/mma_model.h"
#include "dev/gpu/probe.h"
#include "kernels/numeric.h"

namespace tll::probe {
namespace {

constexpr Form kForms[] = {Form::half_k8, Form::half_k16, Form::bf16_k16};

uint16_t operand_bits(Form form, float x) { return form == Form::bf16_k16 ? round_to_bf16(x).bits : round_to_half(x).bits; }
int smallest_exponent(Form form) { return form == Form::bf16_k16 ? -126 : -14; }
bool exists(Form form, int arch) { return form != Form::bf16_k16 || arch >= 800; }  // bf16 begins with sm_80

// One operand has a single 1, the other numbered values. The number that comes out, and its lane, tell where the 1 was.
Line check_one_hot(Form form, bool in_a) {
  const int K = inner_size(form), values = in_a ? K / 2 : K / 4;
  Registers registers;
  std::vector<Place> ones;
  for (int lane = 0; lane < 32; lane++)
    for (int value = 0; value < values; value++) {
      Tile tile;
      const Place one = in_a ? place_a(lane, value) : place_b(lane, value);
      for (int k = 0; k < K; k++) {
        for (int m = 0; !in_a && m < 16; m++) tile.a[m][k] = static_cast<float>(m * K + k + 1);  // at most 256: exact in bf16
        for (int n = 0; in_a && n < 8; n++) tile.b[n][k] = static_cast<float>(n * K + k + 1);
      }
      append(registers, form, tile);
      // Set the register's bits directly, not through the formula under test.
      const size_t per_lane = static_cast<size_t>(values) / 2, tile_at = ones.size() * 32 * per_lane;
      uint32_t& r =
          (in_a ? registers.a : registers.b)[tile_at + static_cast<size_t>(lane) * per_lane + static_cast<size_t>(value) / 2];
      r = static_cast<uint32_t>(operand_bits(form, 1)) << (16 * (value % 2));
      ones.push_back(one);
    }
  const std::vector<float> c = mma(form, registers);
  const std::string point = fmt::format("2 mma {} {}", form_name(form), in_a ? "A, C" : "B, C");
  for (size_t i = 0; i < c.size(); i++) {
    const size_t tile = i / 128;
    const int lane = static_cast<int>(i / 4 % 32), element = static_cast<int>(i % 4);
    const Place at = place_c(lane, element), one = ones[tile];
    const bool hit = in_a ? at.row == one.row : at.column == one.row;
    const float expected = hit ? static_cast<float>((in_a ? at.column : at.row) * K + one.column + 1) : 0.0f;
    if (c[i] != expected)
      return line(point, false,
                  fmt::format("a 1 in lane {} value {} ({} row {} k {}): c[{}] of lane {} is {}, not {}",
                              tile / static_cast<size_t>(values), tile % static_cast<size_t>(values), in_a ? 'A' : 'B', one.row,
                              one.column, element, lane, c[i], expected));
  }
  return line(point, true, fmt::format("{} places of a 1, every lane and element of C", ones.size()));
}

// 8×8 matrices with numbered values, with the addresses in the order of the table of kernels/mma.cuh.
Line check_ldmatrix(int matrices, bool transposed) {
  std::vector<uint16_t> values(256);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<uint16_t>(i);
  std::vector<int> row(32);
  for (int lane = 0; lane < 32; lane++) row[static_cast<size_t>(lane)] = lane % (8 * matrices) * 8;
  const std::vector<uint32_t> r = ldmatrix(matrices, transposed, values, row);
  const std::string point = fmt::format("2 ldmatrix x{}{}", matrices, transposed ? " trans" : "");
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < matrices; i++)
      for (int h = 0; h < 2; h++) {
        const int g = lane / 4, column = 2 * (lane % 4) + h;
        const int expected = 64 * i + (transposed ? 8 * column + g : 8 * g + column);
        const int found = static_cast<uint16_t>(r[static_cast<size_t>(lane * matrices + i)] >> (16 * h));
        if (found != expected)
          return line(point, false, fmt::format("lane {} register {} half {}: value {}, not {}", lane, i, h, found, expected));
      }
  return line(point, true, fmt::format("{} values of 32 lanes", 2 * matrices));
}

// The rows of the operand table of kernels/mma.cuh: how an operand lies in shared memory, and which address each lane passes.
Line check_operand_loads() {
  struct Load {
    const char* what;
    int matrices;
    bool transposed, is_a;
    int (*address)(int lane);  // of a row, in elements; the operand has a pitch of 16
  };
  const Load loads[] = {
      {"A [m][k]", 4, false, true, [](int L) { return (L & 15) * 16 + 8 * (L >> 4); }},
      {"A [k][m]", 4, true, true, [](int L) { return ((L & 7) + 8 * (L >> 4)) * 16 + 8 * ((L >> 3) & 1); }},
      {"B [n][k]", 2, false, false, [](int L) { return (L & 7) * 16 + 8 * ((L >> 3) & 1); }},
      {"B [k][n]", 2, true, false, [](int L) { return (L & 15) * 16; }},
      {"two B [n][k]", 4, false, false, [](int L) { return ((L & 7) + 8 * (L >> 4)) * 16 + 8 * ((L >> 3) & 1); }},
      {"two B [k][n]", 4, true, false, [](int L) { return (L & 15) * 16 + 8 * (L >> 4); }},
  };
  for (const Load& load : loads) {
    std::vector<uint16_t> values(256);
    for (int i = 0; i < 16; i++)  // the value at (row, k) of the operand is 16·row + k
      for (int j = 0; j < 16; j++)
        values[static_cast<size_t>(i * 16 + j)] = static_cast<uint16_t>(load.transposed ? j * 16 + i : i * 16 + j);
    std::vector<int> row(32);
    for (int lane = 0; lane < 32; lane++) row[static_cast<size_t>(lane)] = load.address(lane);
    const std::vector<uint32_t> r = ldmatrix(load.matrices, load.transposed, values, row);
    for (int lane = 0; lane < 32; lane++)
      for (int value = 0; value < 2 * load.matrices; value++) {
        const Place at = load.is_a ? place_a(lane, value) : place_b(lane, value % 4);
        const int expected = 16 * (at.row + (load.is_a ? 0 : 8 * (value / 4))) + at.column;
        const int found = static_cast<uint16_t>(r[static_cast<size_t>(lane * load.matrices + value / 2)] >> (16 * (value % 2)));
        if (found != expected)
          return line("2 ldmatrix of operands", false,
                      fmt::format("{}: lane {} value {} is (row {}, k {}), not (row {}, k {})", load.what, lane, value,
                                  found / 16, found % 16, expected / 16, expected % 16));
      }
  }
  return line("2 ldmatrix of operands", true, fmt::format("{} ways to load A and B, every lane", std::size(loads)));
}

// Compares independently derived tables of fragments with the formulas that the checks above use.
Line check_tables(const std::string& folder) {
  int rows = 0;
  std::string text;
  for (const char* name : {"mma-fragments.csv", "ldmatrix-fragments.csv"}) {
    std::ifstream file(folder + "/" + name);
    if (!file) return line("2 tables of fragments", false, fmt::format("{}/{} cannot be read", folder, name));
    std::getline(file, text);  // the header
    while (std::getline(file, text)) {
      char instruction[64], side[8];
      int lane, value, first, second = 0;
      if (std::sscanf(text.c_str(), "%63[^,],%7[^,],%d,%d,%d,%d", instruction, side, &lane, &value, &first, &second) < 5)
        return line("2 tables of fragments", false, fmt::format("{}: line '{}' has no six columns", name, text));
      bool same = true;
      if (std::strncmp(instruction, "ldmatrix", 8) == 0) {
        if (std::strcmp(side, "dst") != 0) continue;
        const int g = lane / 4, column = 2 * (lane % 4) + value % 2;
        same = first == 64 * (value / 2) + (std::strstr(instruction, "trans") ? 8 * column + g : 8 * g + column);
      } else {
        if (!std::strstr(instruction, "f32.f16") && !std::strstr(instruction, "f32.bf16")) continue;
        const Place at = *side == 'A' ? place_a(lane, value) : *side == 'B' ? place_b(lane, value) : place_c(lane, value);
        same = first == at.row && second == at.column;
      }
      if (!same) return line("2 tables of fragments", false, fmt::format("{}: '{}'", name, text));
      rows++;
    }
  }
  return line("2 tables of fragments", true, fmt::format("{} rows agree with the formulae", rows));
}

Line check_vectors(const Properties& p) {
  Registers registers;
  for (const ProbeSum& v : kProbeSums) {
    Tile tile;
    for (auto& row : tile.c) std::fill(std::begin(row), std::end(row), v.c);
    for (const auto& [k, x] : v.products) {
      for (auto& row : tile.a) row[k] = x;
      for (auto& row : tile.b) row[k] = 1;
    }
    append(registers, Form::bf16_k16, tile);
  }
  const std::vector<float> c = mma(Form::bf16_k16, registers);
  for (size_t i = 0; i < c.size(); i++) {
    const ProbeSum& v = kProbeSums[i / 128];
    const float expected = p.arch >= 900 ? v.from_sm90 : v.before_sm90;
    if (c[i] != expected) return line("3 vectors", false, fmt::format("{}: {:.9g}, not {:.9g}", v.what, c[i], expected));
  }
  return line("3 vectors", true, fmt::format("{} sums that tell one way of adding from another", std::size(kProbeSums)));
}

Tile random_tile(Form form, std::mt19937& random) {
  std::normal_distribution<float> normal;
  // Exponents are so far apart that truncation matters. Some values are zero, and one tile of four is near the smallest numbers.
  const int base = random() % 4 ? 0 : smallest_exponent(form) / 2 - 4;
  const auto draw = [&](int spread) {
    return random() % 16
               ? std::ldexp(normal(random), base + static_cast<int>(random() % static_cast<unsigned>(spread)) - spread / 2)
               : 0.0f;
  };
  Tile tile;
  for (int k = 0; k < inner_size(form); k++) {
    for (auto& row : tile.a) row[k] = as_operand(form, draw(12));
    for (auto& row : tile.b) row[k] = as_operand(form, draw(12));
  }
  for (auto& row : tile.c)
    for (float& x : row) x = std::ldexp(draw(20), base);
  return tile;
}

// Compares random tiles bit for bit with the model. If they differ, reports the model that differs least.
Line check_random(Form form, const Properties& p, int count) {
  std::mt19937 random(11);
  std::vector<Tile> tiles(static_cast<size_t>(count));
  Registers registers;
  for (Tile& tile : tiles) append(registers, form, tile = random_tile(form, random));
  const std::vector<float> c = mma(form, registers);
  const int K = inner_size(form);
  std::string first;
  const auto differing = [&](auto model) {
    size_t different = 0;
    for (size_t i = 0; i < c.size(); i++) {
      const Tile& tile = tiles[i / 128];
      const Place at = place_c(static_cast<int>(i / 4 % 32), static_cast<int>(i % 4));
      const float expected = model(tile.a[at.row], tile.b[at.column], tile.c[at.row][at.column]);
      if (std::memcmp(&expected, &c[i], sizeof(float)) == 0) continue;
      if (different++ == 0)
        first = fmt::format("tile {} row {} column {} is {:a}, the model says {:a}", i / 128, at.row, at.column, c[i], expected);
    }
    return different;
  };
  const auto blocks = [&](emulator::MmaBlocks b) {
    return differing([&, b](const float* x, const float* y, float z) {
      return emulator::mma_hardware(x, y, z, K, smallest_exponent(form), b);
    });
  };
  const emulator::MmaBlocks expected = emulator::mma_blocks(p.arch);
  const size_t exact = differing([&](const float* x, const float* y, float z) { return emulator::mma_exact(x, y, z, K); });
  const size_t different = blocks(expected);
  std::string text = fmt::format("{} bits, {} products a block: {} of {} sums differ ({} differ from a sum rounded once)",
                                 expected.fraction, expected.products, different, c.size(), exact);
  if (different == 0) return line(fmt::format("3 sums {}", form_name(form)), true, text);
  text += "; " + first;
  emulator::MmaBlocks best = expected;
  size_t least = different;
  for (int fraction = 22; fraction <= 28; fraction++)
    for (int products : {2, 4, 8, 16}) {
      const size_t now = blocks({fraction, products});
      if (now < least) least = now, best = {fraction, products};
    }
  if (least < different) text += fmt::format("; {} bits, {} products: {} differ", best.fraction, best.products, least);
  return line(fmt::format("3 sums {}", form_name(form)), false, text);
}

// A long sum of positive products in one accumulator: how far it falls short of the exact sum.
Line check_long_sum(const Properties& p, int count) {
  constexpr int kInner = 4096, kSteps = kInner / 16;
  std::mt19937 random(13);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<std::vector<Tile>> steps(kSteps, std::vector<Tile>(static_cast<size_t>(count)));
  std::vector<double> exact(static_cast<size_t>(count) * 128);
  std::vector<float> c(exact.size()), model(exact.size());
  for (auto& tiles : steps) {
    Registers registers;
    for (Tile& tile : tiles) {
      for (auto& row : tile.a)
        for (float& x : row) x = as_operand(Form::bf16_k16, uniform(random));
      for (auto& row : tile.b)
        for (float& x : row) x = as_operand(Form::bf16_k16, uniform(random));
      append(registers, Form::bf16_k16, tile);
    }
    registers.c = c;  // already in the order of the lanes
    c = mma(Form::bf16_k16, registers);
    for (size_t i = 0; i < c.size(); i++) {
      const Tile& tile = tiles[i / 128];
      const Place at = place_c(static_cast<int>(i / 4 % 32), static_cast<int>(i % 4));
      for (int k = 0; k < 16; k++) exact[i] += static_cast<double>(tile.a[at.row][k]) * tile.b[at.column][k];
      model[i] = emulator::mma_hardware(tile.a[at.row], tile.b[at.column], model[i], 16, -126, emulator::mma_blocks(p.arch));
    }
  }
  double bias = 0;
  size_t different = 0;
  for (size_t i = 0; i < c.size(); i++) {
    bias += (static_cast<double>(c[i]) - exact[i]) / exact[i] / static_cast<double>(c.size());
    different += c[i] != model[i];
  }
  return line("3 long sum", different == 0,
              fmt::format("4096 positive products: {} of {} sums differ from the model; the mean relative error is {:.2g}",
                          different, c.size(), bias));
}

}  // namespace

int inner_size(Form form) { return form == Form::half_k8 ? 8 : 16; }
const char* form_name(Form form) { return form == Form::bf16_k16 ? "k16 bf16" : form == Form::half_k16 ? "k16 half" : "k8 half"; }
float as_operand(Form form, float x) { return form == Form::bf16_k16 ? to_acc(round_to_bf16(x)) : to_acc(round_to_half(x)); }

void append(Registers& registers, Form form, const Tile& tile) {
  const int K = inner_size(form);
  for (int lane = 0; lane < 32; lane++) {
    for (int value = 0; value < K / 2; value += 2) {
      const Place at = place_a(lane, value);
      registers.a.push_back(operand_bits(form, tile.a[at.row][at.column]) |
                            static_cast<uint32_t>(operand_bits(form, tile.a[at.row][at.column + 1])) << 16);
    }
    for (int value = 0; value < K / 4; value += 2) {
      const Place at = place_b(lane, value);
      registers.b.push_back(operand_bits(form, tile.b[at.row][at.column]) |
                            static_cast<uint32_t>(operand_bits(form, tile.b[at.row][at.column + 1])) << 16);
    }
    for (int value = 0; value < 4; value++) {
      const Place at = place_c(lane, value);
      registers.c.push_back(tile.c[at.row][at.column]);
    }
  }
}

std::vector<Line> check_fragments(const Properties& p, const Settings& settings) {
  std::vector<Line> lines;
  if (!settings.fragments.empty()) lines.push_back(check_tables(settings.fragments));
  for (Form form : kForms)
    for (bool in_a : {true, false})
      if (exists(form, p.arch)) lines.push_back(check_one_hot(form, in_a));
  for (int matrices : {1, 2, 4})
    for (bool transposed : {false, true}) lines.push_back(check_ldmatrix(matrices, transposed));
  lines.push_back(check_operand_loads());
  return lines;
}

std::vector<Line> check_sums(const Properties& p, const Settings& settings) {
  std::vector<Line> lines;
  if (exists(Form::bf16_k16, p.arch)) lines.push_back(check_vectors(p));
  for (Form form : kForms)
    if (exists(form, p.arch)) lines.push_back(check_random(form, p, settings.quick ? 16 : 2000));
  if (exists(Form::bf16_k16, p.arch)) lines.push_back(check_long_sum(p, settings.quick ? 1 : 32));
  return lines;
}

}  // namespace tll::probe
