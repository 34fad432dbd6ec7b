// The CUDA form of the contrastive operator on a GPU; exit code 77 where there is none.
//
// With the argument "time" it times N = M = 8192 instead; with "small" it computes only a few
// cases, for a sanitizer, which makes everything many times slower.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "contrastive/contrastive.h"
#include "contrastive_case.h"
#include "on_device.h"

namespace unimo {
namespace {

// A case on the device, and what is computed of it.
class DeviceRun {
 public:
  explicit DeviceRun(const ContrastiveCase& in)
      : in_(in),
        rows_(in.rows),
        columns_(in.columns),
        temperature_(in.temperature),
        row_group_(in.row_group),
        column_group_(in.column_group),
        row_duplicate_(in.row_duplicate),
        column_duplicate_(in.column_duplicate),
        upstream_{OnDevice<float>(in.upstream[0]), OnDevice<float>(in.upstream[1]),
                  OnDevice<float>(in.upstream[2]), OnDevice<float>(in.upstream[3])},
        statistics_{OnDevice<float>(not_a_number(in.num_rows)),
                    OnDevice<float>(not_a_number(in.num_rows)),
                    OnDevice<float>(not_a_number(in.num_columns)),
                    OnDevice<float>(not_a_number(in.num_columns))},
        row_gradient_(not_a_number(in.num_rows * in.size)),
        column_gradient_(not_a_number(in.num_columns * in.size)),
        temperature_gradient_(not_a_number(1)),
        forward_workspace_(not_a_number(contrastive_forward_cuda_workspace(inputs()) / 4 + 1)),
        backward_workspace_(not_a_number(contrastive_backward_cuda_workspace(inputs()) / 4 + 1)) {}

  void forward(ContrastivePrecision precision) const {
    contrastive_forward_cuda(inputs(), pointers<float*>(statistics_), precision,
                             forward_workspace_.data(), nullptr);
  }
  void backward(ContrastivePrecision precision) const {
    contrastive_backward_cuda(
        inputs(), pointers<const float*>(statistics_), pointers<const float*>(upstream_),
        {row_gradient_.data(), column_gradient_.data(), temperature_gradient_.data()}, precision,
        backward_workspace_.data(), nullptr);
  }
  ContrastiveResult<float> result() const {
    ContrastiveResult<float> out(in_);
    for (int k = 0; k < 4; ++k) out.statistics[k] = statistics_[k].host();
    out.rows = row_gradient_.host();
    out.columns = column_gradient_.host();
    out.temperature = temperature_gradient_.host();
    return out;
  }

 private:
  static std::vector<float> not_a_number(std::int64_t count) {
    return std::vector<float>(count, NAN);
  }
  template <typename Pointer>
  static ContrastiveStatistics<Pointer> pointers(const OnDevice<float> (&four)[4]) {
    return {four[0].data(), four[1].data(), four[2].data(), four[3].data()};
  }
  ContrastiveInputs inputs() const {
    ContrastiveInputs inputs = in_.inputs();
    inputs.rows = rows_.data();
    inputs.columns = columns_.data();
    inputs.temperature = temperature_.data();
    inputs.row_group = row_group_.data();
    inputs.column_group = column_group_.data();
    inputs.row_duplicate = row_duplicate_.data();
    inputs.column_duplicate = column_duplicate_.data();
    return inputs;
  }

  const ContrastiveCase& in_;
  OnDevice<float> rows_, columns_, temperature_;
  OnDevice<std::int64_t> row_group_, column_group_, row_duplicate_, column_duplicate_;
  OnDevice<float> upstream_[4];
  OnDevice<float> statistics_[4];
  OnDevice<float> row_gradient_, column_gradient_, temperature_gradient_;
  OnDevice<float> forward_workspace_, backward_workspace_;
};

ContrastiveResult<float> run(const ContrastiveCase& in, ContrastivePrecision precision) {
  const DeviceRun run(in);
  run.forward(precision);
  run.backward(precision);
  return run.result();
}

struct Size {
  std::int64_t n, m, d;
};

std::string name_of(const Size& size) {
  return std::to_string(size.n) + " x " + std::to_string(size.m) + " x " + std::to_string(size.d);
}

void test_small() {
  for (const Size size : {Size{5, 9, 33}, {129, 127, 20}, {257, 130, 36}, {131, 64, 768}}) {
    const ContrastiveCase in(size.n, size.m, size.d, 0.07f, size.n / 2, 7);
    for (const ContrastivePrecision precision : kPrecisions) {
      check_contrastive(run(in, precision), in, name_of(precision) + name_of(size),
                        score_error(in, precision));
    }
  }
}

void test_equals_plain_loops() {
  for (const Size size : {Size{1, 1, 1},
                          {5, 9, 33},
                          {65, 130, 17},
                          {128, 128, 64},
                          {129, 127, 20},
                          {257, 130, 36},
                          {130, 140, 256},
                          {131, 64, 768},
                          {60, 129, 1000},
                          {1000, 777, 64}}) {
    for (const float temperature : {1e-2f, 0.07f, 1.0f, 100.0f}) {
      for (const std::int64_t groups : {std::int64_t{2}, size.n + size.m}) {
        const ContrastiveCase in(size.n, size.m, size.d, temperature, groups, 7);
        for (const ContrastivePrecision precision : kPrecisions) {
          check_contrastive(
              run(in, precision), in,
              name_of(precision) + name_of(size) + ", t " + std::to_string(temperature),
              score_error(in, precision));
        }
      }
    }
  }
}

// Larger than a block of either direction, down and across.
void test_many_blocks_equal_plain_loops() {
  for (const Size size : {Size{4300, 4200, 8}, {8300, 150, 12}, {150, 8300, 12}}) {
    const ContrastiveCase in(size.n, size.m, size.d, 0.07f, 900, 7);
    for (const ContrastivePrecision precision : kPrecisions) {
      check_contrastive(run(in, precision), in,
                        "many blocks, " + (name_of(precision) + name_of(size)),
                        score_error(in, precision));
    }
  }
}

void test_runs_are_equal_to_the_bit() {
  const ContrastiveCase in(3000, 2500, 200, 0.05f, 700, 3);
  for (const ContrastivePrecision precision : kPrecisions) {
    const ContrastiveResult<float> first = run(in, precision);
    for (int i = 0; i < 5; ++i) check_equal(run(in, precision), first, "runs");
  }
}

void test_nan_in_gives_nan_out() {
  ContrastiveCase in(131, 140, 20, 0.1f, 50, 5);
  in.row_duplicate.assign(in.num_rows, -1);
  for (const std::uint32_t bits : {0x7fc00000u, 0x7fffffffu, 0x7f800001u, 0xffffffffu}) {
    std::memcpy(&in.rows[2 * in.size + 7], &bits, sizeof(bits));
    for (const ContrastivePrecision precision : kPrecisions) {
      const ContrastiveResult<float> out = run(in, precision);
      check(std::isnan(out.statistics[0][2]), "NaN: its row");
      check(std::isfinite(out.statistics[0][3]), "NaN: another row");
      for (const float value : out.statistics[2]) check(std::isnan(value), "NaN: columns");
      for (const float value : out.rows) check(std::isnan(value), "NaN: gradient of the rows");
      check(std::isnan(out.temperature[0]), "NaN: gradient of the temperature");
    }
  }
}

template <typename Work>
double seconds_of(const Work& work) {
  constexpr int kRepeats = 20;
  cudaEvent_t begin, end;
  check_cuda(cudaEventCreate(&begin));
  check_cuda(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) work();
  check_cuda(cudaEventRecord(begin));
  for (int i = 0; i < kRepeats; ++i) work();
  check_cuda(cudaEventRecord(end));
  check_cuda(cudaEventSynchronize(end));
  float milliseconds = 0.0f;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin, end));
  check_cuda(cudaEventDestroy(begin));
  check_cuda(cudaEventDestroy(end));
  return milliseconds * 1e-3 / kRepeats;
}

// TFLOP/s count the operations of the mathematics, 2 and 6 N M D, for either precision. Labels as
// in training: a row is the positive of one column, and none is ignored.
void time_all() {
  constexpr std::int64_t kCount = 8192;
  for (const std::int64_t size : {256, 768}) {
    ContrastiveCase in(kCount, kCount, size, 0.05f, kCount, 7);
    for (std::int64_t i = 0; i < kCount; ++i) in.row_group[i] = in.column_group[i] = i;
    in.row_duplicate.assign(kCount, -1);
    const DeviceRun run(in);
    for (const ContrastivePrecision precision : kPrecisions) {
      const double products = 2.0 * kCount * kCount * size * 1e-12;
      const double forward = seconds_of([&] { run.forward(precision); });
      const double backward = seconds_of([&] { run.backward(precision); });
      std::printf("%sD %4lld: forward %.3f ms, %.1f TFLOP/s; backward %.3f ms, %.1f TFLOP/s\n",
                  name_of(precision), static_cast<long long>(size), forward * 1e3,
                  products / forward, backward * 1e3, 3.0 * products / backward);
    }
  }
}

}  // namespace
}  // namespace unimo

int main(int argc, char** argv) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("no GPU here\n");
    return 77;
  }
  if (argc > 1 && std::strcmp(argv[1], "time") == 0) {
    unimo::time_all();
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], "small") == 0) {
    unimo::test_small();
  } else {
    unimo::test_equals_plain_loops();
    unimo::test_many_blocks_equal_plain_loops();
    unimo::test_runs_are_equal_to_the_bit();
    unimo::test_nan_in_gives_nan_out();
  }
  unimo::check(cudaDeviceSynchronize() == cudaSuccess, "the GPU reports an error");
  return unimo::report("contrastive on a GPU");
}
