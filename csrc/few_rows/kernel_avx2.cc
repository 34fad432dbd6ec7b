// The kernel for AVX2 and FMA.

#include "few_rows/kernel_impl.h"

namespace unimo {

const FewRowsKernel kFewRowsAvx2 = make_few_rows_kernel();

}  // namespace unimo
