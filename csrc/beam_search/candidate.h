// What the CPU and the CUDA form of the beam step share: the order of candidates, and the choice of
// the next beams once every beam has offered its candidates.

#pragma once

#include <cmath>
#include <cstdint>

#include "beam_search/beam_search.h"

#ifdef __CUDACC__
#define UNIMO_HOST_DEVICE __host__ __device__
#else
#define UNIMO_HOST_DEVICE
#endif

namespace unimo {

constexpr float kEndTokenLogit = -1e18f;            // original: the end token is not allowed yet
constexpr float kBlockedPenalty = 65000.0f;         // original: off the log-probability
constexpr float kLowest = -3.4028234663852886e38f;  // 2k: in place of the log-probability

struct Candidate {
  float score;
  std::int64_t token;  // -1: no candidate
};

// Whether score a at flat id i ranks before score b at flat id j.
UNIMO_HOST_DEVICE inline bool ranks_before(float a, std::int64_t i, float b, std::int64_t j) {
  const bool a_is_nan = a != a, b_is_nan = b != b;
  if (a_is_nan != b_is_nan) return a_is_nan;
  if (!a_is_nan && a != b) return a > b;
  return i < j;
}

UNIMO_HOST_DEVICE inline float length_factor(std::int64_t length, float penalty) {
  return static_cast<float>(pow(static_cast<double>(length) / 6.0, static_cast<double>(penalty)));
}

UNIMO_HOST_DEVICE inline std::int64_t candidates_per_beam(const BeamSearchInputs& inputs,
                                                          BeamRule rule) {
  const std::int64_t wanted = rule == BeamRule::kTwoK ? 2 * inputs.beams : inputs.beams;
  return wanted < inputs.vocabulary ? wanted : inputs.vocabulary;
}

UNIMO_HOST_DEVICE inline bool is_blocked(const BeamSearchInputs& inputs, std::int64_t row,
                                         std::int64_t token) {
  const std::int64_t* tokens = inputs.blocked_tokens + row * inputs.num_blocked;
  for (std::int64_t i = 0; i < inputs.num_blocked; ++i) {
    if (tokens[i] == token) return true;
  }
  return false;
}

struct RankedCandidate {
  float score;
  std::int64_t id;  // beam * vocabulary + token; -1: there is none
};

// Choose the next beams of one sample. next() gives the candidates of all its beams, best first.
template <typename Next>
UNIMO_HOST_DEVICE inline void choose_ranked(const BeamSearchInputs& inputs,
                                            const BeamSearchSettings& settings,
                                            const BeamSearchOutputs& outputs, std::int64_t sample,
                                            Next next) {
  const std::int64_t beams = inputs.beams, first = sample * beams;
  const bool two_k = settings.rule == BeamRule::kTwoK;
  bool frozen = false;
  for (std::int64_t k = 0; k < beams; ++k) {
    frozen = frozen || (two_k && inputs.finished[first + k]);
    outputs.ended_scores[first + k] = -INFINITY;
    outputs.ended_parents[first + k] = -1;
  }
  if (frozen) {
    for (std::int64_t k = 0; k < beams; ++k) {
      outputs.scores[first + k] = inputs.scores[first + k];
      outputs.tokens[first + k] = settings.end_token;
      outputs.parents[first + k] = k;
      outputs.finished[first + k] = inputs.finished[first + k];
    }
    return;
  }
  const float factor = length_factor(*inputs.step + 5, settings.length_penalty);
  std::int64_t num_next = 0, num_ended = 0;
  for (std::int64_t rank = 0; num_next < beams; ++rank) {
    const RankedCandidate best = next();
    if (best.id < 0) break;  // only where the vocabulary is a single token
    const std::int64_t parent = best.id / inputs.vocabulary, token = best.id % inputs.vocabulary;
    const bool ends = token == settings.end_token;
    if (two_k && ends) {
      if (rank < beams) {
        outputs.ended_scores[first + num_ended] = best.score / factor;
        outputs.ended_parents[first + num_ended] = parent;
        ++num_ended;
      }
      continue;
    }
    outputs.scores[first + num_next] = best.score;
    outputs.tokens[first + num_next] = token;
    outputs.parents[first + num_next] = parent;
    outputs.finished[first + num_next] = !two_k && ends;
    ++num_next;
  }
}

}  // namespace unimo
