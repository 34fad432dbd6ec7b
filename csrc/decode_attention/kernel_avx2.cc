// The kernel for AVX2 and FMA.

#include "decode_attention/kernel_impl.h"

namespace unimo {

const DecodeAttentionKernel kDecodeAttentionAvx2 = {&scratch_size, &attend};

}  // namespace unimo
