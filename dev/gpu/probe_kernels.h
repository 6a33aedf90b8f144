// Asks a GPU, for host code that includes no CUDA header: each call is one launch and returns its results on the host.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tll::probe {

struct Properties {
  std::string name;
  int arch;  // 750 … 1200
  int multiprocessors, threads_per_multiprocessor, blocks_per_multiprocessor, registers_per_multiprocessor;
  int64_t memory_bytes, l2_bytes, shared_per_block, shared_per_block_opt_in, shared_per_multiprocessor, reserved_shared_per_block;
  int memory_clock_khz, memory_bus_bits;  // 0: the driver does not report it
};
Properties properties();
int device_count();  // 0 without a GPU or a driver
bool is_emulated();
void emulate(int arch);  // on the emulator: sets the architecture and its model of tensor-core sums; on a GPU nothing

// c + a·bᵀ for any number of tiles, one warp each. Registers are in the fragment layout.
enum class Form { half_k8, half_k16, bf16_k16 };
struct Registers {
  std::vector<uint32_t> a, b;  // (tiles, 32, K/4), (tiles, 32, K/8)
  std::vector<float> c;        // (tiles, 32, 4)
};
std::vector<float> mma(Form form, const Registers& tiles);

// ldmatrix of 1, 2 or 4 matrices from 256 values in shared memory; lane L passes the address of value row[L]. Shape (32,
// matrices).
std::vector<uint32_t> ldmatrix(int matrices, bool transposed, const std::vector<uint16_t>& values, const std::vector<int>& row);

// Returns 16 bytes of shared memory, which held 0xee, after a cp.async of 16 bytes that zero-fills the last 16 - bytes. The
// source holds 1, 2, 3, … and begins `shift` bytes past a multiple of 16, or is null.
std::vector<uint8_t> cp_async(int bytes, bool null_source, int shift);

std::vector<float> fmaxf_of(const std::vector<float>& a, const std::vector<float>& b);

// An elementary function, by its index in kFunctions.
inline constexpr const char* kFunctions[] = {"expf", "exp2f", "logf", "rsqrtf", "__expf"};
std::vector<float> function_of(int function, const std::vector<float>& x);

// Conversions of `count` floats whose bits are first, first + 1, …
struct Conversion {
  uint16_t to_bf16, to_half;
  int32_t to_int;  // toward zero
};
class Converter {
 public:
  explicit Converter(uint32_t count);
  ~Converter();
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;
  const Conversion* run(uint32_t first);

 private:
  uint32_t count_;
  Conversion *device_ = nullptr, *host_ = nullptr;
};

}  // namespace tll::probe
