// What a product multiplies: float32, one number a word.

#pragma once

#include "common/simd.h"

namespace unimo {
namespace {

constexpr int kNumbersPerWord = 1;

// The next kLanes words of a row of which `count` numbers are left, scaled.
inline Vector row_words(const float* row, std::int64_t count, float scale) {
  return load_some(row, count) * scale;
}

// kLanes words, each of one column of kNumbersPerWord rows of which `num_rows` are real.
inline Vector column_words(const float* row, std::int64_t, int num_rows, std::int64_t count,
                           float scale) {
  return num_rows > 0 ? load_some(row, count) * scale : Vector{};
}

inline Vector multiply_add(Vector sum, Vector a, Vector b) { return sum + a * b; }

}  // namespace
}  // namespace unimo
