// A tile of the score matrix on the GPU: where it lies, which of its pairs count, its scores.

#pragma once

#include "common/tile_product.h"
#include "contrastive/contrastive.h"
#include "contrastive/cuda/score.h"

namespace unimo {

// A tile is 128 x 128, a warp's part 64 x 32, a thread's own scores 8 x 8.
using ScoreShape = TileShape<128, 128, 64, 32, Layout::kSumContiguous, Layout::kSumContiguous>;
constexpr int kScoreTile = 128;
static_assert(kProductThreads == 2 * kScoreTile, "one thread a row, one a column");

// A block of the score matrix: what is in work at a time.
struct ScoreBlock {
  std::int64_t first_row, first_column;
  std::int64_t num_rows, num_columns;
};

constexpr std::int64_t num_parts(std::int64_t count, std::int64_t part) {
  return (count + part - 1) / part;
}

// One tile of a block.
struct ScoreTile {
  int row, column;            // within the block
  int num_rows, num_columns;  // of the tile that are within the matrix

  UNIMO_DEVICE ScoreTile(const ScoreBlock& block, int index) {
    const int across = static_cast<int>((block.num_columns + kScoreTile - 1) / kScoreTile);
    row = index / across * kScoreTile;
    column = index % across * kScoreTile;
    num_rows = at_most(block.num_rows - row, kScoreTile);
    num_columns = at_most(block.num_columns - column, kScoreTile);
  }
  UNIMO_DEVICE bool is_whole() const { return num_rows == kScoreTile && num_columns == kScoreTile; }
};

// Thread 0 to 127 looks after a row, the others after a column: which of the inputs it is; -1
// beyond the edge.
UNIMO_DEVICE std::int64_t own_target(int thread, const ScoreBlock& block, const ScoreTile& tile) {
  if (thread < kScoreTile) {
    return thread < tile.num_rows ? block.first_row + tile.row + thread : -1;
  }
  const int column = thread - kScoreTile;
  return column < tile.num_columns ? block.first_column + tile.column + column : -1;
}

// A thread's own scores that count (inside the matrix, not ignored), and those that are positive.
struct OwnPairs {
  std::uint64_t counted, positive;

  UNIMO_DEVICE static std::uint64_t bit(int r, int c) {
    return std::uint64_t{1} << (r * ScoreShape::kOwnColumns + c);
  }
};
static_assert(ScoreShape::kOwnRows * ScoreShape::kOwnColumns == 64, "one bit a score");

// In shared memory: the labels of rows and columns, and what follows from them for each thread's
// own scores. The bits wait here while the product needs the registers.
struct TileLabels {
  std::int64_t group[kProductThreads];
  std::int64_t duplicate[kProductThreads];
  OwnPairs pairs[kProductThreads];
};

// Whether any of the thread's own pairs could be positive or ignored, by the lower halves of the
// labels: a quick no for most tiles.
UNIMO_DEVICE bool may_be_related(int thread, const TileLabels& labels) {
  std::uint32_t group[ScoreShape::kOwnColumns], duplicate[ScoreShape::kOwnColumns];
  UNIMO_UNROLL
  for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
    const int column = kScoreTile + ScoreShape::column(thread, c);
    group[c] = static_cast<std::uint32_t>(labels.group[column]);
    // Most are -1 on both sides, which matches nothing: the columns say -2 instead.
    const std::int64_t own = labels.duplicate[column];
    duplicate[c] = static_cast<std::uint32_t>(own == -1 ? -2 : own);
  }
  bool found = false;
  UNIMO_UNROLL
  for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
    const int row = ScoreShape::row(thread, r);
    const auto row_group = static_cast<std::uint32_t>(labels.group[row]);
    const auto row_duplicate = static_cast<std::uint32_t>(labels.duplicate[row]);
    UNIMO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
      found |= (group[c] == row_group) | (duplicate[c] == row_duplicate);
    }
  }
  return found;
}

UNIMO_DEVICE OwnPairs find_pairs(int thread, const ScoreTile& tile, const TileLabels& labels) {
  if (tile.is_whole() && !may_be_related(thread, labels)) return {~std::uint64_t{0}, 0};
  OwnPairs pairs = {0, 0};
  UNIMO_NO_UNROLL
  for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
    const int row = ScoreShape::row(thread, r);
    UNIMO_NO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
      const int column = ScoreShape::column(thread, c);
      if (row >= tile.num_rows || column >= tile.num_columns) continue;
      const Pair pair =
          pair_relation(labels.group[row], labels.duplicate[row], labels.group[kScoreTile + column],
                        labels.duplicate[kScoreTile + column]);
      if (pair != Pair::kIgnored) pairs.counted |= OwnPairs::bit(r, c);
      if (pair == Pair::kPositive) pairs.positive |= OwnPairs::bit(r, c);
    }
  }
  return pairs;
}

// Fills the labels; every thread finds its own pairs there afterwards.
template <typename Thread>
UNIMO_DEVICE void load_labels(Thread& thread, const ContrastiveInputs& in, const ScoreBlock& block,
                              TileLabels* labels) {
  const ScoreTile tile(block, thread.block());
  const int own = thread.index();
  const bool is_row = own < kScoreTile;
  const std::int64_t target = own_target(own, block, tile);
  labels->group[own] = target < 0 ? 0 : (is_row ? in.row_group : in.column_group)[target];
  labels->duplicate[own] =
      target < 0 ? -1 : (is_row ? in.row_duplicate : in.column_duplicate)[target];
  thread.barrier();
  labels->pairs[own] = find_pairs(own, tile, *labels);
}

// The thread's own scores <r_i, c_j> / t; anything beyond the edges. The size is a multiple of 4.
template <bool kSplit, typename Thread>
UNIMO_DEVICE void compute_scores(Thread& thread, const ContrastiveInputs& in,
                                 const ScoreBlock& block, float* stages, ScoreShape::Sums* scores) {
  const ScoreTile tile(block, thread.block());
  const int size = static_cast<int>(in.size);
  const Operand rows = {in.rows, in_chunks((block.first_row + tile.row) * size), in_chunks(size),
                        tile.num_rows};
  const Operand columns = {in.columns, in_chunks((block.first_column + tile.column) * size),
                           in_chunks(size), tile.num_columns};
  multiply_tile<kSplit, ScoreShape>(thread, rows, columns, size, stages, scores);
  const float scale = 1.0f / *in.temperature;
  UNIMO_UNROLL
  for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
    UNIMO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; ++c) scores->at(r, c) *= scale;
  }
}

}  // namespace unimo
