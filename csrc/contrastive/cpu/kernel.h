// What one thread does with one block of the score matrix: the part of the CPU form that is
// compiled for several instruction sets.
//
// The files that implement it hold functions of internal linkage only, and no containers: see
// common/simd.h.

#pragma once

#include <cstddef>

#include "contrastive/contrastive.h"
#include "contrastive/cpu/range.h"

namespace unimo {

// Rows and columns of a tile, the block that is packed and multiplied at once. A multiple of every
// strip and panel; two packed sides of 192 x 256 numbers and the scores fill a second-level cache.
constexpr int kTile = 192;

// A row of scores in memory, padded so that rows do not fall on the same few lines of the
// first-level cache.
constexpr int kScoreRow = kTile + 16;
constexpr std::int64_t kTileScores = kTile * kScoreRow;

// Rows that the one-way form takes at once.
constexpr int kOneWayRows = 2 * kTile;

// Running log-sum-exps: log(sum) + reference.
struct RunningSums {
  float* reference;  // -inf where nothing was seen
  double* sum;
  float log_sum_exp(std::int64_t index) const;
};

// The order in which blocks of rows add to the gradient of a tile of columns.
struct ColumnTurns {
  void* context;
  void (*wait)(void* context, std::int64_t column_tile);  // until it is this block's turn
  void (*done)(void* context, std::int64_t column_tile);
};

struct ContrastiveKernel {
  const char* name;
  // Floats of the workspace, aligned to 64 bytes, for features of this size and blocks of at most
  // so many rows.
  std::size_t (*workspace_size)(std::int64_t size, std::int64_t num_rows);
  // Add the block's scores to the running sums of its rows and of its columns. Where `kept` is not
  // null the scores of the tiles, kTileScores each, stay there.
  void (*forward)(const ContrastiveInputs& inputs, Range rows, Range columns,
                  const ContrastiveStatistics<RunningSums>& sums, float* kept, float* workspace);
  // Add the block's share to the gradients of its rows and columns, and the sums over each row of
  // (gradient of a score) x (score) to `row_temperature`. Scores that `forward` kept are not
  // computed again.
  void (*backward)(const ContrastiveInputs& inputs, Range rows, Range columns,
                   const ContrastiveStatistics<const float*>& outputs,
                   const ContrastiveStatistics<const float*>& upstream,
                   const ContrastiveGradients& gradients, double* row_temperature,
                   const float* kept, float* workspace);
  // Floats of the one-way form's workspace.
  std::size_t (*one_way_workspace_size)(std::int64_t size, std::int64_t num_columns);
  // One-way form of at most kOneWayRows rows against all columns: both log-sum-exps of the rows
  // and, in the same go, the share of the gradients of sum_i weights[i] (all[i] - positive[i]).
  void (*one_way)(const ContrastiveInputs& inputs, Range rows, const float* weights, float* row_all,
                  float* row_positive, const ContrastiveStatistics<RunningSums>& sums,
                  const ContrastiveGradients& gradients, double* row_temperature,
                  const ColumnTurns& turns, float* workspace);
  // Multiply and add in registers only, so many rounds; returns the operations done. Nothing that
  // the kernel does can be faster: it measures the limit.
  std::int64_t (*spend)(std::int64_t rounds);
};

extern const ContrastiveKernel kContrastivePortable;
extern const ContrastiveKernel kContrastiveAvx2;
extern const ContrastiveKernel kContrastiveAvx512;
extern const ContrastiveKernel kContrastiveAvx512Bfloat16;

}  // namespace unimo
