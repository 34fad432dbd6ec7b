// Paddle's view of the product of a few rows: checks, the choice of a form, registration.

#include <omp.h>

#include <vector>

#include "common/paddle_check.h"
#include "few_rows/few_rows.h"
#include "paddle/phi/api/all.h"

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<std::int64_t>;

void check_ranks(const Shape& rows, const Shape& matrix) {
  unimo::require(matrix.size() == 2 && !rows.empty(),
                 "few_rows_product: the matrix must have two axes, the rows at least one; they "
                 "have ",
                 matrix.size(), " and ", rows.size());
}

Shape product_shape(const Shape& rows, const Shape& matrix, bool is_transposed) {
  Shape shape = rows;
  shape.back() = is_transposed ? matrix[0] : matrix[1];
  return shape;
}

std::vector<Tensor> forward(const Tensor& rows, const Tensor& matrix,
                            const paddle::optional<Tensor>& bias, bool is_transposed) {
  check_ranks(rows.shape(), matrix.shape());
  const std::int64_t depth = rows.shape().back();
  const std::int64_t columns = matrix.shape()[is_transposed ? 0 : 1];
  unimo::require(matrix.shape()[is_transposed ? 1 : 0] == depth, "few_rows_product: rows of ",
                 depth, " numbers do not fit a matrix of ", matrix.shape()[0], " x ",
                 matrix.shape()[1]);
  unimo::require(!bias || bias->shape() == Shape{columns},
                 "few_rows_product: bias must be of shape [", columns, "]");
  unimo::require(matrix.dtype() == rows.dtype() && (!bias || bias->dtype() == rows.dtype()),
                 "few_rows_product: rows, matrix and bias must be of one type");
  const std::int64_t num_rows = depth ? rows.numel() / depth : 0;
  const bool is_plain = rows.is_cpu() && rows.dtype() == DataType::FLOAT32 &&
                        matrix.dtype() == DataType::FLOAT32 &&
                        (!bias || bias->dtype() == DataType::FLOAT32);
  const std::int64_t most = is_transposed ? unimo::kMostFewRowsTransposed : unimo::kMostFewRows;
  if (!is_plain || num_rows > most || num_rows < 1) {
    const Tensor product = paddle::experimental::matmul(rows, matrix, false, is_transposed);
    return {bias ? paddle::experimental::add(product, *bias) : product};
  }
  Tensor products = paddle::empty(product_shape(rows.shape(), matrix.shape(), is_transposed),
                                  DataType::FLOAT32, rows.place());
  const unimo::FewRowsInputs inputs = {rows.data<float>(),
                                       matrix.data<float>(),
                                       bias ? bias->data<float>() : nullptr,
                                       num_rows,
                                       depth,
                                       columns,
                                       is_transposed};
  unimo::few_rows_product_cpu(inputs, products.data<float>(), omp_get_max_threads());
  return {products};
}

std::vector<Shape> shapes(const Shape& rows, const Shape& matrix, const paddle::optional<Shape>&,
                          bool is_transposed) {
  // Refused when it runs: what is thrown here, while a static graph is built, ends the process.
  if (matrix.size() != 2 || rows.empty()) return {rows};
  return {product_shape(rows, matrix, is_transposed)};
}

std::vector<DataType> types(DataType rows, DataType, const paddle::optional<DataType>&) {
  return {rows};
}

}  // namespace

PD_BUILD_OP(unimo_few_rows_product)
    .Inputs({"rows", "matrix", paddle::Optional("bias")})
    .Outputs({"products"})
    .Attrs({"is_transposed: bool"})
    .SetKernelFn(PD_KERNEL(unimo::Guarded<forward>::run))
    .SetInferShapeFn(PD_INFER_SHAPE(shapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(types));
