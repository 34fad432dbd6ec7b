// Backward: a tile of scores becomes the gradients of the loss by them.
//
// With a reference m that the tile shares, g_r exp(s - l_r) + g_c exp(s - l_c) is exp(s - m) times
// (g_r exp(m - l_r) + g_c exp(m - l_c)): one exponential a pair. Where the log-sum-exps lie too far
// apart for that, the two are taken as they stand.

#pragma once

#include <cmath>

#include "contrastive/cpu/score_tile.h"
#include "contrastive/cpu/tile_statistics.h"

namespace unimo {
namespace {

// A log-sum-exp with its upstream gradient. Over nothing it is -inf and has none: +inf in its place
// makes every exp(score - log_sum_exp) zero.
struct Flow {
  float log_sum_exp;
  float upstream;
  Flow(float value, float gradient)
      : log_sum_exp(value == -kInfinity ? kInfinity : value),
        upstream(value == -kInfinity ? 0.0f : gradient) {}
  float share(float score) const { return upstream * std::exp(score - log_sum_exp); }
};

class TileGradient {
 public:
  static constexpr std::int64_t kWorkspace = 6 * kTile;

  explicit TileGradient(Workspace* workspace) : row_(workspace), column_(workspace) {}

  // Replaces the scores, and adds each row's sum of (gradient) x (score) to `row_temperature`.
  // Pointers of the columns may be null: only rows then have a gradient.
  void compute(ScoreTile* tile, const ContrastiveStatistics<const float*>& outputs,
               const ContrastiveStatistics<const float*>& upstream, double* row_temperature) {
    compute_positives(tile, outputs, upstream, row_temperature);
    const bool shares_reference = prepare(*tile, outputs, upstream);
    const Vector lowest = broadcast(-1.0e30f);  // for -inf: a gradient of 0 times it is 0
    for (int i = 0; i < tile->rows().size(); ++i) {
      const Vector factor = broadcast(row_.factor[i]);
      const Vector value = broadcast(row_.value[i]), flow = broadcast(row_.upstream[i]);
      Vector sum = {};
      for (int j = 0; j < tile->padded_columns(); j += kLanes) {
        const Vector score = load(&tile->score(i, j));
        const Vector gradient =
            shares_reference
                ? fast_exp(score - reference_) * (factor + load(column_.factor + j))
                : flow * fast_exp(score - value) +
                      load(column_.upstream + j) * fast_exp(score - load(column_.value + j));
        sum += gradient * max(lowest, score);
        store(&tile->score(i, j), gradient);
      }
      row_temperature[tile->rows().begin + i] += sum_lanes(sum);
    }
    for (int k = 0; k < tile->num_positives(); ++k) {
      tile->score(tile->positive_row(k), tile->positive_column(k)) += tile->positive_gradient(k);
    }
  }

 private:
  struct Side {
    explicit Side(Workspace* workspace)
        : value(workspace->take(kTile)),
          upstream(workspace->take(kTile)),
          factor(workspace->take(kTile)) {}
    float* const value;     // log-sum-exps
    float* const upstream;  // their gradients
    float* const factor;    // gradient x exp(reference - value)
  };

  // What pairs get for being positive, found before the scores are replaced.
  static void compute_positives(ScoreTile* tile, const ContrastiveStatistics<const float*>& outputs,
                                const ContrastiveStatistics<const float*>& upstream,
                                double* row_temperature) {
    for (int k = 0; k < tile->num_positives(); ++k) {
      const int i = tile->positive_row(k), j = tile->positive_column(k);
      const std::int64_t row = tile->rows().begin + i, column = tile->columns().begin + j;
      const float score = tile->score(i, j);
      float gradient = Flow(outputs.row_positive[row], upstream.row_positive[row]).share(score);
      if (outputs.column_positive != nullptr) {
        gradient +=
            Flow(outputs.column_positive[column], upstream.column_positive[column]).share(score);
      }
      tile->positive_gradient(k) = gradient;
      row_temperature[row] += static_cast<double>(gradient) * score;
    }
  }

  // Reads both sides and, where one reference serves, which is returned, finds their factors.
  bool prepare(const ScoreTile& tile, const ContrastiveStatistics<const float*>& outputs,
               const ContrastiveStatistics<const float*>& upstream) {
    float lowest = kInfinity, highest = -kInfinity;
    const auto read = [&](const float* values, const float* gradients, Range range,
                          const Side& side) {
      const int count = values == nullptr ? 0 : range.size();
      for (int i = 0; i < count; ++i) {
        const float value = values[range.begin + i];
        const Flow flow(value, gradients[range.begin + i]);
        side.value[i] = flow.log_sum_exp;
        side.upstream[i] = flow.upstream;
        if (value > highest) highest = value;
        if (value < lowest && value != -kInfinity) lowest = value;
      }
      for (int i = count; i < kTile; ++i) side.value[i] = kInfinity, side.upstream[i] = 0.0f;
    };
    read(outputs.row_all, upstream.row_all, tile.rows(), row_);
    read(outputs.column_all, upstream.column_all, tile.columns(), column_);
    if (highest - lowest > kReach) return false;
    reference_ = highest == -kInfinity ? 0.0f : highest;
    for (const Side& side : {row_, column_}) {
      for (int i = 0; i < kTile; i += kLanes) {
        const Vector factor = fast_exp(reference_ - load(side.value + i));
        store(side.factor + i, load(side.upstream + i) * factor);
      }
    }
    return true;
  }

  float reference_ = 0.0f;
  const Side row_;
  const Side column_;
};

}  // namespace
}  // namespace unimo
