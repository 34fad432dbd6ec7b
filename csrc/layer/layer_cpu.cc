// Threads share blocks of rows, whose sizes do not depend on how many threads there are.

#include <omp.h>

#include <algorithm>
#include <vector>

#include "common/instruction_sets.h"
#include "layer/kernel.h"

namespace unimo {
namespace {

std::int64_t num_blocks(std::int64_t num_rows) {
  return (num_rows + kRowsOfBlock - 1) / kRowsOfBlock;
}

// work(block, begin, end) for all blocks of rows.
template <typename Work>
void for_each_block(std::int64_t num_rows, int num_threads, const Work& work) {
  const std::int64_t count = num_blocks(num_rows);
#pragma omp parallel for num_threads(std::max(1, num_threads)) schedule(static)
  for (std::int64_t block = 0; block < count; ++block) {
    const std::int64_t begin = block * kRowsOfBlock;
    work(block, begin, std::min(begin + kRowsOfBlock, num_rows));
  }
}

// Sums over columns of all blocks, each of which has its own.
class ColumnSums {
 public:
  ColumnSums(std::int64_t num_rows, std::int64_t width)
      : width_(width), blocks_(num_blocks(num_rows)), sums_(blocks_ * width) {}

  float* of_block(std::int64_t block) { return sums_.data() + block * width_; }

  // Columns from `first` on, in the order of the blocks.
  void add_up(std::int64_t first, std::int64_t count, float* totals) const {
    std::fill_n(totals, count, 0.0f);
    for (std::int64_t block = 0; block < blocks_; ++block) {
      const float* const sums = sums_.data() + block * width_ + first;
      for (std::int64_t i = 0; i < count; ++i) totals[i] += sums[i];
    }
  }

 private:
  std::int64_t width_, blocks_;
  std::vector<float> sums_;
};

}  // namespace

void Layer::add_norm(const AddNormInputs& in, const AddNormOutputs& out) const {
  for_each_block(in.shape.num_rows, num_threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                   kernel.add_norm(in, out, begin, end);
                 });
}

void Layer::add_norm_gradient(const AddNormSaved& saved, const float* gradient,
                              const AddNormGradients& out) const {
  const std::int64_t width = saved.shape.width;
  ColumnSums sums(saved.shape.num_rows, 3 * width);
  for_each_block(saved.shape.num_rows, num_threads,
                 [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
                   kernel.add_norm_gradient(saved, gradient, out, sums.of_block(block), begin, end);
                 });
  sums.add_up(0, width, out.bias);
  sums.add_up(width, width, out.scale);
  sums.add_up(2 * width, width, out.shift);
}

void Layer::bias_gelu(const BiasGeluInputs& in, float* activated) const {
  for_each_block(in.shape.num_rows, num_threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                   kernel.bias_gelu(in, activated, begin, end);
                 });
}

void Layer::bias_gelu_gradient(const BiasGeluInputs& in, const float* gradient, float* by_rows,
                               float* by_bias) const {
  ColumnSums sums(in.shape.num_rows, in.shape.width);
  for_each_block(in.shape.num_rows, num_threads,
                 [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
                   kernel.bias_gelu_gradient(in, gradient, by_rows, sums.of_block(block), begin,
                                             end);
                 });
  sums.add_up(0, in.shape.width, by_bias);
}

void Layer::split_heads(const HeadShape& shape, const float* rows, const float* bias, float factor,
                        float* heads) const {
  for_each_block(shape.batch * shape.length, num_threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                   kernel.split_heads(shape, rows, bias, factor, heads, begin, end);
                 });
}

void Layer::split_heads_gradient(const HeadShape& shape, const float* gradient, float factor,
                                 float* by_rows, float* by_bias) const {
  const std::int64_t width = shape.num_heads * shape.head_size;
  ColumnSums sums(shape.batch * shape.length, width);
  for_each_block(shape.batch * shape.length, num_threads,
                 [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
                   kernel.split_heads_gradient(shape, gradient, factor, by_rows,
                                               sums.of_block(block), begin, end);
                 });
  sums.add_up(0, width, by_bias);
}

void Layer::masked_softmax(const SoftmaxShape& shape, const float* scores, const float* mask,
                           float* probabilities) const {
  for_each_block(shape.repeats * shape.mask_rows, num_threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                   kernel.masked_softmax(shape, scores, mask, probabilities, begin, end);
                 });
}

void Layer::masked_softmax_gradient(const SoftmaxShape& shape, const float* probabilities,
                                    const float* gradient, float* by_scores) const {
  for_each_block(shape.repeats * shape.mask_rows, num_threads,
                 [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                   kernel.masked_softmax_gradient(shape, probabilities, gradient, by_scores, begin,
                                                  end);
                 });
}

Layer best_layer(int num_threads) { return {UNIMO_BEST_KERNEL(kLayer), num_threads}; }

}  // namespace unimo
