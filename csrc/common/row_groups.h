// Rows in groups of a size that the compiler knows, so that their sums stay in registers.
//
// Of internal linkage, for kernels that are compiled for several instruction sets: see simd.h.

#pragma once

#include <cstdint>
#include <type_traits>

namespace unimo {
namespace {

// Call work(first, count), the count a constant: groups of kCount, then the rest.
template <int kCount, typename Work>
void for_each_group(std::int64_t num_rows, const Work& work, std::int64_t first = 0) {
  for (; first + kCount <= num_rows; first += kCount) {
    work(first, std::integral_constant<int, kCount>());
  }
  if constexpr (kCount > 1) for_each_group<kCount - 1>(num_rows, work, first);
}

}  // namespace
}  // namespace unimo
