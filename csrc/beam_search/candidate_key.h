// A beam's candidate as one number, and the largest of them in a warp; for CUDA only.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace unimo {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A candidate as one number, larger where it ranks before: the score's bits in an order of unsigned
// numbers (NaN first, as it ranks), then the token, from high to low. 0: no candidate.
using Key = unsigned long long;

__device__ Key make_key(float score, std::uint32_t token) {
  const std::uint32_t bits = __float_as_uint(score + 0.0f);  // -0 is 0
  const std::uint32_t order = score != score ? ~0u : (bits >> 31 != 0 ? ~bits : bits | 0x80000000u);
  return Key{order} << 32 | static_cast<std::uint32_t>(~token);
}

__device__ std::uint32_t key_token(Key key) { return ~static_cast<std::uint32_t>(key); }

__device__ float key_score(Key key) {
  const auto order = static_cast<std::uint32_t>(key >> 32);
  if (order == ~0u) return NAN;
  return __uint_as_float(order >> 31 != 0 ? order & 0x7fffffffu : ~order);
}

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

}  // namespace unimo
