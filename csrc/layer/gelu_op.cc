// Paddle's view of bias_gelu: checks, allocation, registration.

#include <omp.h>

#include <vector>

#include "common/paddle_check.h"
#include "layer/layer.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

unimo::BiasGeluInputs inputs_of(const Tensor& rows, const Tensor& bias) {
  const std::int64_t width = rows.shape().back();
  return {{width ? rows.numel() / width : 0, width}, rows.data<float>(), bias.data<float>()};
}

std::vector<Tensor> forward(const Tensor& rows, const Tensor& bias) {
  unimo::require(rows.is_cpu() && !rows.shape().empty(),
                 "bias_gelu: rows must be on a CPU and have at least one axis");
  unimo::require(bias.shape() == Shape{rows.shape().back()}, "bias_gelu: bias must be of shape [",
                 rows.shape().back(), "]");
  unimo::require(rows.dtype() == DataType::FLOAT32 && bias.dtype() == DataType::FLOAT32,
                 "bias_gelu: rows and bias must be float32");
  Tensor activated = paddle::empty(rows.shape(), DataType::FLOAT32, rows.place());
  unimo::best_layer(omp_get_max_threads())
      .bias_gelu(inputs_of(rows, bias), activated.data<float>());
  return {activated};
}

std::vector<Tensor> backward(const Tensor& rows, const Tensor& bias, const Tensor& gradient) {
  Tensor by_rows = paddle::empty(rows.shape(), DataType::FLOAT32, rows.place());
  Tensor by_bias = paddle::empty(bias.shape(), DataType::FLOAT32, rows.place());
  unimo::best_layer(omp_get_max_threads())
      .bias_gelu_gradient(inputs_of(rows, bias), gradient.data<float>(), by_rows.data<float>(),
                          by_bias.data<float>());
  return {by_rows, by_bias};
}

std::vector<Shape> shapes(const Shape& rows, const Shape&) { return {rows}; }

std::vector<Shape> backward_shapes(const Shape& rows, const Shape& bias, const Shape&) {
  return {rows, bias};
}

std::vector<DataType> types(DataType, DataType) { return {DataType::FLOAT32}; }

}  // namespace

PD_BUILD_OP(unimo_bias_gelu)
    .Inputs({"rows", "bias"})
    .Outputs({"activated"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));

PD_BUILD_GRAD_OP(unimo_bias_gelu)
    .Inputs({"rows", "bias", paddle::Grad("activated")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias")})
    .SetKernelFn(PD_KERNEL(backward))
    .SetInferShapeFn(PD_INFER_SHAPE(backward_shapes));
