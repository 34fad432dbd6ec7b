// The kernel for AVX2 and FMA.

// clang-format off: the numbers decide what the panels hold.
#include "contrastive/cpu/numbers_float32.h"
#include "contrastive/cpu/kernel_impl.h"
// clang-format on

namespace unimo {

const ContrastiveKernel kContrastiveAvx2 = make_kernel("avx2");

}  // namespace unimo
