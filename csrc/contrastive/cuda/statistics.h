// The kernels of the forward pass: partial sums of tiles, and their merging.
//
// A kernel is a value with operator() for one thread of one block; CudaLauncher runs it on a GPU,
// the emulation in tests/ on a CPU. schedule.h says what runs when. No kernel uses an atomic
// operation: every result has one writer and every sum a fixed order.

#pragma once

#include "contrastive/cuda/score_tile.h"

namespace unimo {

// One thread an element: copies lines and fills them up with zeros.
struct PaddingKernel {
  static constexpr int kThreads = 256;
  static constexpr int kResidentBlocks = 1;
  static constexpr int kSharedBytes = 0;

  const float* source;  // [num_lines, size]
  std::int64_t size;
  float* padded;  // [num_lines, padded_size]
  std::int64_t padded_size, num_lines;

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char*) const {
    const std::int64_t i = static_cast<std::int64_t>(thread.block()) * kThreads + thread.index();
    const std::int64_t line = i / padded_size, column = i % padded_size;
    if (line < num_lines) padded[i] = column < size ? source[line * size + column] : 0.0f;
  }
};

// One block of threads a tile: the partial sums of its rows and of its columns. Lanes that share a
// row or column add up by shuffles, then the warps that share it through shared memory.
template <bool kSplit>
struct StatisticsKernel {
  static constexpr int kThreads = kProductThreads;
  static constexpr int kResidentBlocks = 2;
  static constexpr int kSharedBytes = ScoreShape::kPipelineBytes + sizeof(TileLabels);

  ContrastiveInputs in;
  ScoreBlock block;
  TilePartial* row_partials;     // [tiles across, row_pitch]
  TilePartial* column_partials;  // [tiles down, column_pitch]
  std::int64_t row_pitch, column_pitch;

  // Takes the place of the pipeline.
  struct WarpPartials {
    PartialSum row_all[ScoreShape::kWarpsAcross][kScoreTile];
    PartialSum row_positive[ScoreShape::kWarpsAcross][kScoreTile];
    PartialSum column_all[ScoreShape::kWarpsDown][kScoreTile];
    PartialSum column_positive[ScoreShape::kWarpsDown][kScoreTile];
  };
  static_assert(sizeof(WarpPartials) <= ScoreShape::kPipelineBytes, "fits into the pipeline");

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char* shared) const {
    auto* const stages = reinterpret_cast<float*>(shared);
    auto* const labels = reinterpret_cast<TileLabels*>(shared + ScoreShape::kPipelineBytes);
    auto* const parts = reinterpret_cast<WarpPartials*>(shared);
    load_labels(thread, in, block, labels);
    ScoreShape::Sums scores;
    compute_scores<kSplit>(thread, in, block, stages, &scores);

    // What is positive also counts, so one set of scores serves both sums, one after the other.
    const int own = thread.index();
    const OwnPairs pairs = labels->pairs[own];
    keep_scores(pairs.counted, &scores);
    sum_rows(thread, scores, parts->row_all);
    sum_columns(thread, scores, parts->column_all);
    if (thread.any_in_warp(pairs.positive != 0)) {
      keep_scores(pairs.positive, &scores);
      sum_rows(thread, scores, parts->row_positive);
      sum_columns(thread, scores, parts->column_positive);
    } else {  // as in most tiles
      clear(own, parts->row_positive, parts->column_positive);
    }
    thread.barrier();
    const ScoreTile tile(block, thread.block());
    if (own < tile.num_rows) {
      row_partials[tile.column / kScoreTile * row_pitch + tile.row + own] = {
          merge_warps(parts->row_all, own), merge_warps(parts->row_positive, own)};
    }
    const int column = own - kScoreTile;
    if (column >= 0 && column < tile.num_columns) {
      column_partials[tile.row / kScoreTile * column_pitch + tile.column + column] = {
          merge_warps(parts->column_all, column), merge_warps(parts->column_positive, column)};
    }
  }

 private:
  UNIMO_DEVICE static void keep_scores(std::uint64_t chosen, ScoreShape::Sums* scores) {
    UNIMO_UNROLL
    for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
      UNIMO_UNROLL
      for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
        if (!(chosen & OwnPairs::bit(r, c))) scores->at(r, c) = -INFINITY;
      }
    }
  }

  template <typename Thread>
  UNIMO_DEVICE static void sum_rows(Thread& thread, const ScoreShape::Sums& scores,
                                    PartialSum (*parts)[kScoreTile]) {
    const int own = thread.index(), across = own / kWarpSize % ScoreShape::kWarpsAcross;
    UNIMO_UNROLL
    for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
      float values[ScoreShape::kOwnColumns];
      UNIMO_UNROLL
      for (int c = 0; c < ScoreShape::kOwnColumns; ++c) values[c] = scores.at(r, c);
      const PartialSum sum = sum_over_lanes<1, 2>(thread, values);
      if (own % 4 == 0) parts[across][ScoreShape::row(own, r)] = sum;
    }
  }

  template <typename Thread>
  UNIMO_DEVICE static void sum_columns(Thread& thread, const ScoreShape::Sums& scores,
                                       PartialSum (*parts)[kScoreTile]) {
    const int own = thread.index(), down = own / kWarpSize / ScoreShape::kWarpsAcross;
    UNIMO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
      float values[ScoreShape::kOwnRows];
      UNIMO_UNROLL
      for (int r = 0; r < ScoreShape::kOwnRows; ++r) values[r] = scores.at(r, c);
      const PartialSum sum = sum_over_lanes<4, 16>(thread, values);
      if (own % kWarpSize < 4) parts[down][ScoreShape::column(own, c)] = sum;
    }
  }

  UNIMO_DEVICE static void clear(int thread, PartialSum (*rows)[kScoreTile],
                                 PartialSum (*columns)[kScoreTile]) {
    const int warp = thread / kWarpSize, lane = thread % kWarpSize;
    PartialSum* const own_rows = rows[warp % ScoreShape::kWarpsAcross];
    PartialSum* const own_columns = columns[warp / ScoreShape::kWarpsAcross];
    for (int i = lane; i < ScoreShape::kRows / ScoreShape::kWarpsDown; i += kWarpSize) {
      own_rows[ScoreShape::first_row(thread) + i] = {-INFINITY, 0.0f};
    }
    for (int i = lane; i < ScoreShape::kColumns / ScoreShape::kWarpsAcross; i += kWarpSize) {
      own_columns[ScoreShape::first_column(thread) + i] = {-INFINITY, 0.0f};
    }
  }

  template <int kWarps>
  UNIMO_DEVICE static PartialSum merge_warps(const PartialSum (&parts)[kWarps][kScoreTile],
                                             int target) {
    PartialSum own[kWarps];
    UNIMO_UNROLL
    for (int warp = 0; warp < kWarps; ++warp) own[warp] = parts[warp][target];
    return merge_partials(own);
  }
};

// The rows of a block, or its columns: their tiles' partial sums, and where these are added up.
struct MergeTargets {
  const TilePartial* partials;  // [num_tiles, pitch]
  std::int64_t pitch, num_tiles, num_targets;
  bool is_first, is_last;
  RunningSum* running_all;       // [num_targets]
  RunningSum* running_positive;  // [num_targets]
  float* all;                    // [num_targets]
  float* positive;               // [num_targets]
};

// One thread a row or column: adds the partial sums of the block's tiles, in their order, to what
// earlier blocks left, and after the last block takes the logarithm. The first blocks of threads
// take the rows, the others the columns. Blocks are small, so that the few threads that there are
// spread over the GPU, and tiles are read several at a time, for each takes long to arrive.
struct MergeKernel {
  static constexpr int kThreads = 64;
  static constexpr int kResidentBlocks = 1;
  static constexpr int kSharedBytes = 0;
  static constexpr int kTilesAtOnce = 8;

  MergeTargets rows, columns;

  static constexpr std::int64_t num_blocks(std::int64_t num_targets) {
    return num_parts(num_targets, kThreads);
  }

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char*) const {
    const std::int64_t row_blocks = (rows.num_targets + kThreads - 1) / kThreads;
    const bool is_row = thread.block() < row_blocks;
    const MergeTargets& own = is_row ? rows : columns;
    const std::int64_t target =
        (thread.block() - (is_row ? 0 : row_blocks)) * kThreads + thread.index();
    if (target < own.num_targets) merge(own, target);
  }

 private:
  UNIMO_DEVICE static void merge(const MergeTargets& own, std::int64_t target) {
    RunningSum sum_all = {0.0, -INFINITY}, sum_positive = {0.0, -INFINITY};
    if (!own.is_first) {
      sum_all = own.running_all[target];
      sum_positive = own.running_positive[target];
    }
    for (std::int64_t tile = 0; tile < own.num_tiles; tile += kTilesAtOnce) {
      PartialSum all[kTilesAtOnce], positive[kTilesAtOnce];
      UNIMO_UNROLL
      for (int i = 0; i < kTilesAtOnce; ++i) {
        TilePartial part = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
        if (tile + i < own.num_tiles) part = own.partials[(tile + i) * own.pitch + target];
        all[i] = part.all;
        positive[i] = part.positive;
      }
      sum_all.add(all);
      sum_positive.add(positive);
    }
    if (own.is_last) {
      own.all[target] = sum_all.log_sum_exp();
      own.positive[target] = sum_positive.log_sum_exp();
    } else {
      own.running_all[target] = sum_all;
      own.running_positive[target] = sum_positive;
    }
  }
};

}  // namespace unimo
