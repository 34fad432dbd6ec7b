// The kernel for any processor.

#include "layer/kernel_impl.h"

namespace unimo {

const LayerKernel kLayerPortable = make_layer_kernel();

}  // namespace unimo
