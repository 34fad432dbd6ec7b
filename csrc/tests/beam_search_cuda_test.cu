// The CUDA form of the beam-search step on a GPU; exit code 77 where there is none.

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
  for (const std::int64_t vocabulary : {2, 67, 1000}) {
    for (const std::int64_t step : {0, 9}) {
      const BeamSearchCase in(3, 4, vocabulary, 2, step, settings, 11);
      check_beam_search(run(in), in, "beam search on the GPU " + std::to_string(vocabulary));
    }
  }
}

}  // namespace
}  // namespace unimo

int main() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("no GPU here\n");
    return 77;
  }
  unimo::test_beam_search(unimo::BeamRule::kOriginal);
  unimo::test_beam_search(unimo::BeamRule::kTwoK);
  unimo::check(cudaDeviceSynchronize() == cudaSuccess, "the GPU reports an error");
  return unimo::report("beam search on a GPU");
}
