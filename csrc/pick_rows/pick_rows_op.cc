// Paddle's view of picking rows: checks, allocation, registration.

#include <algorithm>
#include <vector>

#include "common/paddle_check.h"
#include "paddle/phi/api/all.h"
#include "pick_rows/pick_rows.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

void check_ranks(const Shape& values, const Shape& rows, bool is_longer) {
  unimo::require(rows.size() == 2 && (is_longer ? values.size() == 3 : values.size() >= 2),
                 "pick_rows: expected rows [B, K] and values ",
                 is_longer ? "[B, K', t], for numbers come behind" : "[B, K', ...]", "; they have ",
                 rows.size(), " and ", values.size(), " axes");
}

Shape picked_shape(const Shape& values, const Shape& rows, bool is_longer) {
  Shape shape = values;
  shape[1] = rows[1];
  if (is_longer && shape.back() >= 0) ++shape.back();
  return shape;
}

std::vector<Tensor> forward(const Tensor& values, const Tensor& rows,
                            const paddle::optional<Tensor>& behind) {
  const Shape shape = values.shape();
  check_ranks(shape, rows.shape(), behind.is_initialized());
  unimo::require(values.is_cpu(), "pick_rows: values must be on a CPU");
  unimo::require(rows.is_cpu() && rows.dtype() == DataType::INT64 && rows.shape()[0] == shape[0],
                 "pick_rows: rows must be int64 of shape [", shape[0], ", n]");
  unimo::require(!behind || (behind->is_cpu() && behind->dtype() == values.dtype() &&
                             behind->shape() == rows.shape()),
                 "pick_rows: what comes behind must be of the type of values [B, K, t] and of the "
                 "shape of rows");
  const std::int64_t* const table = rows.data<std::int64_t>();
  unimo::require(std::all_of(table, table + rows.numel(),
                             [&](std::int64_t row) { return row >= 0 && row < shape[1]; }),
                 "pick_rows: rows must lie in 0 .. ", shape[1] - 1);
  std::size_t row_bytes = phi::SizeOf(values.dtype());
  const std::size_t item_bytes = row_bytes;
  for (std::size_t i = 2; i < shape.size(); ++i) row_bytes *= shape[i];
  Tensor picked = paddle::empty(picked_shape(shape, rows.shape(), behind.is_initialized()),
                                values.dtype(), values.place());
  const unimo::PickRowsInputs inputs = {
      static_cast<const std::byte*>(values.data()),
      table,
      behind ? static_cast<const std::byte*>(behind->data()) : nullptr,
      shape[0],
      shape[1],
      rows.shape()[1],
      row_bytes,
      item_bytes};
  unimo::pick_rows_cpu(inputs, static_cast<std::byte*>(picked.data()));
  return {picked};
}

std::vector<Shape> shapes(const Shape& values, const Shape& rows,
                          const paddle::optional<Shape>& behind) {
  // Refused when it runs: what is thrown here, while a static graph is built, ends the process.
  if (values.size() < 2 || rows.size() != 2) return {values};
  return {picked_shape(values, rows, behind.is_initialized())};
}

std::vector<DataType> types(DataType values, DataType, const paddle::optional<DataType>&) {
  return {values};
}

}  // namespace

PD_BUILD_OP(unimo_pick_rows)
    .Inputs({"values", "rows", paddle::Optional("behind")})
    .Outputs({"picked"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));
