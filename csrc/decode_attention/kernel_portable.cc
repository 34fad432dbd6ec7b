// The kernel for any processor.

#include "decode_attention/kernel_impl.h"

namespace unimo {

const DecodeAttentionKernel kDecodeAttentionPortable = {&scratch_size, &attend};

}  // namespace unimo
