// The kernel for AVX2 and FMA.

#include "beam_search/kernel_impl.h"

namespace unimo {

const BeamKernel kBeamAvx2 = {&survey};

}  // namespace unimo
