// The CPU form of the contrastive operator against plain loops, and against itself.

#include "contrastive/contrastive.h"

#include <string>

#include "contrastive_case.h"

namespace unimo {
namespace {

ContrastiveResult<float> run(const ContrastiveCase& in, int num_threads) {
  ContrastiveResult<float> out(in);
  auto& s = out.statistics;
  contrastive_forward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                          num_threads);
  const auto& g = in.upstream;
  contrastive_backward_cpu(in.inputs(), {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                           {g[0].data(), g[1].data(), g[2].data(), g[3].data()},
                           {out.rows.data(), out.columns.data(), out.temperature.data()},
                           num_threads);
  return out;
}

void test_equals_plain_loops() {
  struct Size {
    std::int64_t n, m, d;
  };
  for (const Size size : {Size{1, 1, 1},
                          {1, 5, 3},
                          {7, 1, 16},
                          {5, 9, 33},
                          {33, 65, 17},
                          {97, 200, 40},
                          {200, 97, 24}}) {
    for (const float temperature : {1e-2f, 0.07f, 1.0f, 100.0f}) {
      for (const std::int64_t groups : {std::int64_t{2}, size.n + size.m}) {
        const ContrastiveCase in(size.n, size.m, size.d, temperature, groups, 7);
        check_contrastive(run(in, 2), in,
                          "contrastive " + std::to_string(size.n) + "x" + std::to_string(size.m) +
                              "x" + std::to_string(size.d) + " t " + std::to_string(temperature));
      }
    }
  }
}

void test_threads_change_no_bit() {
  const ContrastiveCase in(200, 330, 19, 0.05f, 40, 3);
  const ContrastiveResult<float> one = run(in, 1);
  for (const int threads : {2, 3, 8}) {
    const ContrastiveResult<float> many = run(in, threads);
    for (int k = 0; k < 4; ++k) check(many.statistics[k] == one.statistics[k], "threads: forward");
    check(many.rows == one.rows && many.columns == one.columns, "threads: features");
    check(many.temperature == one.temperature, "threads: temperature");
  }
}

void test_nothing_has_no_gradient() {
  ContrastiveCase in(3, 4, 5, 0.1f, 1, 5);
  in.row_group = {0, 1, 2};
  in.column_group = {3, 4, 5, 6};
  in.row_duplicate.assign(3, 9);
  in.column_duplicate.assign(4, 9);
  const ContrastiveResult<float> out = run(in, 1);
  for (int k = 0; k < 4; ++k) {
    for (const float value : out.statistics[k]) check(value == -INFINITY, "all ignored: -inf");
  }
  for (const float value : out.rows) check(value == 0.0f, "all ignored: no gradient");
  check(out.temperature[0] == 0.0f, "all ignored: no gradient of the temperature");
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_equals_plain_loops();
  unimo::test_threads_change_no_bit();
  unimo::test_nothing_has_no_gradient();
  return unimo::report("contrastive");
}
