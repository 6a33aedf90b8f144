// All tokens and labels of a data set, one document behind the other.
#pragma once

#include "data/dataset.h"

namespace tll {

inline std::vector<int32_t> all_tokens(const Dataset& data) {
  std::vector<int32_t> out;
  for (const Document& d : data.documents) {
    for (const int32_t id : data.tokens_of(d)) out.push_back(id);
  }
  return out;
}

inline std::vector<int32_t> all_labels(const Dataset& data) {
  std::vector<int32_t> out;
  for (const Document& d : data.documents) {
    for (const int32_t label : data.labels_of(d)) out.push_back(label);
  }
  return out;
}

}  // namespace tll
