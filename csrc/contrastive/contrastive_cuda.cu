// The CUDA form, plain: every block of threads owns a tile of targets and walks over all others.
//
// Rows and columns play equal parts, so each kernel is written for one side, the targets, against
// the other, and runs twice with the roles exchanged. No two blocks write to the same place, every
// sum has a fixed order, and results are equal to the bit from run to run.

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda_launch.h"
#include "contrastive/contrastive.h"

namespace unimo {
namespace {

constexpr int kTile = 64;             // targets and others in a tile of scores
constexpr int kDepth = 16;            // features loaded at once
constexpr int kSide = 16;             // threads of a block: 16 x 16
constexpr int kEach = kTile / kSide;  // each thread holds 4 x 4 sums, strided by 16

struct Side {
  const float* features;          // [count, size]
  const std::int64_t* group;      // [count]
  const std::int64_t* duplicate;  // [count]
  std::int64_t count;
};

struct SideStatistics {
  const float* all;                // [count]
  const float* positive;           // [count]
  const float* all_upstream;       // [count]
  const float* positive_upstream;  // [count]
};

Side rows_of(const ContrastiveInputs& in) {
  return {in.rows, in.row_group, in.row_duplicate, in.num_rows};
}

Side columns_of(const ContrastiveInputs& in) {
  return {in.columns, in.column_group, in.column_duplicate, in.num_columns};
}

std::int64_t num_tiles(std::int64_t count) { return (count + kTile - 1) / kTile; }

// A running log-sum-exp: log(sum) + max over what it has seen.
// (No default values: shared memory takes no constructors.)
struct Running {
  float max;
  double sum;

  __device__ void add(float score) {
    if (score > max) {
      sum = sum * exp(static_cast<double>(max) - score) + 1.0;
      max = score;
    } else if (score == max) {
      sum += score == -INFINITY ? 0.0 : 1.0;
    } else {
      sum += isnan(score) ? score : expf(score - max);
    }
  }
  __device__ void add(const Running& other) {
    if (other.max > max) {
      sum = sum * exp(static_cast<double>(max) - other.max) + other.sum;
      max = other.max;
    } else {
      sum += other.max == max ? other.sum : other.sum * exp(static_cast<double>(other.max) - max);
    }
  }
  __device__ float log_sum_exp() const {
    return sum == 0.0 ? -INFINITY : static_cast<float>(max + log(sum));
  }
};

struct Buffers {
  float target[kDepth][kTile + 1];
  float other[kDepth][kTile + 1];
  float scores[kTile][kTile + 1];
};

// buffers.scores[t][o] = <target, other> / temperature; beyond the edges the features are zero.
// Thread (x, y) computes the elements (y + 16 i, x + 16 j).
__device__ void compute_scores(const Side& targets, const Side& others, std::int64_t size,
                               float temperature, std::int64_t first_target,
                               std::int64_t first_other, Buffers* buffers) {
  const int thread = threadIdx.y * kSide + threadIdx.x;
  float sum[kEach][kEach] = {};
  for (std::int64_t depth = 0; depth < size; depth += kDepth) {
    for (int item = thread; item < kDepth * kTile; item += kSide * kSide) {
      const int k = item % kDepth, i = item / kDepth;
      const std::int64_t t = first_target + i, o = first_other + i, feature = depth + k;
      buffers->target[k][i] =
          t < targets.count && feature < size ? targets.features[t * size + feature] : 0.0f;
      buffers->other[k][i] =
          o < others.count && feature < size ? others.features[o * size + feature] : 0.0f;
    }
    __syncthreads();
    for (int k = 0; k < kDepth; ++k) {
      for (int i = 0; i < kEach; ++i) {
        for (int j = 0; j < kEach; ++j) {
          sum[i][j] += buffers->target[k][threadIdx.y + kSide * i] *
                       buffers->other[k][threadIdx.x + kSide * j];
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kEach; ++i) {
    for (int j = 0; j < kEach; ++j) {
      buffers->scores[threadIdx.y + kSide * i][threadIdx.x + kSide * j] = sum[i][j] / temperature;
    }
  }
  __syncthreads();
}

enum class Pair { kNegative, kPositive, kIgnored };

__device__ Pair relation(const Side& targets, const Side& others, std::int64_t t, std::int64_t o) {
  if (targets.group[t] == others.group[o]) return Pair::kPositive;
  const std::int64_t duplicate = targets.duplicate[t];
  return duplicate != -1 && duplicate == others.duplicate[o] ? Pair::kIgnored : Pair::kNegative;
}

// One block a tile of targets. Four threads share a target, each takes every fourth other.
__global__ void statistics_kernel(Side targets, Side others, std::int64_t size,
                                  const float* temperature, float* all, float* positive) {
  __shared__ Buffers buffers;
  __shared__ Running parts[2][kTile][4];
  const int thread = threadIdx.y * kSide + threadIdx.x;
  const int i = thread / 4, part = thread % 4;
  const std::int64_t first_target = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t t = first_target + i;
  Running running_all = {-INFINITY, 0.0}, running_positive = {-INFINITY, 0.0};
  for (std::int64_t first = 0; first < others.count; first += kTile) {
    compute_scores(targets, others, size, *temperature, first_target, first, &buffers);
    for (int j = part; t < targets.count && j < kTile && first + j < others.count; j += 4) {
      const Pair pair = relation(targets, others, t, first + j);
      if (pair != Pair::kIgnored) running_all.add(buffers.scores[i][j]);
      if (pair == Pair::kPositive) running_positive.add(buffers.scores[i][j]);
    }
    __syncthreads();
  }
  parts[0][i][part] = running_all;
  parts[1][i][part] = running_positive;
  __syncthreads();
  if (part != 0 || t >= targets.count) return;
  for (int other = 1; other < 4; ++other) {
    running_all.add(parts[0][i][other]);
    running_positive.add(parts[1][i][other]);
  }
  all[t] = running_all.log_sum_exp();
  positive[t] = running_positive.log_sum_exp();
}

__device__ float flow(float score, float log_sum_exp, float upstream) {
  return log_sum_exp == -INFINITY ? 0.0f : upstream * expf(score - log_sum_exp);
}

// The gradient of one score; 0 for an ignored pair.
__device__ float score_gradient(Pair pair, float score, const SideStatistics& targets,
                                std::int64_t t, const SideStatistics& others, std::int64_t o) {
  if (pair == Pair::kIgnored) return 0.0f;
  float gradient = flow(score, targets.all[t], targets.all_upstream[t]) +
                   flow(score, others.all[o], others.all_upstream[o]);
  if (pair == Pair::kPositive) {
    gradient += flow(score, targets.positive[t], targets.positive_upstream[t]) +
                flow(score, others.positive[o], others.positive_upstream[o]);
  }
  return gradient;
}

// One block a tile of targets: gradient[t] += sum over o of G_to other[o] / temperature, and the
// block's share of sum G_to s_to where the sums are asked for.
__global__ void gradient_kernel(Side targets, Side others, SideStatistics target_statistics,
                                SideStatistics other_statistics, std::int64_t size,
                                const float* temperature, float* gradient, double* sums) {
  __shared__ Buffers buffers;
  __shared__ double parts[kSide * kSide];
  const int thread = threadIdx.y * kSide + threadIdx.x;
  const std::int64_t first_target = static_cast<std::int64_t>(blockIdx.x) * kTile;
  double sum = 0.0;
  for (std::int64_t first = 0; first < others.count; first += kTile) {
    compute_scores(targets, others, size, *temperature, first_target, first, &buffers);
    for (int item = thread; item < kTile * kTile; item += kSide * kSide) {
      const int i = item / kTile, j = item % kTile;
      const std::int64_t t = first_target + i, o = first + j;
      float value = 0.0f;
      if (t < targets.count && o < others.count) {
        const Pair pair = relation(targets, others, t, o);
        const float score = buffers.scores[i][j];
        value = score_gradient(pair, score, target_statistics, t, other_statistics, o);
        if (pair != Pair::kIgnored) sum += static_cast<double>(value) * score;
      }
      buffers.scores[i][j] = value / *temperature;
    }
    __syncthreads();
    for (int item = thread; item < kTile * size; item += kSide * kSide) {
      const std::int64_t i = item / size, k = item % size;
      if (first_target + i >= targets.count) break;
      float total = 0.0f;
      for (int j = 0; j < kTile && first + j < others.count; ++j) {
        total += buffers.scores[i][j] * others.features[(first + j) * size + k];
      }
      gradient[(first_target + i) * size + k] += total;
    }
    __syncthreads();
  }
  if (sums == nullptr) return;
  parts[thread] = sum;
  __syncthreads();
  for (int width = kSide * kSide / 2; width > 0; width /= 2) {
    if (thread < width) parts[thread] += parts[thread + width];
    __syncthreads();
  }
  if (thread == 0) sums[blockIdx.x] = parts[0];
}

// One thread: the gradient of the temperature from the blocks' sums, in their order.
__global__ void temperature_kernel(const double* sums, std::int64_t count, const float* temperature,
                                   float* gradient) {
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) total += sums[i];
  *gradient = static_cast<float>(-total / *temperature);
}

}  // namespace

void contrastive_forward_cuda(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<float*>& outputs, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const Side rows = rows_of(inputs), columns = columns_of(inputs);
  const dim3 threads(kSide, kSide);
  statistics_kernel<<<num_tiles(rows.count), threads, 0, queue>>>(
      rows, columns, inputs.size, inputs.temperature, outputs.row_all, outputs.row_positive);
  check_launch("contrastive statistics of the rows");
  statistics_kernel<<<num_tiles(columns.count), threads, 0, queue>>>(
      columns, rows, inputs.size, inputs.temperature, outputs.column_all, outputs.column_positive);
  check_launch("contrastive statistics of the columns");
}

std::size_t contrastive_backward_cuda_workspace(const ContrastiveInputs& inputs) {
  return num_tiles(inputs.num_rows) * sizeof(double);
}

void contrastive_backward_cuda(const ContrastiveInputs& inputs,
                               const ContrastiveStatistics<const float*>& outputs,
                               const ContrastiveStatistics<const float*>& upstream,
                               const ContrastiveGradients& gradients, void* workspace,
                               void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const Side rows = rows_of(inputs), columns = columns_of(inputs);
  const SideStatistics by_row = {outputs.row_all, outputs.row_positive, upstream.row_all,
                                 upstream.row_positive};
  const SideStatistics by_column = {outputs.column_all, outputs.column_positive,
                                    upstream.column_all, upstream.column_positive};
  const std::size_t row_bytes = rows.count * inputs.size * sizeof(float);
  const std::size_t column_bytes = columns.count * inputs.size * sizeof(float);
  cudaMemsetAsync(gradients.rows, 0, row_bytes, queue);
  cudaMemsetAsync(gradients.columns, 0, column_bytes, queue);
  const dim3 threads(kSide, kSide);
  auto* const sums = static_cast<double*>(workspace);
  gradient_kernel<<<num_tiles(rows.count), threads, 0, queue>>>(
      rows, columns, by_row, by_column, inputs.size, inputs.temperature, gradients.rows, sums);
  check_launch("contrastive gradient of the rows");
  gradient_kernel<<<num_tiles(columns.count), threads, 0, queue>>>(columns, rows, by_column, by_row,
                                                                   inputs.size, inputs.temperature,
                                                                   gradients.columns, nullptr);
  check_launch("contrastive gradient of the columns");
  temperature_kernel<<<1, 1, 0, queue>>>(sums, num_tiles(rows.count), inputs.temperature,
                                         gradients.temperature);
  check_launch("contrastive gradient of the temperature");
}

}  // namespace unimo
