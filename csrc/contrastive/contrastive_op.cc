// Paddle's view of the contrastive operator: checks, allocation, dispatch and registration.

#include <omp.h>

#include <algorithm>
#include <vector>

#include "common/paddle_check.h"
#include "contrastive/checked_inputs.h"
#include "contrastive/contrastive.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using unimo::checked_inputs;
using unimo::cpu_kernel;
using Shape = std::vector<std::int64_t>;

// The size of what the forward pass keeps for the backward pass; at least one number, for Paddle
// knows no tensor of none. -1 where the sizes are not known yet. Sizes of 0 are refused later.
std::int64_t num_kept_scores(const Shape& rows, const Shape& columns) {
  if (rows[0] < 0 || columns[0] < 0) return -1;
  return std::max<std::int64_t>(1, unimo::contrastive_kept_scores(rows[0], columns[0]));
}

std::vector<Tensor> forward(const Tensor& rows, const Tensor& columns, const Tensor& temperature,
                            const Tensor& row_group, const Tensor& column_group,
                            const Tensor& row_duplicate, const Tensor& column_duplicate) {
  const auto inputs = checked_inputs(rows, columns, temperature, row_group, column_group,
                                     row_duplicate, column_duplicate);
  const auto make = [&](std::int64_t count) {
    return paddle::empty({count}, DataType::FLOAT32, rows.place());
  };
  const std::int64_t num_kept = rows.is_cpu() ? num_kept_scores(rows.shape(), columns.shape()) : 1;
  std::vector<Tensor> outputs = {make(inputs.num_rows), make(inputs.num_rows),
                                 make(inputs.num_columns), make(inputs.num_columns),
                                 make(num_kept)};
  const unimo::ContrastiveStatistics<float*> statistics = {
      outputs[0].data<float>(), outputs[1].data<float>(), outputs[2].data<float>(),
      outputs[3].data<float>()};
  if (rows.is_cpu()) {
    unimo::contrastive_forward_cpu(inputs, statistics, omp_get_max_threads(), cpu_kernel(),
                                   outputs[4].data<float>());
    return outputs;
  }
#ifdef PADDLE_WITH_CUDA
  if (rows.is_gpu()) {
    const auto bytes = static_cast<std::int64_t>(unimo::contrastive_forward_cuda_workspace(inputs));
    Tensor workspace = paddle::empty({bytes}, DataType::UINT8, rows.place());
    unimo::contrastive_forward_cuda(inputs, statistics, unimo::ContrastivePrecision::kFloat32,
                                    workspace.data(), rows.stream());
    return outputs;
  }
#endif
  unimo::require(false,
                 "contrastive_logsumexp: this build has no form for the device of its inputs");
  return {};
}

std::vector<Tensor> backward(const Tensor& rows, const Tensor& columns, const Tensor& temperature,
                             const Tensor& row_group, const Tensor& column_group,
                             const Tensor& row_duplicate, const Tensor& column_duplicate,
                             const Tensor& row_all, const Tensor& row_positive,
                             const Tensor& column_all, const Tensor& column_positive,
                             const Tensor& kept_scores, const Tensor& row_all_gradient,
                             const Tensor& row_positive_gradient, const Tensor& column_all_gradient,
                             const Tensor& column_positive_gradient) {
  const auto inputs = checked_inputs(rows, columns, temperature, row_group, column_group,
                                     row_duplicate, column_duplicate);
  const unimo::ContrastiveStatistics<const float*> outputs = {
      row_all.data<float>(), row_positive.data<float>(), column_all.data<float>(),
      column_positive.data<float>()};
  // The dynamic graph hands over no tensor at all for an output that nothing used.
  const auto or_zeros = [&](const Tensor& gradient, const Tensor& output) {
    return gradient.initialized()
               ? gradient
               : paddle::full(output.shape(), 0.0, output.dtype(), output.place());
  };
  const Tensor given[] = {or_zeros(row_all_gradient, row_all),
                          or_zeros(row_positive_gradient, row_positive),
                          or_zeros(column_all_gradient, column_all),
                          or_zeros(column_positive_gradient, column_positive)};
  const unimo::ContrastiveStatistics<const float*> upstream = {
      given[0].data<float>(), given[1].data<float>(), given[2].data<float>(),
      given[3].data<float>()};
  std::vector<Tensor> results = {
      paddle::empty(rows.shape(), DataType::FLOAT32, rows.place()),
      paddle::empty(columns.shape(), DataType::FLOAT32, rows.place()),
      paddle::empty(temperature.shape(), DataType::FLOAT32, rows.place())};
  const unimo::ContrastiveGradients gradients = {results[0].data<float>(), results[1].data<float>(),
                                                 results[2].data<float>()};
  if (rows.is_cpu()) {
    unimo::contrastive_backward_cpu(inputs, outputs, upstream, gradients, omp_get_max_threads(),
                                    cpu_kernel(), kept_scores.data<float>());
    return results;
  }
#ifdef PADDLE_WITH_CUDA
  if (rows.is_gpu()) {
    const auto bytes =
        static_cast<std::int64_t>(unimo::contrastive_backward_cuda_workspace(inputs));
    Tensor workspace = paddle::empty({bytes}, DataType::UINT8, rows.place());
    unimo::contrastive_backward_cuda(inputs, outputs, upstream, gradients,
                                     unimo::ContrastivePrecision::kFloat32, workspace.data(),
                                     rows.stream());
    return results;
  }
#endif
  unimo::require(false,
                 "contrastive_logsumexp: this build has no form for the device of its inputs");
  return {};
}

std::vector<Shape> forward_shapes(const Shape& rows, const Shape& columns, const Shape&,
                                  const Shape&, const Shape&, const Shape&, const Shape&) {
  // Refused when it runs: what is thrown here, while a static graph is built, ends the process.
  if (rows.size() != 2 || columns.size() != 2) return std::vector<Shape>(5, Shape{-1});
  return {{rows[0]}, {rows[0]}, {columns[0]}, {columns[0]}, {num_kept_scores(rows, columns)}};
}

std::vector<DataType> forward_types(DataType, DataType, DataType, DataType, DataType, DataType,
                                    DataType) {
  return std::vector<DataType>(5, DataType::FLOAT32);
}

}  // namespace

PD_BUILD_OP(unimo_contrastive_logsumexp)
    .Inputs({"rows", "columns", "temperature", "row_group", "column_group", "row_duplicate",
             "column_duplicate"})
    .Outputs({"row_all", "row_positive", "column_all", "column_positive", "kept_scores"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(forward_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(forward_types));

PD_BUILD_GRAD_OP(unimo_contrastive_logsumexp)
    .Inputs({"rows", "columns", "temperature", "row_group", "column_group", "row_duplicate",
             "column_duplicate", "row_all", "row_positive", "column_all", "column_positive",
             "kept_scores", paddle::Grad("row_all"), paddle::Grad("row_positive"),
             paddle::Grad("column_all"), paddle::Grad("column_positive")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("columns"), paddle::Grad("temperature")})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<backward>::run));
