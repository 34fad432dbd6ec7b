// What one thread does with its rows; compiled for several instruction sets.

#pragma once

#include "layer/layer.h"

namespace unimo {

// Rows from begin to end. `column_sums` are of these rows alone: of add_norm for bias, scale and
// shift, [3, width]; of the others for the bias.
struct LayerKernel {
  void (*add_norm)(const AddNormInputs& in, const AddNormOutputs& out, std::int64_t begin,
                   std::int64_t end);
  void (*add_norm_gradient)(const AddNormSaved& saved, const float* gradient,
                            const AddNormGradients& out, float* column_sums, std::int64_t begin,
                            std::int64_t end);
  void (*bias_gelu)(const BiasGeluInputs& in, float* activated, std::int64_t begin,
                    std::int64_t end);
  void (*bias_gelu_gradient)(const BiasGeluInputs& in, const float* gradient, float* by_rows,
                             float* column_sums, std::int64_t begin, std::int64_t end);
  void (*split_heads)(const HeadShape& shape, const float* rows, const float* bias, float factor,
                      float* heads, std::int64_t begin, std::int64_t end);
  void (*split_heads_gradient)(const HeadShape& shape, const float* gradient, float factor,
                               float* by_rows, float* column_sums, std::int64_t begin,
                               std::int64_t end);
  void (*masked_softmax)(const SoftmaxShape& shape, const float* scores, const float* mask,
                         float* probabilities, std::int64_t begin, std::int64_t end);
  void (*masked_softmax_gradient)(const SoftmaxShape& shape, const float* probabilities,
                                  const float* gradient, float* by_scores, std::int64_t begin,
                                  std::int64_t end);
};

extern const LayerKernel kLayerPortable;
#if defined(__x86_64__)
extern const LayerKernel kLayerAvx2;
extern const LayerKernel kLayerAvx512;
#endif

}  // namespace unimo
