// The CUDA form of both operators against the same truths; exit code 77 where there is no GPU.

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <vector>

#include "beam_search/beam_search.h"
#include "beam_search_case.h"
#include "contrastive/contrastive.h"
#include "contrastive_case.h"

namespace unimo {
namespace {

// A copy of a vector on the device.
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host) : count_(host.size()) {
    cudaMalloc(&data_, count_ * sizeof(T) + 1);
    cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { cudaFree(data_); }
  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  std::size_t count_;
  void* data_ = nullptr;
};

ContrastiveResult<float> run(const ContrastiveCase& in) {
  const OnDevice<float> rows(in.rows), columns(in.columns), temperature(in.temperature);
  const OnDevice<std::int64_t> row_group(in.row_group), column_group(in.column_group);
  const OnDevice<std::int64_t> row_duplicate(in.row_duplicate);
  const OnDevice<std::int64_t> column_duplicate(in.column_duplicate);
  ContrastiveInputs inputs = in.inputs();
  inputs.rows = rows.data();
  inputs.columns = columns.data();
  inputs.temperature = temperature.data();
  inputs.row_group = row_group.data();
  inputs.column_group = column_group.data();
  inputs.row_duplicate = row_duplicate.data();
  inputs.column_duplicate = column_duplicate.data();
  ContrastiveResult<float> out(in);
  std::vector<std::unique_ptr<OnDevice<float>>> s, g;
  for (int k = 0; k < 4; ++k) {
    s.push_back(std::make_unique<OnDevice<float>>(out.statistics[k]));
    g.push_back(std::make_unique<OnDevice<float>>(in.upstream[k]));
  }
  contrastive_forward_cuda(inputs, {s[0]->data(), s[1]->data(), s[2]->data(), s[3]->data()},
                           nullptr);
  const OnDevice<float> row_gradient(out.rows), column_gradient(out.columns);
  const OnDevice<float> temperature_gradient(out.temperature);
  const OnDevice<char> workspace(std::vector<char>(contrastive_backward_cuda_workspace(inputs)));
  contrastive_backward_cuda(
      inputs, {s[0]->data(), s[1]->data(), s[2]->data(), s[3]->data()},
      {g[0]->data(), g[1]->data(), g[2]->data(), g[3]->data()},
      {row_gradient.data(), column_gradient.data(), temperature_gradient.data()}, workspace.data(),
      nullptr);
  for (int k = 0; k < 4; ++k) out.statistics[k] = s[k]->host();
  out.rows = row_gradient.host();
  out.columns = column_gradient.host();
  out.temperature = temperature_gradient.host();
  return out;
}

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

void test_contrastive() {
  struct Size {
    std::int64_t n, m, d;
  };
  for (const Size size : {Size{1, 1, 1}, {5, 9, 33}, {65, 130, 17}, {130, 65, 40}}) {
    for (const float temperature : {1e-2f, 0.07f, 100.0f}) {
      const ContrastiveCase in(size.n, size.m, size.d, temperature, size.n / 3 + 1, 7);
      check_contrastive(run(in), in, "contrastive on the GPU " + std::to_string(size.n));
    }
  }
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
  unimo::test_contrastive();
  unimo::test_beam_search(unimo::BeamRule::kOriginal);
  unimo::test_beam_search(unimo::BeamRule::kTwoK);
  unimo::check(cudaDeviceSynchronize() == cudaSuccess, "the GPU reports an error");
  return unimo::report("CUDA");
}
