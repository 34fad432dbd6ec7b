// Packed operands of the contrastive kernel, and the product of a strip by a panel.
//
// A product C = A B takes kStripRows rows of A and one panel, kPanel columns, of B at a time: as
// many sums as the registers hold. Operands are packed so that each is read from one end to the
// other. Included after the numbers (numbers_*.h), which decide what a word is: float32, or a pair
// of bfloat16 that the hardware multiplies and adds at once.

#pragma once

#include "common/simd.h"
#include "contrastive/cpu/range.h"

namespace unimo {
namespace {

constexpr int kStripRows = kLanes == 16 ? 12 : 6;  // 32 registers or 16
constexpr int kPanel = 2 * kLanes;

using Word = float;  // its bits

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The words of a row of `size` numbers, in whole panels.
inline std::int64_t padded_words(std::int64_t size) {
  return round_up((size + kNumbersPerWord - 1) / kNumbersPerWord, kPanel);
}

// Rows of a matrix [., size], scaled, as the left operand of a product over `size`: [panel][row]
// [kPanel words along the row]. Rows from the range's size to `padded_rows` are zero.
inline void pack_left(const float* source, Range rows, std::int64_t size, float scale,
                      int padded_rows, Word* target) {
  for (int row = 0; row < padded_rows; ++row) {
    const float* from = source + (rows.begin + row) * size;
    Word* to = target + row * kPanel;
    std::int64_t left = row < rows.size() ? size : 0;
    for (std::int64_t word = 0; word < padded_words(size); word += kPanel) {
      for (int half = 0; half < kPanel; half += kLanes) {
        store(to + half, row_words(from, left, scale));
        from += kLanes * kNumbersPerWord;
        left -= kLanes * kNumbersPerWord;
      }
      to += std::int64_t{padded_rows} * kPanel;
    }
  }
}

// The same as the right operand of a product over the rows: [panel of numbers][word down the rows]
// [kPanel]. With one number a word the two are equal.
inline void pack_right(const float* source, Range rows, std::int64_t size, float scale,
                       int padded_rows, Word* target) {
  const int depth = padded_rows / kNumbersPerWord;
  for (int word = 0; word < depth; ++word) {
    const int row = word * kNumbersPerWord;
    const float* const from = source + (rows.begin + row) * size;
    Word* to = target + word * kPanel;
    for (std::int64_t k = 0; k < size; k += kPanel, to += std::int64_t{depth} * kPanel) {
      for (int half = 0; half < kPanel; half += kLanes) {
        store(to + half,
              column_words(from + k + half, size, rows.size() - row, size - k - half, scale));
      }
    }
  }
}

// Store the transpose of kLanes rows of kLanes words.
inline void store_transposed(Vector* rows, Word* target) {
  // Interleaving the halves of the list, once for each bit of a lane's number, transposes it.
#pragma GCC unroll 4
  for (int width = 1; width < kLanes; width *= 2) {
    Vector next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(target + i * kPanel, rows[i]);
}

// Rows of a matrix [., size] as the right operand of a product over `size`: [panel of rows][word
// along the row][kPanel]. Rows up to a whole panel are zero.
inline void pack_transposed(const float* source, Range rows, std::int64_t size, Word* target) {
  const std::int64_t depth = padded_words(size);
  for (int row = 0; row < round_up(rows.size(), kPanel); row += kLanes) {
    Word* const panel = target + row / kPanel * kPanel * depth + row % kPanel;
    for (std::int64_t word = 0; word < depth; word += kLanes) {
      const std::int64_t k = word * kNumbersPerWord;
      const float* const from = source + (rows.begin + row) * size + k;
      Vector block[kLanes];
      if (row + kLanes <= rows.size() && k + kLanes * kNumbersPerWord <= size) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          __builtin_prefetch(from + (i + kLanes) * size);  // the next rows, before their turn
          block[i] = row_words(from + i * size, kLanes * kNumbersPerWord, 1.0f);
        }
      } else {
        for (int i = 0; i < kLanes; ++i) {
          block[i] = row_words(from + i * size, row + i < rows.size() ? size - k : 0, 1.0f);
        }
      }
      store_transposed(block, panel + word * kPanel);
    }
  }
}

// How far a product sums: `num_segments` times `length` words; `stride` words of the left operand
// lie between the segments' starts.
struct Depth {
  int length;
  int num_segments = 1;
  std::int64_t stride = 0;
};

// c [kStripRows, kPanel] = or += a b, b being a packed panel. Word (i, k) of a segment of a lies at
// i * kRow + k * kStep: known to the compiler, for twelve moving pointers would fill its registers.
template <int kRow, int kStep, bool kAdd>
inline void multiply_strip(const Word* a, Depth depth, const Word* b, float* c,
                           std::int64_t c_row) {
  Vector left[kStripRows] = {}, right[kStripRows] = {};
  if constexpr (kAdd) {
#pragma GCC unroll 12
    for (int i = 0; i < kStripRows; ++i) {
      __builtin_prefetch(c + i * c_row, 1);
      __builtin_prefetch(c + i * c_row + kLanes, 1);
    }
  }
  for (int segment = 0; segment < depth.num_segments; ++segment) {
    const Word* word = a + segment * depth.stride;
    if (depth.num_segments > 1) {
      // The hardware does not foresee the leap to the next segment.
#pragma GCC unroll 12
      for (int i = 0; i < kStripRows; ++i) {
        __builtin_prefetch(word + depth.stride + i * kRow);
        __builtin_prefetch(word + depth.stride + i * kRow + kLanes);
      }
    }
    for (int k = 0; k < depth.length; ++k, word += kStep, b += kPanel) {
      const Vector b_left = load(b), b_right = load(b + kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kStripRows; ++i) {
        const Vector factor = broadcast(word[i * kRow]);
        left[i] = multiply_add(left[i], factor, b_left);
        right[i] = multiply_add(right[i], factor, b_right);
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kStripRows; ++i) {
    store(c + i * c_row, kAdd ? load(c + i * c_row) + left[i] : left[i]);
    store(c + i * c_row + kLanes, kAdd ? load(c + i * c_row + kLanes) + right[i] : right[i]);
  }
}

}  // namespace
}  // namespace unimo
