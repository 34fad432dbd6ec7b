// How fast memory is read: what an operator that touches every number once can reach at best.

#pragma once

#include <omp.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace unimo {

// Bytes a second that so many threads read together, measured for about so many seconds.
inline double read_rate(int num_threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kCount = std::int64_t{1} << 25;  // 256 MB, more than any cache holds
  static const std::vector<std::uint64_t> numbers(kCount, 1);
  static volatile std::uint64_t result;  // so that the sums are not left out
  std::int64_t bytes = 0;
  const auto start = Clock::now();
  std::chrono::duration<double> elapsed{0.0};
  do {
    std::uint64_t sum = 0;
#pragma omp parallel for num_threads(num_threads) schedule(static) reduction(+ : sum)
    for (std::int64_t i = 0; i < kCount; ++i) sum += numbers[i];
    result = sum;
    bytes += kCount * static_cast<std::int64_t>(sizeof(std::uint64_t));
    elapsed = Clock::now() - start;
  } while (elapsed.count() < seconds);
  return bytes / elapsed.count();
}

}  // namespace unimo
