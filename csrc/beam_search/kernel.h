// The part of the beam step that is compiled for several instruction sets: a row of logits read
// once.

#pragma once

#include <cstdint>

#include "beam_search/beam_search.h"

namespace unimo {

// The sum of exponentials of what was read so far.
struct RunningSum {
  float largest;  // of the logits, NaN left out; not below the lowest finite number
  double sum;     // of exp(logit - largest); NaN where a logit is
};

// Tokens whose largest logit is noted, so that those of no use are never looked at again.
constexpr std::int64_t kSpan = 256;

struct BeamKernel {
  // Reads `count` more logits, and notes the largest of each span: maxima [ceil(count / kSpan)].
  void (*survey)(const float* logits, std::int64_t count, float* maxima, RunningSum* running);
};

extern const BeamKernel kBeamPortable;
#if defined(__x86_64__)
extern const BeamKernel kBeamAvx2;
extern const BeamKernel kBeamAvx512;
#endif

// The step by a kernel that runs here.
void beam_search_step_by(const BeamKernel& kernel, const BeamSearchInputs& inputs,
                         const BeamSearchSettings& settings, const BeamSearchOutputs& outputs,
                         int num_threads);

}  // namespace unimo
