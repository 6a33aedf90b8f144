// Device memory, as the runtime calls use it.
#pragma once

#include <cstddef>
#include <string>

namespace emulator {

void* allocate_device(size_t bytes);  // aligned to 256 bytes, not written; null: more than Options::device_bytes
bool free_device(void* p);            // false: no allocation begins there
size_t device_bytes_used();
void set_written(const void* p, size_t bytes);
void copy_written(const void* to, const void* from, size_t bytes);
std::string launch_name(const void* kernel);

}  // namespace emulator
