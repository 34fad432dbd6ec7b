// The part of the attention that is compiled for several instruction sets: one head of a sample.

#pragma once

#include "decode_attention/decode_attention.h"

namespace unimo {

struct DecodeAttentionKernel {
  // Numbers that `attend` needs for itself.
  std::int64_t (*scratch_size)(const DecodeAttentionInputs& inputs);
  void (*attend)(const DecodeAttentionInputs& inputs, float* attended, std::int64_t sample,
                 std::int64_t head, float* scratch);
};

extern const DecodeAttentionKernel kDecodeAttentionPortable;
#if defined(__x86_64__)
extern const DecodeAttentionKernel kDecodeAttentionAvx2;
extern const DecodeAttentionKernel kDecodeAttentionAvx512;
#endif

// The attention by a kernel that runs here.
void decode_attention_by(const DecodeAttentionKernel& kernel, const DecodeAttentionInputs& inputs,
                         float* attended, int num_threads);

}  // namespace unimo
