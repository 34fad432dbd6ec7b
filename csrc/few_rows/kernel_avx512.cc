// The kernel for AVX-512 (x86-64-v4).

#include "few_rows/kernel_impl.h"

namespace unimo {

const FewRowsKernel kFewRowsAvx512 = make_few_rows_kernel();

}  // namespace unimo
