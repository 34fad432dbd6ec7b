// The kernel for AVX-512.

#include "few_rows/kernel_impl.h"

namespace unimo {

const FewRowsKernel kFewRowsAvx512 = make_few_rows_kernel();

}  // namespace unimo
