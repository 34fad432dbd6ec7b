// The CPU form: blocks of the score matrix, one at a time a thread, in an order fixed by the sizes.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/simd.h"
#include "contrastive/contrastive.h"

namespace unimo {
namespace {

constexpr int kTile = 96;      // rows and columns of a tile; a multiple of the two below
constexpr int kStripRows = 6;  // a strip is what the registers hold: 6 x 16 sums
constexpr int kStripColumns = 16;
constexpr std::int64_t kMinChunk = 32;
constexpr int kMaxChunks = 32;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// A running log-sum-exp: log(sum) + max over what it has seen.
struct Running {
  float max = -kInfinity;
  double sum = 0.0;

  void add(float other_max, double other_sum) {
    if (other_max > max) {
      sum = sum * std::exp(static_cast<double>(max) - other_max) + other_sum;
      max = other_max;
    } else {
      sum +=
          other_max == max ? other_sum : other_sum * std::exp(static_cast<double>(other_max) - max);
    }
  }
  void add(float score) { add(std::isnan(score) ? max : score, std::isnan(score) ? score : 1.0); }
  float log_sum_exp() const {
    return sum == 0.0 ? -kInfinity : static_cast<float>(max + std::log(sum));
  }
};

// C [6, 16] = A [6, depth] B [depth, 16].
void multiply_strip(const float* a, std::int64_t a_row, std::int64_t a_column, const float* b,
                    std::int64_t b_row, float* c, std::int64_t c_row, std::int64_t depth) {
  Vector left[kStripRows] = {}, right[kStripRows] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    const Vector b_left = load(b + k * b_row);
    const Vector b_right = load(b + k * b_row + kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kStripRows; ++i) {
      const Vector factor = broadcast(a[i * a_row + k * a_column]);
      left[i] += factor * b_left;
      right[i] += factor * b_right;
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kStripRows; ++i) {
    store(c + i * c_row, left[i]);
    store(c + i * c_row + kLanes, right[i]);
  }
}

// Half-open range of rows or of columns.
struct Range {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t size() const { return end - begin; }
};

// One thread's buffers, and the tile of scores it works on.
class Tile {
 public:
  explicit Tile(const ContrastiveInputs& inputs)
      : in_(inputs),
        padded_size_(round_up(inputs.size, kStripColumns)),
        row_features_(kTile * padded_size_),
        column_features_(kTile * padded_size_),
        packed_columns_(kTile * padded_size_),
        product_(kTile * padded_size_),
        scores_(kTile * kTile),
        gradient_(kTile * kTile) {}

  void set_columns(Range columns);
  void set_rows(Range rows);
  void compute_scores();
  void update(std::vector<Running>* row_all, std::vector<Running>* row_positive,
              std::vector<Running>* column_all, std::vector<Running>* column_positive) const;
  void compute_gradient(const ContrastiveStatistics<const float*>& outputs,
                        const ContrastiveStatistics<const float*>& upstream);
  void add_gradients(const ContrastiveGradients& gradients, double* row_temperature);

 private:
  struct Positive {
    int row;
    int column;
  };
  int padded_columns() const { return static_cast<int>(round_up(columns_.size(), kStripColumns)); }
  void copy_features(const float* source, Range range, std::vector<float>* target) const;
  void mark_pairs(int row);
  void add_product(std::int64_t g_row, std::int64_t g_column, const std::vector<float>& features,
                   Range targets, std::int64_t depth, float* gradient);

  const ContrastiveInputs in_;
  const std::int64_t padded_size_;
  Range rows_{0, 0};
  Range columns_{0, 0};
  std::vector<float> row_features_;     // [tile, padded size]
  std::vector<float> column_features_;  // [tile, padded size]
  std::vector<float> packed_columns_;   // [tile / 16, padded size, 16]
  std::vector<float> product_;          // [tile, padded size]
  std::vector<float> scores_;           // [tile, tile]; ignored and beyond the edge: -inf
  std::vector<float> gradient_;         // [tile, tile]; of the loss by the scores
  std::vector<Positive> positives_;     // of the tile; few, so each is treated by itself
};

// Features of a range, their size padded with zeros.
void Tile::copy_features(const float* source, Range range, std::vector<float>* target) const {
  for (std::int64_t i = 0; i < range.size(); ++i) {
    const float* from = source + (range.begin + i) * in_.size;
    float* to = target->data() + i * padded_size_;
    std::copy(from, from + in_.size, to);
    std::fill(to + in_.size, to + padded_size_, 0.0f);
  }
}

void Tile::set_rows(Range rows) {
  rows_ = rows;
  copy_features(in_.rows, rows, &row_features_);
}

void Tile::set_columns(Range columns) {
  columns_ = columns;
  copy_features(in_.columns, columns, &column_features_);
  for (int strip = 0; strip < padded_columns(); strip += kStripColumns) {
    float* to = packed_columns_.data() + strip * padded_size_;
    const float* from = column_features_.data() + strip * padded_size_;
    for (std::int64_t k = 0; k < padded_size_; ++k) {
      for (int j = 0; j < kStripColumns; ++j) {
        to[k * kStripColumns + j] = from[j * padded_size_ + k];
      }
    }
  }
}

void Tile::compute_scores() {
  for (int strip = 0; strip < padded_columns(); strip += kStripColumns) {
    for (int i = 0; i < rows_.size(); i += kStripRows) {
      multiply_strip(row_features_.data() + i * padded_size_, padded_size_, 1,
                     packed_columns_.data() + strip * padded_size_, kStripColumns,
                     scores_.data() + i * kTile + strip, kTile, in_.size);
    }
  }
  const float temperature = *in_.temperature;
  positives_.clear();
  for (int i = 0; i < rows_.size(); ++i) {
    float* row = scores_.data() + i * kTile;
    for (int j = 0; j < columns_.size(); ++j) row[j] /= temperature;
    std::fill(row + columns_.size(), row + padded_columns(), -kInfinity);
    mark_pairs(i);
  }
}

// List the positives of a row and put -inf on its ignored pairs.
void Tile::mark_pairs(int row) {
  const std::int64_t group = in_.row_group[rows_.begin + row];
  const std::int64_t duplicate = in_.row_duplicate[rows_.begin + row];
  const std::int64_t* groups = in_.column_group + columns_.begin;
  const std::int64_t* duplicates = in_.column_duplicate + columns_.begin;
  std::int64_t num_special = 0;
  for (int j = 0; j < columns_.size(); ++j) {
    num_special += (groups[j] == group) | (duplicates[j] == duplicate);
  }
  if (num_special == 0) return;
  for (int j = 0; j < columns_.size(); ++j) {
    if (groups[j] == group) {
      positives_.push_back({row, j});
    } else if (duplicate != -1 && duplicates[j] == duplicate) {
      scores_[row * kTile + j] = -kInfinity;
    }
  }
}

void Tile::update(std::vector<Running>* row_all, std::vector<Running>* row_positive,
                  std::vector<Running>* column_all, std::vector<Running>* column_positive) const {
  for (int i = 0; i < rows_.size(); ++i) {
    const float* row = scores_.data() + i * kTile;
    Vector largest = broadcast(-kInfinity);
    for (int j = 0; j < padded_columns(); j += kLanes) {
      const Vector score = load(row + j);
      largest = score > largest ? score : largest;
    }
    const float max = max_lanes(largest);
    const float base = max == -kInfinity ? 0.0f : max;
    Vector sum = {};
    for (int j = 0; j < padded_columns(); j += kLanes) sum += fast_exp(load(row + j) - base);
    (*row_all)[rows_.begin + i].add(max, sum_lanes(sum));
  }
  for (int j = 0; j < columns_.size(); j += kLanes) {
    const float* column = scores_.data() + j;
    Vector largest = broadcast(-kInfinity);
    for (int i = 0; i < rows_.size(); ++i) {
      const Vector score = load(column + i * kTile);
      largest = score > largest ? score : largest;
    }
    const Vector base = largest == -kInfinity ? broadcast(0.0f) : largest;
    Vector sum = {};
    for (int i = 0; i < rows_.size(); ++i) sum += fast_exp(load(column + i * kTile) - base);
    const int num_lanes = static_cast<int>(std::min<std::int64_t>(kLanes, columns_.size() - j));
    for (int lane = 0; lane < num_lanes; ++lane) {
      (*column_all)[columns_.begin + j + lane].add(largest[lane], sum[lane]);
    }
  }
  for (const Positive& pair : positives_) {
    const float score = scores_[pair.row * kTile + pair.column];
    (*row_positive)[rows_.begin + pair.row].add(score);
    (*column_positive)[columns_.begin + pair.column].add(score);
  }
}

// A log-sum-exp with its upstream gradient; over nothing it is -inf and has none.
struct Flow {
  float log_sum_exp;
  float upstream;
  Flow(float value, float gradient)
      : log_sum_exp(value == -kInfinity ? 0.0f : value),
        upstream(value == -kInfinity ? 0.0f : gradient) {}
};

void Tile::compute_gradient(const ContrastiveStatistics<const float*>& outputs,
                            const ContrastiveStatistics<const float*>& upstream) {
  float column_value[kTile] = {}, column_upstream[kTile] = {};
  for (int j = 0; j < columns_.size(); ++j) {
    const Flow flow(outputs.column_all[columns_.begin + j],
                    upstream.column_all[columns_.begin + j]);
    column_value[j] = flow.log_sum_exp;
    column_upstream[j] = flow.upstream;
  }
  for (int i = 0; i < rows_.size(); ++i) {
    const Flow flow(outputs.row_all[rows_.begin + i], upstream.row_all[rows_.begin + i]);
    for (int j = 0; j < padded_columns(); j += kLanes) {
      const Vector score = load(scores_.data() + i * kTile + j);
      store(gradient_.data() + i * kTile + j,
            flow.upstream * fast_exp(score - flow.log_sum_exp) +
                load(column_upstream + j) * fast_exp(score - load(column_value + j)));
    }
  }
  for (const Positive& pair : positives_) {
    const std::int64_t i = rows_.begin + pair.row, j = columns_.begin + pair.column;
    const Flow by_row(outputs.row_positive[i], upstream.row_positive[i]);
    const Flow by_column(outputs.column_positive[j], upstream.column_positive[j]);
    const float score = scores_[pair.row * kTile + pair.column];
    gradient_[pair.row * kTile + pair.column] +=
        by_row.upstream * std::exp(score - by_row.log_sum_exp) +
        by_column.upstream * std::exp(score - by_column.log_sum_exp);
  }
}

// Add the tile's share to the gradients of its rows, its columns and, row by row, the temperature.
void Tile::add_gradients(const ContrastiveGradients& gradients, double* row_temperature) {
  const float temperature = *in_.temperature;
  for (int i = 0; i < rows_.size(); ++i) {
    DoubleVector sum = {};
    for (int j = 0; j < padded_columns(); j += kLanes) {
      const Vector score = load(scores_.data() + i * kTile + j);
      const Vector gradient = load(gradient_.data() + i * kTile + j);
      sum += widen(gradient) * widen(score == -kInfinity ? broadcast(0.0f) : score);
      store(gradient_.data() + i * kTile + j, gradient / temperature);
    }
    row_temperature[rows_.begin + i] += sum_lanes(sum);
  }
  add_product(kTile, 1, column_features_, rows_, columns_.size(), gradients.rows);
  add_product(1, kTile, row_features_, columns_, rows_.size(), gradients.columns);
}

// gradient[targets] += G features, where element (i, k) of G is at i * g_row + k * g_column.
void Tile::add_product(std::int64_t g_row, std::int64_t g_column,
                       const std::vector<float>& features, Range targets, std::int64_t depth,
                       float* gradient) {
  for (std::int64_t strip = 0; strip < padded_size_; strip += kStripColumns) {
    for (std::int64_t i = 0; i < targets.size(); i += kStripRows) {
      multiply_strip(gradient_.data() + i * g_row, g_row, g_column, features.data() + strip,
                     padded_size_, product_.data() + i * padded_size_ + strip, padded_size_, depth);
    }
  }
  for (std::int64_t i = 0; i < targets.size(); ++i) {
    const float* from = product_.data() + i * padded_size_;
    float* to = gradient + (targets.begin + i) * in_.size;
    for (std::int64_t k = 0; k < in_.size; ++k) to[k] += from[k];
  }
}

int num_chunks(std::int64_t count) {
  int chunks = 1;
  while (chunks < kMaxChunks && chunks * 2 * kMinChunk <= count) chunks *= 2;
  return chunks;
}

Range chunk(std::int64_t count, int index, int chunks) {
  return {count * index / chunks, count * (index + 1) / chunks};
}

// Call work(tile) for every tile of the matrix.
//
// Rows and columns are cut into chunks, and the phases run over the pairs of chunks like a Latin
// square: within a phase no two pairs share a row chunk or a column chunk, so each may add to the
// sums of its rows and columns without a lock, and every sum has an order that the sizes alone fix.
template <typename Work>
void for_each_tile(const ContrastiveInputs& inputs, int num_threads, const Work& work) {
  const int row_chunks = num_chunks(inputs.num_rows);
  const int column_chunks = num_chunks(inputs.num_columns);
  const int phases = std::max(row_chunks, column_chunks);
  const int pairs = std::min(row_chunks, column_chunks);
#pragma omp parallel num_threads(std::min(pairs, std::max(1, num_threads)))
  {
    Tile tile(inputs);
    for (int phase = 0; phase < phases; ++phase) {
#pragma omp for schedule(static, 1)
      for (int pair = 0; pair < pairs; ++pair) {
        const int shifted = (pair + phase) % phases;
        const bool wide = row_chunks <= column_chunks;
        const Range rows = chunk(inputs.num_rows, wide ? pair : shifted, row_chunks);
        const Range columns = chunk(inputs.num_columns, wide ? shifted : pair, column_chunks);
        for (std::int64_t j = columns.begin; j < columns.end; j += kTile) {
          tile.set_columns({j, std::min(j + kTile, columns.end)});
          for (std::int64_t i = rows.begin; i < rows.end; i += kTile) {
            tile.set_rows({i, std::min(i + kTile, rows.end)});
            tile.compute_scores();
            work(&tile);
          }
        }
      }
    }
  }
}

void finish(const std::vector<Running>& running, float* output) {
  std::transform(running.begin(), running.end(), output,
                 [](const Running& value) { return value.log_sum_exp(); });
}

}  // namespace

void contrastive_forward_cpu(const ContrastiveInputs& inputs,
                             const ContrastiveStatistics<float*>& outputs, int num_threads) {
  std::vector<Running> row_all(inputs.num_rows), row_positive(inputs.num_rows);
  std::vector<Running> column_all(inputs.num_columns), column_positive(inputs.num_columns);
  for_each_tile(inputs, num_threads, [&](Tile* tile) {
    tile->update(&row_all, &row_positive, &column_all, &column_positive);
  });
  finish(row_all, outputs.row_all);
  finish(row_positive, outputs.row_positive);
  finish(column_all, outputs.column_all);
  finish(column_positive, outputs.column_positive);
}

void contrastive_backward_cpu(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<const float*>& outputs,
                              const ContrastiveStatistics<const float*>& upstream,
                              const ContrastiveGradients& gradients, int num_threads) {
  std::fill_n(gradients.rows, inputs.num_rows * inputs.size, 0.0f);
  std::fill_n(gradients.columns, inputs.num_columns * inputs.size, 0.0f);
  std::vector<double> row_temperature(inputs.num_rows, 0.0);
  for_each_tile(inputs, num_threads, [&](Tile* tile) {
    tile->compute_gradient(outputs, upstream);
    tile->add_gradients(gradients, row_temperature.data());
  });
  double sum = 0.0;
  for (const double value : row_temperature) sum += value;
  *gradients.temperature = static_cast<float>(-sum / *inputs.temperature);
}

}  // namespace unimo
