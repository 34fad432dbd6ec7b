// What one thread does with its rows. Compiled for several instruction sets, so everything is of
// internal linkage: see common/simd.h.

#pragma once

#include <cmath>

#include "common/simd.h"
#include "layer/kernel.h"

namespace unimo {
namespace {

// work(first, count) for vectors of a row; the last may have fewer numbers than lanes.
template <typename Work>
inline void for_each_vector(std::int64_t width, const Work& work) {
  std::int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) work(j, std::int64_t{kLanes});
  if (j < width) work(j, width - j);
}

// The lanes beyond `count` as zeros.
inline Vector keep_first(Vector value, std::int64_t count) {
  for (std::int64_t lane = count; lane < kLanes; ++lane) value[lane] = 0.0f;
  return value;
}

inline void add_to(float* target, Vector value, std::int64_t count) {
  store_some(target, load_some(target, count) + value, count);
}

inline void clear(float* target, std::int64_t count) {
  std::memset(target, 0, static_cast<std::size_t>(count) * sizeof(float));
}

// ---- dropout

// Two rounds of multiplying and folding turn a place into bits that look random; the seed enters
// before each of them, or all seeds would draw the same sequence from another start.
class Mask {
 public:
  explicit Mask(const Dropout& dropout)
      : kept_(broadcast(1.0f / (1.0f - dropout.rate))),
        limit_(static_cast<std::uint32_t>(dropout.rate * 16777216.0)) {
    std::uint64_t state = static_cast<std::uint64_t>(dropout.seed);
    first_ = next_word(state);
    second_ = next_word(state);
    for (int lane = 0; lane < kLanes; ++lane) lanes_[lane] = static_cast<std::uint32_t>(lane);
  }

  // What to multiply the numbers from this place on with: 0 or 1 / (1 - rate).
  Vector at(std::int64_t place) const {
    BitVector x = (lanes_ + static_cast<std::uint32_t>(place)) ^ first_;
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x = (x ^ (x >> 15)) + second_;
    x *= 0xd35a2d97u;
    x ^= x >> 15;
    return (x >> 8) >= limit_ ? kept_ : Vector{};
  }

 private:
  // SplitMix64 (Steele et al., 2014), the upper half of its output.
  static std::uint32_t next_word(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t x = state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>((x ^ (x >> 31)) >> 32);
  }

  Vector kept_;
  BitVector lanes_;
  std::uint32_t limit_, first_, second_;
};

// ---- add_norm

template <bool kDrops>
void add_norm_rows(const AddNormInputs& in, const AddNormOutputs& out, std::int64_t begin,
                   std::int64_t end) {
  const std::int64_t width = in.shape.width;
  const Mask mask(in.dropout);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t start = i * width;
    float* const sums = out.sums + start;
    Vector total = {};
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      Vector value = load_some(in.rows + start + j, count) + load_some(in.bias + j, count);
      if (kDrops) value *= mask.at(start + j);
      value += load_some(in.residual + start + j, count);
      store_some(sums + j, value, count);
      total += value;
    });
    const float mean = sum_lanes(total) / static_cast<float>(width);
    Vector squares = {};
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector value = keep_first(load_some(sums + j, count) - broadcast(mean), count);
      squares += value * value;
    });
    const float variance = sum_lanes(squares) / static_cast<float>(width);
    const float deviation = 1.0f / std::sqrt(variance + in.epsilon);
    out.means[i] = mean;
    out.deviation[i] = deviation;
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector value = (load_some(sums + j, count) - broadcast(mean)) * broadcast(deviation);
      store_some(out.normed + start + j,
                 value * load_some(in.scale + j, count) + load_some(in.shift + j, count), count);
    });
  }
}

void add_norm(const AddNormInputs& in, const AddNormOutputs& out, std::int64_t begin,
              std::int64_t end) {
  (in.dropout.rate > 0 ? add_norm_rows<true> : add_norm_rows<false>)(in, out, begin, end);
}

// With x the normed row before scale and shift and g = scale * gradient, the gradient by the sums
// is (g - mean(g) - x mean(g x)) / deviation.
template <bool kDrops>
void add_norm_gradient_rows(const AddNormSaved& saved, const float* gradient,
                            const AddNormGradients& out, float* column_sums, std::int64_t begin,
                            std::int64_t end) {
  const std::int64_t width = saved.shape.width;
  float *const by_bias = column_sums, *const by_scale = by_bias + width,
               *const by_shift = by_scale + width;
  clear(column_sums, 3 * width);
  const Mask mask(saved.dropout);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t start = i * width;
    const Vector mean = broadcast(saved.means[i]), deviation = broadcast(saved.deviation[i]);
    Vector total = {}, products = {};
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector x = (load_some(saved.sums + start + j, count) - mean) * deviation;
      const Vector by_normed = load_some(gradient + start + j, count);
      const Vector g = by_normed * load_some(saved.scale + j, count);
      total += g;
      products += g * x;
      add_to(by_scale + j, by_normed * x, count);
      add_to(by_shift + j, by_normed, count);
    });
    const Vector share = broadcast(1.0f / static_cast<float>(width));
    const Vector mean_g = broadcast(sum_lanes(total)) * share;
    const Vector mean_gx = broadcast(sum_lanes(products)) * share;
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector x = (load_some(saved.sums + start + j, count) - mean) * deviation;
      const Vector g = load_some(gradient + start + j, count) * load_some(saved.scale + j, count);
      Vector by_sum = (g - mean_g - x * mean_gx) * deviation;
      store_some(out.residual + start + j, by_sum, count);
      if (kDrops) by_sum *= mask.at(start + j);
      store_some(out.rows + start + j, by_sum, count);
      add_to(by_bias + j, by_sum, count);
    });
  }
}

void add_norm_gradient(const AddNormSaved& saved, const float* gradient,
                       const AddNormGradients& out, float* column_sums, std::int64_t begin,
                       std::int64_t end) {
  (saved.dropout.rate > 0
       ? add_norm_gradient_rows<true>
       : add_norm_gradient_rows<false>)(saved, gradient, out, column_sums, begin, end);
}

// ---- bias_gelu

struct Normal {
  Vector cumulative;  // Phi
  Vector density;     // its derivative
};

// Both to some 4 units in the last place. The tail from |x| on is t p(t) exp(-x^2 / 2) with
// t = 1 / (1 + 0.3 |x|), the form of Hastings (Approximations for Digital Computers, 1955); p, of
// degree 7, was fitted to the largest relative error up to |x| = 14 (1.5e-7).
inline Normal normal(Vector x) {
  const Vector exponential = fast_exp(x * x * -0.5f);
  const Vector size = max(x, -x);
  const Vector t = 1.0f / (1.0f + 0.3f * size);
  Vector p = t * 0.03567487627680988f - 0.15720349710979403f;
  p = p * t + 0.20635419242773773f;
  p = p * t - 0.05368424293730881f;
  p = p * t + 0.12856192303821948f;
  p = p * t + 0.09991340905862446f;
  p = p * t + 0.12075396820839249f;
  p = p * t + 0.11962929810857983f;
  const Vector tail = p * t * exponential;
  return {x < 0.0f ? tail : 1.0f - tail, exponential * 0.3989422804014327f};
}

void bias_gelu(const BiasGeluInputs& in, float* activated, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = in.shape.width;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t start = i * width;
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector h = load_some(in.rows + start + j, count) + load_some(in.bias + j, count);
      store_some(activated + start + j, h * normal(h).cumulative, count);
    });
  }
}

void bias_gelu_gradient(const BiasGeluInputs& in, const float* gradient, float* by_rows,
                        float* column_sums, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = in.shape.width;
  clear(column_sums, width);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t start = i * width;
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector h = load_some(in.rows + start + j, count) + load_some(in.bias + j, count);
      const Normal found = normal(h);
      const Vector by_row =
          load_some(gradient + start + j, count) * (found.cumulative + h * found.density);
      store_some(by_rows + start + j, by_row, count);
      add_to(column_sums + j, by_row, count);
    });
  }
}

// ---- split_heads

void split_heads(const HeadShape& shape, const float* rows, const float* bias, float factor,
                 float* heads, std::int64_t begin, std::int64_t end) {
  const std::int64_t size = shape.head_size, num_rows = shape.batch * shape.length;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t head = 0; head < shape.num_heads; ++head) {
      const float* const from = rows + (i * shape.num_heads + head) * size;
      float* const to = heads + (head * num_rows + i) * size;
      for_each_vector(size, [&](std::int64_t j, std::int64_t count) {
        const Vector value = load_some(from + j, count) + load_some(bias + head * size + j, count);
        store_some(to + j, value * factor, count);
      });
    }
  }
}

void split_heads_gradient(const HeadShape& shape, const float* gradient, float factor,
                          float* by_rows, float* column_sums, std::int64_t begin,
                          std::int64_t end) {
  const std::int64_t size = shape.head_size, num_rows = shape.batch * shape.length;
  clear(column_sums, shape.num_heads * size);
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t head = 0; head < shape.num_heads; ++head) {
      const float* const from = gradient + (head * num_rows + i) * size;
      float* const to = by_rows + (i * shape.num_heads + head) * size;
      for_each_vector(size, [&](std::int64_t j, std::int64_t count) {
        const Vector value = load_some(from + j, count) * factor;
        store_some(to + j, value, count);
        add_to(column_sums + head * size + j, value, count);
      });
    }
  }
}

// ---- masked_softmax

void masked_softmax(const SoftmaxShape& shape, const float* scores, const float* mask,
                    float* probabilities, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = shape.width;
  for (std::int64_t i = begin; i < end; ++i) {
    const float* const row = scores + i * width;
    const float* const masked = mask + i % shape.mask_rows * width;
    float* const target = probabilities + i * width;
    const std::int64_t whole = width / kLanes * kLanes;
    Vector largest = broadcast(-kInfinity);
    for (std::int64_t j = 0; j < whole; j += kLanes) {
      const Vector value = load(row + j) + load(masked + j);
      store(target + j, value);
      largest = max(largest, value);
    }
    float top = max_lanes(largest);
    for (std::int64_t j = whole; j < width; ++j) {
      target[j] = row[j] + masked[j];
      top = target[j] > top ? target[j] : top;
    }
    Vector total = {};
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector value = fast_exp(load_some(target + j, count) - broadcast(top));
      store_some(target + j, value, count);
      total += keep_first(value, count);
    });
    const Vector share = broadcast(1.0f / sum_lanes(total));
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      store_some(target + j, load_some(target + j, count) * share, count);
    });
  }
}

void masked_softmax_gradient(const SoftmaxShape& shape, const float* probabilities,
                             const float* gradient, float* by_scores, std::int64_t begin,
                             std::int64_t end) {
  const std::int64_t width = shape.width;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t start = i * width;
    Vector total = {};
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      total += load_some(probabilities + start + j, count) * load_some(gradient + start + j, count);
    });
    const Vector mean = broadcast(sum_lanes(total));
    for_each_vector(width, [&](std::int64_t j, std::int64_t count) {
      const Vector value = load_some(gradient + start + j, count) - mean;
      store_some(by_scores + start + j, load_some(probabilities + start + j, count) * value, count);
    });
  }
}

constexpr LayerKernel make_layer_kernel() {
  return {&add_norm,    &add_norm_gradient,    &bias_gelu,      &bias_gelu_gradient,
          &split_heads, &split_heads_gradient, &masked_softmax, &masked_softmax_gradient};
}

}  // namespace
}  // namespace unimo
