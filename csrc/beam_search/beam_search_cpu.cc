// The CPU form: threads share the rows (one beam each), then the samples.

#include <omp.h>

#include <algorithm>
#include <vector>

#include "beam_search/beam_search.h"
#include "beam_search/candidate.h"
#include "common/simd.h"

namespace unimo {
namespace {

constexpr std::int64_t kSpan = 8 * kLanes;  // tokens tested at once against the worst kept

// One beam's logits, with the end token's replaced while it is not allowed.
class Row {
 public:
  Row(const BeamSearchInputs& inputs, const BeamSearchSettings& settings, std::int64_t row)
      : in_(inputs),
        settings_(settings),
        row_(row),
        logits_(inputs.logits + row * inputs.vocabulary),
        too_short_(*inputs.step < settings.min_length),
        end_replaced_(too_short_ && settings.rule == BeamRule::kOriginal) {
    normalise();
  }

  void offer(Candidate* candidates, std::int64_t count);

 private:
  template <typename Work>
  void for_each_range(const Work& work) const {
    if (!end_replaced_) return work(std::int64_t{0}, in_.vocabulary);
    work(std::int64_t{0}, settings_.end_token);
    work(settings_.end_token + 1, in_.vocabulary);
  }
  void normalise();
  float log_probability(float logit) const { return (logit - max_) - log_sum_; }
  void insert(std::int64_t token, float logit, Candidate* candidates, std::int64_t count);

  const BeamSearchInputs& in_;
  const BeamSearchSettings& settings_;
  const std::int64_t row_;
  const float* const logits_;
  const bool too_short_;
  const bool end_replaced_;
  float max_ = -kInfinity;
  float log_sum_ = 0.0f;
  float offset_ = 0.0f;  // what ranks is offset + log-probability
  std::int64_t num_kept_ = 0;
};

void Row::normalise() {
  if (end_replaced_) max_ = kEndTokenLogit;
  for_each_range([&](std::int64_t begin, std::int64_t end) {
    Vector largest = broadcast(max_);
    std::int64_t v = begin;
    for (; v + kLanes <= end; v += kLanes) {
      const Vector logit = load(logits_ + v);
      largest = logit > largest ? logit : largest;
    }
    max_ = max_lanes(largest);
    for (; v < end; ++v) max_ = logits_[v] > max_ ? logits_[v] : max_;
  });
  double sum = end_replaced_ ? std::exp(static_cast<double>(kEndTokenLogit) - max_) : 0.0;
  for_each_range([&](std::int64_t begin, std::int64_t end) {
    DoubleVector sums = {};
    std::int64_t v = begin;
    for (; v + kLanes <= end; v += kLanes) sums += widen(fast_exp(load(logits_ + v) - max_));
    sum += sum_lanes(sums);
    for (; v < end; ++v) sum += std::exp(logits_[v] - max_);
  });
  log_sum_ = static_cast<float>(std::log(sum));
}

// Fill in the beam's candidates, best first.
void Row::offer(Candidate* candidates, std::int64_t count) {
  const bool two_k = settings_.rule == BeamRule::kTwoK;
  offset_ = two_k ? in_.scores[row_] : 0.0f;
  const bool is_nan = std::isnan(offset_ + log_sum_);
  for_each_range([&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t span = begin; span < end; span += kSpan) {
      const std::int64_t stop = std::min(span + kSpan, end);
      if (num_kept_ == count && !is_nan) {
        float largest = -kInfinity;
        for (std::int64_t v = span; v < stop; ++v) {
          largest = logits_[v] > largest ? logits_[v] : largest;
        }
        // An equal score later in the row ranks behind.
        if (offset_ + log_probability(largest) <= candidates[count - 1].score) continue;
      }
      for (std::int64_t v = span; v < stop; ++v) insert(v, logits_[v], candidates, count);
    }
  });
  if (end_replaced_) insert(settings_.end_token, kEndTokenLogit, candidates, count);
  if (two_k) return;
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
  float score = offset_ + log_probability(logit);
  if (num_kept_ == count &&
      !ranks_before(score, token, candidates[count - 1].score, candidates[count - 1].token)) {
    return;
  }
  if (settings_.rule == BeamRule::kTwoK &&
      ((too_short_ && token == settings_.end_token) || is_blocked(in_, row_, token))) {
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
  const std::int64_t rows = inputs.batch * inputs.beams;
  const std::int64_t count = candidates_per_beam(inputs, settings.rule);
  std::vector<Candidate> candidates(rows * count, Candidate{-kInfinity, -1});
#pragma omp parallel num_threads(std::max(1, num_threads))
  {
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      if (!inputs.finished[row]) {
        Row(inputs, settings, row).offer(candidates.data() + row * count, count);
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
