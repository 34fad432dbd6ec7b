// One step of beam search: from the logits of all beams to the next beams.
//
// With B samples, K beams a sample and V tokens, step s counts from 0 and a is the length penalty.
// Candidates are named by the flat id k * V + v (64 bits); equal scores rank by the lower id, NaN
// ranks before every number (a broken model must show). Log-probabilities are log-softmax in
// float32. A candidate's score and the next beams follow one of two rules.
//
// Original (the authors' program):
//     while s < min_length the logit of the end token is -1e18, before the softmax;
//     every live beam offers its K most probable tokens; a blocked one among them loses 65000 of
//     log-probability (after the choice: no other token takes its place);
//     score = (scores[k] ((5 + s) / 6)^a + log p) / ((6 + s) / 6)^a;
//     a finished beam offers itself with its score unchanged;
//     the best K are the next beams; one whose token is the end token is finished.
//
// 2k (PaddleNLP, Hugging Face):
//     blocked tokens, and the end token while s < min_length, get the log-probability -3.4e38
//     after the softmax; score = scores[k] + log p, and the best 2 K candidates are ranked;
//     those among the first K that are the end token leave as ended hypotheses of score
//     score / ((5 + s) / 6)^a; the first K others are the next beams. Finished marks whole samples:
//     one with a finished beam is frozen, each beam its own parent.
//
// A search starts with scores 0 for beam 0 and -inf (original) or -1e4 (2k) for the others.
//
// Cost: the logits are read once on a CPU, less than twice on a GPU; memory beyond inputs and
// outputs: a candidate list of K or 2 K entries a beam and on a CPU two numbers for each 256
// tokens of a row in work, on a GPU a list for each 4096 tokens of a beam.

#pragma once

#include <cstddef>
#include <cstdint>

namespace unimo {

enum class BeamRule : int { kOriginal = 0, kTwoK = 1 };

struct BeamSearchInputs {
  const float* logits;                 // [batch, beams, vocabulary]
  const float* scores;                 // [batch, beams]
  const bool* finished;                // [batch, beams]
  const std::int64_t* step;            // [1]
  const std::int64_t* blocked_tokens;  // [batch, beams, num_blocked], -1 for none
  std::int64_t batch;
  std::int64_t beams;
  std::int64_t vocabulary;
  std::int64_t num_blocked;
};

struct BeamSearchSettings {
  std::int64_t end_token;
  std::int64_t min_length;
  float length_penalty;
  BeamRule rule;
};

struct BeamSearchOutputs {
  float* scores;                // [batch, beams], best first
  std::int64_t* tokens;         // [batch, beams]; the end token for what was finished before
  std::int64_t* parents;        // [batch, beams], within the sample: 0 .. beams - 1
  bool* finished;               // [batch, beams]
  float* ended_scores;          // [batch, beams], best first, then -inf
  std::int64_t* ended_parents;  // [batch, beams], then -1
};

void beam_search_step_cpu(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                          const BeamSearchOutputs& outputs, int num_threads);

// The CUDA form takes device pointers, a cudaStream_t as void* and device memory of this many
// bytes. K, or 2 K by the rule 2k, may be 512 at most.

std::size_t beam_search_step_cuda_workspace(const BeamSearchInputs& inputs,
                                            const BeamSearchSettings& settings);

void beam_search_step_cuda(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                           const BeamSearchOutputs& outputs, void* workspace, void* stream);

}  // namespace unimo
