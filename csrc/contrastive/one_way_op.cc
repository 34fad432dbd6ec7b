// Paddle's view of the one-way form with known weights: a loss whose gradients are already there.

#include <omp.h>

#include <limits>
#include <vector>

#include "contrastive/checked_inputs.h"
#include "contrastive/contrastive.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

// Outputs: the loss sum_i weights[i] (row_all[i] - row_positive[i]) over the rows that have a
// positive, and its gradients by rows, columns and temperature.
std::vector<Tensor> forward(const Tensor& rows, const Tensor& columns, const Tensor& temperature,
                            const Tensor& row_group, const Tensor& column_group,
                            const Tensor& row_duplicate, const Tensor& column_duplicate,
                            const Tensor& weights) {
  const auto inputs = unimo::checked_inputs(rows, columns, temperature, row_group, column_group,
                                            row_duplicate, column_duplicate);
  unimo::require(rows.is_cpu(), "contrastive_one_way: this operator runs on CPUs only");
  unimo::require(weights.dtype() == DataType::FLOAT32 && weights.shape() == Shape{inputs.num_rows},
                 "contrastive_one_way: weights must be float32 of shape [", inputs.num_rows, "]");
  const auto make = [&](const Shape& shape) {
    return paddle::empty(shape, DataType::FLOAT32, rows.place());
  };
  std::vector<Tensor> outputs = {make({1}), make(rows.shape()), make(columns.shape()),
                                 make(temperature.shape())};
  std::vector<float> row_all(inputs.num_rows), row_positive(inputs.num_rows);
  const float* const weight = weights.data<float>();
  unimo::contrastive_one_way_cpu(
      inputs, weight, row_all.data(), row_positive.data(),
      {outputs[1].data<float>(), outputs[2].data<float>(), outputs[3].data<float>()},
      omp_get_max_threads(), unimo::cpu_kernel());
  double loss = 0.0;
  for (std::int64_t i = 0; i < inputs.num_rows; ++i) {
    if (row_positive[i] == -std::numeric_limits<float>::infinity()) continue;
    loss += static_cast<double>(weight[i]) * (static_cast<double>(row_all[i]) - row_positive[i]);
  }
  outputs[0].data<float>()[0] = static_cast<float>(loss);
  return outputs;
}

std::vector<Tensor> backward(const Tensor& row_gradient, const Tensor& column_gradient,
                             const Tensor& temperature_gradient, const Tensor& loss_gradient) {
  const float factor = loss_gradient.data<float>()[0];
  std::vector<Tensor> results;
  for (const Tensor& gradient : {row_gradient, column_gradient, temperature_gradient}) {
    results.push_back(paddle::empty(gradient.shape(), DataType::FLOAT32, gradient.place()));
    const float* const from = gradient.data<float>();
    float* const to = results.back().data<float>();
    for (std::int64_t i = 0; i < gradient.numel(); ++i) to[i] = factor * from[i];
  }
  return results;
}

std::vector<Shape> shapes(const Shape& rows, const Shape& columns, const Shape& temperature,
                          const Shape&, const Shape&, const Shape&, const Shape&, const Shape&) {
  return {{1}, rows, columns, temperature};
}

std::vector<Shape> backward_shapes(const Shape& rows, const Shape& columns,
                                   const Shape& temperature, const Shape&) {
  return {rows, columns, temperature};
}

std::vector<DataType> types(DataType, DataType, DataType, DataType, DataType, DataType, DataType,
                            DataType) {
  return std::vector<DataType>(4, DataType::FLOAT32);
}

}  // namespace

PD_BUILD_OP(unimo_contrastive_one_way)
    .Inputs({"rows", "columns", "temperature", "row_group", "column_group", "row_duplicate",
             "column_duplicate", "weights"})
    .Outputs({"loss", "row_gradient", "column_gradient", "temperature_gradient"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));

PD_BUILD_GRAD_OP(unimo_contrastive_one_way)
    .Inputs({"row_gradient", "column_gradient", "temperature_gradient", paddle::Grad("loss")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("columns"), paddle::Grad("temperature")})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<backward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(backward_shapes));
