// Compiled for several instruction sets, so everything is of internal linkage: see common/simd.h.

#pragma once

#include <limits>

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

// Of exp(logit - largest). A span is short enough for sums in float.
double sum_of(const float* logits, std::int64_t count, float largest) {
  Vector sums[kChains] = {};
  std::int64_t v = 0;
  for (; v + kChains * kLanes <= count; v += kChains * kLanes) {
    for (int i = 0; i < kChains; ++i) sums[i] += fast_exp(load(logits + v + i * kLanes) - largest);
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
