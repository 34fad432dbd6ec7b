#include <omp.h>

#include <algorithm>

#include "common/instruction_sets.h"
#include "common/workspaces.h"
#include "decode_attention/kernel.h"

namespace unimo {

void decode_attention_cpu(const DecodeAttentionInputs& inputs, float* attended, int num_threads) {
  decode_attention_by(UNIMO_BEST_KERNEL(kDecodeAttention), inputs, attended, num_threads);
}

void decode_attention_by(const DecodeAttentionKernel& kernel, const DecodeAttentionInputs& inputs,
                         float* attended, int num_threads) {
  const std::int64_t num_tasks = inputs.batch * inputs.heads;
  const int parallel = std::max(1, num_threads);
  const Workspaces workspaces(parallel, kernel.scratch_size(inputs));
#pragma omp parallel num_threads(parallel)
  {
    float* const scratch = workspaces.of_this_thread();
#pragma omp for schedule(static)
    for (std::int64_t task = 0; task < num_tasks; ++task) {
      // Heads of a sample lie together in the cache, samples of a head in the memory.
      kernel.attend(inputs, attended, task / inputs.heads, task % inputs.heads, scratch);
    }
  }
}

}  // namespace unimo
