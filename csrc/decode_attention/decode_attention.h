// Attention of the words that are being written, one in each of K texts of B samples.
//
// A new word sees the memory of its sample (what was encoded; all texts share it) and the words of
// its own text, itself the last. Written words stay where they were put: the cache holds the word
// that row k of sample b wrote at each time, and ancestors[b, k, s] says whose word of time s
// belongs to the text that is row k now. For each head, with t words so far, the new one included,
//
//     score(l) = <query, memory key l> / sqrt(d) + bias[b, l]
//     score(s) = <query, key of word ancestors[b, k, s] at time s> / sqrt(d)
//     attended = sum of softmax(scores) x values
//
// The new words' keys and values are first put into the cache, at time t - 1. Threads share the
// samples' heads. A text's result does not depend on how many samples or threads there are.
//
// Cost: (L + t) 4 d operations a text and head; a sample's memory is read once for all its texts.

#pragma once

#include <cstdint>

namespace unimo {

struct DecodeAttentionInputs {
  const float* query;             // [batch, texts, heads * size]
  const float* keys;              // [batch, texts, heads * size], of the new words
  const float* values;            // the same
  const float* memory_keys;       // [heads, batch, size, memory_length]
  const float* memory_values;     // [heads, batch, memory_length, size]
  const float* memory_bias;       // [batch, memory_length]
  const std::int64_t* ancestors;  // [batch, texts, num_words], from 0 to texts - 1
  float* cache;                   // [2, capacity, batch, texts, heads * size]: keys, values
  std::int64_t batch;
  std::int64_t texts;
  std::int64_t heads;
  std::int64_t size;
  std::int64_t memory_length;
  std::int64_t num_words;  // 1 to capacity
  std::int64_t capacity;
};

// attended [batch, texts, heads * size]
void decode_attention_cpu(const DecodeAttentionInputs& inputs, float* attended, int num_threads);

}  // namespace unimo
