// Paddle's view of what a layer does between its products: checks, allocation, registration.

#include <omp.h>

#include <initializer_list>
#include <vector>

#include "common/paddle_check.h"
#include "layer/layer.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

unimo::Layer layer() { return unimo::best_layer(omp_get_max_threads()); }

// Rows of the last axis.
unimo::Shape2 rows_of(const Tensor& tensor) {
  const std::int64_t width = tensor.shape().back();
  return {width ? tensor.numel() / width : 0, width};
}

Tensor make(const Shape& shape, const Tensor& beside) {
  return paddle::empty(shape, DataType::FLOAT32, beside.place());
}

bool are_float32(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (tensor->dtype() != DataType::FLOAT32) return false;
  }
  return true;
}

// ---- add_norm

unimo::Dropout dropout_of(float rate, const Tensor& seed) {
  return {rate, rate > 0 ? seed.data<std::int32_t>()[0] : 0};
}

// Outputs: normed, sums, means, one over deviations.
std::vector<Tensor> add_norm(const Tensor& rows, const Tensor& bias, const Tensor& residual,
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
  unimo::require(are_float32({&rows, &bias, &residual, &scale, &shift}),
                 "add_norm: all but seed must be float32");
  unimo::require(seed.dtype() == DataType::INT32 && seed.numel() == 1,
                 "add_norm: seed must be one int32");
  unimo::require(rate >= 0.0f && rate < 1.0f, "add_norm: rate is ", rate,
                 "; it must be at least 0 and below 1");
  const Shape of_rows(shape.begin(), shape.end() - 1);
  std::vector<Tensor> outputs = {make(shape, rows), make(shape, rows), make(of_rows, rows),
                                 make(of_rows, rows)};
  layer().add_norm({rows_of(rows), rows.data<float>(), bias.data<float>(), residual.data<float>(),
                    scale.data<float>(), shift.data<float>(), epsilon, dropout_of(rate, seed)},
                   {outputs[0].data<float>(), outputs[1].data<float>(), outputs[2].data<float>(),
                    outputs[3].data<float>()});
  return outputs;
}

std::vector<Tensor> add_norm_gradient(const Tensor& scale, const Tensor& seed, const Tensor& sums,
                                      const Tensor& means, const Tensor& deviation,
                                      const Tensor& gradient, float, float rate) {
  const Shape shape = sums.shape(), width = scale.shape();
  std::vector<Tensor> results;
  for (const Shape& of : {shape, width, shape, width, width}) results.push_back(make(of, sums));
  layer().add_norm_gradient(
      {rows_of(sums), sums.data<float>(), means.data<float>(), deviation.data<float>(),
       scale.data<float>(), dropout_of(rate, seed)},
      gradient.data<float>(),
      {results[0].data<float>(), results[2].data<float>(), results[1].data<float>(),
       results[3].data<float>(), results[4].data<float>()});
  return results;
}

std::vector<Shape> add_norm_shapes(const Shape& rows, const Shape&, const Shape&, const Shape&,
                                   const Shape&, const Shape&, float, float) {
  const Shape of_rows(rows.begin(), rows.end() - (rows.empty() ? 0 : 1));
  return {rows, rows, of_rows, of_rows};
}

std::vector<Shape> add_norm_gradient_shapes(const Shape& scale, const Shape&, const Shape& sums,
                                            const Shape&, const Shape&, const Shape&, float,
                                            float) {
  return {sums, scale, sums, scale, scale};
}

std::vector<DataType> add_norm_types(DataType, DataType, DataType, DataType, DataType, DataType) {
  return std::vector<DataType>(4, DataType::FLOAT32);
}

// ---- bias_gelu

unimo::BiasGeluInputs inputs_of(const Tensor& rows, const Tensor& bias) {
  return {rows_of(rows), rows.data<float>(), bias.data<float>()};
}

std::vector<Tensor> bias_gelu(const Tensor& rows, const Tensor& bias) {
  unimo::require(rows.is_cpu() && !rows.shape().empty(),
                 "bias_gelu: rows must be on a CPU and have at least one axis");
  unimo::require(bias.shape() == Shape{rows.shape().back()}, "bias_gelu: bias must be of shape [",
                 rows.shape().back(), "]");
  unimo::require(are_float32({&rows, &bias}), "bias_gelu: rows and bias must be float32");
  Tensor activated = make(rows.shape(), rows);
  layer().bias_gelu(inputs_of(rows, bias), activated.data<float>());
  return {activated};
}

std::vector<Tensor> bias_gelu_gradient(const Tensor& rows, const Tensor& bias,
                                       const Tensor& gradient) {
  Tensor by_rows = make(rows.shape(), rows);
  Tensor by_bias = make(bias.shape(), rows);
  layer().bias_gelu_gradient(inputs_of(rows, bias), gradient.data<float>(), by_rows.data<float>(),
                             by_bias.data<float>());
  return {by_rows, by_bias};
}

std::vector<Shape> bias_gelu_shapes(const Shape& rows, const Shape&) { return {rows}; }

std::vector<Shape> bias_gelu_gradient_shapes(const Shape& rows, const Shape& bias, const Shape&) {
  return {rows, bias};
}

std::vector<DataType> bias_gelu_types(DataType, DataType) { return {DataType::FLOAT32}; }

// ---- split_heads

std::vector<Tensor> split_heads(const Tensor& rows, const Tensor& bias, std::int64_t num_heads,
                                float factor) {
  const Shape shape = rows.shape();
  unimo::require(rows.is_cpu() && shape.size() == 3,
                 "split_heads: rows must be on a CPU and of shape [B, L, D]");
  unimo::require(num_heads > 0 && shape[2] % num_heads == 0, "split_heads: rows of ", shape[2],
                 " numbers cannot be split into ", num_heads, " heads");
  unimo::require(bias.shape() == Shape{shape[2]}, "split_heads: bias must be of shape [", shape[2],
                 "]");
  unimo::require(are_float32({&rows, &bias}), "split_heads: rows and bias must be float32");
  const std::int64_t size = shape[2] / num_heads;
  Tensor heads = make({num_heads, shape[0], shape[1], size}, rows);
  layer().split_heads({shape[0], shape[1], num_heads, size}, rows.data<float>(), bias.data<float>(),
                      factor, heads.data<float>());
  return {heads};
}

std::vector<Tensor> split_heads_gradient(const Tensor& bias, const Tensor& gradient,
                                         std::int64_t num_heads, float factor) {
  const Shape shape = gradient.shape();
  Tensor by_rows = make({shape[1], shape[2], num_heads * shape[3]}, gradient);
  Tensor by_bias = make(bias.shape(), gradient);
  layer().split_heads_gradient({shape[1], shape[2], num_heads, shape[3]}, gradient.data<float>(),
                               factor, by_rows.data<float>(), by_bias.data<float>());
  return {by_rows, by_bias};
}

std::vector<Shape> split_heads_shapes(const Shape& rows, const Shape&, std::int64_t num_heads,
                                      float) {
  // Refused when it runs: what is thrown here, while a static graph is built, ends the process.
  if (rows.size() != 3 || num_heads < 1) return {rows};
  return {{num_heads, rows[0], rows[1], rows[2] < 0 ? -1 : rows[2] / num_heads}};
}

std::vector<Shape> split_heads_gradient_shapes(const Shape& bias, const Shape& gradient,
                                               std::int64_t, float) {
  if (gradient.size() != 4 || bias.size() != 1) return {gradient, bias};
  return {{gradient[1], gradient[2], bias[0]}, bias};
}

std::vector<DataType> split_heads_types(DataType, DataType) { return {DataType::FLOAT32}; }

// ---- masked_softmax

unimo::SoftmaxShape flat_shape(const Shape& scores) {
  return {scores[0], scores[1] * scores[2], scores[3]};
}

std::vector<Tensor> masked_softmax(const Tensor& scores, const Tensor& mask) {
  const Shape shape = scores.shape();
  unimo::require(scores.is_cpu() && shape.size() == 4,
                 "masked_softmax: scores must be on a CPU and of shape [H, B, L, M]");
  unimo::require(mask.shape() == Shape(shape.begin() + 1, shape.end()),
                 "masked_softmax: mask must be of shape [", shape[1], ", ", shape[2], ", ",
                 shape[3], "]");
  unimo::require(are_float32({&scores, &mask}), "masked_softmax: scores and mask must be float32");
  Tensor probabilities = make(shape, scores);
  layer().masked_softmax(flat_shape(shape), scores.data<float>(), mask.data<float>(),
                         probabilities.data<float>());
  return {probabilities};
}

std::vector<Tensor> masked_softmax_gradient(const Tensor& probabilities, const Tensor& gradient) {
  Tensor by_scores = make(probabilities.shape(), probabilities);
  layer().masked_softmax_gradient(flat_shape(probabilities.shape()), probabilities.data<float>(),
                                  gradient.data<float>(), by_scores.data<float>());
  return {by_scores};
}

std::vector<Shape> masked_softmax_shapes(const Shape& scores, const Shape&) { return {scores}; }

std::vector<Shape> masked_softmax_gradient_shapes(const Shape& probabilities, const Shape&) {
  return {probabilities};
}

std::vector<DataType> masked_softmax_types(DataType, DataType) { return {DataType::FLOAT32}; }

}  // namespace

PD_BUILD_OP(unimo_add_norm)
    .Inputs({"rows", "bias", "residual", "scale", "shift", "seed"})
    .Outputs({"normed", "sums", "means", "deviation"})
    .Attrs({"epsilon: float", "rate: float"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<add_norm>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(add_norm_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(add_norm_types));

PD_BUILD_GRAD_OP(unimo_add_norm)
    .Inputs({"scale", "seed", "sums", "means", "deviation", paddle::Grad("normed")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias"), paddle::Grad("residual"),
              paddle::Grad("scale"), paddle::Grad("shift")})
    .Attrs({"epsilon: float", "rate: float"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<add_norm_gradient>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(add_norm_gradient_shapes));

PD_BUILD_OP(unimo_bias_gelu)
    .Inputs({"rows", "bias"})
    .Outputs({"activated"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<bias_gelu>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(bias_gelu_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(bias_gelu_types));

PD_BUILD_GRAD_OP(unimo_bias_gelu)
    .Inputs({"rows", "bias", paddle::Grad("activated")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias")})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<bias_gelu_gradient>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(bias_gelu_gradient_shapes));

PD_BUILD_OP(unimo_split_heads)
    .Inputs({"rows", "bias"})
    .Outputs({"heads"})
    .Attrs({"num_heads: int64_t", "factor: float"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<split_heads>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(split_heads_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(split_heads_types));

PD_BUILD_GRAD_OP(unimo_split_heads)
    .Inputs({"bias", paddle::Grad("heads")})
    .Outputs({paddle::Grad("rows"), paddle::Grad("bias")})
    .Attrs({"num_heads: int64_t", "factor: float"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<split_heads_gradient>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(split_heads_gradient_shapes));

PD_BUILD_OP(unimo_masked_softmax)
    .Inputs({"scores", "mask"})
    .Outputs({"probabilities"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<masked_softmax>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(masked_softmax_shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(masked_softmax_types));

PD_BUILD_GRAD_OP(unimo_masked_softmax)
    .Inputs({"probabilities", paddle::Grad("probabilities")})
    .Outputs({paddle::Grad("scores")})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<masked_softmax_gradient>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(masked_softmax_gradient_shapes));
