// The kernel of kernel.h, for the instruction set and the numbers of the including
// file: panels, then tiles of scores, then what is done with each.

#pragma once

#include "contrastive/cpu/kernel.h"
#include "contrastive/cpu/score_tile.h"
#include "contrastive/cpu/tile_gradient.h"
#include "contrastive/cpu/tile_statistics.h"

namespace unimo {
namespace {

std::size_t workspace_size(std::int64_t size, std::int64_t num_rows) {
  return ScoreTile::workspace_size(size, num_rows) + TileStatistics::kWorkspace +
         TileGradient::kWorkspace;
}

void forward(const ContrastiveInputs& inputs, Range rows, Range columns,
             const ContrastiveStatistics<RunningSums>& sums, float* kept, float* memory) {
  Workspace workspace(memory);
  TileStatistics statistics(&workspace);
  ScoreTile tile(inputs, rows, &workspace);
  for (std::int64_t j = columns.begin; j < columns.end; j += kTile) {
    tile.set_columns(tile_of(columns, j));
    tile.pack_columns_for_scores();
    for (std::int64_t i = rows.begin; i < rows.end; i += kTile) {
      tile.set_rows(tile_of(rows, i), false);
      if (kept != nullptr) {
        tile.set_scores(kept);
        kept += kTileScores;
      }
      tile.compute_scores();
      statistics.add(&tile, sums);
    }
  }
}

void backward(const ContrastiveInputs& inputs, Range rows, Range columns,
              const ContrastiveStatistics<const float*>& outputs,
              const ContrastiveStatistics<const float*>& upstream,
              const ContrastiveGradients& gradients, double* row_temperature, const float* kept,
              float* memory) {
  Workspace workspace(memory);
  TileGradient gradient(&workspace);
  ScoreTile tile(inputs, rows, &workspace);
  tile.begin_row_gradients();
  for (std::int64_t j = columns.begin; j < columns.end; j += kTile) {
    tile.set_columns(tile_of(columns, j));
    if (kept == nullptr) tile.pack_columns_for_scores();
    tile.pack_columns_for_gradients();
    for (std::int64_t i = rows.begin; i < rows.end; i += kTile) {
      tile.set_rows(tile_of(rows, i), true);
      if (kept != nullptr) {
        tile.load_scores(kept);
        kept += kTileScores;
      } else {
        tile.compute_scores();
      }
      gradient.compute(&tile, outputs, upstream, row_temperature);
      tile.add_gradients();
    }
    tile.flush_columns(gradients.columns);
  }
  tile.flush_rows(gradients.rows);
}

// The scores of all columns are kept from the statistics to the gradient, so each is computed once.
void one_way(const ContrastiveInputs& inputs, Range rows, const float* weights, float* row_all,
             float* row_positive, const ContrastiveStatistics<RunningSums>& sums,
             const ContrastiveGradients& gradients, double* row_temperature,
             const ColumnTurns& turns, float* memory) {
  Workspace workspace(memory);
  TileStatistics statistics(&workspace);
  TileGradient gradient(&workspace);
  float* const weight_of_all = workspace.take(kOneWayRows);
  float* const weight_of_positive = workspace.take(kOneWayRows);
  ScoreTile tile(inputs, rows, &workspace);
  float* const panel = workspace.take(0);
  const Range columns = {0, inputs.num_columns};
  // Call work() for each tile of columns and, within, of rows; each has a place in the panel.
  const auto for_each = [&](const auto& begin_columns, const auto& work, const auto& end_columns) {
    float* scores = panel;
    for (std::int64_t j = columns.begin; j < columns.end; j += kTile) {
      tile.set_columns(tile_of(columns, j));
      begin_columns(j / kTile);
      for (std::int64_t i = rows.begin; i < rows.end; i += kTile) {
        tile.set_rows(tile_of(rows, i), true);
        tile.set_scores(scores);
        scores += kTileScores;
        work();
      }
      end_columns(j / kTile);
    }
  };
  for_each([&](std::int64_t) { tile.pack_columns_for_scores(); },
           [&] {
             tile.compute_scores();
             statistics.add(&tile, sums);
           },
           [](std::int64_t) {});
  for (std::int64_t i = rows.begin; i < rows.end; ++i) {
    row_all[i] = sums.row_all.log_sum_exp(i);
    row_positive[i] = sums.row_positive.log_sum_exp(i);
    const bool has_positive = row_positive[i] != -kInfinity;
    weight_of_all[i - rows.begin] = has_positive ? weights[i] : 0.0f;
    weight_of_positive[i - rows.begin] = has_positive ? -weights[i] : 0.0f;
  }
  const ContrastiveStatistics<const float*> outputs = {row_all, row_positive, nullptr, nullptr};
  const ContrastiveStatistics<const float*> upstream = {
      weight_of_all - rows.begin, weight_of_positive - rows.begin, nullptr, nullptr};
  tile.begin_row_gradients();
  for_each([&](std::int64_t) { tile.pack_columns_for_gradients(); },
           [&] {
             tile.mark_pairs();
             gradient.compute(&tile, outputs, upstream, row_temperature);
             tile.add_gradients();
           },
           [&](std::int64_t column_tile) {
             turns.wait(turns.context, column_tile);
             tile.flush_columns(gradients.columns);
             turns.done(turns.context, column_tile);
           });
  tile.flush_rows(gradients.rows);
}

std::size_t one_way_workspace_size(std::int64_t size, std::int64_t num_columns) {
  const std::int64_t tiles = round_up(num_columns, kTile) / kTile * (kOneWayRows / kTile);
  return workspace_size(size, kOneWayRows) + 2 * kOneWayRows + tiles * kTileScores;
}

// The compiler must take the numbers for changed.
inline void hide(Vector* value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(*value));
#else
  asm volatile("" : "+w"(*value));  // a vector register of 64-bit Arm
#endif
}

std::int64_t spend(std::int64_t rounds) {
  constexpr int kSums = 12;  // enough to hide the latency of each
  Vector sums[kSums] = {}, factor = broadcast(1.0f);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (Vector& sum : sums) {
      hide(&factor);  // or the compiler would compute the product once for all
      sum = multiply_add(sum, factor, factor);
    }
  }
  for (Vector& sum : sums) hide(&sum);
  return rounds * kSums * kLanes * kNumbersPerWord * 2;
}

constexpr ContrastiveKernel make_kernel(const char* name) {
  return {name, &workspace_size, &forward, &backward, &one_way_workspace_size, &one_way, &spend};
}

}  // namespace
}  // namespace unimo
