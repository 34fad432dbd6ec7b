// The kernel for any processor that the compiler knows.

// clang-format off: the numbers decide what the panels hold.
#include "contrastive/cpu/numbers_float32.h"
#include "contrastive/cpu/kernel_impl.h"
// clang-format on

namespace unimo {

const ContrastiveKernel kContrastivePortable = make_kernel("portable");

}  // namespace unimo
