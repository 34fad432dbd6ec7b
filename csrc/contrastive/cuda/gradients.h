// The kernels of the backward pass; see statistics.h for how kernels are written.

#pragma once

#include "contrastive/cuda/statistics.h"

namespace unimo {

// One block of threads a tile: G / t into the block's matrix, and the tile's share of sum G s.
template <bool kSplit>
struct ScoreGradientKernel {
  static constexpr int kThreads = kProductThreads;
  static constexpr int kResidentBlocks = 2;

  ContrastiveInputs in;
  ContrastiveStatistics<const float*> outputs;
  ContrastiveStatistics<const float*> upstream;
  ScoreBlock block;
  float* gradient;     // [block.num_rows, pitch], 8-byte aligned
  std::int64_t pitch;  // whole chunks, at least block.num_columns
  double* tile_sums;   // [tiles down, sums_pitch], summed over the blocks
  std::int64_t sums_pitch;
  bool is_first;  // block

  // Rows first, then columns, like the labels.
  struct Targets {
    TileLabels labels;
    SumFlow all[kProductThreads];
    SumFlow positive[kProductThreads];
    double warp_sums[kProductThreads / kWarpSize];
  };
  static constexpr int kSharedBytes = ScoreShape::kPipelineBytes + sizeof(Targets);

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char* shared) const {
    auto* const stages = reinterpret_cast<float*>(shared);
    auto* const targets = reinterpret_cast<Targets*>(shared + ScoreShape::kPipelineBytes);
    load_labels(thread, in, block, &targets->labels);
    load_flows(thread, targets);
    ScoreShape::Sums scores;
    compute_scores<kSplit>(thread, in, block, stages, &scores);

    const ScoreTile tile(block, thread.block());
    double sum = store_gradients(thread, tile, *targets, &scores);
    UNIMO_UNROLL
    for (int mask = 1; mask < kWarpSize; mask *= 2) sum += thread.shuffle_xor(sum, mask);
    const int own = thread.index();
    if (own % kWarpSize == 0) targets->warp_sums[own / kWarpSize] = sum;
    thread.barrier();
    if (own != 0) return;
    double* const total = &tile_sums[tile.row / kScoreTile * sums_pitch + tile.column / kScoreTile];
    if (!is_first) sum += *total;
    for (int warp = 1; warp < kProductThreads / kWarpSize; ++warp) sum += targets->warp_sums[warp];
    *total = sum;
  }

 private:
  template <typename Thread>
  UNIMO_DEVICE void load_flows(Thread& thread, Targets* targets) const {
    const int own = thread.index();
    const std::int64_t target = own_target(own, block, ScoreTile(block, thread.block()));
    SumFlow all = {0.0f, 0.0f}, positive = {0.0f, 0.0f};
    if (target >= 0 && own < kScoreTile) {
      all = {outputs.row_all[target], upstream.row_all[target]};
      positive = {outputs.row_positive[target], upstream.row_positive[target]};
    } else if (target >= 0) {
      all = {outputs.column_all[target], upstream.column_all[target]};
      positive = {outputs.column_positive[target], upstream.column_positive[target]};
    }
    targets->all[own] = all;
    targets->positive[own] = positive;
  }

  // Writes G / t of the thread's scores; returns their share of sum G s. The products of one row
  // of 8 are added in float32, as exact as each of them is; everything beyond in double.
  template <typename Thread>
  UNIMO_DEVICE double store_gradients(Thread& thread, const ScoreTile& tile, const Targets& targets,
                                      ScoreShape::Sums* scores) const {
    const int own = thread.index();
    const OwnPairs pairs = targets.labels.pairs[own];
    // Most tiles have no positive pair.
    const bool has_positives = thread.any_in_warp(pairs.positive != 0);
    const float scale = 1.0f / *in.temperature;
    double sum = 0.0;
    UNIMO_UNROLL
    for (int r = 0; r < ScoreShape::kOwnRows; ++r) {
      const int row = ScoreShape::row(own, r);
      float values[ScoreShape::kOwnColumns];
      UNIMO_UNROLL
      for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
        const int column = kScoreTile + ScoreShape::column(own, c);
        values[c] = score_gradient(scores->at(r, c), targets.all[row], targets.all[column]);
        if (!(pairs.counted & OwnPairs::bit(r, c))) values[c] = scores->at(r, c) = 0.0f;
      }
      if (has_positives) add_positives(own, r, pairs.positive, targets, *scores, values);
      float row_sum = 0.0f;
      UNIMO_UNROLL
      for (int c = 0; c < ScoreShape::kOwnColumns; ++c) row_sum += values[c] * scores->at(r, c);
      sum += static_cast<double>(row_sum);
      if (row < tile.num_rows) store_row(own, row, tile, values, scale);
    }
    return sum;
  }

  UNIMO_DEVICE static void add_positives(int thread, int r, std::uint64_t positive,
                                         const Targets& targets, const ScoreShape::Sums& scores,
                                         float (&values)[ScoreShape::kOwnColumns]) {
    const SumFlow row = targets.positive[ScoreShape::row(thread, r)];
    UNIMO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; ++c) {
      if (!(positive & OwnPairs::bit(r, c))) continue;
      const SumFlow column = targets.positive[kScoreTile + ScoreShape::column(thread, c)];
      values[c] += score_gradient(scores.at(r, c), row, column);
    }
  }

  // The last chunk of a line is written in full, with zeros beyond the edge. A thread's columns
  // come in pairs of neighbours.
  UNIMO_DEVICE void store_row(int thread, int row, const ScoreTile& tile,
                              const float (&values)[ScoreShape::kOwnColumns], float scale) const {
    float* const line = gradient + (tile.row + row) * pitch + tile.column;
    const int end = (tile.num_columns + kChunk - 1) / kChunk * kChunk;
    UNIMO_UNROLL
    for (int c = 0; c < ScoreShape::kOwnColumns; c += 2) {
      const int column = ScoreShape::column(thread, c);
      if (column >= end) continue;
      *reinterpret_cast<FloatPair*>(line + column) = {{values[c] * scale, values[c + 1] * scale}};
    }
  }
};

// One block of threads a tile of 128 targets and 64 features. With G / t of a block of scores,
//
//     d rows [num_rows, D] += G columns / t,    d columns [num_columns, D] += G^T rows / t.
//
// The first blocks of threads take the rows' gradient, the others the columns'.
template <bool kSplit>
struct FeatureGradientKernel {
  static constexpr int kTargets = 128;
  static constexpr int kFeatures = 64;
  template <Layout kLayout>
  using Shape = TileShape<kTargets, kFeatures, 32, 32, kLayout, Layout::kTileContiguous>;
  using RowShape = Shape<Layout::kSumContiguous>;
  using ColumnShape = Shape<Layout::kTileContiguous>;
  static constexpr int kThreads = kProductThreads;
  static constexpr int kResidentBlocks = 2;
  static constexpr int kSharedBytes = RowShape::kPipelineBytes > ColumnShape::kPipelineBytes
                                          ? RowShape::kPipelineBytes
                                          : ColumnShape::kPipelineBytes;

  ContrastiveInputs in;
  ScoreBlock block;
  const float* gradient;   // [block.num_rows, pitch]
  std::int64_t pitch;      // a multiple of 4, like in.size
  float* row_gradient;     // [in.num_rows, size]
  float* column_gradient;  // [in.num_columns, size]
  std::int64_t size;       // without in.size's padding
  bool is_first_of_rows;   // nothing has been written to these rows' gradient so far
  bool is_first_of_columns;

  std::int64_t num_row_tiles() const { return num_tiles(block.num_rows); }
  std::int64_t num_column_tiles() const { return num_tiles(block.num_columns); }

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char* shared) const {
    auto* const stages = reinterpret_cast<float*>(shared);
    const int across = static_cast<int>((size + kFeatures - 1) / kFeatures);
    const int row_tiles = static_cast<int>((block.num_rows + kTargets - 1) / kTargets) * across;
    const int index = thread.block();
    const bool is_row = index < row_tiles;
    const int tile = is_row ? index : index - row_tiles;
    const int target = tile / across * kTargets, feature = tile % across * kFeatures;
    const int num_features = at_most(size - feature, kFeatures);
    if (is_row) {
      const int num_targets = at_most(block.num_rows - target, kTargets);
      add_product<RowShape>(
          thread, {gradient, in_chunks(target * pitch), in_chunks(pitch), num_targets},
          {in.columns, in_chunks(block.first_column * in.size + feature), in_chunks(in.size),
           num_features},
          static_cast<int>(block.num_columns), stages,
          row_gradient + (block.first_row + target) * size + feature, is_first_of_rows);
    } else {
      const int num_targets = at_most(block.num_columns - target, kTargets);
      add_product<ColumnShape>(thread, {gradient, in_chunks(target), in_chunks(pitch), num_targets},
                               {in.rows, in_chunks(block.first_row * in.size + feature),
                                in_chunks(in.size), num_features},
                               static_cast<int>(block.num_rows), stages,
                               column_gradient + (block.first_column + target) * size + feature,
                               is_first_of_columns);
    }
  }

 private:
  std::int64_t num_tiles(std::int64_t num_targets) const {
    return num_parts(num_targets, kTargets) * num_parts(size, kFeatures);
  }

  template <typename TargetShape, typename Thread>
  UNIMO_DEVICE void add_product(Thread& thread, const Operand& targets, const Operand& features,
                                int depth, float* stages, float* result, bool is_first) const {
    typename TargetShape::Sums sums;
    multiply_tile<kSplit, TargetShape>(thread, targets, features, depth, stages, &sums);
    const int own = thread.index();
    const bool in_quads =
        size % kChunk == 0 && reinterpret_cast<std::uintptr_t>(result) % sizeof(FloatQuad) == 0;
    UNIMO_UNROLL
    for (int r = 0; r < TargetShape::kOwnRows; ++r) {
      const int row = TargetShape::row(own, r);
      if (row >= targets.width) continue;
      float* const line = result + row * size;
      // Four fragments' columns are neighbours: of eight, the first four and the last.
      UNIMO_UNROLL
      for (int first = 0; first < TargetShape::kOwnColumns; first += 8) {
        UNIMO_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int c = first + half, column = TargetShape::column(own, c);
          const FloatQuad quad = {
              {sums.at(r, c), sums.at(r, c + 2), sums.at(r, c + 4), sums.at(r, c + 6)}};
          add_quad(quad, line + column, features.width - column, in_quads, is_first);
        }
      }
    }
  }

  // Adds the first of the four floats, at most count, to those at a place; the first time there is
  // nothing to add to.
  UNIMO_DEVICE static void add_quad(const FloatQuad& quad, float* place, int count, bool is_aligned,
                                    bool is_first) {
    if (is_aligned && count >= kChunk) {
      FloatQuad total = quad;
      auto* const target = reinterpret_cast<FloatQuad*>(place);
      if (!is_first) {
        const FloatQuad before = *target;
        UNIMO_UNROLL
        for (int e = 0; e < kChunk; ++e) total.value[e] += before.value[e];
      }
      *target = total;
      return;
    }
    UNIMO_UNROLL
    for (int e = 0; e < kChunk; ++e) {
      if (e < count) place[e] = is_first ? quad.value[e] : place[e] + quad.value[e];
    }
  }
};

// One warp: d t = -(1 / t) sum G s from the tiles' shares, in a fixed order.
struct TemperatureKernel {
  static constexpr int kThreads = kWarpSize;
  static constexpr int kResidentBlocks = 1;
  static constexpr int kSharedBytes = 0;

  const double* tile_sums;
  std::int64_t num_sums;
  const float* temperature;
  float* gradient;

  template <typename Thread>
  UNIMO_DEVICE void operator()(Thread& thread, unsigned char*) const {
    double sum = 0.0;
    for (std::int64_t i = thread.index(); i < num_sums; i += kThreads) sum += tile_sums[i];
    UNIMO_UNROLL
    for (int mask = 1; mask < kWarpSize; mask *= 2) sum += thread.shuffle_xor(sum, mask);
    if (thread.index() == 0) *gradient = static_cast<float>(-sum / *temperature);
  }
};

}  // namespace unimo
