// Which kernel runs: a matter of the processor and, where it is asked, of the user.

#pragma once

#include <vector>

#include "contrastive/cpu/kernel.h"

namespace unimo {

// The kernels that this build holds and this processor runs, the best first; last, those that are
// less exact and must be chosen by name.
const std::vector<const ContrastiveKernel*>& contrastive_kernels();

// The kernel that UNIMO_INSTRUCTION_SET names, or the best one. Throws std::invalid_argument where
// the environment names none of those that run here.
const ContrastiveKernel& default_contrastive_kernel();

// The processor's peak in 10^9 operations a second of the kernel's instructions, measured for about
// so many seconds on so many threads.
double peak_gflops(const ContrastiveKernel& kernel, int num_threads, double seconds);

}  // namespace unimo
