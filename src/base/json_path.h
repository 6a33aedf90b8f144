// A value inside a JSON value, for readers of files that may lack it.
#pragma once

#include <initializer_list>

#include "src/base/json.h"

namespace tll {

// The value at a path of keys; null if it is not there.
inline const Json& json_at(const Json& json, std::initializer_list<const char*> keys) {
  static const Json null;
  const Json* value = &json;
  for (const char* key : keys) {
    const auto found = value->is_object() ? value->find(key) : value->end();
    if (!value->is_object() || found == value->end()) return null;
    value = &*found;
  }
  return *value;
}

}  // namespace tll
