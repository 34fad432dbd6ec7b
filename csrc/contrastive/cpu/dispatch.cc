#include "contrastive/cpu/dispatch.h"

#include <omp.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "common/instruction_sets.h"

namespace unimo {

const std::vector<const ContrastiveKernel*>& contrastive_kernels() {
  static const std::vector<const ContrastiveKernel*> kernels = [] {
    std::vector<const ContrastiveKernel*> found;
#if defined(__x86_64__)
    if (runs_avx512()) found.push_back(&kContrastiveAvx512);
    if (runs_avx2()) found.push_back(&kContrastiveAvx2);
#endif
    found.push_back(&kContrastivePortable);
#if defined(__x86_64__)
    if (runs_avx512() && __builtin_cpu_supports("avx512bf16")) {
      found.push_back(&kContrastiveAvx512Bfloat16);
    }
#endif
    return found;
  }();
  return kernels;
}

const ContrastiveKernel& default_contrastive_kernel() {
  const char* const wanted = std::getenv("UNIMO_INSTRUCTION_SET");
  if (wanted == nullptr || *wanted == '\0') return *contrastive_kernels().front();
  std::string names;
  for (const ContrastiveKernel* kernel : contrastive_kernels()) {
    if (std::string(wanted) == kernel->name) return *kernel;
    names += (names.empty() ? "" : ", ") + std::string(kernel->name);
  }
  throw std::invalid_argument("UNIMO_INSTRUCTION_SET is '" + std::string(wanted) +
                              "'; this build runs " + names + " on this processor");
}

double peak_gflops(const ContrastiveKernel& kernel, int num_threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kRounds = 100000;  // well under a millisecond
  double total = 0.0;
#pragma omp parallel num_threads(num_threads) reduction(+ : total)
  {
    kernel.spend(kRounds);
#pragma omp barrier
    std::int64_t operations = 0;
    const auto start = Clock::now();
    std::chrono::duration<double> elapsed{0.0};
    do {
      operations += kernel.spend(kRounds);
      elapsed = Clock::now() - start;
    } while (elapsed.count() < seconds);
    total += operations / elapsed.count();
  }
  return total / 1e9;
}

}  // namespace unimo
