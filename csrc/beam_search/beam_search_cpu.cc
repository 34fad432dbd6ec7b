// The CPU form: threads share the rows (one beam each), then the samples.

#include <omp.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "beam_search/beam_search.h"
#include "beam_search/candidate.h"
#include "beam_search/kernel.h"
#include "common/instruction_sets.h"
#include "common/workspaces.h"

namespace unimo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One beam's logits, with the end token's replaced while it is not allowed.
class Row {
 public:
  // scratch [scratch_size]: nothing is allocated here, where threads are at work.
  Row(const BeamKernel& kernel, const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
      std::int64_t row, float* scratch)
      : in_(inputs),
        settings_(settings),
        row_(row),
        logits_(inputs.logits + row * inputs.vocabulary),
        two_k_(settings.rule == BeamRule::kTwoK),
        too_short_(*inputs.step < settings.min_length),
        end_replaced_(too_short_ && !two_k_),
        offset_(two_k_ ? inputs.scores[row] : 0.0f),
        maxima_(scratch) {
    survey(kernel);
  }

  static std::int64_t scratch_size(const BeamSearchInputs& inputs) {
    return 2 * (inputs.vocabulary / kSpan + 2);  // both ranges may end within a span
  }

  // Fill in the beam's candidates, best first.
  void offer(Candidate* candidates, std::int64_t count);

 private:
  template <typename Work>
  void for_each_range(const Work& work) const {
    if (!end_replaced_) return work(std::int64_t{0}, in_.vocabulary);
    work(std::int64_t{0}, settings_.end_token);
    work(settings_.end_token + 1, in_.vocabulary);
  }
  void survey(const BeamKernel& kernel);
  float least_of_best(std::int64_t count) const;
  float score_of(float logit) const { return offset_ + ((logit - largest_) - log_sum_); }
  void insert(std::int64_t token, float logit, Candidate* candidates, std::int64_t count);

  const BeamSearchInputs& in_;
  const BeamSearchSettings& settings_;
  const std::int64_t row_;
  const float* const logits_;
  const bool two_k_;
  const bool too_short_;
  const bool end_replaced_;
  const float offset_;   // what ranks is offset + log-probability
  float* const maxima_;  // of each span; as much room behind them
  std::int64_t num_spans_ = 0;
  float largest_ = 0.0f;
  float log_sum_ = 0.0f;
  std::int64_t num_kept_ = 0;
};

// Read the row once.
void Row::survey(const BeamKernel& kernel) {
  RunningSum running = {std::numeric_limits<float>::lowest(), 0.0};
  if (end_replaced_) running = {kEndTokenLogit, 1.0};
  for_each_range([&](std::int64_t begin, std::int64_t end) {
    kernel.survey(logits_ + begin, end - begin, maxima_ + num_spans_, &running);
    num_spans_ += (end - begin + kSpan - 1) / kSpan;
  });
  largest_ = running.largest;
  // Nothing but -inf has no log-probabilities.
  log_sum_ = running.sum > 0.0 ? static_cast<float>(std::log(running.sum))
                               : std::numeric_limits<float>::quiet_NaN();
}

// A logit that `count` tokens reach: that many spans have such a largest one.
float Row::least_of_best(std::int64_t count) const {
  if (two_k_) count += in_.num_blocked + too_short_;  // a largest one may be banned
  if (count > num_spans_ || std::isnan(offset_ + log_sum_)) return -kInfinity;
  float* const best = maxima_ + num_spans_;  // in order, the least last
  std::partial_sort_copy(maxima_, maxima_ + num_spans_, best, best + count, std::greater<float>());
  return best[count - 1];
}

void Row::offer(Candidate* candidates, std::int64_t count) {
  // In scores, where different logits can be equal.
  const float least = score_of(least_of_best(count));
  const float* maximum = maxima_;
  for_each_range([&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t span = begin; span < end; span += kSpan) {
      if (score_of(*maximum++) < least) continue;
      const std::int64_t stop = std::min(span + kSpan, end);
      for (std::int64_t v = span; v < stop; ++v) {
        if (!(score_of(logits_[v]) < least)) insert(v, logits_[v], candidates, count);
      }
    }
  });
  if (end_replaced_) insert(settings_.end_token, kEndTokenLogit, candidates, count);
  if (two_k_) return;
  const float before = length_factor(*in_.step + 5, settings_.length_penalty);
  const float after = length_factor(*in_.step + 6, settings_.length_penalty);
  for (std::int64_t i = 0; i < count; ++i) {
    Candidate& candidate = candidates[i];
    if (is_blocked(in_, row_, candidate.token)) candidate.score -= kBlockedPenalty;
    candidate.score = (in_.scores[row_] * before + candidate.score) / after;
  }
}

// Keep the token if it ranks among the best of those seen so far.
void Row::insert(std::int64_t token, float logit, Candidate* candidates, std::int64_t count) {
  float score = score_of(logit);
  if (two_k_ && ((too_short_ && token == settings_.end_token) || is_blocked(in_, row_, token))) {
    score = offset_ + kLowest;
  }
  std::int64_t place = std::min(num_kept_, count - 1);
  if (num_kept_ == count &&
      !ranks_before(score, token, candidates[place].score, candidates[place].token)) {
    return;
  }
  for (; place > 0 &&
         ranks_before(score, token, candidates[place - 1].score, candidates[place - 1].token);
       --place) {
    candidates[place] = candidates[place - 1];
  }
  candidates[place] = {score, token};
  num_kept_ = std::min(num_kept_ + 1, count);
}

// Choose the next beams of one sample. candidates [beams, count] of each beam rank by themselves:
// the next in rank is the best of those that rank after the last, so nothing is marked or sorted.
void choose_beams(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                  const BeamSearchOutputs& outputs, const Candidate* candidates, std::int64_t count,
                  std::int64_t sample) {
  RankedCandidate last = {0.0f, -1};
  choose_ranked(inputs, settings, outputs, sample, [&] {
    RankedCandidate best = {0.0f, -1};
    for (std::int64_t i = 0; i < inputs.beams * count; ++i) {
      if (candidates[i].token < 0) continue;
      const std::int64_t id = i / count * inputs.vocabulary + candidates[i].token;
      const float score = candidates[i].score;
      if (last.id >= 0 && !ranks_before(last.score, last.id, score, id)) continue;
      if (best.id < 0 || ranks_before(score, id, best.score, best.id)) best = {score, id};
    }
    last = best;
    return best;
  });
}

}  // namespace

void beam_search_step_cpu(const BeamSearchInputs& inputs, const BeamSearchSettings& settings,
                          const BeamSearchOutputs& outputs, int num_threads) {
  beam_search_step_by(UNIMO_BEST_KERNEL(kBeam), inputs, settings, outputs, num_threads);
}

void beam_search_step_by(const BeamKernel& kernel, const BeamSearchInputs& inputs,
                         const BeamSearchSettings& settings, const BeamSearchOutputs& outputs,
                         int num_threads) {
  const std::int64_t rows = inputs.batch * inputs.beams;
  const std::int64_t count = candidates_per_beam(inputs, settings.rule);
  std::vector<Candidate> candidates(rows * count, Candidate{-kInfinity, -1});
  const int parallel = std::max(1, num_threads);
  const Workspaces workspaces(parallel, Row::scratch_size(inputs));
#pragma omp parallel num_threads(parallel)
  {
    float* const scratch = workspaces.of_this_thread();
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      if (!inputs.finished[row]) {
        Row(kernel, inputs, settings, row, scratch).offer(candidates.data() + row * count, count);
      } else if (settings.rule == BeamRule::kOriginal) {
        candidates[row * count] = {inputs.scores[row], settings.end_token};
      }
    }
#pragma omp for schedule(static)
    for (std::int64_t sample = 0; sample < inputs.batch; ++sample) {
      choose_beams(inputs, settings, outputs, candidates.data() + sample * inputs.beams * count,
                   count, sample);
    }
  }
}

}  // namespace unimo
