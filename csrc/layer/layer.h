// What a layer of a Transformer does between its matrix products, forward and backward.
//
//     add_norm   sums = residual + dropout(rows + bias)
//                normed = scale (sums - mean) / deviation + shift, mean and deviation of each row
//     bias_gelu  activated = h Phi(h) with h = rows + bias, Phi the normal distribution
//     split      heads[h, b, l] = factor (rows[b, l, h] + bias[h])
//     softmax    probabilities[h, b, l] = softmax(scores[h, b, l] + mask[b, l])
//
// Paddle has an operation for each sign in these lines, most on one thread, and each reads and
// writes whole matrices. Here each line reads its inputs once and writes its results once, on all
// threads.
//
// Sums over a row are float32 in vectors; sums over all rows, for bias, scale and shift, are made
// of blocks of kRowsOfBlock rows, added in order. So results are equal to the bit for any number of
// threads.

#pragma once

#include <cstdint>

namespace unimo {

constexpr std::int64_t kRowsOfBlock = 64;

struct Shape2 {
  std::int64_t num_rows;
  std::int64_t width;
};

// Each number is kept with probability 1 - rate and divided by that. Which ones, follows from seed
// and place, so that the gradient finds them again without a mask.
struct Dropout {
  float rate;  // 0 to below 1; 0: none
  std::int64_t seed;
};

struct AddNormInputs {
  Shape2 shape;
  const float* rows;      // [num_rows, width]
  const float* bias;      // [width]
  const float* residual;  // [num_rows, width]
  const float* scale;     // [width]
  const float* shift;     // [width]
  float epsilon;          // added to the variance
  Dropout dropout;
};

struct AddNormOutputs {
  float* normed;     // [num_rows, width]
  float* sums;       // [num_rows, width]
  float* means;      // [num_rows]
  float* deviation;  // [num_rows]: one over it
};

struct AddNormSaved {
  Shape2 shape;
  const float* sums;
  const float* means;
  const float* deviation;
  const float* scale;
  Dropout dropout;
};

struct AddNormGradients {
  float* rows;
  float* residual;
  float* bias;
  float* scale;
  float* shift;
};

struct BiasGeluInputs {
  Shape2 shape;
  const float* rows;  // [num_rows, width]
  const float* bias;  // [width]
};

struct HeadShape {
  std::int64_t batch;
  std::int64_t length;
  std::int64_t num_heads;
  std::int64_t head_size;
};

struct SoftmaxShape {
  std::int64_t repeats;
  std::int64_t mask_rows;
  std::int64_t width;
};

struct LayerKernel;

// All of it by one kernel, on so many threads.
struct Layer {
  const LayerKernel& kernel;
  int num_threads;

  void add_norm(const AddNormInputs& in, const AddNormOutputs& out) const;
  // gradient: by normed [num_rows, width].
  void add_norm_gradient(const AddNormSaved& saved, const float* gradient,
                         const AddNormGradients& out) const;

  // activated, gradient, by_rows: [num_rows, width]; by_bias: [width].
  void bias_gelu(const BiasGeluInputs& in, float* activated) const;
  void bias_gelu_gradient(const BiasGeluInputs& in, const float* gradient, float* by_rows,
                          float* by_bias) const;

  // rows, by_rows: [batch, length, num_heads * head_size]; bias, by_bias: [num_heads * head_size];
  // heads, gradient: [num_heads, batch, length, head_size].
  void split_heads(const HeadShape& shape, const float* rows, const float* bias, float factor,
                   float* heads) const;
  void split_heads_gradient(const HeadShape& shape, const float* gradient, float factor,
                            float* by_rows, float* by_bias) const;

  // scores, probabilities, gradient, by_scores: [repeats, mask_rows, width];
  // mask: [mask_rows, width].
  void masked_softmax(const SoftmaxShape& shape, const float* scores, const float* mask,
                      float* probabilities) const;
  void masked_softmax_gradient(const SoftmaxShape& shape, const float* probabilities,
                               const float* gradient, float* by_scores) const;
};

// By the best kernel that runs here.
Layer best_layer(int num_threads);

}  // namespace unimo
