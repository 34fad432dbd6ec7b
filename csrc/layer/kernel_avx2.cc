// The kernel for AVX2 and FMA (x86-64-v3).

#include "layer/kernel_impl.h"

namespace unimo {

const LayerKernel kLayerAvx2 = make_layer_kernel();

}  // namespace unimo
