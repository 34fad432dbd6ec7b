// The product of a few rows with a large matrix, as each step of writing needs it.
//
//     y[m, n] = bias[n] + sum over k of x[m, k] w[k, n]        (or w[n, k], transposed)
//
// With a handful of rows the time is that of reading the matrix once from memory. Libraries for
// matrix products copy it into another order first, which reads it, writes it and reads it again.
// A row's result does not depend on how many rows there are.

#pragma once

#include <cstdint>

namespace unimo {

struct FewRowsInputs {
  const float* rows;    // [num_rows, depth]
  const float* matrix;  // [depth, columns], transposed [columns, depth]
  const float* bias;    // [columns] or null
  std::int64_t num_rows;
  std::int64_t depth;
  std::int64_t columns;
  bool is_transposed;
};

// Beyond so many rows a library's product is faster.
constexpr std::int64_t kMostFewRows = 48;
constexpr std::int64_t kMostFewRowsTransposed = 24;

void few_rows_product_cpu(const FewRowsInputs& inputs, float* products, int num_threads);

}  // namespace unimo
