// A half-open range of rows or of columns.

#pragma once

#include <cstdint>

namespace unimo {

struct Range {
  std::int64_t begin;
  std::int64_t end;
  int size() const { return static_cast<int>(end - begin); }
};

}  // namespace unimo
