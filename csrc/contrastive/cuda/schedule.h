// Which kernels run on which block of the score matrix, and where the workspace puts what.
//
// The score matrix is walked in blocks of fixed size, so the memory beyond inputs and outputs is
// O(N + M) plus a constant. One stream runs everything in order: that alone makes a block's results
// visible to the next kernel, and gives every sum over blocks its order. The launcher is
// CudaLauncher, or the emulation of the tests.

#pragma once

#include <algorithm>
#include <stdexcept>

#include "contrastive/cuda/gradients.h"

namespace unimo {

// Rows and columns of a block, multiples of the tile. Forward: so many tiles that little is lost
// when the last of them leave the GPU half empty. Backward: a matrix of gradients of scores of
// 64 MB, so that the products with it, in tiles of 128 x 64, fill an H100 or H200 even at D = 256.
// A quarter of it would stay in the second-level cache, but left half of such a GPU idle.
constexpr std::int64_t kForwardBlock = 8192;
constexpr std::int64_t kBackwardBlock = 4096;

// Hands out aligned parts of a workspace; with no memory it only counts.
class WorkspaceParts {
 public:
  explicit WorkspaceParts(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <typename T>
  T* take(std::int64_t count) {
    constexpr std::size_t kAlignment = 256;
    T* const part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  std::size_t bytes_ = 0;
};

// Rows outside, columns inside. A matrix with no rows or no columns is one empty block, so that
// sums over nothing are written too.
template <typename Visit>
void for_each_block(const ContrastiveInputs& in, std::int64_t block_size, const Visit& visit) {
  const std::int64_t down = std::max<std::int64_t>(1, num_parts(in.num_rows, block_size));
  const std::int64_t across = std::max<std::int64_t>(1, num_parts(in.num_columns, block_size));
  for (std::int64_t i = 0; i < down; ++i) {
    for (std::int64_t j = 0; j < across; ++j) {
      const std::int64_t row = i * block_size, column = j * block_size;
      visit(ScoreBlock{row, column, std::min(block_size, in.num_rows - row),
                       std::min(block_size, in.num_columns - column)});
    }
  }
}

// Kernels read features 16 bytes at a time. Where lines do not begin at multiples of that, they
// read copies in the workspace, whose lines are padded with zeros.
struct PaddedFeatures {
  std::int64_t size;
  float *rows = nullptr, *columns = nullptr;  // null: the features serve as they are

  PaddedFeatures(const ContrastiveInputs& in, WorkspaceParts* parts)
      : size(num_parts(in.size, kChunk) * kChunk) {
    const auto is_aligned = [](const float* data) {
      return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
    };
    // Kernels count chunks of 16 bytes in 32 bits.
    if (std::max(in.num_rows, in.num_columns) * size / kChunk >= std::int64_t{1} << 32) {
      throw std::length_error("contrastive: features of 64 GiB or more");
    }
    is_needed_ = size != in.size || !is_aligned(in.rows) || !is_aligned(in.columns);
    if (!is_needed_) return;
    rows = parts->take<float>(in.num_rows * size);
    columns = parts->take<float>(in.num_columns * size);
  }

  // The inputs with features that kernels can read.
  template <typename Launcher>
  ContrastiveInputs fill(const ContrastiveInputs& in, const Launcher& launch) const {
    if (!is_needed_) return in;
    launch(PaddingKernel{in.rows, in.size, rows, size, in.num_rows},
           num_parts(in.num_rows * size, PaddingKernel::kThreads), "contrastive padding");
    launch(PaddingKernel{in.columns, in.size, columns, size, in.num_columns},
           num_parts(in.num_columns * size, PaddingKernel::kThreads), "contrastive padding");
    ContrastiveInputs padded = in;
    padded.rows = rows;
    padded.columns = columns;
    padded.size = size;
    return padded;
  }

 private:
  bool is_needed_;
};

struct ForwardWorkspace {
  WorkspaceParts parts;
  PaddedFeatures features;
  std::int64_t row_pitch, column_pitch;
  TilePartial *row_partials, *column_partials;
  RunningSum *row_all, *row_positive, *column_all, *column_positive;

  ForwardWorkspace(const ContrastiveInputs& in, std::int64_t block_size, void* memory)
      : parts(memory), features(in, &parts) {
    row_pitch = std::min(block_size, in.num_rows);
    column_pitch = std::min(block_size, in.num_columns);
    row_partials = parts.take<TilePartial>(row_pitch * num_parts(column_pitch, kScoreTile));
    column_partials = parts.take<TilePartial>(column_pitch * num_parts(row_pitch, kScoreTile));
    row_all = parts.take<RunningSum>(in.num_rows);
    row_positive = parts.take<RunningSum>(in.num_rows);
    column_all = parts.take<RunningSum>(in.num_columns);
    column_positive = parts.take<RunningSum>(in.num_columns);
  }
};

struct BackwardWorkspace {
  WorkspaceParts parts;
  PaddedFeatures features;
  std::int64_t pitch, sums_pitch, num_sums;
  float* gradient;
  double* tile_sums;

  BackwardWorkspace(const ContrastiveInputs& in, std::int64_t block_size, void* memory)
      : parts(memory), features(in, &parts) {
    const std::int64_t height = std::min(block_size, in.num_rows);
    const std::int64_t width = std::min(block_size, in.num_columns);
    pitch = num_parts(width, kChunk) * kChunk;
    sums_pitch = num_parts(width, kScoreTile);
    num_sums = num_parts(height, kScoreTile) * sums_pitch;
    gradient = parts.take<float>(height * pitch);
    tile_sums = parts.take<double>(num_sums);
  }
};

inline std::int64_t num_score_tiles(const ScoreBlock& block) {
  return num_parts(block.num_rows, kScoreTile) * num_parts(block.num_columns, kScoreTile);
}

template <bool kSplit, typename Launcher>
void run_forward(const ContrastiveInputs& inputs, const ContrastiveStatistics<float*>& out,
                 std::int64_t block_size, void* workspace, const Launcher& launch) {
  const ForwardWorkspace space(inputs, block_size, workspace);
  const ContrastiveInputs in = space.features.fill(inputs, launch);
  for_each_block(in, block_size, [&](const ScoreBlock& block) {
    launch(StatisticsKernel<kSplit>{in, block, space.row_partials, space.column_partials,
                                    space.row_pitch, space.column_pitch},
           num_score_tiles(block), "contrastive statistics");
    const std::int64_t row = block.first_row, column = block.first_column;
    const MergeTargets rows = {space.row_partials,
                               space.row_pitch,
                               num_parts(block.num_columns, kScoreTile),
                               block.num_rows,
                               column == 0,
                               column + block.num_columns == in.num_columns,
                               space.row_all + row,
                               space.row_positive + row,
                               out.row_all + row,
                               out.row_positive + row};
    const MergeTargets columns = {space.column_partials,
                                  space.column_pitch,
                                  num_parts(block.num_rows, kScoreTile),
                                  block.num_columns,
                                  row == 0,
                                  row + block.num_rows == in.num_rows,
                                  space.column_all + column,
                                  space.column_positive + column,
                                  out.column_all + column,
                                  out.column_positive + column};
    launch(MergeKernel{rows, columns},
           MergeKernel::num_blocks(block.num_rows) + MergeKernel::num_blocks(block.num_columns),
           "contrastive sums");
  });
}

template <bool kSplit, typename Launcher>
void run_backward(const ContrastiveInputs& inputs, const ContrastiveStatistics<const float*>& out,
                  const ContrastiveStatistics<const float*>& upstream,
                  const ContrastiveGradients& gradients, std::int64_t block_size, void* workspace,
                  const Launcher& launch) {
  const BackwardWorkspace space(inputs, block_size, workspace);
  const ContrastiveInputs in = space.features.fill(inputs, launch);
  for_each_block(in, block_size, [&](const ScoreBlock& block) {
    const bool is_first_of_rows = block.first_column == 0;
    const bool is_first_of_columns = block.first_row == 0;
    launch(ScoreGradientKernel<kSplit>{in, out, upstream, block, space.gradient, space.pitch,
                                       space.tile_sums, space.sums_pitch,
                                       is_first_of_rows && is_first_of_columns},
           num_score_tiles(block), "contrastive gradients of the scores");
    const FeatureGradientKernel<kSplit> products = {in,
                                                    block,
                                                    space.gradient,
                                                    space.pitch,
                                                    gradients.rows,
                                                    gradients.columns,
                                                    inputs.size,
                                                    is_first_of_rows,
                                                    is_first_of_columns};
    launch(products, products.num_row_tiles() + products.num_column_tiles(),
           "contrastive gradients of the features");
  });
  launch(TemperatureKernel{space.tile_sums, space.num_sums, in.temperature, gradients.temperature},
         1, "contrastive gradient of the temperature");
}

}  // namespace unimo
