// The attention of words that are being written against plain loops in double, at awkward sizes.

#include "decode_attention/decode_attention.h"

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "common/instruction_sets.h"
#include "decode_attention/kernel.h"

namespace unimo {
namespace {

struct Size {
  std::int64_t batch, texts, heads, size, memory_length, num_words, capacity;
};

constexpr Size kSizes[] = {{1, 1, 1, 1, 1, 1, 1},     {2, 5, 3, 64, 37, 4, 8},
                           {3, 4, 2, 20, 0, 6, 6},    {1, 13, 2, 33, 70, 17, 32},
                           {2, 7, 12, 64, 101, 1, 8}, {1, 3, 1, 200, 5, 40, 64}};

struct Arrays {
  explicit Arrays(const Size& in) {
    Generator generator(5);
    const std::int64_t rows = in.batch * in.texts * in.heads * in.size;
    const std::int64_t memory = in.heads * in.batch * in.size * in.memory_length;
    query = generator.normal(rows, 3.0f);
    keys = generator.normal(rows, 1.0f);
    values = generator.normal(rows, 1.0f);
    memory_keys = generator.normal(memory, 1.0f);
    memory_values = generator.normal(memory, 1.0f);
    memory_bias.assign(in.batch * in.memory_length, 0.0f);
    for (std::size_t i = 0; i < memory_bias.size(); i += 3) memory_bias[i] = -1e4f;
    ancestors = generator.integers(in.batch * in.texts * in.num_words, 0, in.texts - 1);
    for (std::int64_t i = 0; i < in.batch * in.texts; ++i) {
      ancestors[(i + 1) * in.num_words - 1] = i % in.texts;  // the new word is the text's own
    }
    cache = generator.normal(2 * in.capacity * rows, 1.0f);
  }

  std::vector<float> query, keys, values, memory_keys, memory_values, memory_bias, cache;
  std::vector<std::int64_t> ancestors;
};

// One text and head; the cache holds the new words.
std::vector<double> attend_naively(const Size& in, const Arrays& arrays, std::int64_t b,
                                   std::int64_t k, std::int64_t h) {
  const std::int64_t width = in.heads * in.size;
  const float* const query = arrays.query.data() + (b * in.texts + k) * width + h * in.size;
  const auto memory_place = [&](std::int64_t l, std::int64_t i, bool is_value) {
    const std::int64_t head = (h * in.batch + b) * in.size * in.memory_length;
    return head + (is_value ? l * in.size + i : i * in.memory_length + l);
  };
  const auto word_place = [&](std::int64_t s, std::int64_t i, std::int64_t which) {
    const std::int64_t row = arrays.ancestors[(b * in.texts + k) * in.num_words + s];
    return (((which * in.capacity + s) * in.batch + b) * in.texts + row) * width + h * in.size + i;
  };
  std::vector<double> scores;
  for (std::int64_t l = 0; l < in.memory_length + in.num_words; ++l) {
    const std::int64_t s = l - in.memory_length;
    double score = 0.0;
    for (std::int64_t i = 0; i < in.size; ++i) {
      score +=
          static_cast<double>(query[i]) * (s < 0 ? arrays.memory_keys[memory_place(l, i, false)]
                                                 : arrays.cache[word_place(s, i, 0)]);
    }
    score /= std::sqrt(static_cast<double>(in.size));
    scores.push_back(s < 0 ? score + arrays.memory_bias[b * in.memory_length + l] : score);
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - largest);
  std::vector<double> attended(in.size);
  for (std::int64_t l = 0; l < in.memory_length + in.num_words; ++l) {
    const std::int64_t s = l - in.memory_length;
    for (std::int64_t i = 0; i < in.size; ++i) {
      attended[i] += scores[l] / total *
                     (s < 0 ? arrays.memory_values[memory_place(l, i, true)]
                            : arrays.cache[word_place(s, i, 1)]);
    }
  }
  return attended;
}

void test_kernel(const DecodeAttentionKernel& kernel, const std::string& name) {
  for (const Size& size : kSizes) {
    Arrays arrays(size);
    const std::int64_t width = size.heads * size.size, rows = size.batch * size.texts * width;
    const std::string what =
        name + " L " + std::to_string(size.memory_length) + " d " + std::to_string(size.size);
    const DecodeAttentionInputs in = {arrays.query.data(),
                                      arrays.keys.data(),
                                      arrays.values.data(),
                                      arrays.memory_keys.data(),
                                      arrays.memory_values.data(),
                                      arrays.memory_bias.data(),
                                      arrays.ancestors.data(),
                                      arrays.cache.data(),
                                      size.batch,
                                      size.texts,
                                      size.heads,
                                      size.size,
                                      size.memory_length,
                                      size.num_words,
                                      size.capacity};
    std::vector<float> first;
    for (const int num_threads : {1, 3}) {
      std::vector<float> found(rows, -1.0f);
      decode_attention_by(kernel, in, found.data(), num_threads);
      if (first.empty()) first = found;
      check(found == first, what + ": the same by any number of threads");
    }
    const auto put = arrays.cache.begin() + (size.num_words - 1) * rows;
    check(std::equal(arrays.keys.begin(), arrays.keys.end(), put), what + ": keys are kept");
    check(std::equal(arrays.values.begin(), arrays.values.end(), put + size.capacity * rows),
          what + ": values are kept");
    std::vector<double> expected;
    for (std::int64_t b = 0; b < size.batch; ++b) {
      for (std::int64_t k = 0; k < size.texts; ++k) {
        for (std::int64_t h = 0; h < size.heads; ++h) {
          const std::vector<double> attended = attend_naively(size, arrays, b, k, h);
          expected.insert(expected.end(), attended.begin(), attended.end());
        }
      }
    }
    check_close(first, expected, 2e-5, what);
  }
}

}  // namespace
}  // namespace unimo

int main() {
  unimo::test_kernel(unimo::kDecodeAttentionPortable, "portable");
#if defined(__x86_64__)
  if (unimo::runs_avx2()) unimo::test_kernel(unimo::kDecodeAttentionAvx2, "avx2");
  if (unimo::runs_avx512()) unimo::test_kernel(unimo::kDecodeAttentionAvx512, "avx512");
#endif
  return unimo::report("decode attention");
}
