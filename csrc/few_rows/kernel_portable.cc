// The kernel for any processor.

#include "few_rows/kernel_impl.h"

namespace unimo {

const FewRowsKernel kFewRowsPortable = make_few_rows_kernel();

}  // namespace unimo
