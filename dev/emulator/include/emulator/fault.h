// The faults that the emulator finds. A header of its own, so that sources that nvcc compiles too can name them.
#pragma once

namespace emulator {

enum class Fault {
  race,            // two accesses to a byte, one of them a write, that nothing orders
  out_of_bounds,   // outside every tensor, or an index outside an array
  uninitialised,   // a read of memory that was not written
  misaligned,      // an address that is not a multiple of the access size
  copy_in_flight,  // an access to the source or destination of a pending asynchronous copy, or to an operand of wgmma in flight
  wgmma,           // registers of wgmma that no wgmma.fence orders, or that are used before the wait
  barrier,         // threads at different barriers, or gone while others wait
  collective,      // a warp collective that not all its lanes reach, or a shuffle from a lane that does not take part
  launch,          // a grid, block or shared memory size that the architecture does not grant
  arithmetic,      // a shift, division, conversion or sum of signed integers without a defined result
  trap,            // the kernel stopped itself
  host,            // a runtime call with memory that it may not use
};

}  // namespace emulator
