// The kernel for AVX-512.

#include "layer/kernel_impl.h"

namespace unimo {

const LayerKernel kLayerAvx512 = make_layer_kernel();

}  // namespace unimo
