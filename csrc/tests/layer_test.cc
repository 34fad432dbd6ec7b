// What a layer does between its products, against plain loops in double, at sizes that fit no
// vector and no block; and equal to the bit for any number of threads.

#include "layer/layer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "common/instruction_sets.h"
#include "layer/kernel.h"

namespace unimo {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

constexpr Shape2 kShapes[] = {{1, 2}, {3, 7}, {64, 16}, {65, 33}, {130, 100}, {200, 64}};
constexpr float kEpsilon = 1e-5f;
constexpr double kPi = 3.14159265358979323846;

std::string name_of(const std::string& what, const Shape2& shape) {
  return what + " " + std::to_string(shape.num_rows) + " x " + std::to_string(shape.width);
}

// ---- add_norm

struct NormCase {
  Shape2 shape;
  Floats rows, bias, residual, scale, shift, gradient;

  NormCase(const Shape2& of, Generator& generator)
      : shape(of),
        rows(generator.normal(of.num_rows * of.width, 1.0f)),
        bias(generator.normal(of.width, 1.0f)),
        residual(generator.normal(of.num_rows * of.width, 1.0f)),
        scale(generator.normal(of.width, 1.0f)),
        shift(generator.normal(of.width, 1.0f)),
        gradient(generator.normal(of.num_rows * of.width, 1.0f)) {}
};

struct NormResults {
  Floats normed, sums, means, deviation, by_rows, by_residual, by_bias, by_scale, by_shift;
};

NormResults run_norm(const Layer& layer, const NormCase& c, const Dropout& dropout) {
  const std::size_t count = c.rows.size(), width = c.bias.size();
  NormResults r{Floats(count),         Floats(count), Floats(count / width),
                Floats(count / width), Floats(count), Floats(count),
                Floats(width),         Floats(width), Floats(width)};
  layer.add_norm({c.shape, c.rows.data(), c.bias.data(), c.residual.data(), c.scale.data(),
                  c.shift.data(), kEpsilon, dropout},
                 {r.normed.data(), r.sums.data(), r.means.data(), r.deviation.data()});
  layer.add_norm_gradient(
      {c.shape, r.sums.data(), r.means.data(), r.deviation.data(), c.scale.data(), dropout},
      c.gradient.data(),
      {r.by_rows.data(), r.by_residual.data(), r.by_bias.data(), r.by_scale.data(),
       r.by_shift.data()});
  return r;
}

// kept: what dropout multiplies each number with.
void check_norm(const NormCase& c, const NormResults& found, const Floats& kept,
                const std::string& what) {
  const std::int64_t width = c.shape.width;
  Doubles normed(c.rows.size()), by_sum(c.rows.size()), by_rows(c.rows.size());
  Doubles by_bias(width), by_scale(width), by_shift(width);
  for (std::int64_t i = 0; i < c.shape.num_rows; ++i) {
    Doubles sums(width);
    double mean = 0, variance = 0, mean_g = 0, mean_gx = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t k = i * width + j;
      sums[j] = c.residual[k] + kept[k] * (static_cast<double>(c.rows[k]) + c.bias[j]);
      mean += sums[j] / width;
    }
    for (double sum : sums) variance += (sum - mean) * (sum - mean) / width;
    const double deviation = 1.0 / std::sqrt(variance + kEpsilon);
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t k = i * width + j;
      const double x = (sums[j] - mean) * deviation, g = c.gradient[k] * c.scale[j];
      normed[k] = x * c.scale[j] + c.shift[j];
      mean_g += g / width;
      mean_gx += g * x / width;
      by_scale[j] += c.gradient[k] * x;
      by_shift[j] += c.gradient[k];
    }
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t k = i * width + j;
      const double x = (sums[j] - mean) * deviation, g = c.gradient[k] * c.scale[j];
      by_sum[k] = (g - mean_g - x * mean_gx) * deviation;
      by_rows[k] = by_sum[k] * kept[k];
      by_bias[j] += by_rows[k];
    }
  }
  // Rows of two numbers may be nearly equal, which makes their deviation small.
  const double tolerance = width < 4 ? 2e-2 : 2e-4;
  check_close(found.normed, normed, tolerance, what + " normed");
  check_close(found.by_residual, by_sum, tolerance, what + " by residual");
  check_close(found.by_rows, by_rows, tolerance, what + " by rows");
  check_close(found.by_bias, by_bias, 10 * tolerance, what + " by bias");
  check_close(found.by_scale, by_scale, 10 * tolerance, what + " by scale");
  check_close(found.by_shift, by_shift, 10 * tolerance, what + " by shift");
}

void test_norm(const LayerKernel& kernel, const std::string& name) {
  Generator generator(1);
  for (const Shape2& shape : kShapes) {
    const NormCase c(shape, generator);
    for (const float rate : {0.0f, 0.25f}) {
      const std::string what = name_of(name + " add_norm", shape);
      const NormResults found = run_norm({kernel, 1}, c, {rate, 7});
      Floats kept(c.rows.size());
      for (std::size_t k = 0; k < kept.size(); ++k) {
        const float added = c.rows[k] + c.bias[k % shape.width];
        const bool is_kept = std::abs(found.sums[k] - c.residual[k]) > 1e-6f || added == 0.0f;
        kept[k] = is_kept ? 1.0f / (1.0f - rate) : 0.0f;
      }
      check_norm(c, found, kept, what);
      const NormResults again = run_norm({kernel, 3}, c, {rate, 7});
      check(again.normed == found.normed && again.by_rows == found.by_rows &&
                again.by_bias == found.by_bias && again.by_scale == found.by_scale &&
                again.by_shift == found.by_shift,
            what + ": three threads");
    }
  }
}

// ---- bias_gelu

void test_gelu(const LayerKernel& kernel, const std::string& name) {
  Generator generator(2);
  for (const Shape2& shape : kShapes) {
    const std::int64_t width = shape.width, count = shape.num_rows * width;
    const Floats rows = generator.normal(count, 3.0f), bias = generator.normal(width, 1.0f);
    const Floats gradient = generator.normal(count, 1.0f);
    const BiasGeluInputs in = {shape, rows.data(), bias.data()};
    Doubles activated(count), by_rows(count), by_bias(width);
    for (std::int64_t k = 0; k < count; ++k) {
      const double h = static_cast<double>(rows[k]) + bias[k % width];
      const double cumulative = 0.5 * std::erfc(-h / std::sqrt(2.0));
      const double density = std::exp(-0.5 * h * h) / std::sqrt(2.0 * kPi);
      activated[k] = h * cumulative;
      by_rows[k] = gradient[k] * (cumulative + h * density);
      by_bias[k % width] += by_rows[k];
    }
    Floats first_bias;
    for (const int num_threads : {1, 3}) {
      const Layer layer = {kernel, num_threads};
      Floats found(count), found_rows(count), found_bias(width);
      layer.bias_gelu(in, found.data());
      layer.bias_gelu_gradient(in, gradient.data(), found_rows.data(), found_bias.data());
      const std::string what = name_of(name + " bias_gelu", shape);
      check_close(found, activated, 2e-6, what);
      check_close(found_rows, by_rows, 5e-6, what + " by rows");
      check_close(found_bias, by_bias, 2e-4, what + " by bias");
      check(first_bias.empty() || first_bias == found_bias, what + ": three threads");
      first_bias = found_bias;
    }
  }
}

// ---- split_heads

void test_heads(const LayerKernel& kernel, const std::string& name) {
  Generator generator(3);
  for (const HeadShape& shape :
       {HeadShape{1, 1, 1, 1}, HeadShape{2, 3, 4, 5}, HeadShape{3, 50, 2, 33}}) {
    const std::int64_t width = shape.num_heads * shape.head_size;
    const std::int64_t num_rows = shape.batch * shape.length, count = num_rows * width;
    const Floats rows = generator.normal(count, 1.0f), bias = generator.normal(width, 1.0f);
    const Floats gradient = generator.normal(count, 1.0f);
    Doubles heads(count), by_rows(count), by_bias(width);
    for (std::int64_t i = 0; i < num_rows; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t head = j / shape.head_size, place = j % shape.head_size;
        const std::int64_t target = (head * num_rows + i) * shape.head_size + place;
        heads[target] = 0.125 * (static_cast<double>(rows[i * width + j]) + bias[j]);
        by_rows[i * width + j] = 0.125 * gradient[target];
        by_bias[j] += 0.125 * gradient[target];
      }
    }
    for (const int num_threads : {1, 3}) {
      const Layer layer = {kernel, num_threads};
      Floats found(count), found_rows(count), found_bias(width);
      layer.split_heads(shape, rows.data(), bias.data(), 0.125f, found.data());
      layer.split_heads_gradient(shape, gradient.data(), 0.125f, found_rows.data(),
                                 found_bias.data());
      check_close(found, heads, 1e-6, name + " split_heads");
      check_close(found_rows, by_rows, 1e-6, name + " split_heads by rows");
      check_close(found_bias, by_bias, 1e-5, name + " split_heads by bias");
    }
  }
}

// ---- masked_softmax

void test_softmax(const LayerKernel& kernel, const std::string& name) {
  Generator generator(4);
  for (const SoftmaxShape& shape :
       {SoftmaxShape{1, 1, 1}, SoftmaxShape{3, 5, 7}, SoftmaxShape{2, 70, 33}}) {
    const std::int64_t count = shape.repeats * shape.mask_rows * shape.width;
    const Floats scores = generator.normal(count, 4.0f), gradient = generator.normal(count, 1.0f);
    Floats mask = generator.normal(shape.mask_rows * shape.width, 1.0f);
    for (float& value : mask) value = value > 1.0f ? -1e4f : 0.0f;
    Doubles probabilities(count), by_scores(count);
    for (std::int64_t start = 0; start < count; start += shape.width) {
      double largest = -1e30, total = 0, mean = 0;
      const auto score = [&](std::int64_t j) {
        return static_cast<double>(scores[start + j]) +
               mask[(start + j) % static_cast<std::int64_t>(mask.size())];
      };
      for (std::int64_t j = 0; j < shape.width; ++j) largest = std::max(largest, score(j));
      for (std::int64_t j = 0; j < shape.width; ++j) total += std::exp(score(j) - largest);
      for (std::int64_t j = 0; j < shape.width; ++j) {
        probabilities[start + j] = std::exp(score(j) - largest) / total;
        mean += probabilities[start + j] * gradient[start + j];
      }
      for (std::int64_t j = 0; j < shape.width; ++j) {
        by_scores[start + j] = probabilities[start + j] * (gradient[start + j] - mean);
      }
    }
    const Layer layer = {kernel, 2};
    Floats found(count), found_scores(count);
    layer.masked_softmax(shape, scores.data(), mask.data(), found.data());
    layer.masked_softmax_gradient(shape, found.data(), gradient.data(), found_scores.data());
    check_close(found, probabilities, 1e-6, name + " masked_softmax");
    check_close(found_scores, by_scores, 2e-6, name + " masked_softmax by scores");
  }
}

void test_kernel(const LayerKernel& kernel, const std::string& name) {
  test_norm(kernel, name);
  test_gelu(kernel, name);
  test_heads(kernel, name);
  test_softmax(kernel, name);
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_kernel(unimo::kLayerPortable, "portable");
#if defined(__x86_64__)
  if (unimo::runs_avx2()) unimo::test_kernel(unimo::kLayerAvx2, "avx2");
  if (unimo::runs_avx512()) unimo::test_kernel(unimo::kLayerAvx512, "avx512");
#endif
  return unimo::report("layer");
}
