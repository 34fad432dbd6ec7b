// What the tile kernels compute of single scores: relations, running sums, gradients.
//
// No tensor core, no CUDA: these lines compile for both, like tensor_core.h.

#pragma once

#include <cmath>
#include <cstdint>

#include "common/tensor_core.h"

namespace unimo {

enum class Pair { kNegative, kPositive, kIgnored };

UNIMO_DEVICE Pair pair_relation(std::int64_t row_group, std::int64_t row_duplicate,
                                std::int64_t column_group, std::int64_t column_duplicate) {
  if (row_group == column_group) return Pair::kPositive;
  return row_duplicate != -1 && row_duplicate == column_duplicate ? Pair::kIgnored
                                                                  : Pair::kNegative;
}

// Sum of exp(score - max) over some scores; {-inf, 0} over none. A NaN passes by the maximum and
// makes the sum NaN.
struct PartialSum {
  float max;
  float sum;

  // What exp is taken relative to: finite even where nothing has been seen, for -inf - -inf is NaN.
  UNIMO_DEVICE float reference() const { return max == -INFINITY ? 0.0f : max; }
};

template <int kCount>
UNIMO_DEVICE PartialSum merge_partials(const PartialSum (&parts)[kCount]) {
  PartialSum total = {-INFINITY, 0.0f};
  UNIMO_UNROLL
  for (int i = 0; i < kCount; ++i) total.max = fmaxf(total.max, parts[i].max);
  UNIMO_UNROLL
  for (int i = 0; i < kCount; ++i) {
    total.sum += parts[i].sum * quick_exp(parts[i].max - total.reference());
  }
  return total;
}

// The sum over the scores of a group of lanes, those that differ in the bits from first_mask to
// last_mask of their number; all of them get it.
template <int kFirstMask, int kLastMask, int kCount, typename Thread>
UNIMO_DEVICE PartialSum sum_over_lanes(Thread& thread, const float (&scores)[kCount]) {
  PartialSum total = {-INFINITY, 0.0f};
  UNIMO_UNROLL
  for (int i = 0; i < kCount; ++i) total.max = fmaxf(total.max, scores[i]);
  UNIMO_UNROLL
  for (int mask = kFirstMask; mask <= kLastMask; mask *= 2) {
    total.max = fmaxf(total.max, thread.shuffle_xor(total.max, mask));
  }
  UNIMO_UNROLL
  for (int i = 0; i < kCount; ++i) total.sum += quick_exp(scores[i] - total.reference());
  UNIMO_UNROLL
  for (int mask = kFirstMask; mask <= kLastMask; mask *= 2) {
    total.sum += thread.shuffle_xor(total.sum, mask);
  }
  return total;
}

// The sums of one row or column of a tile, over what is not ignored and over the positive pairs.
struct alignas(16) TilePartial {
  PartialSum all;
  PartialSum positive;
};

// A log-sum-exp that goes on from tile to tile: log(sum) + max.
struct RunningSum {
  double sum;
  float max;

  // In the order of the parts; their exponentials do not wait for each other.
  template <int kCount>
  UNIMO_DEVICE void add(const PartialSum (&parts)[kCount]) {
    PartialSum all = {max, 0.0f};
    UNIMO_UNROLL
    for (int i = 0; i < kCount; ++i) all.max = fmaxf(all.max, parts[i].max);
    const float reference = all.reference();
    sum *= expf(max - reference);
    max = all.max;
    UNIMO_UNROLL
    for (int i = 0; i < kCount; ++i) {
      sum += parts[i].sum * static_cast<double>(expf(parts[i].max - reference));
    }
  }
  UNIMO_DEVICE float log_sum_exp() const {
    return sum == 0.0 ? -INFINITY : static_cast<float>(max + log(sum));
  }
};

// One log-sum-exp and its upstream gradient.
struct alignas(8) SumFlow {
  float log_sum_exp;
  float upstream;
};

// What reaches a score through a sum of its row and the same sum of its column. A sum over nothing
// is -inf, and no score asks for it.
UNIMO_DEVICE float score_gradient(float score, const SumFlow& row, const SumFlow& column) {
  return row.upstream * quick_exp(score - row.log_sum_exp) +
         column.upstream * quick_exp(score - column.log_sum_exp);
}

}  // namespace unimo
