// Where nvcc puts PTX: a container in the host's object ("fat binary"), whose address the object registers before main().
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ptx {

// The PTX texts of a container. It fails where one is compressed: nvcc's -no-compress leaves them readable.
std::vector<std::string> texts_of(const std::byte* container);

// The one of them that runs on a GPU. target: "90" or "90a", a device with or without the features of its architecture alone;
// empty: the newest of the texts' own. Of those that may run, the one for the newest architecture is taken, and of two for the
// same the one with such features. Empty: there are none.
std::string text_for(const std::string& target, const std::vector<std::string>& texts);

}  // namespace ptx
