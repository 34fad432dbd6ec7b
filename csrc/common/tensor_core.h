// What a warp's tensor-core product on tf32 needs: who holds which element, and the rounding.
//
// The same lines compile for the GPU and, in tests, for the CPU: under nvcc the functions belong to
// the device, elsewhere UNIMO_DEVICE means no more than inline.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define UNIMO_DEVICE __device__ __forceinline__
#define UNIMO_UNROLL _Pragma("unroll")
#define UNIMO_NO_UNROLL _Pragma("unroll 1")
#else
#define UNIMO_DEVICE inline
#define UNIMO_UNROLL
#define UNIMO_NO_UNROLL
#endif

namespace unimo {

constexpr int kWarpSize = 32;

// C [16, 8] += A [16, 8] B [8, 8], the operation mma.m16n8k8 of sm_80 and later. A lane of the warp
// holds 4 elements of A, 2 of B and 4 of C; the functions give the place of its element e.
struct Fragment {
  static constexpr int kRows = 16;
  static constexpr int kColumns = 8;
  static constexpr int kDepth = 8;

  UNIMO_DEVICE static int a_row(int lane, int e) { return lane / 4 + 8 * (e % 2); }
  UNIMO_DEVICE static int a_depth(int lane, int e) { return lane % 4 + 4 * (e / 2); }
  UNIMO_DEVICE static int b_depth(int lane, int e) { return lane % 4 + 4 * e; }
  UNIMO_DEVICE static int b_column(int lane) { return lane / 4; }
  UNIMO_DEVICE static int c_row(int lane, int e) { return lane / 4 + 8 * (e / 2); }
  UNIMO_DEVICE static int c_column(int lane, int e) { return lane % 4 * 2 + e % 2; }
};

UNIMO_DEVICE std::uint32_t float_bits(float value) {
#ifdef __CUDACC__
  return __float_as_uint(value);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

UNIMO_DEVICE float bits_float(std::uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

// A tf32 is a float32 whose low 13 bits are zero: 11 significant bits.
constexpr std::uint32_t kTf32Mask = 0xffffe000u;
constexpr std::uint32_t kTf32Half = 0x1000u;

// The nearest tf32 (ties away from zero). NaN stays NaN, which the rounding alone does not ensure:
// a NaN whose payload is in the low bits would turn into infinity. Infinity becomes NaN, as it does
// where it is split.
UNIMO_DEVICE float to_tf32(float value) {
  const float rounded = bits_float(float_bits(value) + kTf32Half);
  return bits_float(float_bits(fmaf(value, 0.0f, rounded)) & kTf32Mask);
}

// A float32 as big + small, both tf32; what is lost is at most 2^-23 of it. Plain integer
// operations, half as many as conversions take. They may turn a NaN's big part into a number: then
// the small part is NaN. An infinite value has a NaN for its small part.
struct SplitFloat {
  float big;
  float small;
};

UNIMO_DEVICE SplitFloat split_float(float value) {
  const float big = bits_float((float_bits(value) + kTf32Half) & kTf32Mask);
  return {big, bits_float(float_bits(value - big) & kTf32Mask)};
}

// exp(x) for sums of exponentials; the error of the GPU's instruction is 2^-22 + |x| 2^-24, and
// where |x| is large the result is negligible beside the largest term, 1.
UNIMO_DEVICE float quick_exp(float x) {
#ifdef __CUDACC__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.44269504088896341f));
  return power;
#else
  return std::exp(x);
#endif
}

}  // namespace unimo
