// Paddle's view of add_norm: checks, allocation, registration.

#include <omp.h>

#include <vector>

#include "common/paddle_check.h"
#include "layer/layer.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

unimo::Shape2 flat_shape(const Tensor& rows) {
  const std::int64_t width = rows.shape().back();
  return {width ? rows.numel() / width : 0, width};
}

unimo::Dropout dropout_of(float rate, const Tensor& seed) {
  return {rate, rate > 0 ? seed.data<std::int32_t>()[0] : 0};
}

// Outputs: normed, sums, means, one over deviations.
std::vector<Tensor> forward(const Tensor& rows, const Tensor& bias, const Tensor& residual,
                            const Tensor& scale, const Tensor& shift, const Tensor& seed,
                            float epsilon, float rate) {
  const Shape shape = rows.shape();
  unimo::require(rows.is_cpu() && !shape.empty() && shape.back() > 0,
                 "add_norm: rows must be on a CPU and have numbers");
  unimo::require(residual.shape() == shape, "add_norm: residual must have the shape of rows");
  for (const Tensor* tensor : {&bias, &scale, &shift}) {
    unimo::require(tensor->shape() == Shape{shape.back()},
                   "add_norm: bias, scale and shift must be of shape [", shape.back(), "]");
  }
  for (const Tensor* tensor : {&rows, &bias, &residual, &scale, &shift}) {
    unimo::require(tensor->dtype() == DataType::FLOAT32, "add_norm: all but seed must be float32");
  }
  unimo::require(seed.dtype() == DataType::INT32 && seed.numel() == 1,
                 "add_norm: seed must be one int32");
  unimo::require(rate >= 0.0f && rate < 1.0f, "add_norm: rate is ", rate,
                 "; it must be at least 0 and below 1");
  const auto make = [&](const Shape& of) {
    return paddle::empty(of, DataType::FLOAT32, rows.place());
  };
  const Shape of_rows(shape.begin(), shape.end() - 1);
  std::vector<Tensor> outputs = {make(shape), make(shape), make(of_rows), make(of_rows)};
  unimo::best_layer(omp_get_max_threads())
      .add_norm({flat_shape(rows), rows.data<float>(), bias.data<float>(), residual.data<float>(),
                 scale.data<float>(), shift.data<float>(), epsilon, dropout_of(rate, seed)},
                {outputs[0].data<float>(), outputs[1].data<float>(), outputs[2].data<float>(),
                 outputs[3].data<float>()});
  return outputs;
}

std::vector<Tensor> backward(const Tensor& scale, const Tensor& seed, const Tensor& sums,
                             const Tensor& means, const Tensor& deviation, const Tensor& gradient,
                             float, float rate) {
  const auto make = [&](const Tensor& like) {
    return paddle::empty(like.shape(), DataType::FLOAT32, like.place());
  };
  std::vector<Tensor> results = {make(sums), make(scale), make(sums), make(scale), make(scale)};
  unimo::best_layer(omp_get_max_threads())
      .add_norm_gradient(
          {flat_shape(sums), sums.data<float>(), means.data<float>(), deviation.data<float>(),
           scale.data<float>(), dropout_of(rate, seed)},
          gradient.data<float>(),
          {results[0].data<float>(), results[2].data<float>(), results[1].data<float>(),
           results[3].data<float>(), results[4].data<float>()});
  return results;
}

std::vector<Shape> shapes(const Shape& rows, const Shape&, const Shape&, const Shape&, const Shape&,
                          const Shape&, float, float) {
  const Shape of_rows(rows.begin(), rows.end() - (rows.empty() ? 0 : 1));
  return {rows, rows, of_rows, of_rows};
}

std::vector<Shape> backward_shapes(const Shape& scale, const Shape&, const Shape& sums,
                                   const Shape&, const Shape&, const Shape&, float, float) {
  return {sums, scale, sums, scale, scale};
}

std::vector<DataType> types(DataType, DataType, DataType, DataType, DataType, DataType) {
  return std::vector<DataType>(4, DataType::FLOAT32);
}

}  // namespace

PD_BUILD_OP(unimo_add_norm)
    .Inputs({"rows", "bias", "residual", "scale", "shift", "seed"})
    .Outputs({"normed", "sums", "means", "deviation"})
    .Attrs({"epsilon: float", "rate: float"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));

PD_BUILD_GRAD_OP(unimo_add_norm)
    .Inputs({"scale", "seed", "sums", "means", "deviation", paddle::Grad("normed")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias"), paddle::Grad("residual"),
              paddle::Grad("scale"), paddle::Grad("shift")})
    .Attrs({"epsilon: float", "rate: float"})
    .SetKernelFn(PD_KERNEL(backward))
    .SetInferShapeFn(PD_INFER_SHAPE(backward_shapes));
