// The kernel for AVX-512.

// clang-format off: the numbers decide what the panels hold.
#include "contrastive/cpu/numbers_float32.h"
#include "contrastive/cpu/kernel_impl.h"
// clang-format on

namespace unimo {

const ContrastiveKernel kContrastiveAvx512 = make_kernel("avx512");

}  // namespace unimo
