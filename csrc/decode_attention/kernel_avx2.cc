// The kernel for AVX2 and FMA (x86-64-v3).

#include "decode_attention/kernel_impl.h"

namespace unimo {

const DecodeAttentionKernel kDecodeAttentionAvx2 = {&scratch_size, &attend};

}  // namespace unimo
