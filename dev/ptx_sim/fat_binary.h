// Where nvcc puts PTX: a container in the host's object ("fat binary"), whose address the object registers before main().
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ptx {

// The PTX texts of a container. It fails where one is compressed: nvcc's -no-compress leaves them readable.
std::vector<std::string> texts_of(const std::byte* container);

}  // namespace ptx
