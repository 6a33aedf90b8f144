// What the emulator finds. (Apart, so that sources which nvcc compiles as well can name it.)
#pragma once

namespace emulator {

enum class Fault {
  race,            // two accesses to a byte, one a write, that nothing orders
  out_of_bounds,   // outside every tensor, or an index outside an array
  uninitialised,   // a read of memory that nobody wrote
  misaligned,      // an address that is not a multiple of the access
  copy_in_flight,  // a touch of what an asynchronous copy is still to deliver or to read
  barrier,         // threads at different barriers, or gone while others wait
  collective,      // a warp collective whose lanes do not all arrive, or a shuffle from a lane that takes no part
  launch,          // a grid, a block or shared memory that the architecture does not grant
  arithmetic,      // a shift, a division, a conversion or a sum of signed integers without a defined result
  trap,            // the kernel stopped itself
  host,            // a runtime call with memory that it may not use
};

}  // namespace emulator
