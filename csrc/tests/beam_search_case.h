// Inputs of the beam step, and its truth: every candidate written out in double, then sorted.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "beam_search/beam_search.h"
#include "check.h"

namespace unimo {

struct BeamSearchCase {
  std::int64_t batch, beams, vocabulary, num_blocked;
  std::vector<float> logits, scores;
  std::vector<char> finished;
  std::vector<std::int64_t> step, blocked_tokens;
  BeamSearchSettings settings;

  BeamSearchCase(std::int64_t b, std::int64_t k, std::int64_t v, std::int64_t n, std::int64_t at,
                 const BeamSearchSettings& with, std::uint32_t seed)
      : batch(b), beams(k), vocabulary(v), num_blocked(n), step{at}, settings(with) {
    Generator generator(seed);
    logits = generator.normal(b * k * v, 2.0f);
    scores = generator.normal(b * k, 1.0f);
    for (const std::int64_t value : generator.integers(b * k, 0, 4)) finished.push_back(value == 0);
    blocked_tokens = generator.integers(b * k * n, -1, v - 1);
  }

  BeamSearchInputs inputs() const {
    return {logits.data(),
            scores.data(),
            reinterpret_cast<const bool*>(finished.data()),
            step.data(),
            blocked_tokens.data(),
            batch,
            beams,
            vocabulary,
            num_blocked};
  }
};

struct BeamSearchResult {
  std::vector<float> scores, ended_scores;
  std::vector<std::int64_t> tokens, parents, ended_parents;
  std::vector<char> finished;

  explicit BeamSearchResult(std::int64_t count)
      : scores(count),
        ended_scores(count),
        tokens(count),
        parents(count),
        ended_parents(count),
        finished(count) {}
  BeamSearchOutputs outputs() {
    return {scores.data(),       tokens.data(),
            parents.data(),      reinterpret_cast<bool*>(finished.data()),
            ended_scores.data(), ended_parents.data()};
  }
};

struct NaiveCandidate {
  double score;
  std::int64_t parent, token;
};

inline void rank(std::vector<NaiveCandidate>* candidates, std::size_t count) {
  std::stable_sort(
      candidates->begin(), candidates->end(),
      [](const NaiveCandidate& a, const NaiveCandidate& b) { return a.score > b.score; });
  if (candidates->size() > count) candidates->resize(count);
}

inline BeamSearchResult beam_search_naive(const BeamSearchCase& in) {
  BeamSearchResult result(in.batch * in.beams);
  const bool two_k = in.settings.rule == BeamRule::kTwoK;
  const bool too_short = in.step[0] < in.settings.min_length;
  const double before = std::pow((in.step[0] + 5) / 6.0, in.settings.length_penalty);
  const double after = std::pow((in.step[0] + 6) / 6.0, in.settings.length_penalty);
  for (std::int64_t b = 0; b < in.batch; ++b) {
    const std::int64_t first = b * in.beams;
    std::vector<NaiveCandidate> all;
    bool frozen = false;
    for (std::int64_t k = 0; k < in.beams; ++k) {
      result.ended_scores[first + k] = -INFINITY;
      result.ended_parents[first + k] = -1;
      frozen = frozen || (two_k && in.finished[first + k]);
      if (in.finished[first + k]) {
        all.push_back({in.scores[first + k], k, in.settings.end_token});
        continue;
      }
      std::vector<double> logits(in.vocabulary);
      double total = 0.0;
      for (std::int64_t v = 0; v < in.vocabulary; ++v) {
        logits[v] = in.logits[(first + k) * in.vocabulary + v];
        if (!two_k && too_short && v == in.settings.end_token) logits[v] = -1e18;
        total += std::exp(logits[v]);
      }
      const std::int64_t* blocked = in.blocked_tokens.data() + (first + k) * in.num_blocked;
      const auto is_blocked = [&](std::int64_t v) {
        return std::find(blocked, blocked + in.num_blocked, v) != blocked + in.num_blocked;
      };
      std::vector<NaiveCandidate> own;
      for (std::int64_t v = 0; v < in.vocabulary; ++v) {
        double log_probability = logits[v] - std::log(total);
        if (two_k && (is_blocked(v) || (too_short && v == in.settings.end_token))) {
          log_probability = std::numeric_limits<float>::lowest();
        }
        // In float, where all banned tokens are equal.
        own.push_back(
            {two_k ? static_cast<float>(in.scores[first + k] + log_probability) : log_probability,
             k, v});
      }
      if (!two_k) {
        rank(&own, in.beams);
        for (NaiveCandidate& candidate : own) {
          const double penalty = is_blocked(candidate.token) ? 65000.0 : 0.0;
          candidate.score = (in.scores[first + k] * before + candidate.score - penalty) / after;
        }
        // Back to the order of ids, for the stable sort below.
        std::sort(own.begin(), own.end(), [](const NaiveCandidate& x, const NaiveCandidate& y) {
          return x.token < y.token;
        });
      }
      all.insert(all.end(), own.begin(), own.end());
    }
    std::int64_t num_next = 0, num_ended = 0;
    const auto keep = [&](double score, std::int64_t parent, std::int64_t token, bool finished) {
      result.scores[first + num_next] = static_cast<float>(score);
      result.parents[first + num_next] = parent;
      result.tokens[first + num_next] = token;
      result.finished[first + num_next++] = finished;
    };
    if (frozen) {
      for (std::int64_t k = 0; k < in.beams; ++k) {
        keep(in.scores[first + k], k, in.settings.end_token, in.finished[first + k]);
      }
      continue;
    }
    rank(&all, two_k ? 2 * in.beams : in.beams);
    for (std::size_t place = 0; place < all.size() && num_next < in.beams; ++place) {
      const NaiveCandidate& candidate = all[place];
      const bool ends = candidate.token == in.settings.end_token;
      if (!two_k || !ends) {
        keep(candidate.score, candidate.parent, candidate.token, ends);
      } else if (place < static_cast<std::size_t>(in.beams)) {
        result.ended_scores[first + num_ended] = static_cast<float>(candidate.score / before);
        result.ended_parents[first + num_ended++] = candidate.parent;
      }
    }
  }
  return result;
}

inline void check_beam_search(const BeamSearchResult& found, const BeamSearchCase& in,
                              const std::string& what) {
  const BeamSearchResult expected = beam_search_naive(in);
  const auto check_scores = [&](const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool close =
          std::isfinite(b[i]) ? std::abs(a[i] - b[i]) <= 4e-6 * (8 + std::abs(b[i])) : a[i] == b[i];
      check(close,
            what + " scores: " + std::to_string(a[i]) + ", expected " + std::to_string(b[i]));
    }
  };
  check_scores(found.scores, expected.scores);
  check_scores(found.ended_scores, expected.ended_scores);
  check(found.tokens == expected.tokens, what + " tokens");
  check(found.parents == expected.parents, what + " parents");
  check(found.ended_parents == expected.ended_parents, what + " ended parents");
  check(found.finished == expected.finished, what + " finished");
}

// Two samples of three beams, of which the second sample's beam 1 has a NaN.
inline BeamSearchCase nan_case(BeamRule rule, std::int64_t vocabulary) {
  BeamSearchCase in(2, 3, vocabulary, 1, 9, {1, 3, 0.6f, rule}, 5);
  in.finished.assign(in.finished.size(), 0);
  in.blocked_tokens.assign(in.blocked_tokens.size(), -1);
  in.logits[5 * vocabulary - 1] = NAN;
  return in;
}

// The beam comes first, and all its tokens are equal: the lower ones are offered. By the rule 2k
// the end token, 1, is no next one.
inline void check_nan_ranks_first(const BeamSearchResult& found, const BeamSearchCase& in) {
  const bool two_k = in.settings.rule == BeamRule::kTwoK;
  for (int k = 0; k < 3; ++k) {
    check(std::isfinite(found.scores[k]), "NaN: another sample");
    check(std::isnan(found.scores[3 + k]) && found.parents[3 + k] == 1, "NaN: its beam is first");
    check(found.tokens[3 + k] == (two_k && k > 0 ? k + 1 : k), "NaN: its tokens, the lower first");
  }
}

}  // namespace unimo
