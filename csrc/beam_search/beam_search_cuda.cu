// The CUDA form, plain: a block of threads ranks one beam, then one thread chooses for one sample.

#include <cuda_runtime.h>

#include <cstdint>

#include "beam_search/beam_search.h"
#include "beam_search/candidate.h"
#include "common/cuda_launch.h"

namespace unimo {
namespace {

constexpr int kThreads = 256;

// One beam's logits, with the end token's replaced while it is not allowed.
struct Row {
  const float* logits;
  std::int64_t end_token;
  bool end_replaced;
  __device__ float operator[](std::int64_t v) const {
    return end_replaced && v == end_token ? kEndTokenLogit : logits[v];
  }
};

// Reduce one value a thread to one for all, in a fixed order.
template <typename Value, typename Combine>
__device__ Value reduce(Value value, Value* shared, const Combine& combine) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + width]);
    }
    __syncthreads();
  }
  const Value result = shared[0];
  __syncthreads();
  return result;
}

__device__ Candidate better(const Candidate& a, const Candidate& b) {
  if (a.token < 0) return b;
  if (b.token < 0) return a;
  return ranks_before(a.score, a.token, b.score, b.token) ? a : b;
}

// One block a beam: its candidates, best first; the next is the best that ranks after the last.
__global__ void offer_kernel(BeamSearchInputs inputs, BeamSearchSettings settings,
                             Candidate* candidates, std::int64_t count) {
  __shared__ union {
    float maxima[kThreads];
    double sums[kThreads];
    Candidate bests[kThreads];
  } shared;
  const std::int64_t row_index = blockIdx.x;
  Candidate* const kept = candidates + row_index * count;
  const bool two_k = settings.rule == BeamRule::kTwoK;
  if (inputs.finished[row_index]) {
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) kept[i] = {-INFINITY, -1};
    __syncthreads();
    if (threadIdx.x == 0 && !two_k) kept[0] = {inputs.scores[row_index], settings.end_token};
    return;
  }
  const bool too_short = *inputs.step < settings.min_length;
  const Row row = {inputs.logits + row_index * inputs.vocabulary, settings.end_token,
                   too_short && !two_k};
  float max = -INFINITY;
  for (std::int64_t v = threadIdx.x; v < inputs.vocabulary; v += kThreads) max = fmaxf(max, row[v]);
  max = reduce(max, shared.maxima, [](float a, float b) { return fmaxf(a, b); });
  double sum = 0.0;
  for (std::int64_t v = threadIdx.x; v < inputs.vocabulary; v += kThreads) {
    sum += expf(row[v] - max);
  }
  sum = reduce(sum, shared.sums, [](double a, double b) { return a + b; });
  const float log_sum = static_cast<float>(log(sum));
  const float offset = two_k ? inputs.scores[row_index] : 0.0f;
  const float before = length_factor(*inputs.step + 5, settings.length_penalty);
  const float after = length_factor(*inputs.step + 6, settings.length_penalty);
  Candidate last = {0.0f, -1};
  for (std::int64_t i = 0; i < count; ++i) {
    Candidate best = {0.0f, -1};
    for (std::int64_t v = threadIdx.x; v < inputs.vocabulary; v += kThreads) {
      float score = offset + ((row[v] - max) - log_sum);
      // Lowering only ever lowers: a token that cannot win needs no look at the blocked ones.
      if (best.token >= 0 && !ranks_before(score, v, best.score, best.token)) continue;
      if (two_k && ((too_short && v == settings.end_token) || is_blocked(inputs, row_index, v))) {
        score = offset + kLowest;
      }
      if (last.token >= 0 && !ranks_before(last.score, last.token, score, v)) continue;
      best = better(best, {score, v});
    }
    best = reduce(best, shared.bests, better);
    last = best;
    if (threadIdx.x != 0) continue;
    if (!two_k) {
      if (is_blocked(inputs, row_index, best.token)) best.score -= kBlockedPenalty;
      best.score = (inputs.scores[row_index] * before + best.score) / after;
    }
    kept[i] = best;
  }
}

// One thread a sample.
__global__ void choose_kernel(BeamSearchInputs inputs, BeamSearchSettings settings,
                              BeamSearchOutputs outputs, const Candidate* candidates,
                              std::int64_t count) {
  const std::int64_t sample = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample >= inputs.batch) return;
  choose_beams(inputs, settings, outputs, candidates + sample * inputs.beams * count, count,
               sample);
}

}  // namespace

std::size_t beam_search_step_cuda_workspace(const BeamSearchInputs& inputs,
                                            const BeamSearchSettings& settings) {
  const std::int64_t count = candidates_per_beam(inputs, settings.rule);
  return inputs.batch * inputs.beams * count * sizeof(Candidate);
}

void beam_search_step_cuda(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                           const BeamSearchOutputs& outputs, void* workspace, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  auto* const candidates = static_cast<Candidate*>(workspace);
  const std::int64_t count = candidates_per_beam(inputs, settings.rule);
  offer_kernel<<<inputs.batch * inputs.beams, kThreads, 0, queue>>>(inputs, settings, candidates,
                                                                    count);
  check_launch("beam search candidates");
  const std::int64_t blocks = (inputs.batch + kThreads - 1) / kThreads;
  choose_kernel<<<blocks, kThreads, 0, queue>>>(inputs, settings, outputs, candidates, count);
  check_launch("beam search choice");
}

}  // namespace unimo
