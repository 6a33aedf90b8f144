// Published GPUs, so that a run can be planned for one that is not here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/gpu_time.h"

namespace tll {

struct KnownGpu {
  std::string_view name;    // "A100-40GB"
  int arch;                 // compute capability, 750 … 1200
  int64_t usable;           // bytes that the runtime reports in total
  int64_t context;          // bytes of it that the driver's context, the kernels and the libraries take
  std::string_view source;  // of these two: "estimate", "usable as reported …, context an estimate", "measured on …"
  double flops;             // a second, of a dense matmul of 16 bits with sums in fp32
  double fp32_flops;        // a second, of fp32
  double bandwidth;         // bytes a second, of its memory
  double link;              // bytes a second, to and from the host, each way
  int sms;                  // multiprocessors
  double clock;             // a second: boost
  int64_t l2;               // bytes

  int64_t available() const { return usable - context; }
};

// Upper and lower case are equal, and so are '-', '_' and ' '; "NVIDIA", "GeForce" and "Tesla" may stand before the name. Null:
// not known.
const KnownGpu* known_gpu(std::string_view name);
// The GPU that the driver calls so ("NVIDIA A100-SXM4-40GB"): the one of which most words of the name are in it. Null: none.
const KnownGpu* gpu_of_driver_name(std::string_view name);
// In the order of the table.
std::vector<std::string_view> known_gpu_names();

// Of the GPU of this name (empty: of the one that is here), of the commonest data-centre GPU where it is not known, or of a usual
// processor: fixed numbers, so that what is chosen by them does not change from run to run.
Speed nominal_speed(DeviceKind device, std::string_view gpu, int threads, bool fp32);
// The same GPU, for the model of the time that its ops take.
Gpu nominal_gpu(std::string_view gpu);

}  // namespace tll
