// The CPU form of the contrastive operator against plain loops, and against itself, with every
// kernel that runs on this processor.

#include "contrastive/contrastive.h"

#include <cmath>
#include <cstring>
#include <string>

#include "contrastive/cpu/dispatch.h"
#include "contrastive_case.h"

namespace unimo {
namespace {

ContrastiveResult<float> run(const ContrastiveCase& in, int num_threads,
                             const ContrastiveKernel& kernel) {
  ContrastiveResult<float> out(in);
  auto& s = out.statistics;
  contrastive_forward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                          num_threads, &kernel);
  const auto& g = in.upstream;
  contrastive_backward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                           {g[0].data(), g[1].data(), g[2].data(), g[3].data()},
                           {out.rows.data(), out.columns.data(), out.temperature.data()},
                           num_threads, &kernel);
  return out;
}

// The one-way form; the statistics of the columns, which it does not give, are those of `run`.
ContrastiveResult<float> run_one_way(const ContrastiveCase& in, int num_threads,
                                     const ContrastiveKernel& kernel) {
  ContrastiveResult<float> out = run(in, num_threads, kernel);
  contrastive_one_way_cpu(
      in.inputs(), in.upstream[0].data(), out.statistics[0].data(), out.statistics[1].data(),
      {out.rows.data(), out.columns.data(), out.temperature.data()}, num_threads, &kernel);
  return out;
}

// The upstream gradients of the one-way loss with weights upstream[0].
ContrastiveCase as_one_way(ContrastiveCase in) {
  const ContrastiveResult<double> truth = contrastive_naive(in);
  for (std::int64_t i = 0; i < in.num_rows; ++i) {
    if (truth.statistics[1][i] == -INFINITY) in.upstream[0][i] = 0.0f;
    in.upstream[1][i] = -in.upstream[0][i];
  }
  for (int k : {2, 3}) in.upstream[k].assign(in.num_columns, 0.0f);
  return in;
}

bool is_float32(const ContrastiveKernel& kernel) {
  return std::string(kernel.name).find("bf16") == std::string::npos;
}

// Features that bfloat16 holds exactly, so that its scores are those of float32 where both sides
// are scaled by a power of two.
void round_to_bfloat16(std::vector<float>* values) {
  for (float& value : *values) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    bits &= 0xFFFF0000u;
    std::memcpy(&value, &bits, sizeof(bits));
  }
}

std::string name(const ContrastiveKernel& kernel, const ContrastiveCase& in) {
  return std::string(kernel.name) + " " + std::to_string(in.num_rows) + "x" +
         std::to_string(in.num_columns) + "x" + std::to_string(in.size) + " t " +
         std::to_string(in.temperature[0]);
}

void test_equals_plain_loops(const ContrastiveKernel& kernel) {
  struct Size {
    std::int64_t n, m, d;
  };
  for (const Size size : {Size{1, 1, 1},
                          {1, 5, 3},
                          {7, 1, 16},
                          {5, 9, 33},
                          {33, 65, 17},
                          {97, 200, 40},
                          {200, 97, 24},
                          {193, 385, 7}}) {
    for (const float temperature : {1e-2f, 0.07f, 1.0f, 100.0f}) {
      for (const std::int64_t groups : {std::int64_t{2}, size.n + size.m}) {
        const ContrastiveCase in(size.n, size.m, size.d, temperature, groups, 7);
        check_contrastive(run(in, 2, kernel), in, name(kernel, in));
      }
    }
  }
  for (const std::int64_t size : {64, 256, 511, 768, 1000}) {
    const ContrastiveCase in(50, 70, size, 0.05f, 30, 11);
    check_contrastive(run(in, 2, kernel), in, name(kernel, in));
  }
}

void test_one_way_equals_plain_loops(const ContrastiveKernel& kernel) {
  struct Size {
    std::int64_t n, m, d;
  };
  for (const Size size : {Size{1, 1, 1}, {7, 300, 33}, {801, 97, 5}, {500, 420, 40}}) {
    for (const float temperature : {1e-2f, 0.1f, 10.0f}) {
      const std::int64_t groups = size.n / 2 + 2;  // some rows have several positives, some none
      const ContrastiveCase in(size.n, size.m, size.d, temperature, groups, 23);
      const ContrastiveResult<float> found = run_one_way(in, 2, kernel);
      check_contrastive(found, as_one_way(in), name(kernel, in) + " one way");
      const ContrastiveResult<float> again = run_one_way(in, 5, kernel);
      check(found.rows == again.rows && found.columns == again.columns &&
                found.temperature == again.temperature,
            name(kernel, in) + " one way: threads");
    }
  }
}

// Eight bits are kept of each feature and of each gradient of a score: errors near 2^-8 of the
// largest gradient, and exact scores of features that have no more bits.
void test_bfloat16_is_as_exact_as_it_can_be(const ContrastiveKernel& kernel) {
  for (const std::int64_t size : {1, 16, 33, 100}) {
    ContrastiveCase in(201, 131, size, 0.25f, 60, 13);
    round_to_bfloat16(&in.rows);
    round_to_bfloat16(&in.columns);
    const ContrastiveResult<float> found = run(in, 2, kernel);
    const ContrastiveResult<double> expected = contrastive_naive(in);
    for (int k = 0; k < 4; ++k) {
      check_close(found.statistics[k], expected.statistics[k], 2e-5, name(kernel, in));
    }
    const auto tolerance = [](const std::vector<double>& values) {
      double largest = 0.0;
      for (const double value : values) largest = std::fmax(largest, std::abs(value));
      return largest * std::ldexp(1.0, -7);
    };
    check_close(found.rows, expected.rows, tolerance(expected.rows), name(kernel, in) + " rows");
    check_close(found.columns, expected.columns, tolerance(expected.columns),
                name(kernel, in) + " columns");
    check_close(found.temperature, expected.temperature,
                1e-4 * (1.0 + std::abs(expected.temperature[0])), name(kernel, in) + " t");
  }
}

// Some rows a hundred below the others: no reference serves a tile that holds both.
void test_scores_far_apart(const ContrastiveKernel& kernel) {
  ContrastiveCase in(220, 200, 4, 0.25f, 90, 17);
  for (std::int64_t i = 0; i < in.num_rows; ++i) {
    for (int k = 0; k < 4; ++k) in.rows[i * 4 + k] = k == 0 ? (i % 3 - 1) * 25.0f : 0.5f;
  }
  for (std::int64_t j = 0; j < in.num_columns; ++j) {
    for (int k = 0; k < 4; ++k) in.columns[j * 4 + k] = k == 0 ? 1.0f + (j % 2) : 0.25f;
  }
  check_contrastive(run(in, 2, kernel), in, name(kernel, in) + " far apart");
}

void test_threads_change_no_bit(const ContrastiveKernel& kernel) {
  const ContrastiveCase in(700, 1100, 19, 0.05f, 40, 3);
  const ContrastiveResult<float> one = run(in, 1, kernel);
  for (const int threads : {1, 2, 3, 8}) {
    const ContrastiveResult<float> many = run(in, threads, kernel);
    for (int k = 0; k < 4; ++k) check(many.statistics[k] == one.statistics[k], "threads: forward");
    check(many.rows == one.rows && many.columns == one.columns, "threads: features");
    check(many.temperature == one.temperature, "threads: temperature");
  }
}

// Blocks beyond the bound included: 3,100 x 3,000 scores are more than may be kept.
void test_kept_scores_change_no_bit(const ContrastiveKernel& kernel) {
  struct Size {
    std::int64_t n, m;
  };
  for (const Size size : {Size{5, 3}, {230, 410}, {3100, 3000}}) {
    const ContrastiveCase in(size.n, size.m, 2, 0.1f, size.n / 3 + 1, 29);
    const ContrastiveResult<float> expected = run(in, 2, kernel);
    ContrastiveResult<float> found(in);
    std::vector<float> kept(contrastive_kept_scores(size.n, size.m));
    check(kept.size() > 0 && kept.size() * sizeof(float) <= 30000000u, "kept: size");
    check((kept.size() < static_cast<std::size_t>(size.n * size.m)) == (size.n > 3000),
          "kept: all but of the largest");
    auto& s = found.statistics;
    const auto& g = in.upstream;
    contrastive_forward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()}, 2,
                            &kernel, kept.data());
    // Twice: what is kept is not used up.
    for (int pass = 0; pass < 2; ++pass) {
      contrastive_backward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                               {g[0].data(), g[1].data(), g[2].data(), g[3].data()},
                               {found.rows.data(), found.columns.data(), found.temperature.data()},
                               2, &kernel, kept.data());
      for (int k = 0; k < 4; ++k) check(s[k] == expected.statistics[k], "kept: statistics");
      check(found.rows == expected.rows && found.columns == expected.columns &&
                found.temperature == expected.temperature,
            name(kernel, in) + " kept: gradients");
    }
  }
}

void test_of_nothing_no_score_is_kept() {
  struct Size {
    std::int64_t n, m;
  };
  for (const Size size : {Size{0, 0}, {0, 5}, {5, 0}, {0, 3000}}) {
    check(contrastive_kept_scores(size.n, size.m) == 0, "kept: scores of nothing");
    check(contrastive_kept_pairs(size.n, size.m) == 0, "kept: pairs of nothing");
  }
}

void test_nothing_has_no_gradient(const ContrastiveKernel& kernel) {
  ContrastiveCase in(3, 4, 5, 0.1f, 1, 5);
  in.row_group = {0, 1, 2};
  in.column_group = {3, 4, 5, 6};
  in.row_duplicate.assign(3, 9);
  in.column_duplicate.assign(4, 9);
  const ContrastiveResult<float> out = run(in, 1, kernel);
  for (int k = 0; k < 4; ++k) {
    for (const float value : out.statistics[k]) check(value == -INFINITY, "all ignored: -inf");
  }
  for (const float value : out.rows) check(value == 0.0f, "all ignored: no gradient");
  check(out.temperature[0] == 0.0f, "all ignored: no gradient of the temperature");
}

// A row that meets nothing but ignored pairs in one tile, and low scores in another one.
void test_a_row_ignored_in_one_tile_counts_in_the_next(const ContrastiveKernel& kernel) {
  ContrastiveCase in(3, 400, 2, 1.0f, 1, 5);
  in.rows = {1.0f, 0.0f, 1.0f, 0.0f, -1.0f, 0.0f};
  in.row_group = {-5, -6, -7};
  in.row_duplicate = {-1, -1, 1};
  for (std::int64_t j = 0; j < 400; ++j) {
    in.columns[2 * j] = 60.0f + j % 7;
    in.columns[2 * j + 1] = 0.0f;
    in.column_group[j] = j;
    in.column_duplicate[j] = j < 200 ? 1 : -1;
  }
  check_contrastive(run(in, 1, kernel), in, name(kernel, in) + " ignored in one tile");
}

void test_nan_in_gives_nan_out(const ContrastiveKernel& kernel) {
  ContrastiveCase in(230, 210, 40, 0.1f, 100, 19);
  in.row_duplicate.assign(230, -1);
  in.rows[200 * in.size + 3] = NAN;
  const ContrastiveResult<float> out = run(in, 2, kernel);
  check(std::isnan(out.statistics[0][200]), "NaN: its row");
  check(!std::isnan(out.statistics[0][199]), "NaN: no other row");
  for (const float value : out.statistics[2]) check(std::isnan(value), "NaN: every column");
  for (const float value : out.columns) check(std::isnan(value), "NaN: gradients of columns");
  check(std::isnan(out.temperature[0]), "NaN: gradient of the temperature");
}

}  // namespace
}  // namespace unimo

int main() {
  using namespace unimo;
  for (const ContrastiveKernel* kernel : contrastive_kernels()) {
    std::fprintf(stderr, "kernel %s\n", kernel->name);
    if (is_float32(*kernel)) {
      test_equals_plain_loops(*kernel);
      test_one_way_equals_plain_loops(*kernel);
      test_scores_far_apart(*kernel);
      test_a_row_ignored_in_one_tile_counts_in_the_next(*kernel);
    } else {
      test_bfloat16_is_as_exact_as_it_can_be(*kernel);
    }
    test_threads_change_no_bit(*kernel);
    test_kept_scores_change_no_bit(*kernel);
    test_nothing_has_no_gradient(*kernel);
    test_nan_in_gives_nan_out(*kernel);
  }
  test_of_nothing_no_score_is_kept();
  check(peak_gflops(default_contrastive_kernel(), 1, 0.01) > 0.1, "a peak is measured");
  return report("contrastive");
}
