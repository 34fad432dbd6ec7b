// Paddle's view of the beam step: checks, allocation, dispatch and registration. No gradient.

#include <omp.h>

#include <vector>

#include "beam_search/beam_search.h"
#include "common/paddle_check.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

unimo::BeamSearchInputs checked_inputs(const Tensor& logits, const Tensor& scores,
                                       const Tensor& finished, const Tensor& step,
                                       const paddle::optional<Tensor>& blocked_tokens,
                                       std::int64_t end_token) {
  unimo::require(logits.shape().size() == 3 && logits.dtype() == DataType::FLOAT32,
                 "beam_search_step: logits must be float32 of shape [B, K, V]");
  const std::int64_t batch = logits.shape()[0], beams = logits.shape()[1];
  const std::int64_t vocabulary = logits.shape()[2];
  const Shape per_beam = {batch, beams};
  unimo::require(scores.dtype() == DataType::FLOAT32 && scores.shape() == per_beam,
                 "beam_search_step: scores must be float32 of shape [B, K]");
  unimo::require(finished.dtype() == DataType::BOOL && finished.shape() == per_beam,
                 "beam_search_step: finished must be bool of shape [B, K]");
  unimo::require(step.dtype() == DataType::INT64 && step.numel() == 1,
                 "beam_search_step: step must hold one int64");
  if (blocked_tokens) {
    unimo::require(blocked_tokens->dtype() == DataType::INT64 &&
                       blocked_tokens->shape().size() == 3 && blocked_tokens->shape()[0] == batch &&
                       blocked_tokens->shape()[1] == beams,
                   "beam_search_step: blocked_tokens must be int64 of shape [B, K, n]");
  }
  unimo::require(step.place() == logits.place() && scores.place() == logits.place() &&
                     finished.place() == logits.place() &&
                     (!blocked_tokens || blocked_tokens->place() == logits.place()),
                 "beam_search_step: all inputs must be on one device");
  unimo::require(vocabulary >= 2 && end_token >= 0 && end_token < vocabulary,
                 "beam_search_step: end_token ", end_token, " is not one of the ", vocabulary,
                 " tokens");
  return {logits.data<float>(),
          scores.data<float>(),
          finished.data<bool>(),
          step.data<std::int64_t>(),
          blocked_tokens ? blocked_tokens->data<std::int64_t>() : nullptr,
          batch,
          beams,
          vocabulary,
          blocked_tokens ? blocked_tokens->shape()[2] : 0};
}

std::vector<Tensor> forward(const Tensor& logits, const Tensor& scores, const Tensor& finished,
                            const Tensor& step, const paddle::optional<Tensor>& blocked_tokens,
                            std::int64_t end_token, std::int64_t min_length, float length_penalty,
                            int rule) {
  const auto inputs = checked_inputs(logits, scores, finished, step, blocked_tokens, end_token);
  unimo::require(rule == 0 || rule == 1, "beam_search_step: unknown rule ", rule);
  const unimo::BeamSearchSettings settings = {end_token, min_length, length_penalty,
                                              static_cast<unimo::BeamRule>(rule)};
  const auto make = [&](DataType type) {
    return paddle::empty({inputs.batch, inputs.beams}, type, logits.place());
  };
  std::vector<Tensor> results = {make(DataType::FLOAT32), make(DataType::INT64),
                                 make(DataType::INT64),   make(DataType::BOOL),
                                 make(DataType::FLOAT32), make(DataType::INT64)};
  const unimo::BeamSearchOutputs outputs = {
      results[0].data<float>(), results[1].data<std::int64_t>(), results[2].data<std::int64_t>(),
      results[3].data<bool>(),  results[4].data<float>(),        results[5].data<std::int64_t>()};
  if (logits.is_cpu()) {
    unimo::beam_search_step_cpu(inputs, settings, outputs, omp_get_max_threads());
    return results;
  }
#ifdef PADDLE_WITH_CUDA
  if (logits.is_gpu()) {
    const auto bytes =
        static_cast<std::int64_t>(unimo::beam_search_step_cuda_workspace(inputs, settings));
    Tensor workspace = paddle::empty({bytes}, DataType::UINT8, logits.place());
    unimo::beam_search_step_cuda(inputs, settings, outputs, workspace.data(), logits.stream());
    return results;
  }
#endif
  unimo::require(false, "beam_search_step: this build has no form for the device of its inputs");
  return {};
}

std::vector<Shape> shapes(const Shape&, const Shape& scores, const Shape&, const Shape&,
                          const paddle::optional<Shape>&, std::int64_t, std::int64_t, float, int) {
  return std::vector<Shape>(6, scores);
}

std::vector<DataType> types(DataType, DataType, DataType, DataType,
                            const paddle::optional<DataType>&) {
  return {DataType::FLOAT32, DataType::INT64,   DataType::INT64,
          DataType::BOOL,    DataType::FLOAT32, DataType::INT64};
}

}  // namespace

PD_BUILD_OP(unimo_beam_search_step)
    .Inputs({"logits", "scores", "finished", "step", paddle::Optional("blocked_tokens")})
    .Outputs({"next_scores", "tokens", "parents", "next_finished", "ended_scores", "ended_parents"})
    .Attrs({"end_token: int64_t", "min_length: int64_t", "length_penalty: float", "rule: int"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));
