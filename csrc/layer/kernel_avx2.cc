// The kernel for AVX2 and FMA.

#include "layer/kernel_impl.h"

namespace unimo {

const LayerKernel kLayerAvx2 = make_layer_kernel();

}  // namespace unimo
