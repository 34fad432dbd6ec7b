// A tile of scores: its packed features, its special pairs, and the two products of its gradient.

#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>

#include "contrastive/cpu/kernel.h"
#include "contrastive/cpu/panels.h"

namespace unimo {
namespace {

// Words of features multiplied before the next ones are taken up.
constexpr int kDepthAtOnce = 256;
// With one number a word a packed side serves on either side of a product.
constexpr bool kOnePacking = kNumbersPerWord == 1;
constexpr int kTileWords = kTile / kNumbersPerWord;

inline int min(int a, int b) { return a < b ? a : b; }

// The part of a range that a tile starting at `begin` covers.
inline Range tile_of(Range range, std::int64_t begin) {
  return {begin, range.end - begin > kTile ? begin + kTile : range.end};
}

// Cuts a workspace into arrays.
class Workspace {
 public:
  explicit Workspace(float* start) : next_(start) {}
  float* take(std::int64_t count) {
    float* const start = next_;
    next_ += count;
    return start;
  }

 private:
  float* next_;
};

class ScoreTile {
 public:
  // Floats that a tile takes of the workspace, for blocks of so many rows.
  static std::int64_t workspace_size(std::int64_t size, std::int64_t block_rows) {
    const std::int64_t row_tiles = round_up(block_rows, kTile) / kTile;
    const std::int64_t left = row_tiles * left_words(size), right = right_words(size);
    return left + (kOnePacking ? 0 : right) + left_words(size) + right +
           (row_tiles + 1) * sums_size(size) + kTile * (kScoreRow + 2 * kTile) +
           (kOnePacking ? 0 : 2 * kTileWords * kScoreRow);
  }

  // Packs the rows of a whole block at once: they meet every tile of columns.
  ScoreTile(const ContrastiveInputs& inputs, Range block_rows, Workspace* workspace)
      : in_(inputs), block_rows_(block_rows) {
    const std::int64_t size = in_.size, row_tiles = round_up(block_rows.size(), kTile) / kTile;
    block_left_ = workspace->take(row_tiles * left_words(size));
    rows_right_ = kOnePacking ? nullptr : workspace->take(right_words(size));
    columns_transposed_ = workspace->take(left_words(size));
    columns_right_ = workspace->take(right_words(size));
    row_sums_ = workspace->take(row_tiles * sums_size(size));
    column_sums_ = workspace->take(sums_size(size));
    scores_ = workspace->take(kTile * kScoreRow);
    positives_ = reinterpret_cast<std::uint32_t*>(workspace->take(kTile * kTile));
    positive_gradients_ = workspace->take(kTile * kTile);
    if (!kOnePacking) {
      gradient_by_row_ = workspace->take(kTileWords * kScoreRow);
      gradient_by_column_ = workspace->take(kTileWords * kScoreRow);
    }
    for (std::int64_t i = block_rows.begin; i < block_rows.end; i += kTile) {
      set_rows(tile_of(block_rows, i), false);
      pack_left(in_.rows, rows_, size, 1.0f / *in_.temperature, padded_rows_, rows_left_);
    }
  }

  void set_columns(Range columns) {
    columns_ = columns;
    padded_columns_ = static_cast<int>(round_up(columns.size(), kPanel));
    std::memset(filter_, 0, sizeof(filter_));
    for (std::int64_t j = columns.begin; j < columns.end; ++j) {
      filter_[slot(in_.column_group[j])] = true;
      if (in_.column_duplicate[j] != -1) filter_[slot(in_.column_duplicate[j])] = true;
    }
  }

  // Packs what `compute_scores` needs of the columns.
  void pack_columns_for_scores() {
    pack_transposed(in_.columns, columns_, in_.size, columns_transposed_);
  }

  // Packs what `add_gradients` needs of the columns, and begins their gradient.
  void pack_columns_for_gradients() {
    pack_right(in_.columns, columns_, in_.size, 1.0f / *in_.temperature, padded_columns_,
               columns_right_);
    std::memset(column_sums_, 0, sums_size(in_.size) * sizeof(float));
  }

  // Begins the gradient of the block's rows.
  void begin_row_gradients() {
    const std::int64_t row_tiles = round_up(block_rows_.size(), kTile) / kTile;
    std::memset(row_sums_, 0, row_tiles * sums_size(in_.size) * sizeof(float));
  }

  void set_rows(Range rows, bool with_gradient) {
    rows_ = rows;
    padded_rows_ = static_cast<int>(round_up(rows.size(), kStripRows));
    rows_left_ = block_left_ + (rows.begin - block_rows_.begin) / kTile * left_words(in_.size);
    if (kOnePacking) {
      rows_right_ = rows_left_;
    } else if (with_gradient) {
      pack_right(in_.rows, rows, in_.size, 1.0f / *in_.temperature, padded_rows_, rows_right_);
    }
  }

  // Scores of the tile's pairs; -inf where a pair is ignored or beyond the edge of the columns.
  void compute_scores() {
    const std::int64_t words = padded_words(in_.size);
    // A part of the depth at a time, so that the rows' share of it stays in the cache.
    for (std::int64_t k = 0; k < words; k += kDepthAtOnce) {
      const std::int64_t part = words - k < kDepthAtOnce ? words - k : kDepthAtOnce;
      const Depth depth = {kPanel, static_cast<int>(part / kPanel),
                           std::int64_t{padded_rows_} * kPanel};
      for (int j = 0; j < padded_columns_; j += kPanel) {
        const Word* const right = columns_transposed_ + j * words + k * kPanel;
        for (int i = 0; i < padded_rows_; i += kStripRows) {
          const Word* const left = rows_left_ + k * padded_rows_ + i * kPanel;
          if (k == 0) {
            multiply_strip<kPanel, 1, false>(left, depth, right, &score(i, j), kScoreRow);
          } else {
            multiply_strip<kPanel, 1, true>(left, depth, right, &score(i, j), kScoreRow);
          }
        }
      }
    }
    for (int i = 0; i < rows_.size(); ++i) {
      for (int j = columns_.size(); j < padded_columns_; ++j) score(i, j) = -kInfinity;
    }
    mark_pairs();
  }

  // Lists the positives and puts -inf on the ignored pairs.
  void mark_pairs() {
    num_positives_ = 0;
    for (int i = 0; i < rows_.size(); ++i) mark_row(i);
  }

  // Takes scores that `compute_scores` once gave.
  void load_scores(const float* kept) {
    std::memcpy(scores_, kept, rows_.size() * kScoreRow * sizeof(float));
    mark_pairs();
  }

  // Where the scores lie: [kTile, kScoreRow].
  void set_scores(float* scores) { scores_ = scores; }

  // Adds the products of the gradient, which has taken the scores' place, to the sums of this
  // block's rows and of these columns.
  void add_gradients() {
    if (!kOnePacking) pack_gradient();
    const Word* const by_row = kOnePacking ? scores_ : gradient_by_row_;
    const Word* const by_column = kOnePacking ? scores_ : gradient_by_column_;
    const std::int64_t row_tile = (rows_.begin - block_rows_.begin) / kTile;
    add_product<kScoreRow / kNumbersPerWord, 1>(by_row, columns_right_, padded_columns_,
                                                rows_.size(), columns_.size(),
                                                row_sums_ + row_tile * sums_size(in_.size));
    add_product<1, kScoreRow>(by_column, rows_right_, padded_rows_, columns_.size(), rows_.size(),
                              column_sums_);
  }

  // Adds the sums of these columns to their gradient.
  void flush_columns(float* gradient) { flush(column_sums_, columns_, gradient); }

  // Adds the sums of the block's rows to their gradient.
  void flush_rows(float* gradient) {
    const float* sums = row_sums_;
    for (std::int64_t i = block_rows_.begin; i < block_rows_.end; i += kTile) {
      flush(sums, tile_of(block_rows_, i), gradient);
      sums += sums_size(in_.size);
    }
  }

  float& score(int row, int column) { return scores_[row * kScoreRow + column]; }
  Range rows() const { return rows_; }
  Range columns() const { return columns_; }
  int padded_columns() const { return padded_columns_; }  // whole vectors
  int num_positives() const { return num_positives_; }
  int positive_row(int index) const { return positives_[index] / kTile; }
  int positive_column(int index) const { return positives_[index] % kTile; }
  float& positive_gradient(int index) { return positive_gradients_[index]; }

 private:
  static std::int64_t left_words(std::int64_t size) { return kTile * padded_words(size); }
  static std::int64_t right_words(std::int64_t size) { return kTileWords * round_up(size, kPanel); }
  static std::int64_t sums_size(std::int64_t size) { return kTile * round_up(size, kPanel); }
  static std::uint64_t slot(std::int64_t id) {
    return (static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15u) >> 50;
  }

  void mark_row(int row) {
    const std::int64_t group = in_.row_group[rows_.begin + row];
    const std::int64_t duplicate = in_.row_duplicate[rows_.begin + row];
    if (!filter_[slot(group)] && (duplicate == -1 || !filter_[slot(duplicate)])) return;
    const std::int64_t* const groups = in_.column_group + columns_.begin;
    const std::int64_t* const duplicates = in_.column_duplicate + columns_.begin;
    std::int64_t num_special = 0;  // a loop without a branch: the filter is often wrong
    for (int j = 0; j < columns_.size(); ++j) {
      num_special += (groups[j] == group) | (duplicates[j] == duplicate);
    }
    if (num_special == 0) return;
    for (int j = 0; j < columns_.size(); ++j) {
      if (groups[j] == group) {
        positives_[num_positives_++] = row * kTile + j;
      } else if (duplicate != -1 && duplicates[j] == duplicate) {
        score(row, j) = -kInfinity;
      }
    }
  }

  // sums += a b for `count` rows of a, where b is packed from `padded_depth` rows, `depth` of them
  // real. Sums lie as [panel][kTile][kPanel], so that they too are read from one end to the other.
  template <int kRow, int kStep>
  void add_product(const Word* a, const Word* b, int padded_depth, int count, int depth,
                   float* sums) {
    const Depth words = {(depth + kNumbersPerWord - 1) / kNumbersPerWord};
    const std::int64_t panel_words = std::int64_t{padded_depth} / kNumbersPerWord * kPanel;
    for (std::int64_t panel = 0; panel < in_.size; panel += kPanel) {
      for (int i = 0; i < count; i += kStripRows) {
        multiply_strip<kRow, kStep, true>(a + i * kRow, words, b, sums + i * kPanel, kPanel);
      }
      b += panel_words;
      sums += kTile * kPanel;
    }
  }

  void flush(const float* sums, Range range, float* gradient) {
    for (int i = 0; i < range.size(); ++i, sums += kPanel) {
      float* const target = gradient + (range.begin + i) * in_.size;
      for (std::int64_t k = 0; k < in_.size; k += kPanel) {
        const float* const from = sums + k * kTile;
        const int width = in_.size - k < kPanel ? static_cast<int>(in_.size - k) : kPanel;
        for (int lane = 0; lane < width; ++lane) target[k + lane] += from[lane];
      }
    }
  }

  // Words of the gradient along its rows, and down its columns.
  void pack_gradient() {
    for (int i = 0; i < rows_.size(); ++i) {
      Word* to = gradient_by_row_ + i * (kScoreRow / kNumbersPerWord);
      for (int j = 0; j < padded_columns_; j += kLanes * kNumbersPerWord, to += kLanes) {
        store(to, row_words(&score(i, j), padded_columns_ - j, 1.0f));
      }
    }
    for (int i = 0; i < rows_.size(); i += kNumbersPerWord) {
      Word* const to = gradient_by_column_ + i / kNumbersPerWord * kScoreRow;
      for (int j = 0; j < padded_columns_; j += kLanes) {
        store(to + j, column_words(&score(i, j), kScoreRow, rows_.size() - i, kLanes, 1.0f));
      }
    }
  }

  const ContrastiveInputs& in_;
  const Range block_rows_;
  Range rows_{0, 0};
  Range columns_{0, 0};
  int padded_rows_ = 0;        // whole strips
  int padded_columns_ = 0;     // whole panels
  int num_positives_ = 0;      // few as a rule, so each is treated by itself
  Word* block_left_;           // rows / temperature of the block, tile after tile
  Word* rows_left_;            // those of this tile
  Word* rows_right_;           // the same as a right operand
  Word* columns_transposed_;   // columns
  Word* columns_right_;        // columns / temperature as a right operand
  float* row_sums_;            // of the gradients of the block's rows, tile after tile
  float* column_sums_;         // of the gradients of these columns
  float* scores_;              // [kTile, kScoreRow], then their gradient
  std::uint32_t* positives_;   // row * kTile + column
  float* positive_gradients_;  // what each adds to the gradient for being positive
  Word* gradient_by_row_;      // [kTile, kScoreRow / 2], where a word is a pair
  Word* gradient_by_column_;   // [kTile / 2, kScoreRow], where a word is a pair
  bool filter_[1 << 14];       // hashed ids of the columns: a row that misses has no special pair
};

}  // namespace
}  // namespace unimo
