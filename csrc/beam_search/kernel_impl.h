// Compiled for several instruction sets, so everything is of internal linkage: see common/simd.h.

#pragma once

#include "beam_search/kernel.h"
#include "common/simd.h"

namespace unimo {
namespace {

constexpr int kChains = 4;  // sums that do not wait for each other

float largest_of(const float* logits, std::int64_t count) {
  Vector largest[kChains];
  for (Vector& each : largest) each = broadcast(-kInfinity);
  std::int64_t v = 0;
  for (; v + kChains * kLanes <= count; v += kChains * kLanes) {
    for (int i = 0; i < kChains; ++i) {
      largest[i] = max(load(logits + v + i * kLanes), largest[i]);  // NaN is left out
    }
  }
  float result = max_lanes(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
  for (; v < count; ++v) result = logits[v] > result ? logits[v] : result;
  return result;
}

// exp(x) for x up to 0 by 2^(n + r), to 2 ulp; 0 where the result would be no normal number (with
// AVX-512 a subnormal one, as of fast_exp); NaN stays NaN. Of fewer instructions than fast_exp,
// whose two-step reduction is for large x: here an error of x in its last place moves a term that
// is as small as x is large.
Vector exp_below_one(Vector x) {
  const Vector t = x * 1.44269504088896341f;
#if defined(__AVX512F__)
  const Vector clamped = max(broadcast(-152.0f), t);
  const Vector n = _mm512_roundscale_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const Vector smallest = broadcast(-126.0f);
  const Vector clamped = t < smallest ? smallest : t;
  const Vector n = (clamped + 12582912.0f) - 12582912.0f;  // rounds to the nearest integer
#endif
  const Vector r = clamped - n;
  Vector p = r * 1.32764712907373905e-3f + 9.675540961325169e-3f;
  p = p * r + 5.5507130920886993e-2f;
  p = p * r + 2.4022120237350464e-1f;
  p = p * r + 6.9314694404602051e-1f;
  p = p * r + 1.0000001192092896f;
#if defined(__AVX512F__)
  return times_power_of_two(p, n);
#else
  return t < smallest ? broadcast(0.0f) : times_power_of_two(p, n);
#endif
}

// Of exp(logit - largest). A span is short enough for sums in float.
double sum_of(const float* logits, std::int64_t count, float largest) {
  Vector sums[kChains] = {};
  std::int64_t v = 0;
  for (; v + kChains * kLanes <= count; v += kChains * kLanes) {
    for (int i = 0; i < kChains; ++i) {
      sums[i] += exp_below_one(load(logits + v + i * kLanes) - largest);
    }
  }
  double result = sum_lanes(widen((sums[0] + sums[1]) + (sums[2] + sums[3])));
  for (; v < count; ++v) result += __builtin_expf(logits[v] - largest);
  return result;
}

// The span is in the nearest cache when it is summed up, and memory is read meanwhile.
void survey(const float* logits, std::int64_t count, float* maxima, RunningSum* running) {
  for (std::int64_t begin = 0; begin < count; begin += kSpan) {
    const std::int64_t length = count - begin < kSpan ? count - begin : kSpan;
    const float largest = largest_of(logits + begin, length);
    *maxima++ = largest;
    if (largest > running->largest) {
      running->sum *= __builtin_exp(static_cast<double>(running->largest) - largest);
      running->largest = largest;
    }
    running->sum += sum_of(logits + begin, length, running->largest);
  }
}

}  // namespace
}  // namespace unimo
