// What one thread does with its columns of the matrix. Compiled for several instruction sets, so
// everything is of internal linkage: see common/simd.h.

#pragma once

#include "common/row_groups.h"
#include "common/simd.h"
#include "few_rows/kernel.h"

namespace unimo {
namespace {

// A tile of sums stays in registers, of which AVX-512 has twice as many.
constexpr int kTileRows = kLanes == 16 ? 6 : 3;
constexpr int kTileVectors = 4;
constexpr std::int64_t kTileColumns = kTileVectors * kLanes;
// Of a transposed matrix.
constexpr int kDotRows = 6;
constexpr int kDotMatrixRows = kLanes == 16 ? 4 : 2;

// So much of the matrix stays near while all rows meet it.
constexpr std::int64_t kBlockColumns = 64;
constexpr std::int64_t kBlockDepth = 128;
constexpr std::int64_t kBlockMatrixRows = 8;

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Into the second cache: the first one waits for too few lines at a time to keep memory busy.
inline void prefetch(const float* address) { __builtin_prefetch(address, 0, 2); }

// ---- matrix [depth, columns]

// Add `depth` terms to a tile of the products, which starts from the bias at the first of them.
template <int kRows>
void add_tile(const FewRowsInputs& in, float* products, std::int64_t first_row, std::int64_t column,
              std::int64_t start, std::int64_t depth, bool is_ahead) {
  const float* const rows = in.rows + first_row * in.depth + start;
  float* const target = products + first_row * in.columns + column;
  Vector sums[kRows][kTileVectors];
  for (int m = 0; m < kRows; ++m) {
    for (int j = 0; j < kTileVectors; ++j) {
      if (start > 0) {
        sums[m][j] = load(target + m * in.columns + j * kLanes);
      } else {
        sums[m][j] = in.bias ? load(in.bias + column + j * kLanes) : Vector{};
      }
    }
  }
  const float* line = in.matrix + start * in.columns + column;
  for (std::int64_t k = 0; k < depth; ++k, line += in.columns) {
    Vector part[kTileVectors];
    for (int j = 0; j < kTileVectors; ++j) {
      part[j] = load(line + j * kLanes);
      if (is_ahead) prefetch(line + kBlockColumns + j * kLanes);
    }
    for (int m = 0; m < kRows; ++m) {
      const Vector value = broadcast(rows[m * in.depth + k]);
      for (int j = 0; j < kTileVectors; ++j) sums[m][j] += value * part[j];
    }
  }
  for (int m = 0; m < kRows; ++m) {
    for (int j = 0; j < kTileVectors; ++j) store(target + m * in.columns + j * kLanes, sums[m][j]);
  }
}

// One column that is left over at the end.
void fill_column(const FewRowsInputs& in, float* products, std::int64_t column) {
  for (std::int64_t m = 0; m < in.num_rows; ++m) {
    float sum = in.bias ? in.bias[column] : 0.0f;
    for (std::int64_t k = 0; k < in.depth; ++k) {
      sum += in.rows[m * in.depth + k] * in.matrix[k * in.columns + column];
    }
    products[m * in.columns + column] = sum;
  }
}

void fill_columns(const FewRowsInputs& in, float* products, std::int64_t begin, std::int64_t end) {
  const std::int64_t whole = begin + (end - begin) / kTileColumns * kTileColumns;
  for (std::int64_t start = 0; start < in.depth; start += kBlockDepth) {
    const std::int64_t depth = smaller(kBlockDepth, in.depth - start);
    for (std::int64_t block = begin; block < whole; block += kBlockColumns) {
      const std::int64_t stop = smaller(block + kBlockColumns, whole);
      for_each_group<kTileRows>(in.num_rows, [&](std::int64_t first, auto count) {
        for (std::int64_t column = block; column < stop; column += kTileColumns) {
          const bool is_ahead = first == 0 && column + kBlockColumns + kTileColumns <= in.columns;
          add_tile<decltype(count)::value>(in, products, first, column, start, depth, is_ahead);
        }
      });
    }
  }
  for (std::int64_t column = whole; column < end; ++column) fill_column(in, products, column);
}

// ---- matrix [columns, depth]

template <int kRows, int kMatrixRows>
void fill_dots(const FewRowsInputs& in, float* products, std::int64_t first_row,
               std::int64_t column, bool is_ahead) {
  const float* const rows = in.rows + first_row * in.depth;
  const float* const lines = in.matrix + column * in.depth;
  Vector sums[kRows][kMatrixRows] = {};
  for (std::int64_t k = 0; k < in.depth; k += kLanes) {
    const std::int64_t count = in.depth - k;
    Vector line[kMatrixRows];
    for (int j = 0; j < kMatrixRows; ++j) {
      line[j] = load_some(lines + j * in.depth + k, count);
      if (is_ahead) prefetch(lines + (j + kBlockMatrixRows) * in.depth + k);
    }
    for (int m = 0; m < kRows; ++m) {
      const Vector value = load_some(rows + m * in.depth + k, count);
      // Not left to the compiler: a row's result must not depend on how many there are.
      for (int j = 0; j < kMatrixRows; ++j) sums[m][j] = add_product(sums[m][j], value, line[j]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    for (int j = 0; j < kMatrixRows; ++j) {
      const float bias = in.bias ? in.bias[column + j] : 0.0f;
      products[(first_row + m) * in.columns + column + j] = sum_lanes(sums[m][j]) + bias;
    }
  }
}

void fill_columns_transposed(const FewRowsInputs& in, float* products, std::int64_t begin,
                             std::int64_t end) {
  for (std::int64_t block = begin; block < end; block += kBlockMatrixRows) {
    const std::int64_t stop = smaller(block + kBlockMatrixRows, end);
    for_each_group<kDotRows>(in.num_rows, [&](std::int64_t first, auto count) {
      constexpr int kRows = decltype(count)::value;
      std::int64_t column = block;
      for (; column + kDotMatrixRows <= stop; column += kDotMatrixRows) {
        const bool is_ahead =
            first == 0 && column + kBlockMatrixRows + kDotMatrixRows <= in.columns;
        fill_dots<kRows, kDotMatrixRows>(in, products, first, column, is_ahead);
      }
      for (; column < stop; ++column) fill_dots<kRows, 1>(in, products, first, column, false);
    });
  }
}

constexpr FewRowsKernel make_few_rows_kernel() {
  return {&fill_columns, &fill_columns_transposed, kTileColumns, kBlockMatrixRows};
}

}  // namespace
}  // namespace unimo
