// The CUDA forms behind C functions, for cuda_benchmark.py; and what tensor cores reach at most.

#include <cuda_runtime.h>

#include <cstdint>

#include "beam_search/beam_search.h"
#include "common/cuda_thread.h"
#include "common/tensor_core.h"
#include "contrastive/contrastive.h"

#define UNIMO_EXPORT extern "C" __attribute__((visibility("default")))

namespace unimo {
namespace {

// Products in registers alone: nothing is loaded, so nothing but the tensor cores can limit it.
// Eight sums a warp are independent of each other.
struct TensorCoreKernel {
  static constexpr int kThreads = 256;
  static constexpr int kResidentBlocks = 2;
  static constexpr int kSharedBytes = 0;
  static constexpr int kSums = 8;

  int repeats;
  float* sink;  // [blocks, threads]

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char*) const {
    const int own = thread.index();
    float a[4], b[2], sums[kSums][4] = {};
    for (int e = 0; e < 4; ++e) a[e] = to_tf32(1.0f / (3 + own * 7 % 31 + e));
    for (int e = 0; e < 2; ++e) b[e] = to_tf32(1.0f / (5 + own * 5 % 29 + e) - 0.1f);
    for (int i = 0; i < repeats; ++i) {
      UNIMO_UNROLL
      for (int j = 0; j < kSums; ++j) thread.multiply(sums[j], a, b);
    }
    float total = 0.0f;
    for (int j = 0; j < kSums; ++j) {
      for (int e = 0; e < 4; ++e) total += sums[j][e];
    }
    sink[thread.block() * kThreads + own] = total;
  }
};

}  // namespace
}  // namespace unimo

using namespace unimo;

UNIMO_EXPORT std::size_t forward_workspace(const ContrastiveInputs* in) {
  return contrastive_forward_cuda_workspace(*in);
}

UNIMO_EXPORT std::size_t backward_workspace(const ContrastiveInputs* in) {
  return contrastive_backward_cuda_workspace(*in);
}

UNIMO_EXPORT void forward(const ContrastiveInputs* in, const ContrastiveStatistics<float*>* out,
                          int precision, void* workspace, void* stream) {
  contrastive_forward_cuda(*in, *out, static_cast<ContrastivePrecision>(precision), workspace,
                           stream);
}

UNIMO_EXPORT void backward(const ContrastiveInputs* in,
                           const ContrastiveStatistics<const float*>* out,
                           const ContrastiveStatistics<const float*>* upstream,
                           const ContrastiveGradients* gradients, int precision, void* workspace,
                           void* stream) {
  contrastive_backward_cuda(*in, *out, *upstream, *gradients,
                            static_cast<ContrastivePrecision>(precision), workspace, stream);
}

UNIMO_EXPORT std::size_t beam_workspace(const BeamSearchInputs* in,
                                        const BeamSearchSettings* settings) {
  return beam_search_step_cuda_workspace(*in, *settings);
}

UNIMO_EXPORT void beam_step(const BeamSearchInputs* in, const BeamSearchSettings* settings,
                            const BeamSearchOutputs* out, void* workspace, void* stream) {
  beam_search_step_cuda(*in, *settings, *out, workspace, stream);
}

// Starts the products and says how many operations they are. sink: blocks * 256 floats.
UNIMO_EXPORT double tensor_core_products(int blocks, int repeats, float* sink, void* stream) {
  using Kernel = TensorCoreKernel;
  const CudaLauncher launch(stream);
  launch(Kernel{repeats, sink}, blocks, "tensor core products");
  const double products = static_cast<double>(blocks) * Kernel::kThreads / kWarpSize * repeats;
  return products * Kernel::kSums * 2 * Fragment::kRows * Fragment::kColumns * Fragment::kDepth;
}
