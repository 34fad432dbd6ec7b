// Forward: the log-sum-exps of a tile of scores join the running ones of its rows and columns.
//
// One exponential a score, relative to a reference that the tile shares, serves its row and its
// column. Where rows and columns lie too far apart for that, each has an exponential of its own.

#pragma once

#include <cmath>

#include "contrastive/cpu/score_tile.h"

namespace unimo {
namespace {

// Rows of scores treated together, so that a vector of column sums is read once for all.
constexpr int kRowsAtOnce = 4;
// A shared reference may be this far above a row's or a column's own: what then underflows is less
// than exp(60 - 87) of the sum.
constexpr float kReach = 60.0f;

// Add one score to a running log-sum-exp.
inline void add_score(const RunningSums& sums, std::int64_t index, float score) {
  float& reference = sums.reference[index];
  double& sum = sums.sum[index];
  if (score > reference) {
    sum = sum * std::exp(static_cast<double>(reference) - score) + 1.0;
    reference = score;
  } else if (std::isnan(score)) {
    sum = score;
  } else if (score != -kInfinity) {
    sum += std::exp(static_cast<double>(score) - reference);
  }
}

// Add sums of exponentials around references to the running log-sum-exps of a range.
inline void merge(const RunningSums& sums, Range range, const float* reference, const float* sum) {
  float* const old_reference = sums.reference + range.begin;
  double* const old_sum = sums.sum + range.begin;
  for (int i = 0; i < range.size(); i += kLanes) {
    const int count = min(kLanes, range.size() - i);
    const Vector before = load_some(old_reference + i, count);
    const Vector found = load_some(reference + i, count);
    const Vector after = max(before, found);
    const Vector base = after == -kInfinity ? Vector{} : after;
    const Vector keep = fast_exp(before - base), take = fast_exp(found - base);
    for (int lane = 0; lane < count; ++lane) {
      old_reference[i + lane] = after[lane];
      old_sum[i + lane] =
          old_sum[i + lane] * keep[lane] + static_cast<double>(sum[i + lane]) * take[lane];
    }
  }
}

class TileStatistics {
 public:
  static constexpr std::int64_t kWorkspace = 4 * kTile;

  explicit TileStatistics(Workspace* workspace)
      : row_reference_(workspace->take(kTile)),
        row_sum_(workspace->take(kTile)),
        column_reference_(workspace->take(kTile)),
        column_sum_(workspace->take(kTile)) {}

  // `sums.column_all` and `column_positive` may be empty: only rows are then asked for.
  void add(ScoreTile* tile, const ContrastiveStatistics<RunningSums>& sums) {
    find_maxima(tile);
    if (one_reference_serves(*tile)) {
      sum_around_one_reference(tile);
    } else {
      sum_around_maxima(tile);
    }
    const bool with_columns = sums.column_all.sum != nullptr;
    merge(sums.row_all, tile->rows(), row_reference_, row_sum_);
    if (with_columns) merge(sums.column_all, tile->columns(), column_reference_, column_sum_);
    for (int k = 0; k < tile->num_positives(); ++k) {
      const int i = tile->positive_row(k), j = tile->positive_column(k);
      add_score(sums.row_positive, tile->rows().begin + i, tile->score(i, j));
      if (!with_columns) continue;
      add_score(sums.column_positive, tile->columns().begin + j, tile->score(i, j));
    }
  }

 private:
  void find_maxima(ScoreTile* tile) {
    for (int j = 0; j < kTile; j += kLanes) store(column_reference_ + j, broadcast(-kInfinity));
    for (int i = 0; i < tile->rows().size(); i += kRowsAtOnce) {
      const int count = min(kRowsAtOnce, tile->rows().size() - i);
      Vector largest[kRowsAtOnce];
      for (Vector& value : largest) value = broadcast(-kInfinity);
      for (int j = 0; j < tile->padded_columns(); j += kLanes) {
        Vector column = load(column_reference_ + j);
        for (int r = 0; r < count; ++r) {
          const Vector value = load(&tile->score(i + r, j));
          largest[r] = max(value, largest[r]);
          column = max(value, column);
        }
        store(column_reference_ + j, column);
      }
      for (int r = 0; r < count; ++r) row_reference_[i + r] = max_lanes(largest[r]);
    }
  }

  // Whether all rows and columns reach close enough to the tile's maximum, which becomes the
  // reference; those that hold nothing do not matter.
  bool one_reference_serves(const ScoreTile& tile) {
    float lowest = kInfinity, highest = -kInfinity;
    const auto look = [&](const float* values, int count) {
      for (int i = 0; i < count; ++i) {
        if (values[i] > highest) highest = values[i];
        if (values[i] < lowest && values[i] != -kInfinity) lowest = values[i];
      }
    };
    look(row_reference_, tile.rows().size());
    look(column_reference_, tile.columns().size());
    reference_ = highest == -kInfinity ? 0.0f : highest;
    return !(highest - lowest > kReach);
  }

  void sum_around_one_reference(ScoreTile* tile) {
    for (int j = 0; j < kTile; j += kLanes) store(column_sum_ + j, Vector{});
    for (int i = 0; i < tile->rows().size(); i += kRowsAtOnce) {
      const int count = min(kRowsAtOnce, tile->rows().size() - i);
      Vector sum[kRowsAtOnce] = {};
      for (int j = 0; j < tile->padded_columns(); j += kLanes) {
        Vector column = load(column_sum_ + j);
        for (int r = 0; r < count; ++r) {
          const Vector value = fast_exp(load(&tile->score(i + r, j)) - reference_);
          sum[r] += value;
          column += value;
        }
        store(column_sum_ + j, column);
      }
      for (int r = 0; r < count; ++r) row_sum_[i + r] = sum_lanes(sum[r]);
    }
    // A reference that no pair stands for would hide what lies far below it elsewhere.
    for (int i = 0; i < kTile; ++i) {
      if (i < tile->rows().size())
        row_reference_[i] = row_sum_[i] == 0.0f ? -kInfinity : reference_;
      column_reference_[i] = column_sum_[i] == 0.0f ? -kInfinity : reference_;
    }
  }

  void sum_around_maxima(ScoreTile* tile) {
    for (int i = 0; i < tile->rows().size(); ++i) {
      const float base = row_reference_[i] == -kInfinity ? 0.0f : row_reference_[i];
      Vector sum = {};
      for (int j = 0; j < tile->padded_columns(); j += kLanes) {
        sum += fast_exp(load(&tile->score(i, j)) - base);
      }
      row_sum_[i] = sum_lanes(sum);
    }
    for (int j = 0; j < tile->padded_columns(); j += kLanes) {
      const Vector largest = load(column_reference_ + j);
      const Vector base = largest == -kInfinity ? Vector{} : largest;
      Vector sum = {};
      for (int i = 0; i < tile->rows().size(); ++i) {
        sum += fast_exp(load(&tile->score(i, j)) - base);
      }
      store(column_sum_ + j, sum);
    }
  }

  float reference_ = 0.0f;
  float* const row_reference_;  // [kTile] each; -inf where nothing was found
  float* const row_sum_;
  float* const column_reference_;
  float* const column_sum_;
};

}  // namespace
}  // namespace unimo
