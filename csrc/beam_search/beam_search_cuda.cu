// The CUDA form: a row of logits is shared by many blocks of threads, a part of the vocabulary
// each.
//
// Three kernels: the maximum and the sum of exponentials of every part; with the row's from them,
// the best candidates of every part; the best of each beam and the next beams of a sample. The
// logits are read twice, for equal scores rank by token, and whether rounded scores are equal shows
// only once the sum is known; the second time they come from the second-level cache if it holds
// them. Every result has one writer and every sum a fixed order.

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>

#include "beam_search/beam_search.h"
#include "beam_search/candidate.h"
#include "beam_search/candidate_key.h"
#include "common/cuda_launch.h"

namespace unimo {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kQuads = 4;               // loads of 16 bytes a thread
constexpr int kOwn = 4 * kQuads;        // logits a thread
constexpr int kPart = kThreads * kOwn;  // logits a block

constexpr int kMaxCount = 512;  // candidates of a beam: what shared memory holds

// Reduce one value a thread to one for all, in a fixed order.
template <typename Value, typename Combine>
__device__ Value reduce(Value value, Value* shared, const Combine& combine) {
  for (int mask = 1; mask < kWarp; mask *= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, mask));
  }
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  Value total = shared[0];
  for (int warp = 1; warp < kWarps; ++warp) total = combine(total, shared[warp]);
  __syncthreads();
  return total;
}

struct PartialSum {
  double sum;  // of exp(logit - max)
  float max;
  float best;  // of the logits whose tokens may be taken
};

struct Work {
  BeamSearchInputs in;
  BeamSearchSettings settings;
  std::int64_t num_parts, count;  // parts of a row; candidates of a beam
  PartialSum* sums;               // [rows, num_parts]
  Key* keys;                      // [rows, num_parts, count], best first
  Key* ranked;                    // [rows, count], best first

  __device__ bool is_two_k() const { return settings.rule == BeamRule::kTwoK; }
  __device__ bool is_too_short() const { return *in.step < settings.min_length; }
};

// What a block of threads works on. A part begins where 16 bytes begin in memory, which may be up
// to three logits before the row does; a thread's logits are quads of neighbours.
struct Part {
  std::int64_t row, part;
  std::int64_t first;  // token, before 0 perhaps

  __device__ explicit Part(const Work& work)
      : row(blockIdx.x / work.num_parts), part(blockIdx.x % work.num_parts) {
    const float* const logits = work.in.logits + row * work.in.vocabulary;
    first = part * kPart - static_cast<int>(reinterpret_cast<std::uintptr_t>(logits) / 4 % 4);
  }

  // Place of the thread's logit in the part.
  __device__ static int place(int own) {
    return (own / 4 * kThreads + static_cast<int>(threadIdx.x)) * 4 + own % 4;
  }

  // The thread's logits, -inf where there are none. The end token's is replaced while it is not
  // allowed.
  __device__ void load(const Work& work, float (&logits)[kOwn]) const {
    const float* const data = work.in.logits + row * work.in.vocabulary;
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      const std::int64_t token = first + place(4 * quad);
      if (token >= 0 && token + 4 <= work.in.vocabulary) {
        const float4 four = *reinterpret_cast<const float4*>(data + token);
        logits[4 * quad] = four.x;
        logits[4 * quad + 1] = four.y;
        logits[4 * quad + 2] = four.z;
        logits[4 * quad + 3] = four.w;
        continue;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool is_there = token + e >= 0 && token + e < work.in.vocabulary;
        logits[4 * quad + e] = is_there ? data[token + e] : -INFINITY;
      }
    }
    if (work.is_two_k() || !work.is_too_short()) return;
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      if (first + place(own) == work.settings.end_token) logits[own] = kEndTokenLogit;
    }
  }

  // The key of the best of the thread's scores. Later ones are of higher tokens, so an equal one
  // ranks behind; only what is -inf or NaN needs a closer look.
  __device__ Key best(const Work& work, const float (&scores)[kOwn]) const {
    float best_score = -INFINITY;
    int best_own = -1;
    bool has_nan = false;
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      has_nan = has_nan || scores[own] != scores[own];
      if (scores[own] > best_score) {
        best_score = scores[own];
        best_own = own;
      }
    }
    if (best_own < 0 || has_nan) return best_below(work, scores, ~Key{0});
    return make_key(best_score, static_cast<std::uint32_t>(first + place(best_own)));
  }

  // The largest key below a limit.
  __device__ Key best_below(const Work& work, const float (&scores)[kOwn], Key limit) const {
    Key best = 0;
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      const std::int64_t token = first + place(own);
      if (token < 0 || token >= work.in.vocabulary) continue;
      const Key key = make_key(scores[own], static_cast<std::uint32_t>(token));
      if (key < limit && key > best) best = key;
    }
    return best;
  }
};

// Tokens of the part that must not be taken (by the rule 2k; the other looks at them after the
// choice of each beam): a bit for each of the thread's logits.
__device__ unsigned find_blocked(const Work& work, const Part& part, unsigned* blocked) {
  if (!work.is_two_k()) return 0;
  blocked[threadIdx.x] = 0;
  __syncthreads();
  const std::int64_t extra = work.is_too_short() ? 1 : 0;  // the end token
  for (std::int64_t i = threadIdx.x; i < work.in.num_blocked + extra; i += kThreads) {
    const std::int64_t token = i < work.in.num_blocked
                                   ? work.in.blocked_tokens[part.row * work.in.num_blocked + i]
                                   : work.settings.end_token;
    const std::int64_t place = token - part.first;
    if (token < 0 || token >= work.in.vocabulary || place < 0 || place >= kPart) continue;
    const int quad = static_cast<int>(place / 4);
    atomicOr(&blocked[quad % kThreads], 1u << (quad / kThreads * 4 + place % 4));
  }
  __syncthreads();
  return blocked[threadIdx.x];
}

__global__ void __launch_bounds__(kThreads) sum_kernel(const __grid_constant__ Work work) {
  __shared__ float maxima[kWarps];
  __shared__ double sums[kWarps];
  __shared__ unsigned blocked[kThreads];
  const Part part(work);
  if (work.in.finished[part.row]) return;
  float logits[kOwn];
  part.load(work, logits);
  const unsigned own_blocked = find_blocked(work, part, blocked);
  float max = -INFINITY, best = -INFINITY;
#pragma unroll
  for (int own = 0; own < kOwn; ++own) {
    max = fmaxf(max, logits[own]);
    if (!(own_blocked >> own & 1)) best = fmaxf(best, logits[own]);
  }
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  max = reduce(max, maxima, larger);
  best = reduce(best, maxima, larger);
  const float reference = max == -INFINITY ? 0.0f : max;  // for -inf - -inf is NaN
  double sum = 0.0;
#pragma unroll
  for (int own = 0; own < kOwn; ++own) sum += expf(logits[own] - reference);
  sum = reduce(sum, sums, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) work.sums[part.row * work.num_parts + part.part] = {sum, max, best};
}

// How logits of a row become scores, and the least score that can be among its best.
struct RowScores {
  float offset, max, log_sum;
  float least;  // NaN where nothing is known

  __device__ float operator()(float logit) const { return offset + ((logit - max) - log_sum); }
};

// Every warp for itself. Of the parts' best, as many as candidates are wanted score at least as
// much as the last of these. (Not where a score is infinite: NaN may rank before it.)
__device__ RowScores score_row(const Work& work, std::int64_t row) {
  const PartialSum* const parts = work.sums + row * work.num_parts;
  const int lane = threadIdx.x % kWarp, num_parts = static_cast<int>(work.num_parts);
  RowScores scores = {work.is_two_k() ? work.in.scores[row] : 0.0f, -INFINITY, 0.0f, NAN};
  for (int i = lane; i < num_parts; i += kWarp) scores.max = fmaxf(scores.max, parts[i].max);
  for (int mask = 1; mask < kWarp; mask *= 2) {
    scores.max = fmaxf(scores.max, __shfl_xor_sync(kAllLanes, scores.max, mask));
  }
  double sum = 0.0;
  for (int i = lane; i < num_parts; i += kWarp) {
    if (parts[i].sum != 0.0) {
      sum += parts[i].sum * exp(static_cast<double>(parts[i].max) - scores.max);
    }
  }
  for (int mask = 1; mask < kWarp; mask *= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  scores.log_sum = static_cast<float>(log(sum));
  if (work.count > num_parts) return scores;
  Key last = ~Key{0};
  for (int k = 0; k < work.count; ++k) {
    Key best = 0;
    for (int i = lane; i < num_parts; i += kWarp) {
      const Key key = make_key(parts[i].best, static_cast<std::uint32_t>(i));
      if (key < last && key > best) best = key;
    }
    last = largest_in_warp(best);
  }
  const float least = scores(key_score(last));
  if (isfinite(least)) scores.least = least;
  return scores;
}

// The best candidates of a part, best first; most parts of a row have none. A thread knows its own
// best; a warp lists the best of its threads', one after the other, as long as they can be among
// the best of the row; one warp ranks what all have listed.
__global__ void __launch_bounds__(kThreads) offer_kernel(const __grid_constant__ Work work) {
  __shared__ unsigned blocked[kThreads];
  extern __shared__ Key lists[];  // [kWarps, count]
  const Part part(work);
  if (work.in.finished[part.row]) return;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int count = static_cast<int>(work.count);
  Key* const kept = work.keys + blockIdx.x * work.count;
  const RowScores score = score_row(work, part.row);
  float best_score = score(work.sums[part.row * work.num_parts + part.part].best);
  if (work.is_two_k()) best_score = fmaxf(best_score, score.offset + kLowest);
  if (best_score < score.least) {
    for (int i = threadIdx.x; i < count; i += kThreads) kept[i] = 0;
    return;
  }
  float scores[kOwn];
  part.load(work, scores);
  const unsigned own_blocked = find_blocked(work, part, blocked);
#pragma unroll
  for (int own = 0; own < kOwn; ++own) {
    scores[own] = own_blocked >> own & 1 ? score.offset + kLowest : score(scores[own]);
  }
  Key own_best = part.best(work, scores);
  Key* const list = lists + warp * count;
  for (int i = 0; i < count; ++i) {
    const Key best = largest_in_warp(own_best);
    if (best == 0 || key_score(best) < score.least) {
      for (int k = i + lane; k < count; k += kWarp) list[k] = 0;
      break;
    }
    if (lane == 0) list[i] = best;
    if (own_best == best) own_best = part.best_below(work, scores, best);
  }
  __syncthreads();
  if (warp != 0) return;
  Key last = ~Key{0};
  for (int i = 0; i < count; ++i) {
    last = largest_below(lists, kWarps * count, last);
    if (lane == 0) kept[i] = last;
  }
}

// One warp: the best candidates of a beam out of its parts', with their scores by the rule.
__device__ void rank_beam(const Work& work, std::int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Key* const keys = work.keys + row * work.num_parts * work.count;
  Key* const ranked = work.ranked + row * work.count;
  const bool two_k = work.is_two_k(), finished = work.in.finished[row];
  const float before = length_factor(*work.in.step + 5, work.settings.length_penalty);
  const float after = length_factor(*work.in.step + 6, work.settings.length_penalty);
  const float score = work.in.scores[row];
  Key last = ~Key{0};
  for (std::int64_t i = 0; i < work.count; ++i) {
    Key best = 0;
    if (!finished) {
      best = last = largest_below(keys, work.num_parts * work.count, last);
    } else if (!two_k && i == 0) {
      best = make_key(score, static_cast<std::uint32_t>(work.settings.end_token));
    }
    if (best != 0 && !finished && !two_k) {
      const std::int64_t* const tokens = work.in.blocked_tokens + row * work.in.num_blocked;
      bool found = false;
      for (std::int64_t k = lane; k < work.in.num_blocked; k += kWarp) {
        found = found || tokens[k] == key_token(best);
      }
      const float penalty = __any_sync(kAllLanes, found) ? kBlockedPenalty : 0.0f;
      best = make_key((score * before + (key_score(best) - penalty)) / after, key_token(best));
    }
    if (lane == 0) ranked[i] = best;
  }
}

// One block a sample: a warp a beam, then one warp for them all. Its lanes know and write the same.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const __grid_constant__ Work work, const BeamSearchOutputs outputs) {
  const std::int64_t sample = blockIdx.x, first = sample * work.in.beams;
  for (std::int64_t k = threadIdx.x / kWarp; k < work.in.beams; k += kWarps) {
    rank_beam(work, first + k);
  }
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  const Key* const keys = work.ranked + first * work.count;
  const auto count = static_cast<unsigned>(work.count);
  const auto num_keys = static_cast<unsigned>(work.in.beams * work.count);
  const Key own_key = threadIdx.x < num_keys ? keys[threadIdx.x] : 0;
  RankedCandidate last = {0.0f, -1};
  choose_ranked(work.in, work.settings, outputs, sample, [&] {
    RankedCandidate best = {0.0f, -1};
    const auto consider = [&](const RankedCandidate& other) {
      if (other.id < 0) return;
      if (best.id < 0 || ranks_before(other.score, other.id, best.score, best.id)) best = other;
    };
    for (unsigned i = threadIdx.x; i < num_keys; i += kWarp) {
      const Key key = i < kWarp ? own_key : keys[i];
      if (key == 0) continue;
      const RankedCandidate own = {key_score(key), i / count * work.in.vocabulary + key_token(key)};
      if (last.id < 0 || ranks_before(last.score, last.id, own.score, own.id)) consider(own);
    }
    for (int mask = 1; mask < kWarp; mask *= 2) {
      const float score = __shfl_xor_sync(kAllLanes, best.score, mask);
      const auto id = static_cast<std::int64_t>(
          __shfl_xor_sync(kAllLanes, static_cast<long long>(best.id), mask));
      consider({score, id});
    }
    last = best;
    return best;
  });
}

// Divides the workspace; with no memory it only counts.
Work make_work(const BeamSearchInputs& inputs, const BeamSearchSettings& settings, void* workspace,
               std::size_t* bytes) {
  Work work = {inputs, settings};
  // A part more, for what lies before the row where 16 bytes begin.
  work.num_parts = (inputs.vocabulary + 3 + kPart - 1) / kPart;
  work.count = candidates_per_beam(inputs, settings.rule);
  const std::int64_t rows = inputs.batch * inputs.beams;
  if (inputs.vocabulary >= std::int64_t{1} << 32 || rows * work.num_parts >= std::int64_t{1}
                                                                                 << 31) {
    throw std::length_error("beam search: more than 2^31 parts of 4096 logits, or 2^32 tokens");
  }
  if (work.count > kMaxCount) {
    throw std::length_error("beam search on a GPU: more than 512 candidates a beam");
  }
  work.sums = static_cast<PartialSum*>(workspace);
  work.keys = reinterpret_cast<Key*>(work.sums + rows * work.num_parts);
  work.ranked = work.keys + rows * work.num_parts * work.count;
  *bytes = rows * (work.num_parts * (sizeof(PartialSum) + work.count * sizeof(Key)) +
                   work.count * sizeof(Key));
  return work;
}

}  // namespace

std::size_t beam_search_step_cuda_workspace(const BeamSearchInputs& inputs,
                                            const BeamSearchSettings& settings) {
  std::size_t bytes = 0;
  make_work(inputs, settings, nullptr, &bytes);
  return bytes;
}

void beam_search_step_cuda(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                           const BeamSearchOutputs& outputs, void* workspace, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  std::size_t bytes = 0;
  const Work work = make_work(inputs, settings, workspace, &bytes);
  const auto blocks = static_cast<unsigned>(inputs.batch * inputs.beams * work.num_parts);
  if (blocks == 0) return;
  sum_kernel<<<blocks, kThreads, 0, queue>>>(work);
  check_launch("beam search sums");
  offer_kernel<<<blocks, kThreads, kWarps * work.count * sizeof(Key), queue>>>(work);
  check_launch("beam search candidates");
  choose_kernel<<<static_cast<unsigned>(inputs.batch), kThreads, 0, queue>>>(work, outputs);
  check_launch("beam search choice");
}

}  // namespace unimo
