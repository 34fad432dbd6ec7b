// Compiled for several instruction sets, so everything is of internal linkage: see common/simd.h.

#pragma once

#include "common/row_groups.h"
#include "common/simd.h"
#include "decode_attention/kernel.h"

namespace unimo {
namespace {

// A tile of sums stays in registers, of which AVX-512 has twice as many.
constexpr int kTileRows = kLanes == 16 ? 6 : 3;
constexpr int kScoreVectors = 2;
constexpr int kValueVectors = kLanes == 16 ? 4 : 3;

// One head of one sample: its texts' parts of every array.
class Head {
 public:
  Head(const DecodeAttentionInputs& inputs, float* attended, std::int64_t sample, std::int64_t head,
       float* scratch)
      : in_(inputs),
        sample_(sample),
        width_(inputs.heads * inputs.size),
        offset_(sample * inputs.texts * width_ + head * inputs.size),
        time_stride_(inputs.batch * inputs.texts * width_),
        memory_((head * inputs.batch + sample) * inputs.size * inputs.memory_length),
        attended_(attended),
        row_length_(row_length(inputs)),
        scores_(scratch),
        shares_(scratch + inputs.texts * row_length_) {}

  static std::int64_t row_length(const DecodeAttentionInputs& in) {
    // A tile may reach beyond the memory, the softmax beyond the words.
    return in.memory_length + in.num_words + kScoreVectors * kLanes;
  }

  void attend() {
    append();
    for_each_group<kTileRows>(in_.texts, [&](std::int64_t first, auto count) {
      score_memory<decltype(count)::value>(first);
    });
    for (std::int64_t text = 0; text < in_.texts; ++text) {
      score_words(text);
      shares_[text] = normalise(text);
    }
    for_each_group<kTileRows>(in_.texts, [&](std::int64_t first, auto count) {
      mix_values<decltype(count)::value>(first);
    });
  }

 private:
  const float* own(const float* rows, std::int64_t text) const {
    return rows + offset_ + text * width_;
  }
  float* scores_of(std::int64_t text) const { return scores_ + text * row_length_; }
  // What the text's word of that time put into the cache; which: 0 keys, 1 values.
  const float* word(std::int64_t text, std::int64_t time, int which) const {
    const std::int64_t row = in_.ancestors[(sample_ * in_.texts + text) * in_.num_words + time];
    return in_.cache + (which * in_.capacity + time) * time_stride_ + offset_ + row * width_;
  }

  void append() {
    const float* const sources[] = {in_.keys, in_.values};
    for (int which = 0; which < 2; ++which) {
      float* const target =
          in_.cache + (which * in_.capacity + in_.num_words - 1) * time_stride_ + offset_;
      for (std::int64_t text = 0; text < in_.texts; ++text) {
        std::memcpy(target + text * width_, own(sources[which], text), in_.size * sizeof(float));
      }
    }
  }

  template <int kRows>
  void score_memory(std::int64_t first) {
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(in_.size));
    const float* const query = own(in_.query, first);
    const float* const bias = in_.memory_bias + sample_ * in_.memory_length;
    for (std::int64_t l = 0; l < in_.memory_length; l += kScoreVectors * kLanes) {
      const std::int64_t rest = in_.memory_length - l;
      Vector sums[kRows][kScoreVectors] = {};
      const float* line = in_.memory_keys + memory_ + l;
      for (std::int64_t i = 0; i < in_.size; ++i, line += in_.memory_length) {
        Vector part[kScoreVectors];
        for (int j = 0; j < kScoreVectors; ++j) {
          part[j] = load_some(line + j * kLanes, rest - j * kLanes);
        }
        for (int m = 0; m < kRows; ++m) {
          const Vector value = broadcast(query[m * width_ + i]);
          for (int j = 0; j < kScoreVectors; ++j) sums[m][j] += value * part[j];
        }
      }
      for (int j = 0; j < kScoreVectors; ++j) {
        const Vector added = load_some(bias + l + j * kLanes, rest - j * kLanes);
        for (int m = 0; m < kRows; ++m) {
          store(scores_of(first + m) + l + j * kLanes, sums[m][j] * scale + added);
        }
      }
    }
  }

  void score_words(std::int64_t text) {
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(in_.size));
    const float* const query = own(in_.query, text);
    for (std::int64_t time = 0; time < in_.num_words; ++time) {
      const float* const key = word(text, time, 0);
      Vector sum = {};
      for (std::int64_t i = 0; i < in_.size; i += kLanes) {
        sum += load_some(query + i, in_.size - i) * load_some(key + i, in_.size - i);
      }
      scores_of(text)[in_.memory_length + time] = sum_lanes(sum) * scale;
    }
  }

  // Scores become exponentials; returns what makes them shares.
  float normalise(std::int64_t text) {
    float* const scores = scores_of(text);
    const std::int64_t count = in_.memory_length + in_.num_words;
    store(scores + count, broadcast(-kInfinity));
    Vector largest = broadcast(-kInfinity);
    for (std::int64_t i = 0; i < count; i += kLanes) largest = max(load(scores + i), largest);
    const Vector subtracted = broadcast(max_lanes(largest));
    Vector sums = {};
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const Vector value = fast_exp(load(scores + i) - subtracted);
      sums += value;
      store(scores + i, value);
    }
    return 1.0f / sum_lanes(sums);
  }

  template <int kRows>
  void mix_values(std::int64_t first) {
    for (std::int64_t i = 0; i < in_.size; i += kValueVectors * kLanes) {
      const std::int64_t rest = in_.size - i;
      Vector sums[kRows][kValueVectors] = {};
      const float* line = in_.memory_values + memory_ + i;
      for (std::int64_t l = 0; l < in_.memory_length; ++l, line += in_.size) {
        Vector part[kValueVectors];
        for (int j = 0; j < kValueVectors; ++j) {
          part[j] = load_some(line + j * kLanes, rest - j * kLanes);
        }
        for (int m = 0; m < kRows; ++m) {
          const Vector share = broadcast(scores_of(first + m)[l]);
          for (int j = 0; j < kValueVectors; ++j) sums[m][j] += share * part[j];
        }
      }
      for (int m = 0; m < kRows; ++m) {
        const std::int64_t text = first + m;
        const float* const shares = scores_of(text) + in_.memory_length;
        for (std::int64_t time = 0; time < in_.num_words; ++time) {
          const float* const value = word(text, time, 1) + i;
          for (int j = 0; j < kValueVectors; ++j) {
            sums[m][j] += shares[time] * load_some(value + j * kLanes, rest - j * kLanes);
          }
        }
        float* const target = attended_ + offset_ + text * width_ + i;
        for (int j = 0; j < kValueVectors; ++j) {
          store_some(target + j * kLanes, sums[m][j] * shares_[text], rest - j * kLanes);
        }
      }
    }
  }

  const DecodeAttentionInputs& in_;
  const std::int64_t sample_;
  const std::int64_t width_;
  const std::int64_t offset_;       // of this head's first text in rows of words
  const std::int64_t time_stride_;  // of the cache
  const std::int64_t memory_;       // where this head's memory begins
  float* const attended_;
  const std::int64_t row_length_;
  float* const scores_;  // [texts, row_length]
  float* const shares_;  // [texts]: 1 / sum of exponentials
};

std::int64_t scratch_size(const DecodeAttentionInputs& inputs) {
  return inputs.texts * (Head::row_length(inputs) + 1);
}

void attend(const DecodeAttentionInputs& inputs, float* attended, std::int64_t sample,
            std::int64_t head, float* scratch) {
  Head(inputs, attended, sample, head, scratch).attend();
}

}  // namespace
}  // namespace unimo
