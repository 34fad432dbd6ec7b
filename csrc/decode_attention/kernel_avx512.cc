// The kernel for AVX-512.

#include "decode_attention/kernel_impl.h"

namespace unimo {

const DecodeAttentionKernel kDecodeAttentionAvx512 = {&scratch_size, &attend};

}  // namespace unimo
