// The kernel for AVX-512.

#include "beam_search/kernel_impl.h"

namespace unimo {

const BeamKernel kBeamAvx512 = {&survey};

}  // namespace unimo
