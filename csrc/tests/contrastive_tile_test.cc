// The CUDA form of the contrastive operator, its very kernels and schedule, emulated on a CPU.

#include <algorithm>
#include <set>
#include <string>

#include "contrastive/cuda/schedule.h"
#include "contrastive_case.h"
#include "emulated_block.h"

namespace unimo {
namespace {

using Precision = ContrastivePrecision;
constexpr EmulationOrder kOrders[] = {{false, false}, {true, true}, {false, true}, {true, false}};

// Memory that begins as NaN.
template <typename T>
std::vector<T> poisoned(std::size_t bytes) {
  std::vector<T> memory((bytes + sizeof(T) - 1) / sizeof(T));
  auto* const begin = reinterpret_cast<unsigned char*>(memory.data());
  std::fill(begin, begin + memory.size() * sizeof(T), 0xff);
  return memory;
}

struct alignas(256) WorkspaceLine {
  unsigned char bytes[256];
};

struct Run {
  Precision precision = Precision::kFloat32;
  EmulationOrder order = kOrders[0];
  std::int64_t block_size = 256;  // small, so that several blocks are seen

  ContrastiveResult<float> operator()(const ContrastiveCase& in) const {
    return (*this)(in, in.inputs());
  }
  ContrastiveResult<float> operator()(const ContrastiveCase& in,
                                      const ContrastiveInputs& inputs) const {
    return precision == Precision::kFloat32 ? run<true>(in, inputs) : run<false>(in, inputs);
  }

 private:
  template <bool kSplit>
  ContrastiveResult<float> run(const ContrastiveCase& in, const ContrastiveInputs& inputs) const {
    const EmulatedLauncher launch(order);
    ContrastiveResult<float> out(in);
    auto& s = out.statistics;
    for (auto& values : s) values = poisoned<float>(values.size() * sizeof(float));
    out.rows = poisoned<float>(out.rows.size() * sizeof(float));
    out.columns = poisoned<float>(out.columns.size() * sizeof(float));
    auto forward =
        poisoned<WorkspaceLine>(ForwardWorkspace(inputs, block_size, nullptr).parts.bytes());
    run_forward<kSplit>(inputs, {s[0].data(), s[1].data(), s[2].data(), s[3].data()}, block_size,
                        forward.data(), launch);
    auto backward =
        poisoned<WorkspaceLine>(BackwardWorkspace(inputs, block_size, nullptr).parts.bytes());
    const auto& g = in.upstream;
    run_backward<kSplit>(inputs, {s[0].data(), s[1].data(), s[2].data(), s[3].data()},
                         {g[0].data(), g[1].data(), g[2].data(), g[3].data()},
                         {out.rows.data(), out.columns.data(), out.temperature.data()}, block_size,
                         backward.data(), launch);
    return out;
  }
};

void check_run(const Run& run, const ContrastiveCase& in, const std::string& what) {
  check_contrastive(run(in), in, name_of(run.precision) + what, score_error(in, run.precision));
}

struct Size {
  std::int64_t n, m, d;
};

std::string name_of(const Size& size) {
  return std::to_string(size.n) + " x " + std::to_string(size.m) + " x " + std::to_string(size.d);
}

void test_equals_plain_loops() {
  for (const Size size : {Size{1, 1, 1},
                          {1, 5, 3},
                          {7, 1, 16},
                          {5, 9, 33},
                          {33, 65, 17},
                          {97, 200, 40},
                          {128, 128, 64},
                          {129, 127, 20},
                          {257, 130, 36}}) {
    for (const float temperature : {1e-2f, 1.0f, 100.0f}) {
      for (const std::int64_t groups : {std::int64_t{2}, size.n + size.m}) {
        const ContrastiveCase in(size.n, size.m, size.d, temperature, groups, 7);
        for (const Precision precision : kPrecisions) {
          check_run({precision}, in, name_of(size) + ", t " + std::to_string(temperature));
        }
      }
    }
  }
}

void test_equals_plain_loops_at_great_depth() {
  for (const Size size : {Size{130, 140, 256}, {131, 64, 768}, {60, 129, 1000}, {9, 3, 1023}}) {
    const ContrastiveCase in(size.n, size.m, size.d, 0.02f, size.n / 2 + 1, 13);
    for (const Precision precision : kPrecisions) check_run({precision}, in, name_of(size));
  }
}

// A missing barrier, a copy used too early or overwritten too soon would show here.
void test_no_order_of_threads_changes_a_bit() {
  const ContrastiveCase in(290, 270, 52, 0.05f, 40, 3);
  for (const Precision precision : kPrecisions) {
    const ContrastiveResult<float> first = Run{precision, kOrders[0]}(in);
    check_contrastive(first, in, "orders", score_error(in, precision));
    for (const EmulationOrder order : kOrders) {
      check_equal(Run{precision, order}(in), first, std::string("orders ") + name_of(precision));
    }
  }
}

void test_blocks_of_any_size_agree() {
  const ContrastiveCase in(300, 400, 24, 0.05f, 40, 3);
  for (const std::int64_t block_size : {128, 256, 384, 512}) {
    for (const Precision precision : kPrecisions) {
      check_run({precision, kOrders[0], block_size}, in, "blocks " + std::to_string(block_size));
    }
  }
}

// Scores of 1 / t from features of one sign are where cut-off sums would drift.
void test_large_scores_are_as_exact_as_float32() {
  for (const std::int64_t size : {64, 768}) {
    ContrastiveCase in(20, 20, size, 0.01f, 20, 21);
    for (std::int64_t i = 0; i < in.num_rows; ++i) {
      double square = 0.0;
      for (std::int64_t k = 0; k < size; ++k) square += std::pow(in.rows[i * size + k], 2);
      for (std::int64_t k = 0; k < size; ++k) {
        float& value = in.rows[i * size + k];
        value = static_cast<float>(std::abs(value) / std::sqrt(square));
        in.columns[i * size + k] = value;
      }
    }
    check_run({}, in, "large scores of " + std::to_string(size));
  }
}

void test_tiny_temperature_does_not_overflow() {
  for (const float temperature : {1e-4f, 1e-6f}) {
    const ContrastiveCase in(140, 150, 16, temperature, 50, 17);
    const ContrastiveResult<float> out = Run{}(in);
    check_contrastive(out, in, "temperature " + std::to_string(temperature));
  }
}

void test_nothing_has_no_gradient() {
  ContrastiveCase in(3, 4, 5, 0.1f, 1, 5);
  in.row_group = {0, 1, 2};
  in.column_group = {3, 4, 5, 6};
  in.row_duplicate.assign(3, 9);
  in.column_duplicate.assign(4, 9);
  for (const Precision precision : kPrecisions) {
    const ContrastiveResult<float> out = Run{precision}(in);
    for (int k = 0; k < 4; ++k) {
      for (const float value : out.statistics[k]) check(value == -INFINITY, "all ignored: -inf");
    }
    for (const float value : out.rows) check(value == 0.0f, "all ignored: no gradient");
    for (const float value : out.columns) check(value == 0.0f, "all ignored: no gradient");
    check(out.temperature[0] == 0.0f, "all ignored: no gradient of the temperature");
  }
}

void test_no_columns_is_a_sum_over_nothing() {
  const ContrastiveCase in(5, 0, 8, 0.1f, 2, 5);
  const ContrastiveResult<float> out = Run{}(in);
  for (int k = 0; k < 2; ++k) {
    for (const float value : out.statistics[k]) check(value == -INFINITY, "no columns: -inf");
  }
  for (const float value : out.rows) check(value == 0.0f, "no columns: no gradient");
  check(out.temperature[0] == 0.0f, "no columns: no gradient of the temperature");
}

void test_nan_in_gives_nan_out() {
  ContrastiveCase in(131, 140, 20, 0.1f, 50, 5);
  in.row_group[2] = in.column_group[3];
  in.row_duplicate.assign(in.num_rows, -1);
  const auto all_nan = [](const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
  };
  for (const Precision precision : kPrecisions) {
    const ContrastiveResult<float> clean = Run{precision}(in);
    for (const std::uint32_t bits : {0x7fc00000u, 0x7fffffffu, 0x7f800001u, 0xffffffffu}) {
      ContrastiveCase broken = in;
      broken.rows[2 * in.size + 7] = bits_float(bits);
      ContrastiveResult<float> out = Run{precision}(broken);
      check(std::isnan(out.statistics[0][2]) && std::isnan(out.statistics[1][2]), "NaN: its row");
      check(all_nan(out.statistics[2]) && std::isnan(out.statistics[3][3]), "NaN: columns");
      check(all_nan(out.rows) && all_nan(out.columns) && all_nan(out.temperature), "NaN: back");
      for (int k = 0; k < 2; ++k) {
        out.statistics[k][2] = clean.statistics[k][2];
        check(equal_bits(out.statistics[k], clean.statistics[k]), "NaN: other rows");
      }
    }
  }
}

// The labels' lower halves decide quickly that a tile has no relations; here they mislead.
void test_labels_are_compared_in_full() {
  constexpr std::int64_t kHigh = std::int64_t{1} << 32;
  ContrastiveCase in(128, 128, 8, 0.1f, 1, 9);
  for (std::int64_t i = 0; i < 128; ++i) {
    in.row_group[i] = i;
    in.column_group[i] = i % 2 == 0 ? i : i + kHigh;
    in.row_duplicate[i] = i % 3 == 0 ? -1 : i + kHigh;
    in.column_duplicate[i] = i % 3 == 0 ? -1 : i % 3 == 1 ? (i + 64) % 128 + kHigh : i;
  }
  in.row_duplicate[5] = in.column_duplicate[77] = -2;
  in.row_duplicate[8] = in.column_duplicate[90] = 0xffffffff;
  check_run({}, in, "labels of 64 bits");
}

void test_duplicates_of_minus_one_match_nothing() {
  ContrastiveCase in(256, 128, 8, 0.1f, 1, 9);
  for (std::int64_t i = 0; i < in.num_rows; ++i) in.row_group[i] = i;
  for (std::int64_t j = 0; j < in.num_columns; ++j) in.column_group[j] = 1000 + j;
  in.row_duplicate.assign(in.num_rows, -1);
  in.column_duplicate.assign(in.num_columns, -1);
  const ContrastiveResult<float> out = Run{}(in);
  check_contrastive(out, in, "duplicates of -1");
  for (const float value : out.statistics[1]) check(value == -INFINITY, "no positive: -inf");
}

void test_features_need_no_alignment() {
  const ContrastiveCase in(37, 41, 24, 0.1f, 5, 9);
  std::vector<float> rows(1, 0.0f);
  rows.insert(rows.end(), in.rows.begin(), in.rows.end());
  ContrastiveInputs inputs = in.inputs();
  inputs.rows = rows.data() + 1;
  check_equal(Run{}(in, inputs), Run{}(in), "alignment");
}

void test_workspace_is_linear() {
  const auto bytes = [](std::int64_t count) {
    ContrastiveInputs in = {};
    in.num_rows = in.num_columns = count;
    in.size = 256;
    return ForwardWorkspace(in, kForwardBlock, nullptr).parts.bytes() +
           BackwardWorkspace(in, kBackwardBlock, nullptr).parts.bytes();
  };
  check(bytes(8192) < 82 << 20, "workspace at 8192");
  check(bytes(1 << 20) - bytes(1 << 19) == (std::size_t{1} << 19) * 2 * 2 * sizeof(RunningSum),
        "workspace grows with rows and columns");
}

// Shared memory serves 128 bytes at once: so many lanes, each with its pair or its four floats.
template <typename Slice>
void check_banks(const char* what) {
  constexpr int kFloats = Slice::kSumContiguous ? 2 : 4, kLanes = 32 / kFloats;
  for (int first = 0; first < kWarpSize; first += kLanes) {
    std::set<int> banks;
    for (int lane = first; lane < first + kLanes; ++lane) {
      for (int i = 0; i < kFloats; ++i) banks.insert((Slice::lane_place(32, lane) + i) % 32);
    }
    check(banks.size() == 32, std::string("banks of a load: ") + what);
  }
  constexpr int kChunks = Slice::kLength / kChunk;
  for (int first = 0; first < 256; first += 32 / kChunk) {
    std::set<int> banks;
    for (int thread = first; thread < first + 32 / kChunk; ++thread) {
      const int line = thread / kChunks, at = thread % kChunks * kChunk;
      const int place = Slice::kSumContiguous ? Slice::place(line, at) : Slice::place(at, line);
      for (int i = 0; i < kChunk; ++i) banks.insert((place + i) % 32);
    }
    check(banks.size() == 32, std::string("banks of a copy: ") + what);
  }
}

void test_loads_and_copies_have_no_bank_conflict() {
  using Products = FeatureGradientKernel<true>;
  check_banks<ScoreShape::RowSlice>("scores");
  check_banks<Products::RowShape::RowSlice>("gradient of the scores");
  check_banks<Products::ColumnShape::RowSlice>("its transpose");
  check_banks<Products::RowShape::ColumnSlice>("features");
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_equals_plain_loops();
  unimo::test_equals_plain_loops_at_great_depth();
  unimo::test_no_order_of_threads_changes_a_bit();
  unimo::test_blocks_of_any_size_agree();
  unimo::test_large_scores_are_as_exact_as_float32();
  unimo::test_tiny_temperature_does_not_overflow();
  unimo::test_nothing_has_no_gradient();
  unimo::test_no_columns_is_a_sum_over_nothing();
  unimo::test_nan_in_gives_nan_out();
  unimo::test_labels_are_compared_in_full();
  unimo::test_duplicates_of_minus_one_match_nothing();
  unimo::test_features_need_no_alignment();
  unimo::test_workspace_is_linear();
  unimo::test_loads_and_copies_have_no_bank_conflict();
  return unimo::report("contrastive tiles");
}
