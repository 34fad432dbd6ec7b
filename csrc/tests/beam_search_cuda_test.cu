// The CUDA form of the beam-search step on a GPU; exit code 77 where there is none.

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "beam_search/beam_search.h"
#include "beam_search_case.h"
#include "on_device.h"

namespace unimo {
namespace {

BeamSearchResult run(const BeamSearchCase& in) {
  const OnDevice<float> logits(in.logits), scores(in.scores);
  const OnDevice<char> finished(in.finished);
  const OnDevice<std::int64_t> step(in.step), blocked_tokens(in.blocked_tokens);
  BeamSearchInputs inputs = in.inputs();
  inputs.logits = logits.data();
  inputs.scores = scores.data();
  inputs.finished = reinterpret_cast<const bool*>(finished.data());
  inputs.step = step.data();
  inputs.blocked_tokens = blocked_tokens.data();
  BeamSearchResult out(in.batch * in.beams);
  const OnDevice<float> next(out.scores), ended(out.ended_scores);
  const OnDevice<std::int64_t> tokens(out.tokens), parents(out.parents);
  const OnDevice<std::int64_t> ended_parents(out.ended_parents);
  const OnDevice<char> next_finished(out.finished);
  const OnDevice<char> workspace(
      std::vector<char>(beam_search_step_cuda_workspace(inputs, in.settings)));
  beam_search_step_cuda(
      inputs, in.settings,
      {next.data(), tokens.data(), parents.data(), reinterpret_cast<bool*>(next_finished.data()),
       ended.data(), ended_parents.data()},
      workspace.data(), nullptr);
  out.scores = next.host();
  out.tokens = tokens.host();
  out.parents = parents.host();
  out.finished = next_finished.host();
  out.ended_scores = ended.host();
  out.ended_parents = ended_parents.host();
  return out;
}

void test_beam_search(BeamRule rule) {
  const BeamSearchSettings settings = {1, 3, 0.6f, rule};
  for (const std::int64_t vocabulary : {2, 67, 1000, 4096, 50265}) {
    for (const std::int64_t step : {0, 9}) {
      const BeamSearchCase in(3, 4, vocabulary, 2, step, settings, 11);
      check_beam_search(run(in), in, "beam search on the GPU " + std::to_string(vocabulary));
    }
  }
}

// What a part's best promises for the row must not count tokens that are blocked.
void test_best_tokens_are_blocked(BeamRule rule) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    BeamSearchCase in(2, 4, 40001, 9, seed % 2 * 9, {1, 3, 0.6f, rule}, seed);
    for (std::int64_t row = 0; row < in.batch * in.beams; ++row) {
      const float* const logits = in.logits.data() + row * in.vocabulary;
      std::vector<std::int64_t> tokens(in.vocabulary);
      std::iota(tokens.begin(), tokens.end(), 0);
      std::partial_sort(tokens.begin(), tokens.begin() + 12, tokens.end(),
                        [&](std::int64_t a, std::int64_t b) { return logits[a] > logits[b]; });
      for (int i = 0; i < 9; ++i) in.blocked_tokens[row * 9 + i] = tokens[i + i / 3];
    }
    check_beam_search(run(in), in, "blocked best tokens on the GPU");
  }
}

// Of a vocabulary that several blocks of threads share.
void test_equal_scores_rank_by_token(BeamRule rule) {
  BeamSearchCase in(2, 3, 9001, 4, 9, {1, 3, 0.6f, rule}, 5);
  in.logits.assign(in.logits.size(), 0.5f);
  for (const std::int64_t token : {8999, 4093, 4100}) {
    for (std::int64_t row = 0; row < 6; ++row) in.logits[row * in.vocabulary + token] = 3.0f;
  }
  check_beam_search(run(in), in, "equal scores on the GPU");
}

void test_nan_ranks_first(BeamRule rule, std::int64_t vocabulary) {
  const BeamSearchCase in = nan_case(rule, vocabulary);
  check_nan_ranks_first(run(in), in);
}

}  // namespace
}  // namespace unimo

int main() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("no GPU here\n");
    return 77;
  }
  for (const unimo::BeamRule rule : {unimo::BeamRule::kOriginal, unimo::BeamRule::kTwoK}) {
    unimo::test_beam_search(rule);
    unimo::test_best_tokens_are_blocked(rule);
    unimo::test_equal_scores_rank_by_token(rule);
    unimo::test_nan_ranks_first(rule, 9001);
  }
  // As many tokens as beams: not one may be lost.
  unimo::test_nan_ranks_first(unimo::BeamRule::kOriginal, 3);
  unimo::check(cudaDeviceSynchronize() == cudaSuccess, "the GPU reports an error");
  return unimo::report("beam search on a GPU");
}
