// The core on NumPy arrays: kernels can be tested and profiled without a framework.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "beam_search/beam_search.h"
#include "common/read_rate.h"
#include "contrastive/contrastive.h"
#include "contrastive/cpu/dispatch.h"

namespace py = pybind11;

namespace {

using Shape = std::vector<py::ssize_t>;

std::string describe(const Shape& shape) {
  std::string text;
  for (const py::ssize_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

// The data of an array of exactly this type and shape; anything else is an error, never a copy.
template <typename T>
const T* checked(const py::array& array, const char* name, const Shape& expected) {
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(array)) {
    throw std::invalid_argument(
        std::string(name) + " is " + py::str(array.dtype()).cast<std::string>() +
        "; expected contiguous " + py::str(py::dtype::of<T>()).cast<std::string>());
  }
  if (shape_of(array) != expected) {
    throw std::invalid_argument(std::string(name) + " has shape " + describe(shape_of(array)) +
                                "; expected " + describe(expected));
  }
  return static_cast<const T*>(array.data());
}

unimo::ContrastiveInputs contrastive_inputs(const py::array& rows, const py::array& columns,
                                            const py::array& temperature,
                                            const py::array& row_group,
                                            const py::array& column_group,
                                            const py::array& row_duplicate,
                                            const py::array& column_duplicate) {
  if (rows.ndim() != 2 || columns.ndim() != 2) {
    throw std::invalid_argument("rows and columns must be matrices");
  }
  if (rows.size() == 0 || columns.size() == 0) {
    throw std::invalid_argument("rows and columns must not be empty");
  }
  const py::ssize_t num_rows = rows.shape(0), num_columns = columns.shape(0), size = rows.shape(1);
  return {checked<float>(rows, "rows", {num_rows, size}),
          checked<float>(columns, "columns", {num_columns, size}),
          checked<float>(temperature, "temperature", {1}),
          checked<std::int64_t>(row_group, "row_group", {num_rows}),
          checked<std::int64_t>(column_group, "column_group", {num_columns}),
          checked<std::int64_t>(row_duplicate, "row_duplicate", {num_rows}),
          checked<std::int64_t>(column_duplicate, "column_duplicate", {num_columns}),
          num_rows,
          num_columns,
          size};
}

// The kernel of that name; the default one where it is empty.
const unimo::ContrastiveKernel& kernel_named(const std::string& name) {
  if (name.empty()) return unimo::default_contrastive_kernel();
  for (const unimo::ContrastiveKernel* kernel : unimo::contrastive_kernels()) {
    if (name == kernel->name) return *kernel;
  }
  throw std::invalid_argument("instruction_set '" + name + "' does not run here");
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const unimo::ContrastiveKernel* kernel : unimo::contrastive_kernels()) {
    names.push_back(kernel->name);
  }
  return names;
}

double peak_gflops(int num_threads, double seconds, const std::string& instruction_set) {
  const unimo::ContrastiveKernel& kernel = kernel_named(instruction_set);
  py::gil_scoped_release release;
  return unimo::peak_gflops(kernel, num_threads, seconds);
}

double read_rate(int num_threads, double seconds) {
  py::gil_scoped_release release;
  return unimo::read_rate(num_threads, seconds);
}

std::int64_t kept_pairs(std::int64_t num_rows, std::int64_t num_columns) {
  if (num_rows < 0 || num_columns < 0) {
    throw std::invalid_argument("num_rows is " + std::to_string(num_rows) + ", num_columns " +
                                std::to_string(num_columns) + "; neither may be negative");
  }
  return unimo::contrastive_kept_pairs(num_rows, num_columns);
}

py::tuple contrastive_forward(const py::array& rows, const py::array& columns,
                              const py::array& temperature, const py::array& row_group,
                              const py::array& column_group, const py::array& row_duplicate,
                              const py::array& column_duplicate, int num_threads,
                              const std::string& instruction_set) {
  const unimo::ContrastiveKernel& kernel = kernel_named(instruction_set);
  const auto inputs = contrastive_inputs(rows, columns, temperature, row_group, column_group,
                                         row_duplicate, column_duplicate);
  py::array_t<float> row_all(inputs.num_rows), row_positive(inputs.num_rows);
  py::array_t<float> column_all(inputs.num_columns), column_positive(inputs.num_columns);
  const unimo::ContrastiveStatistics<float*> outputs = {
      row_all.mutable_data(), row_positive.mutable_data(), column_all.mutable_data(),
      column_positive.mutable_data()};
  {
    py::gil_scoped_release release;
    unimo::contrastive_forward_cpu(inputs, outputs, num_threads, &kernel);
  }
  return py::make_tuple(row_all, row_positive, column_all, column_positive);
}

py::tuple contrastive_backward(const py::array& rows, const py::array& columns,
                               const py::array& temperature, const py::array& row_group,
                               const py::array& column_group, const py::array& row_duplicate,
                               const py::array& column_duplicate,
                               const std::array<py::array, 4>& outputs,
                               const std::array<py::array, 4>& upstream, int num_threads,
                               const std::string& instruction_set) {
  const unimo::ContrastiveKernel& kernel = kernel_named(instruction_set);
  const auto inputs = contrastive_inputs(rows, columns, temperature, row_group, column_group,
                                         row_duplicate, column_duplicate);
  const auto statistics = [&](const std::array<py::array, 4>& arrays, const char* name) {
    return unimo::ContrastiveStatistics<const float*>{
        checked<float>(arrays[0], name, {rows.shape(0)}),
        checked<float>(arrays[1], name, {rows.shape(0)}),
        checked<float>(arrays[2], name, {columns.shape(0)}),
        checked<float>(arrays[3], name, {columns.shape(0)})};
  };
  const auto saved = statistics(outputs, "outputs");
  const auto incoming = statistics(upstream, "upstream");
  py::array_t<float> row_gradient(shape_of(rows)), column_gradient(shape_of(columns));
  py::array_t<float> temperature_gradient(1);
  const unimo::ContrastiveGradients gradients = {row_gradient.mutable_data(),
                                                 column_gradient.mutable_data(),
                                                 temperature_gradient.mutable_data()};
  {
    py::gil_scoped_release release;
    unimo::contrastive_backward_cpu(inputs, saved, incoming, gradients, num_threads, &kernel);
  }
  return py::make_tuple(row_gradient, column_gradient, temperature_gradient);
}

py::tuple beam_search_step(const py::array& logits, const py::array& scores,
                           const py::array& finished, const py::array& step,
                           const py::array& blocked_tokens, std::int64_t end_token,
                           std::int64_t min_length, float length_penalty, bool two_k,
                           int num_threads) {
  if (logits.ndim() != 3 || blocked_tokens.ndim() != 3) {
    throw std::invalid_argument("logits and blocked_tokens must have three dimensions");
  }
  const py::ssize_t batch = logits.shape(0), beams = logits.shape(1), vocabulary = logits.shape(2);
  const py::ssize_t num_blocked = blocked_tokens.shape(2);
  if (vocabulary < 2 || end_token < 0 || end_token >= vocabulary) {
    throw std::invalid_argument("end_token " + std::to_string(end_token) +
                                " is not one of the tokens");
  }
  const unimo::BeamSearchInputs inputs = {
      checked<float>(logits, "logits", {batch, beams, vocabulary}),
      checked<float>(scores, "scores", {batch, beams}),
      checked<bool>(finished, "finished", {batch, beams}),
      checked<std::int64_t>(step, "step", {1}),
      checked<std::int64_t>(blocked_tokens, "blocked_tokens", {batch, beams, num_blocked}),
      batch,
      beams,
      vocabulary,
      num_blocked};
  const unimo::BeamSearchSettings settings = {
      end_token, min_length, length_penalty,
      two_k ? unimo::BeamRule::kTwoK : unimo::BeamRule::kOriginal};
  const Shape shape = {batch, beams};
  py::array_t<float> next_scores(shape), ended_scores(shape);
  py::array_t<std::int64_t> tokens(shape), parents(shape), ended_parents(shape);
  py::array_t<bool> next_finished(shape);
  const unimo::BeamSearchOutputs outputs = {
      next_scores.mutable_data(),   tokens.mutable_data(),       parents.mutable_data(),
      next_finished.mutable_data(), ended_scores.mutable_data(), ended_parents.mutable_data()};
  {
    py::gil_scoped_release release;
    unimo::beam_search_step_cpu(inputs, settings, outputs, num_threads);
  }
  return py::make_tuple(next_scores, tokens, parents, next_finished, ended_scores, ended_parents);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "CPU kernels of unimo_paddle on NumPy arrays.";
  module.def("contrastive_forward", &contrastive_forward, py::arg("rows"), py::arg("columns"),
             py::arg("temperature"), py::arg("row_group"), py::arg("column_group"),
             py::arg("row_duplicate"), py::arg("column_duplicate"), py::kw_only(),
             py::arg("num_threads"), py::arg("instruction_set") = "",
             "Return row_all, row_positive, column_all, column_positive.");
  module.def("contrastive_backward", &contrastive_backward, py::arg("rows"), py::arg("columns"),
             py::arg("temperature"), py::arg("row_group"), py::arg("column_group"),
             py::arg("row_duplicate"), py::arg("column_duplicate"), py::arg("outputs"),
             py::arg("upstream"), py::kw_only(), py::arg("num_threads"),
             py::arg("instruction_set") = "",
             "Return the gradients of rows, columns and temperature.");
  module.def("kept_pairs", &kept_pairs, py::arg("num_rows"), py::arg("num_columns"),
             "How many scores the operator keeps from its forward to its backward pass.");
  module.def(
      "instruction_sets", &instruction_sets,
      "Names of the instruction sets that run here, the best first; avx512_bf16 is never the "
      "default.");
  module.def("peak_gflops", &peak_gflops, py::kw_only(), py::arg("num_threads"), py::arg("seconds"),
             py::arg("instruction_set") = "",
             "Return the processor's peak in 10^9 operations a second, measured in registers.");
  module.def("read_rate", &read_rate, py::kw_only(), py::arg("num_threads"), py::arg("seconds"),
             "Return how many bytes of memory a second are read.");
  module.def("beam_search_step", &beam_search_step, py::arg("logits"), py::arg("scores"),
             py::arg("finished"), py::arg("step"), py::arg("blocked_tokens"), py::kw_only(),
             py::arg("end_token"), py::arg("min_length"), py::arg("length_penalty"),
             py::arg("two_k"), py::arg("num_threads"),
             "Return scores, tokens, parents, finished, ended_scores, ended_parents.");
}
