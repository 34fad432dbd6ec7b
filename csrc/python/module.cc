// The core on NumPy arrays: kernels can be tested and profiled without a framework.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "contrastive/contrastive.h"

namespace py = pybind11;

namespace {

// forcecast is left out: an array of another type is an error, never a silent copy.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using Floats = Array<float>;
using Ids = Array<std::int64_t>;
using Shape = std::vector<py::ssize_t>;

void check_shape(const py::array& array, const char* name, const Shape& expected) {
  const Shape found(array.shape(), array.shape() + array.ndim());
  if (found == expected) return;
  const auto describe = [](const Shape& shape) {
    std::string text = "[";
    for (const py::ssize_t size : shape)
      text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + "]";
  };
  throw std::invalid_argument(std::string(name) + " has shape " + describe(found) + "; expected " +
                              describe(expected));
}

unimo::ContrastiveInputs contrastive_inputs(const Floats& rows, const Floats& columns,
                                            const Floats& temperature, const Ids& row_group,
                                            const Ids& column_group, const Ids& row_duplicate,
                                            const Ids& column_duplicate) {
  if (rows.ndim() != 2 || columns.ndim() != 2) {
    throw std::invalid_argument("rows and columns must be matrices");
  }
  const py::ssize_t num_rows = rows.shape(0), num_columns = columns.shape(0), size = rows.shape(1);
  check_shape(columns, "columns", {num_columns, size});
  check_shape(temperature, "temperature", {1});
  check_shape(row_group, "row_group", {num_rows});
  check_shape(column_group, "column_group", {num_columns});
  check_shape(row_duplicate, "row_duplicate", {num_rows});
  check_shape(column_duplicate, "column_duplicate", {num_columns});
  return {rows.data(),
          columns.data(),
          temperature.data(),
          row_group.data(),
          column_group.data(),
          row_duplicate.data(),
          column_duplicate.data(),
          num_rows,
          num_columns,
          size};
}

py::tuple contrastive_forward(const Floats& rows, const Floats& columns, const Floats& temperature,
                              const Ids& row_group, const Ids& column_group,
                              const Ids& row_duplicate, const Ids& column_duplicate,
                              int num_threads) {
  const auto inputs = contrastive_inputs(rows, columns, temperature, row_group, column_group,
                                         row_duplicate, column_duplicate);
  Floats row_all(inputs.num_rows), row_positive(inputs.num_rows);
  Floats column_all(inputs.num_columns), column_positive(inputs.num_columns);
  const unimo::ContrastiveStatistics<float*> outputs = {
      row_all.mutable_data(), row_positive.mutable_data(), column_all.mutable_data(),
      column_positive.mutable_data()};
  {
    py::gil_scoped_release release;
    unimo::contrastive_forward_cpu(inputs, outputs, num_threads);
  }
  return py::make_tuple(row_all, row_positive, column_all, column_positive);
}

py::tuple contrastive_backward(const Floats& rows, const Floats& columns, const Floats& temperature,
                               const Ids& row_group, const Ids& column_group,
                               const Ids& row_duplicate, const Ids& column_duplicate,
                               const std::vector<Floats>& outputs,
                               const std::vector<Floats>& upstream, int num_threads) {
  const auto inputs = contrastive_inputs(rows, columns, temperature, row_group, column_group,
                                         row_duplicate, column_duplicate);
  const auto statistics = [&](const std::vector<Floats>& arrays, const char* name) {
    if (arrays.size() != 4) throw std::invalid_argument(std::string(name) + " must hold 4 arrays");
    const Shape row = {rows.shape(0)}, column = {columns.shape(0)};
    check_shape(arrays[0], name, row);
    check_shape(arrays[1], name, row);
    check_shape(arrays[2], name, column);
    check_shape(arrays[3], name, column);
    return unimo::ContrastiveStatistics<const float*>{arrays[0].data(), arrays[1].data(),
                                                      arrays[2].data(), arrays[3].data()};
  };
  const auto saved = statistics(outputs, "outputs");
  const auto incoming = statistics(upstream, "upstream");
  Floats row_gradient({rows.shape(0), rows.shape(1)});
  Floats column_gradient({columns.shape(0), columns.shape(1)});
  Floats temperature_gradient(1);
  const unimo::ContrastiveGradients gradients = {row_gradient.mutable_data(),
                                                 column_gradient.mutable_data(),
                                                 temperature_gradient.mutable_data()};
  {
    py::gil_scoped_release release;
    unimo::contrastive_backward_cpu(inputs, saved, incoming, gradients, num_threads);
  }
  return py::make_tuple(row_gradient, column_gradient, temperature_gradient);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "CPU kernels of unimo_paddle on NumPy arrays.";
  module.def("contrastive_forward", &contrastive_forward, py::arg("rows"), py::arg("columns"),
             py::arg("temperature"), py::arg("row_group"), py::arg("column_group"),
             py::arg("row_duplicate"), py::arg("column_duplicate"), py::kw_only(),
             py::arg("num_threads"), "Return row_all, row_positive, column_all, column_positive.");
  module.def("contrastive_backward", &contrastive_backward, py::arg("rows"), py::arg("columns"),
             py::arg("temperature"), py::arg("row_group"), py::arg("column_group"),
             py::arg("row_duplicate"), py::arg("column_duplicate"), py::arg("outputs"),
             py::arg("upstream"), py::kw_only(), py::arg("num_threads"),
             "Return the gradients of rows, columns and temperature.");
}
