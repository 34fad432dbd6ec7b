// Portable short vectors and the exponential that all CPU kernels share.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace unimo {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Eight floats, as the compiler's vector extension: one AVX2 register, two SSE or NEON ones.
constexpr int kLanes = 8;
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
using BitVector = std::uint32_t __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));
using DoubleVector = double __attribute__((vector_size(kLanes * sizeof(double))));

inline Vector load(const float* source) {
  Vector value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

inline void store(float* target, Vector value) { std::memcpy(target, &value, sizeof(value)); }

inline Vector broadcast(float value) {
  return Vector{value, value, value, value, value, value, value, value};
}

inline DoubleVector widen(Vector value) { return __builtin_convertvector(value, DoubleVector); }

// The lanes' sum in a fixed order.
template <typename Lanes>
inline auto sum_lanes(Lanes value) {
  return ((value[0] + value[1]) + (value[2] + value[3])) +
         ((value[4] + value[5]) + (value[6] + value[7]));
}

inline float max_lanes(Vector value) {
  float largest = value[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    largest = value[lane] > largest ? value[lane] : largest;
  }
  return largest;
}

// exp(x) for x up to 88, to 2 ulp; exactly 0 below -87 (so exp(-inf) = 0); NaN stays NaN.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) is a polynomial of degree 7 (Cephes), 2^n goes into
// the exponent bits. Adding and subtracting 1.5 * 2^23 rounds to the nearest integer and leaves n
// in the low bits, so a NaN is never converted to an integer.
inline Vector fast_exp(Vector x) {
  const Vector smallest = broadcast(-87.0f);
  const Vector clamped = x < smallest ? smallest : x;
  const Vector shifted = clamped * 1.44269504088896341f + 12582912.0f;
  const Vector n = shifted - 12582912.0f;
  const Vector r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  BitVector bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  Vector scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return x < smallest ? broadcast(0.0f) : p * scale;
}

}  // namespace unimo
