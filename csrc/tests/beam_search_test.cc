// The CPU form of the beam step against every candidate sorted.

#include "beam_search/beam_search.h"

#include <cmath>
#include <limits>
#include <string>

#include "beam_search/candidate_key.h"
#include "beam_search/kernel.h"
#include "beam_search_case.h"
#include "common/instruction_sets.h"

namespace unimo {
namespace {

void test_equals_sorting(const BeamKernel& kernel, BeamRule rule, const std::string& name) {
  struct Size {
    std::int64_t batch, beams, vocabulary, num_blocked, step, min_length;
  };
  for (const Size size : {Size{1, 1, 2, 0, 0, 0},
                          {2, 3, 5, 1, 1, 3},
                          {3, 4, 67, 3, 2, 2},
                          {2, 5, 1000, 9, 7, 8},
                          {1, 3, 5003, 20, 3, 4},
                          {4, 2, 129, 0, 40, 0}}) {
    for (const float penalty : {0.0f, 0.6f, 2.0f}) {
      const BeamSearchSettings settings = {1, size.min_length, penalty, rule};
      const BeamSearchCase in(size.batch, size.beams, size.vocabulary, size.num_blocked, size.step,
                              settings, 11);
      BeamSearchResult out(size.batch * size.beams);
      beam_search_step_by(kernel, in.inputs(), settings, out.outputs(), 2);
      check_beam_search(out, in, name + " V " + std::to_string(size.vocabulary));
    }
  }
}

void test_kernel(const BeamKernel& kernel, const std::string& name) {
  test_equals_sorting(kernel, BeamRule::kOriginal, name + " original");
  test_equals_sorting(kernel, BeamRule::kTwoK, name + " 2k");
}

void test_ties_take_the_lower_id() {
  const BeamSearchSettings settings = {99, 0, 0.0f, BeamRule::kOriginal};
  BeamSearchCase in(1, 3, 100, 0, 0, settings, 1);
  in.logits.assign(in.logits.size(), 0.25f);
  in.scores.assign(3, 0.0f);
  in.finished.assign(3, 0);
  BeamSearchResult out(3);
  beam_search_step_cpu(in.inputs(), settings, out.outputs(), 1);
  check(out.parents == std::vector<std::int64_t>({0, 0, 0}), "ties: parents");
  check(out.tokens == std::vector<std::int64_t>({0, 1, 2}), "ties: tokens");
}

void test_nan_ranks_first(BeamRule rule, std::int64_t vocabulary) {
  const BeamSearchCase in = nan_case(rule, vocabulary);
  BeamSearchResult out(6);
  beam_search_step_cpu(in.inputs(), in.settings, out.outputs(), 1);
  check_nan_ranks_first(out, in);
}

// The CUDA form takes the largest key for the first candidate, below ~Key{0} and above 0.
void test_keys_rank_as_candidates() {
  const float largest = std::numeric_limits<float>::max();
  for (const float score :
       {NAN, -NAN, INFINITY, largest, 0.0f, -0.0f, -1.5f, -largest, -INFINITY}) {
    for (const std::uint32_t token : {0u, 1u, 50264u, 0xfffffffeu}) {
      const Key key = make_key(score, token);
      const std::string what = "key of " + std::to_string(score) + ", " + std::to_string(token);
      check(key > 0 && key < ~Key{0}, what + ": between the limits");
      check(key_token(key) == token, what + ": its token");
      check(std::isnan(score) ? std::isnan(key_score(key)) : key_score(key) == score,
            what + ": its score");
      for (const float other : {NAN, INFINITY, 0.0f, -0.0f, -2.0f, -INFINITY}) {
        check((key > make_key(other, 1)) == ranks_before(score, token, other, 1), what + ": rank");
      }
    }
  }
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_kernel(unimo::kBeamPortable, "portable");
#if defined(__x86_64__)
  if (unimo::runs_avx2()) unimo::test_kernel(unimo::kBeamAvx2, "avx2");
  if (unimo::runs_avx512()) unimo::test_kernel(unimo::kBeamAvx512, "avx512");
#endif
  unimo::test_ties_take_the_lower_id();
  unimo::test_nan_ranks_first(unimo::BeamRule::kOriginal, 9001);
  unimo::test_nan_ranks_first(unimo::BeamRule::kTwoK, 9001);
  unimo::test_nan_ranks_first(unimo::BeamRule::kOriginal, 3);
  unimo::test_keys_rank_as_candidates();
  return unimo::report("beam search");
}
