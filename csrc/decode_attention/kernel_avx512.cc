// The kernel for AVX-512 (x86-64-v4).

#include "decode_attention/kernel_impl.h"

namespace unimo {

const DecodeAttentionKernel kDecodeAttentionAvx512 = {&scratch_size, &attend};

}  // namespace unimo
