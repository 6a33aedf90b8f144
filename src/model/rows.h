// Rows of a tensor, which may have room behind their columns.
#pragma once

#include <cstdint>
#include <type_traits>

namespace tll {

template <class Float>
struct Rows {
  Float* data = nullptr;
  int stride = 0;  // elements from one row to the next

  Rows from(int64_t row) const { return {data + row * stride, stride}; }
  Rows behind(int columns) const { return {data + columns, stride}; }
  explicit operator bool() const { return data != nullptr; }
  operator Rows<const Float>() const requires(!std::is_const_v<Float>) { return {data, stride}; }
};

}  // namespace tll
