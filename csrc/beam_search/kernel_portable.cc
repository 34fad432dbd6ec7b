// The kernel for any processor.

#include "beam_search/kernel_impl.h"

namespace unimo {

const BeamKernel kBeamPortable = {&survey};

}  // namespace unimo
