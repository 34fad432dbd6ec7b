// Inputs of the contrastive operator, and its truth by plain loops in double.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "contrastive/contrastive.h"

namespace unimo {

struct ContrastiveCase {
  std::int64_t num_rows, num_columns, size;
  std::vector<float> rows, columns, temperature;
  std::vector<std::int64_t> row_group, column_group, row_duplicate, column_duplicate;
  std::vector<float> upstream[4];

  ContrastiveCase(std::int64_t n, std::int64_t m, std::int64_t d, float t, std::int64_t num_groups,
                  std::uint32_t seed)
      : num_rows(n), num_columns(m), size(d), temperature{t} {
    Generator generator(seed);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    rows = generator.normal(n * d, scale);
    columns = generator.normal(m * d, scale);
    row_group = generator.integers(n, 0, num_groups - 1);
    column_group = generator.integers(m, 0, num_groups - 1);
    row_duplicate = generator.integers(n, -1, 3);
    column_duplicate = generator.integers(m, -1, 3);
    for (int k = 0; k < 4; ++k) upstream[k] = generator.normal(k < 2 ? n : m, 1.0f);
  }

  ContrastiveInputs inputs() const {
    return {rows.data(),
            columns.data(),
            temperature.data(),
            row_group.data(),
            column_group.data(),
            row_duplicate.data(),
            column_duplicate.data(),
            num_rows,
            num_columns,
            size};
  }
};

template <typename Number>
struct ContrastiveResult {
  std::vector<Number> statistics[4];  // row_all, row_positive, column_all, column_positive
  std::vector<Number> rows, columns, temperature;

  explicit ContrastiveResult(const ContrastiveCase& in)
      : rows(in.num_rows * in.size), columns(in.num_columns * in.size), temperature(1) {
    for (int k = 0; k < 4; ++k) statistics[k].resize(k < 2 ? in.num_rows : in.num_columns);
  }
};

// The mathematics of the header, line by line. Statistics: over the pairs of one row or column.
inline ContrastiveResult<double> contrastive_naive(const ContrastiveCase& in) {
  ContrastiveResult<double> result(in);
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> scores(in.num_rows * in.num_columns);
  std::vector<int> relation(scores.size());  // 1 positive, 0 negative, -1 ignored
  for (std::int64_t i = 0; i < in.num_rows; ++i) {
    for (std::int64_t j = 0; j < in.num_columns; ++j) {
      double dot = 0.0;
      for (std::int64_t k = 0; k < in.size; ++k) {
        dot += static_cast<double>(in.rows[i * in.size + k]) * in.columns[j * in.size + k];
      }
      scores[i * in.num_columns + j] = dot / in.temperature[0];
      const bool same = in.row_group[i] == in.column_group[j];
      const bool duplicate =
          in.row_duplicate[i] != -1 && in.row_duplicate[i] == in.column_duplicate[j];
      relation[i * in.num_columns + j] = same ? 1 : duplicate ? -1 : 0;
    }
  }
  for (int k = 0; k < 4; ++k) {
    const std::int64_t count = k < 2 ? in.num_rows : in.num_columns;
    const std::int64_t others = k < 2 ? in.num_columns : in.num_rows;
    const int wanted = k % 2;  // 0: not ignored, 1: positive
    const auto pair = [&](std::int64_t a, std::int64_t b) {
      return k < 2 ? a * in.num_columns + b : b * in.num_columns + a;
    };
    for (std::int64_t a = 0; a < count; ++a) {
      double max = -infinity, sum = 0.0;
      for (std::int64_t b = 0; b < others; ++b) {
        if (relation[pair(a, b)] >= wanted) max = std::fmax(max, scores[pair(a, b)]);
      }
      for (std::int64_t b = 0; b < others; ++b) {
        if (relation[pair(a, b)] >= wanted) sum += std::exp(scores[pair(a, b)] - max);
      }
      result.statistics[k][a] = max == -infinity ? -infinity : max + std::log(sum);
      if (max == -infinity) continue;
      for (std::int64_t b = 0; b < others; ++b) {
        if (relation[pair(a, b)] < wanted) continue;
        const std::int64_t i = k < 2 ? a : b, j = k < 2 ? b : a;
        const double score = scores[pair(a, b)];
        const double gradient = in.upstream[k][a] * std::exp(score - result.statistics[k][a]);
        result.temperature[0] -= gradient * score / in.temperature[0];
        for (std::int64_t f = 0; f < in.size; ++f) {
          const double scaled = gradient / in.temperature[0];
          result.rows[i * in.size + f] += scaled * in.columns[j * in.size + f];
          result.columns[j * in.size + f] += scaled * in.rows[i * in.size + f];
        }
      }
    }
  }
  return result;
}

// Float32 scores of magnitude s carry an error of about s * 2^-22; exp turns it into a relative
// one. Coarser arithmetic says how far off its scores may be.
inline void check_contrastive(const ContrastiveResult<float>& found, const ContrastiveCase& in,
                              const std::string& what, double score_error = 0.0) {
  const ContrastiveResult<double> expected = contrastive_naive(in);
  double largest_score = 1.0;
  for (int k = 0; k < 4; ++k) {
    for (const double value : expected.statistics[k]) {
      if (std::isfinite(value)) largest_score = std::fmax(largest_score, std::abs(value));
    }
  }
  const double error = std::fmax(largest_score * std::ldexp(1.0, -21), score_error);
  for (int k = 0; k < 4; ++k) {
    check_close(found.statistics[k], expected.statistics[k], error,
                what + " statistics " + std::to_string(k));
  }
  const auto tolerance = [&](const std::vector<double>& values) {
    double largest = 0.0;
    for (const double value : values) largest = std::fmax(largest, std::abs(value));
    return 8.0 * error * (largest + 1.0 / in.temperature[0]);
  };
  check_close(found.rows, expected.rows, tolerance(expected.rows), what + " rows");
  check_close(found.columns, expected.columns, tolerance(expected.columns), what + " columns");
  const double scale = largest_score / in.temperature[0] * (in.num_rows + in.num_columns);
  check_close(found.temperature, expected.temperature, 8.0 * error * scale, what + " temperature");
}

constexpr ContrastivePrecision kPrecisions[] = {ContrastivePrecision::kFloat32,
                                                ContrastivePrecision::kTf32};

inline const char* name_of(ContrastivePrecision precision) {
  return precision == ContrastivePrecision::kFloat32 ? "float32 " : "tf32 ";
}

// How far off a score may be, beside its rounding. With three products: what the split loses and
// what is left out of a product are at most 2^-22 of it each. With operands rounded to 11 bits: an
// operand's relative error has a deviation of 2^-11 / sqrt(3); the errors of D products, equal
// shares of |r| |c|, add like a random walk; five deviations. With few products the bound, twice
// 2^-11, comes first; and a gradient's own rounding is never less than 2^-10.
inline double score_error(const ContrastiveCase& in, ContrastivePrecision precision) {
  const auto largest_norm = [&](const std::vector<float>& features) {
    double largest = 0.0;
    for (std::size_t i = 0; i < features.size(); i += in.size) {
      double square = 0.0;
      for (std::int64_t k = 0; k < in.size; ++k) square += std::pow(features[i + k], 2);
      largest = std::fmax(largest, std::sqrt(square));
    }
    return largest;
  };
  const double walk = 5.0 * std::sqrt(2.0 / 3.0 / static_cast<double>(in.size));
  const double largest = largest_norm(in.rows) * largest_norm(in.columns) / in.temperature[0];
  if (precision == ContrastivePrecision::kFloat32) return largest * std::ldexp(1.0, -21);
  return std::fmax(largest * std::ldexp(std::fmin(2.0, walk), -11), std::ldexp(1.0, -10));
}

inline bool equal_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline void check_equal(const ContrastiveResult<float>& a, const ContrastiveResult<float>& b,
                        const std::string& what) {
  for (int k = 0; k < 4; ++k) check(equal_bits(a.statistics[k], b.statistics[k]), what + ": sums");
  check(equal_bits(a.rows, b.rows) && equal_bits(a.columns, b.columns), what + ": features");
  check(equal_bits(a.temperature, b.temperature), what + ": temperature");
}

}  // namespace unimo
