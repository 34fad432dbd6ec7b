// Threads share the columns of the matrix, so each part of it is read by one thread, once.

#include <omp.h>

#include <algorithm>

#include "common/instruction_sets.h"
#include "few_rows/kernel.h"

namespace unimo {

void few_rows_product_cpu(const FewRowsInputs& inputs, float* products, int num_threads) {
  few_rows_product_by(UNIMO_BEST_KERNEL(kFewRows), inputs, products, num_threads);
}

void few_rows_product_by(const FewRowsKernel& kernel, const FewRowsInputs& inputs, float* products,
                         int num_threads) {
  const auto fill = inputs.is_transposed ? kernel.fill_columns_transposed : kernel.fill_columns;
  const std::int64_t unit = inputs.is_transposed ? kernel.unit_transposed : kernel.unit;
  const std::int64_t num_units = (inputs.columns + unit - 1) / unit;
#pragma omp parallel num_threads(std::max(1, num_threads))
  {
    const std::int64_t thread = omp_get_thread_num(), count = omp_get_num_threads();
    const std::int64_t begin = std::min(num_units * thread / count * unit, inputs.columns);
    const std::int64_t end = std::min(num_units * (thread + 1) / count * unit, inputs.columns);
    if (begin < end) fill(inputs, products, begin, end);
  }
}

}  // namespace unimo
