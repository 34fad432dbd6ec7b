// The kernel for AVX2 and FMA (x86-64-v3).

#include "beam_search/kernel_impl.h"

namespace unimo {

const BeamKernel kBeamAvx2 = {&survey};

}  // namespace unimo
