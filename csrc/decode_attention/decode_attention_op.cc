// Paddle's view of the attention of words that are being written: checks, the cache, registration.
//
// The cache is a value that goes from step to step and is written in place: a step that finds room
// puts its words there and returns the same memory. So a cache serves one line of steps; whoever
// goes on from an older one finds its later words overwritten. Where there is no room a cache of
// twice as many words takes its place, so that all copies together cost no more than one.

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/paddle_check.h"
#include "decode_attention/decode_attention.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

constexpr std::int64_t kFirstCapacity = 8;  // words

void check_ranks(const Shape& query, const Shape& keys, const Shape& values,
                 const Shape& memory_keys, const Shape& memory_values, const Shape& memory_bias,
                 const Shape& ancestors, const Shape& cache) {
  unimo::require(query.size() == 3 && keys.size() == 3 && values.size() == 3,
                 "decode_attention: expected query, keys and values [B, K, D]; they have ",
                 query.size(), ", ", keys.size(), " and ", values.size(), " axes");
  unimo::require(memory_keys.size() == 4 && memory_values.size() == 4 && memory_bias.size() == 2,
                 "decode_attention: expected memory_keys [H, B, d, L], memory_values [H, B, L, d] "
                 "and memory_bias [B, L]; they have ",
                 memory_keys.size(), ", ", memory_values.size(), " and ", memory_bias.size(),
                 " axes");
  unimo::require(ancestors.size() == 3 && cache.size() == 5,
                 "decode_attention: expected ancestors [B, K, t] and cache [2, C, B, K, D]; they "
                 "have ",
                 ancestors.size(), " and ", cache.size(), " axes");
}

void check(const Tensor& tensor, const char* name, const Shape& shape) {
  unimo::require(tensor.is_cpu() && tensor.dtype() == DataType::FLOAT32 && tensor.shape() == shape,
                 "decode_attention: ", name, " does not fit the others, or is no float32 on a CPU");
}

// A cache [2, capacity, batch, texts, width] with room for one more word than `count`.
Tensor with_room(const Tensor& cache, std::int64_t count) {
  const Shape shape = cache.shape();
  if (count < shape[1]) return cache;
  Shape larger = shape;
  larger[1] = std::max(kFirstCapacity, 2 * count);
  Tensor copy = paddle::empty(larger, DataType::FLOAT32, cache.place());
  const std::int64_t word = shape[2] * shape[3] * shape[4];
  for (std::int64_t which = 0; which < 2 && count > 0; ++which) {
    std::memcpy(copy.data<float>() + which * larger[1] * word,
                cache.data<float>() + which * shape[1] * word, count * word * sizeof(float));
  }
  return copy;
}

std::vector<Tensor> forward(const Tensor& query, const Tensor& keys, const Tensor& values,
                            const Tensor& memory_keys, const Tensor& memory_values,
                            const Tensor& memory_bias, const Tensor& ancestors,
                            const Tensor& cache) {
  check_ranks(query.shape(), keys.shape(), values.shape(), memory_keys.shape(),
              memory_values.shape(), memory_bias.shape(), ancestors.shape(), cache.shape());
  const std::int64_t batch = query.shape()[0], texts = query.shape()[1], width = query.shape()[2];
  const std::int64_t heads = memory_keys.shape()[0], size = memory_keys.shape()[2];
  const std::int64_t length = memory_keys.shape()[3];
  unimo::require(heads * size == width, "decode_attention: ", heads, " heads of ", size,
                 " numbers do not make rows of ", width);
  check(query, "query", {batch, texts, width});
  check(keys, "keys", {batch, texts, width});
  check(values, "values", {batch, texts, width});
  check(memory_keys, "memory_keys", {heads, batch, size, length});
  check(memory_values, "memory_values", {heads, batch, length, size});
  check(memory_bias, "memory_bias", {batch, length});
  check(cache, "cache", {2, cache.shape()[1], batch, texts, width});
  unimo::require(ancestors.dtype() == DataType::INT64 && ancestors.shape()[0] == batch &&
                     ancestors.shape()[1] == texts && ancestors.shape()[2] >= 1,
                 "decode_attention: ancestors must be int64 of shape [B, K, t], t at least 1");
  const std::int64_t num_words = ancestors.shape()[2];
  unimo::require(num_words <= cache.shape()[1] + 1, "decode_attention: ", num_words,
                 " words with the new one, but the cache holds ", cache.shape()[1]);
  const std::int64_t* const table = ancestors.data<std::int64_t>();
  unimo::require(std::all_of(table, table + ancestors.numel(),
                             [&](std::int64_t row) { return row >= 0 && row < texts; }),
                 "decode_attention: ancestors must lie in 0 .. ", texts - 1);
  Tensor extended = with_room(cache, num_words - 1);
  Tensor attended = paddle::empty(query.shape(), DataType::FLOAT32, query.place());
  const unimo::DecodeAttentionInputs inputs = {query.data<float>(),
                                               keys.data<float>(),
                                               values.data<float>(),
                                               memory_keys.data<float>(),
                                               memory_values.data<float>(),
                                               memory_bias.data<float>(),
                                               table,
                                               extended.data<float>(),
                                               batch,
                                               texts,
                                               heads,
                                               size,
                                               length,
                                               num_words,
                                               extended.shape()[1]};
  unimo::decode_attention_cpu(inputs, attended.data<float>(), omp_get_max_threads());
  return {attended, extended};
}

std::vector<Shape> shapes(const Shape& query, const Shape&, const Shape&, const Shape&,
                          const Shape&, const Shape&, const Shape&, const Shape& cache) {
  Shape extended = cache;
  // Another rank is refused when it runs: what is thrown here, while a static
  // graph is built, ends the process.
  if (cache.size() == 5) extended[1] = -1;
  return {query, extended};
}

std::vector<DataType> types(DataType query, DataType, DataType, DataType, DataType, DataType,
                            DataType, DataType cache) {
  return {query, cache};
}

}  // namespace

PD_BUILD_OP(unimo_decode_attention)
    .Inputs({"query", "keys", "values", "memory_keys", "memory_values", "memory_bias", "ancestors",
             "cache"})
    .Outputs({"attended", "extended"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));
