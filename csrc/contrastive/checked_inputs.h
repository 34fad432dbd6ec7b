// What Paddle's views of the contrastive operators share: checks of the inputs, and the CPU kernel.

#pragma once

#include <stdexcept>
#include <vector>

#include "common/paddle_check.h"
#include "contrastive/contrastive.h"
#include "contrastive/cpu/dispatch.h"
#include "paddle/phi/api/all.h"

namespace unimo {

// The kernel that the CPU form takes; a wrong name in the environment is the user's mistake.
inline const ContrastiveKernel* cpu_kernel() {
  try {
    return &default_contrastive_kernel();
  } catch (const std::invalid_argument& error) {
    require(false, error.what());
    return nullptr;
  }
}

inline void check_vector(const paddle::Tensor& tensor, const char* name, std::int64_t count,
                         const paddle::Place& place) {
  require(tensor.dtype() == paddle::DataType::INT64 &&
              tensor.shape() == std::vector<std::int64_t>{count},
          "contrastive_logsumexp: ", name, " must be int64 of shape [", count, "]");
  require(tensor.place() == place, "contrastive_logsumexp: ", name, " is on another device");
}

inline void check_ranks(const std::vector<std::int64_t>& rows,
                        const std::vector<std::int64_t>& columns) {
  require(rows.size() == 2 && columns.size() == 2,
          "contrastive_logsumexp: rows [N, D] and columns [M, D] must be matrices; they have ",
          rows.size(), " and ", columns.size(), " axes");
}

inline ContrastiveInputs checked_inputs(const paddle::Tensor& rows, const paddle::Tensor& columns,
                                        const paddle::Tensor& temperature,
                                        const paddle::Tensor& row_group,
                                        const paddle::Tensor& column_group,
                                        const paddle::Tensor& row_duplicate,
                                        const paddle::Tensor& column_duplicate) {
  check_ranks(rows.shape(), columns.shape());
  require(rows.shape()[1] == columns.shape()[1],
          "contrastive_logsumexp: rows [N, D] and columns [M, D] must be matrices of one width");
  require(rows.dtype() == paddle::DataType::FLOAT32 &&
              columns.dtype() == paddle::DataType::FLOAT32 &&
              temperature.dtype() == paddle::DataType::FLOAT32,
          "contrastive_logsumexp: rows, columns and temperature must be float32");
  require(temperature.numel() == 1, "contrastive_logsumexp: temperature must hold one number");
  require(columns.place() == rows.place() && temperature.place() == rows.place(),
          "contrastive_logsumexp: rows, columns and temperature must be on one device");
  const std::int64_t num_rows = rows.shape()[0], num_columns = columns.shape()[0];
  // The blocks of the kernels begin at one row, one column and one number.
  require(num_rows > 0 && num_columns > 0 && rows.shape()[1] > 0,
          "contrastive_logsumexp: rows and columns must not be empty; they are [", num_rows, ", ",
          rows.shape()[1], "] and [", num_columns, ", ", columns.shape()[1], "]");
  check_vector(row_group, "row_group", num_rows, rows.place());
  check_vector(column_group, "column_group", num_columns, rows.place());
  check_vector(row_duplicate, "row_duplicate", num_rows, rows.place());
  check_vector(column_duplicate, "column_duplicate", num_columns, rows.place());
  return {rows.data<float>(),
          columns.data<float>(),
          temperature.data<float>(),
          row_group.data<std::int64_t>(),
          column_group.data<std::int64_t>(),
          row_duplicate.data<std::int64_t>(),
          column_duplicate.data<std::int64_t>(),
          num_rows,
          num_columns,
          rows.shape()[1]};
}

}  // namespace unimo
