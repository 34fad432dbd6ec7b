// Short vectors as wide as the instruction set that a file is compiled for, and the exponential
// that all CPU kernels share.
//
// The same kernels are compiled several times, each for another instruction set. Everything here
// is static: an inline function with external linkage, compiled for AVX-512 in one file, could be
// the copy that the linker keeps for a processor without it.

#pragma once

#if defined(__FMA__) && !defined(__AVX512F__) && !defined(__clang__) && __GNUC__ < 12
#define UNIMO_TELLS_FMA
#endif
#if defined(__AVX512F__) || defined(UNIMO_TELLS_FMA)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace unimo {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Floats in a register, as the compiler's vector extension.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
using BitVector = std::uint32_t __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));
using DoubleVector = double __attribute__((vector_size(kLanes * sizeof(double))));

static inline Vector load(const float* source) {
  Vector value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

static inline void store(float* target, Vector value) {
  std::memcpy(target, &value, sizeof(value));
}

static inline Vector broadcast(float value) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(value);
#elif defined(__AVX2__)
  return Vector{value, value, value, value, value, value, value, value};
#else
  return Vector{value, value, value, value};
#endif
}

// `count` numbers from memory (none below 1, all from kLanes on), the other lanes zero.
static inline Vector load_some(const float* source, std::int64_t count) {
  if (count >= kLanes) return load(source);
#if defined(__AVX512F__)
  const int mask = count > 0 ? (1 << count) - 1 : 0;
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), source);
#endif
  Vector value = {};
  if (count > 0)
    std::memcpy(&value, source, static_cast<std::size_t>(count) % kLanes * sizeof(float));
  return value;
}

// The first `count` lanes to memory (none below 1, all from kLanes on).
static inline void store_some(float* target, Vector value, std::int64_t count) {
  if (count >= kLanes) return store(target, value);
  if (count > 0)
    std::memcpy(target, &value, static_cast<std::size_t>(count) % kLanes * sizeof(float));
}

static inline DoubleVector widen(Vector value) {
  return __builtin_convertvector(value, DoubleVector);
}

// sum + a b, in one rounding where there is an instruction for it. GCC 11 parts the product from
// the sum where a number comes out of two branches, so it is told; others do better by themselves.
static inline Vector add_product(Vector sum, Vector a, Vector b) {
#if defined(UNIMO_TELLS_FMA)
  return _mm256_fmadd_ps(a, b, sum);
#else
  return sum + a * b;
#endif
}

// The larger of two; b where either is NaN.
static inline Vector max(Vector a, Vector b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// The lanes' sum in a fixed order: halves, then halves of halves.
template <typename Lanes>
static inline auto sum_lanes(Lanes value) {
#if defined(__AVX512F__)
  if constexpr (sizeof(value) == sizeof(Vector)) return _mm512_reduce_add_ps(value);
#endif
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) value[lane] += value[lane + width];
  }
  return value[0];
}

static inline float max_lanes(Vector value) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(value);
#else
  float largest = value[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    largest = value[lane] > largest ? value[lane] : largest;
  }
  return largest;
#endif
}

// Lanes of a, counted from 0, and of b, counted from kLanes. GCC knows clang's builtin from 12 on
// only, and clang knows none of GCC's.
template <int... kPlaces>
static inline Vector pick_lanes(Vector a, Vector b) {
  static_assert(sizeof...(kPlaces) == kLanes, "a place for each lane");
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kPlaces...);
#else
  using Places = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
  return __builtin_shuffle(a, b, Places{kPlaces...});
#endif
}

// a0 b0 a1 b1 ...: of the first halves of two vectors, and of the second ones.
static inline Vector interleave_low(Vector a, Vector b) {
#if defined(__AVX512F__)
  return pick_lanes<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
#elif defined(__AVX2__)
  return pick_lanes<0, 8, 1, 9, 2, 10, 3, 11>(a, b);
#else
  return pick_lanes<0, 4, 1, 5>(a, b);
#endif
}

static inline Vector interleave_high(Vector a, Vector b) {
#if defined(__AVX512F__)
  return pick_lanes<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
#elif defined(__AVX2__)
  return pick_lanes<4, 12, 5, 13, 6, 14, 7, 15>(a, b);
#else
  return pick_lanes<2, 6, 3, 7>(a, b);
#endif
}

// p 2^n for whole n; without AVX-512 from -126 to 127.
static inline Vector times_power_of_two(Vector p, Vector n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  const Vector shifted = n + 12582912.0f;  // 1.5 * 2^23: leaves n in the low bits
  BitVector bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  Vector scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
#endif
}

// exp(x) for x up to 88, to 2 ulp; exactly 0 for -inf; NaN stays NaN. Below -87 it is 0; with
// AVX-512 it is subnormal from -87.4 to -104 and 0 below: to flush those numbers would cost an
// instruction, and nothing that is summed with a 1 sees them.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) is a polynomial of degree 7 (Cephes). Adding and
// subtracting 1.5 * 2^23 rounds to the nearest integer and leaves n in the low bits, so a NaN is
// never converted to an integer.
static inline Vector fast_exp(Vector x) {
#if defined(__AVX512F__)
  // The hardware scales by 2^n with gradual underflow, and needs no bound but one on -inf.
  const Vector clamped = max(broadcast(-106.0f), x);
#else
  const Vector smallest = broadcast(-87.0f);
  const Vector clamped = x < smallest ? smallest : x;
#endif
  const Vector shifted = clamped * 1.44269504088896341f + 12582912.0f;
  const Vector n = shifted - 12582912.0f;
  const Vector r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
#if defined(__AVX512F__)
  return times_power_of_two(p, n);
#else
  return x < smallest ? broadcast(0.0f) : times_power_of_two(p, n);
#endif
}

}  // namespace unimo
