// The product of a few rows against a plain loop in double, at sizes that fit no tile.

#include "few_rows/few_rows.h"

#include <string>
#include <vector>

#include "check.h"
#include "common/instruction_sets.h"
#include "few_rows/kernel.h"

namespace unimo {
namespace {

struct Size {
  std::int64_t num_rows, depth, columns;
};

constexpr Size kSizes[] = {{1, 1, 1},    {5, 64, 64},  {3, 65, 63},   {7, 200, 131},
                           {6, 96, 257}, {13, 33, 70}, {24, 130, 17}, {2, 768, 300}};

std::vector<double> multiply(const FewRowsInputs& in) {
  std::vector<double> products(in.num_rows * in.columns);
  for (std::int64_t m = 0; m < in.num_rows; ++m) {
    for (std::int64_t n = 0; n < in.columns; ++n) {
      double sum = in.bias ? in.bias[n] : 0.0;
      for (std::int64_t k = 0; k < in.depth; ++k) {
        const std::int64_t place = in.is_transposed ? n * in.depth + k : k * in.columns + n;
        sum += static_cast<double>(in.rows[m * in.depth + k]) * in.matrix[place];
      }
      products[m * in.columns + n] = sum;
    }
  }
  return products;
}

void test_kernel(const FewRowsKernel& kernel, const std::string& name) {
  Generator generator(3);
  for (const Size& size : kSizes) {
    const std::vector<float> rows = generator.normal(size.num_rows * size.depth, 1.0f);
    const std::vector<float> matrix = generator.normal(size.depth * size.columns, 1.0f);
    const std::vector<float> bias = generator.normal(size.columns, 1.0f);
    for (const bool is_transposed : {false, true}) {
      for (const float* with : {static_cast<const float*>(nullptr), bias.data()}) {
        const FewRowsInputs in = {rows.data(), matrix.data(), with,         size.num_rows,
                                  size.depth,  size.columns,  is_transposed};
        const std::string what = name + (is_transposed ? " transposed " : " ") +
                                 std::to_string(size.num_rows) + " x " +
                                 std::to_string(size.depth) + " x " + std::to_string(size.columns);
        for (const int num_threads : {1, 3}) {
          std::vector<float> found(size.num_rows * size.columns, -1.0f);
          few_rows_product_by(kernel, in, found.data(), num_threads);
          check_close(found, multiply(in), 5e-4, what);
        }
        // A row's result is the same alone.
        std::vector<float> together(size.num_rows * size.columns), alone(size.columns);
        few_rows_product_by(kernel, in, together.data(), 2);
        FewRowsInputs last = in;
        last.num_rows = 1;
        last.rows = rows.data() + (size.num_rows - 1) * size.depth;
        few_rows_product_by(kernel, last, alone.data(), 1);
        const auto begin = together.end() - size.columns;
        check(std::vector<float>(begin, together.end()) == alone, what + ": the last row alone");
      }
    }
  }
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_kernel(unimo::kFewRowsPortable, "portable");
#if defined(__x86_64__)
  if (unimo::runs_avx2()) unimo::test_kernel(unimo::kFewRowsAvx2, "avx2");
  if (unimo::runs_avx512()) unimo::test_kernel(unimo::kFewRowsAvx512, "avx512");
#endif
  return unimo::report("few rows");
}
