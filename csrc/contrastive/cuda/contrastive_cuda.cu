// The CUDA form: chooses the kernels' precision and hands the schedule to a stream.
//
// Kernels: statistics.h, gradients.h. Order: schedule.h.
// For sm_80 and later; the tensor cores of sm_90 are used by the same instruction (mma.sync), not
// by Hopper's own (wgmma, TMA), which would reach further there.

#include "common/cuda_thread.h"
#include "contrastive/contrastive.h"
#include "contrastive/cuda/schedule.h"

namespace unimo {

std::size_t contrastive_forward_cuda_workspace(const ContrastiveInputs& inputs) {
  return ForwardWorkspace(inputs, kForwardBlock, nullptr).parts.bytes();
}

void contrastive_forward_cuda(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<float*>& outputs,
                              ContrastivePrecision precision, void* workspace, void* stream) {
  const CudaLauncher launch(stream);
  if (precision == ContrastivePrecision::kFloat32) {
    run_forward<true>(inputs, outputs, kForwardBlock, workspace, launch);
  } else {
    run_forward<false>(inputs, outputs, kForwardBlock, workspace, launch);
  }
}

std::size_t contrastive_backward_cuda_workspace(const ContrastiveInputs& inputs) {
  return BackwardWorkspace(inputs, kBackwardBlock, nullptr).parts.bytes();
}

void contrastive_backward_cuda(const ContrastiveInputs& inputs,
                               const ContrastiveStatistics<const float*>& outputs,
                               const ContrastiveStatistics<const float*>& upstream,
                               const ContrastiveGradients& gradients,
                               ContrastivePrecision precision, void* workspace, void* stream) {
  const CudaLauncher launch(stream);
  if (precision == ContrastivePrecision::kFloat32) {
    run_backward<true>(inputs, outputs, upstream, gradients, kBackwardBlock, workspace, launch);
  } else {
    run_backward<false>(inputs, outputs, upstream, gradients, kBackwardBlock, workspace, launch);
  }
}

}  // namespace unimo
