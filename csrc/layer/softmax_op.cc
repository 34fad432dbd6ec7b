// Paddle's view of masked_softmax: checks, allocation, registration.

#include <omp.h>

#include <vector>

#include "common/paddle_check.h"
#include "layer/layer.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

unimo::SoftmaxShape flat_shape(const Shape& scores) {
  return {scores[0], scores[1] * scores[2], scores[3]};
}

std::vector<Tensor> forward(const Tensor& scores, const Tensor& mask) {
  const Shape shape = scores.shape();
  unimo::require(scores.is_cpu() && shape.size() == 4,
                 "masked_softmax: scores must be on a CPU and of shape [H, B, L, M]");
  unimo::require(mask.shape() == Shape(shape.begin() + 1, shape.end()),
                 "masked_softmax: mask must be of shape [", shape[1], ", ", shape[2], ", ",
                 shape[3], "]");
  unimo::require(scores.dtype() == DataType::FLOAT32 && mask.dtype() == DataType::FLOAT32,
                 "masked_softmax: scores and mask must be float32");
  Tensor probabilities = paddle::empty(shape, DataType::FLOAT32, scores.place());
  unimo::best_layer(omp_get_max_threads())
      .masked_softmax(flat_shape(shape), scores.data<float>(), mask.data<float>(),
                      probabilities.data<float>());
  return {probabilities};
}

std::vector<Tensor> backward(const Tensor& probabilities, const Tensor& gradient) {
  Tensor by_scores = paddle::empty(probabilities.shape(), DataType::FLOAT32, probabilities.place());
  unimo::best_layer(omp_get_max_threads())
      .masked_softmax_gradient(flat_shape(probabilities.shape()), probabilities.data<float>(),
                               gradient.data<float>(), by_scores.data<float>());
  return {by_scores};
}

std::vector<Shape> shapes(const Shape& scores, const Shape&) { return {scores}; }

std::vector<Shape> backward_shapes(const Shape& probabilities, const Shape&) {
  return {probabilities};
}

std::vector<DataType> types(DataType, DataType) { return {DataType::FLOAT32}; }

}  // namespace

PD_BUILD_OP(unimo_masked_softmax)
    .Inputs({"scores", "mask"})
    .Outputs({"probabilities"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));

PD_BUILD_GRAD_OP(unimo_masked_softmax)
    .Inputs({"probabilities", paddle::Grad("probabilities")})
    .Outputs({paddle::Grad("scores")})
    .SetKernelFn(PD_KERNEL(backward))
    .SetInferShapeFn(PD_INFER_SHAPE(backward_shapes));
