// The part of the product that is compiled for several instruction sets.

#pragma once

#include "few_rows/few_rows.h"

namespace unimo {

struct FewRowsKernel {
  using Fill = void (*)(const FewRowsInputs& inputs, float* products, std::int64_t begin,
                        std::int64_t end);
  Fill fill_columns;             // of a matrix [depth, columns]
  Fill fill_columns_transposed;  // of a matrix [columns, depth]
  std::int64_t unit;             // threads share the columns in multiples of this
  std::int64_t unit_transposed;
};

extern const FewRowsKernel kFewRowsPortable;
#if defined(__x86_64__)
extern const FewRowsKernel kFewRowsAvx2;
extern const FewRowsKernel kFewRowsAvx512;
#endif

// The product by a kernel that runs here.
void few_rows_product_by(const FewRowsKernel& kernel, const FewRowsInputs& inputs, float* products,
                         int num_threads);

}  // namespace unimo
