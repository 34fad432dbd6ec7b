// What a product multiplies: bfloat16, two numbers a word, summed in float32 (AVX512-BF16).

#pragma once

#include "common/simd.h"

namespace unimo {
namespace {

constexpr int kNumbersPerWord = 2;

inline Vector as_words(__m512i bits) { return _mm512_castsi512_ps(bits); }

// The next kLanes words of a row of which `count` numbers are left, scaled.
inline Vector row_words(const float* row, std::int64_t count, float scale) {
  const Vector low = load_some(row, count) * scale;
  const Vector high = load_some(row + kLanes, count - kLanes) * scale;
  return as_words(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}

// kLanes words, each of one column of kNumbersPerWord rows of which `num_rows` are real.
inline Vector column_words(const float* row, std::int64_t stride, int num_rows, std::int64_t count,
                           float scale) {
  const auto round = [&](const float* from, bool is_real) {
    const Vector value = is_real ? load_some(from, count) * scale : Vector{};
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  };
  const __m512i low = round(row, num_rows > 0), high = round(row + stride, num_rows > 1);
  return as_words(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

inline Vector multiply_add(Vector sum, Vector a, Vector b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

}  // namespace
}  // namespace unimo
