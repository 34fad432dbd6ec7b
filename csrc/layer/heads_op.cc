// Paddle's view of split_heads: checks, allocation, registration.

#include <omp.h>

#include <vector>

#include "common/paddle_check.h"
#include "layer/layer.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

std::vector<Tensor> forward(const Tensor& rows, const Tensor& bias, std::int64_t num_heads,
                            float factor) {
  const Shape shape = rows.shape();
  unimo::require(rows.is_cpu() && shape.size() == 3,
                 "split_heads: rows must be on a CPU and of shape [B, L, D]");
  unimo::require(num_heads > 0 && shape[2] % num_heads == 0, "split_heads: rows of ", shape[2],
                 " numbers cannot be split into ", num_heads, " heads");
  unimo::require(bias.shape() == Shape{shape[2]}, "split_heads: bias must be of shape [", shape[2],
                 "]");
  unimo::require(rows.dtype() == DataType::FLOAT32 && bias.dtype() == DataType::FLOAT32,
                 "split_heads: rows and bias must be float32");
  const std::int64_t size = shape[2] / num_heads;
  Tensor heads =
      paddle::empty({num_heads, shape[0], shape[1], size}, DataType::FLOAT32, rows.place());
  unimo::best_layer(omp_get_max_threads())
      .split_heads({shape[0], shape[1], num_heads, size}, rows.data<float>(), bias.data<float>(),
                   factor, heads.data<float>());
  return {heads};
}

std::vector<Tensor> backward(const Tensor& bias, const Tensor& gradient, std::int64_t num_heads,
                             float factor) {
  const Shape shape = gradient.shape();
  Tensor by_rows = paddle::empty({shape[1], shape[2], num_heads * shape[3]}, DataType::FLOAT32,
                                 gradient.place());
  Tensor by_bias = paddle::empty(bias.shape(), DataType::FLOAT32, gradient.place());
  unimo::best_layer(omp_get_max_threads())
      .split_heads_gradient({shape[1], shape[2], num_heads, shape[3]}, gradient.data<float>(),
                            factor, by_rows.data<float>(), by_bias.data<float>());
  return {by_rows, by_bias};
}

std::vector<Shape> shapes(const Shape& rows, const Shape&, std::int64_t num_heads, float) {
  // Refused when it runs: what is thrown here, while a static graph is built, ends the process.
  if (rows.size() != 3 || num_heads < 1) return {rows};
  return {{num_heads, rows[0], rows[1], rows[2] < 0 ? -1 : rows[2] / num_heads}};
}

std::vector<Shape> backward_shapes(const Shape& bias, const Shape& gradient, std::int64_t, float) {
  return {{gradient[1], gradient[2], bias[0]}, bias};
}

std::vector<DataType> types(DataType, DataType) { return {DataType::FLOAT32}; }

}  // namespace

PD_BUILD_OP(unimo_split_heads)
    .Inputs({"rows", "bias"})
    .Outputs({"heads"})
    .Attrs({"num_heads: int64_t", "factor: float"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));

PD_BUILD_GRAD_OP(unimo_split_heads)
    .Inputs({"bias", paddle::Grad("heads")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias")})
    .Attrs({"num_heads: int64_t", "factor: float"})
    .SetKernelFn(PD_KERNEL(backward))
    .SetInferShapeFn(PD_INFER_SHAPE(backward_shapes));
