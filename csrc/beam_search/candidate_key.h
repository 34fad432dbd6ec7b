// A beam's candidate as one number, and the largest of them in a warp; the CUDA form's alone.

#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "beam_search/candidate.h"

namespace unimo {

// A candidate as one number, larger where it ranks before: the score's bits in an order of unsigned
// numbers (NaN first, as it ranks), then the token, from high to low. 0: no candidate. ~Key{0} is
// above every key, so a search for those below a limit begins there.
using Key = unsigned long long;

constexpr std::uint32_t kNanOrder = 0xfffffffeu;  // that of infinity is 0xff800000

UNIMO_HOST_DEVICE inline Key make_key(float score, std::uint32_t token) {
  const float positive_zero = score + 0.0f;  // -0 is 0
  std::uint32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof(bits));
  const std::uint32_t order =
      score != score ? kNanOrder : (bits >> 31 != 0 ? ~bits : bits | 0x80000000u);
  return Key{order} << 32 | static_cast<std::uint32_t>(~token);
}

UNIMO_HOST_DEVICE inline std::uint32_t key_token(Key key) {
  return ~static_cast<std::uint32_t>(key);
}

UNIMO_HOST_DEVICE inline float key_score(Key key) {
  const auto order = static_cast<std::uint32_t>(key >> 32);
  if (order == kNanOrder) return NAN;
  const std::uint32_t bits = order >> 31 != 0 ? order & 0x7fffffffu : ~order;
  float score;
  std::memcpy(&score, &bits, sizeof(score));
  return score;
}

#ifdef __CUDACC__
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ Key largest_in_warp(Key key) {
  const auto high = static_cast<std::uint32_t>(key >> 32);
  const std::uint32_t best = __reduce_max_sync(kAllLanes, high);
  const std::uint32_t low =
      __reduce_max_sync(kAllLanes, high == best ? static_cast<std::uint32_t>(key) : 0u);
  return Key{best} << 32 | low;
}

// One warp: the largest of some keys that are below a limit.
__device__ Key largest_below(const Key* keys, std::int64_t num_keys, Key limit) {
  Key best = 0;
  for (std::int64_t i = threadIdx.x % kWarp; i < num_keys; i += kWarp) {
    const Key key = keys[i];
    if (key < limit && key > best) best = key;
  }
  return largest_in_warp(best);
}
#endif

}  // namespace unimo
