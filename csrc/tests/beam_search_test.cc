// The CPU form of the beam step against every candidate sorted.

#include "beam_search/beam_search.h"

#include <string>

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

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_kernel(unimo::kBeamPortable, "portable");
#if defined(__x86_64__)
  if (unimo::runs_avx2()) unimo::test_kernel(unimo::kBeamAvx2, "avx2");
  if (unimo::runs_avx512()) unimo::test_kernel(unimo::kBeamAvx512, "avx512");
#endif
  unimo::test_ties_take_the_lower_id();
  return unimo::report("beam search");
}
