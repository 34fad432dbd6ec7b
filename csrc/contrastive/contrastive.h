// Contrastive similarity: four log-sum-exps of a score matrix that is never stored, and gradients.
//
// Given row features r [N, D], column features c [M, D] and a temperature t, the scores are
//
//     s_ij = <r_i, c_j> / t.
//
// The pair (i, j) is positive when row_group[i] == column_group[j]. It is ignored when the groups
// differ and row_duplicate[i] == column_duplicate[j] != -1: both show the same thing, so that it
// would be no true negative. The operator returns
//
//     row_all[i]         = log sum over j not ignored of exp(s_ij)
//     row_positive[i]    = log sum over j positive    of exp(s_ij)
//     column_all[j]      = log sum over i not ignored of exp(s_ij)
//     column_positive[j] = log sum over i positive    of exp(s_ij).
//
// A sum over nothing gives -inf and has no gradient. Symmetric and one-way InfoNCE, several
// positives, extra negatives (logaddexp outside) and equation 1 of UNIMO (Li et al., 2021,
// https://arxiv.org/abs/2012.15409) are compositions of these four. With an upstream gradient g for
// each of the four,
//
//     G_ij = [not ignored] (g_row_all[i] exp(s_ij - row_all[i])
//                           + g_column_all[j] exp(s_ij - column_all[j]))
//          + [positive] (g_row_positive[i] exp(s_ij - row_positive[i])
//                        + g_column_positive[j] exp(s_ij - column_positive[j]))
//
//     d r = G c / t,   d c = G^T r / t,   d t = -(1 / t) sum_ij G_ij s_ij.
//
// Cost: forward 2 N M D operations, backward 6 N M D (s is recomputed once for both gradients) on a
// CPU; the CUDA form recomputes it once per direction: forward 4, backward 8. Memory beyond inputs
// and outputs: O(N + M) plus one block of scores and of packed features a thread.
//
// Numbers: float32; sums of exponentials and d t in double. Every sum has a fixed order, so results
// are equal to the bit for any number of threads. NaN in gives NaN out.

#pragma once

#include <cstddef>
#include <cstdint>

namespace unimo {

struct ContrastiveInputs {
  const float* rows;                     // [num_rows, size]
  const float* columns;                  // [num_columns, size]
  const float* temperature;              // [1]
  const std::int64_t* row_group;         // [num_rows]
  const std::int64_t* column_group;      // [num_columns]
  const std::int64_t* row_duplicate;     // [num_rows], -1 matches nothing
  const std::int64_t* column_duplicate;  // [num_columns], -1 matches nothing
  std::int64_t num_rows;
  std::int64_t num_columns;
  std::int64_t size;
};

// The four log-sum-exps, or (read only) the upstream gradients of them.
template <typename Pointer>
struct ContrastiveStatistics {
  Pointer row_all;          // [num_rows]
  Pointer row_positive;     // [num_rows]
  Pointer column_all;       // [num_columns]
  Pointer column_positive;  // [num_columns]
};

struct ContrastiveGradients {
  float* rows;         // [num_rows, size]
  float* columns;      // [num_columns, size]
  float* temperature;  // [1]
};

void contrastive_forward_cpu(const ContrastiveInputs& inputs,
                             const ContrastiveStatistics<float*>& outputs, int num_threads);

void contrastive_backward_cpu(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<const float*>& outputs,
                              const ContrastiveStatistics<const float*>& upstream,
                              const ContrastiveGradients& gradients, int num_threads);

// The CUDA form takes device pointers and a cudaStream_t, passed as void* to keep this header free
// of CUDA. The backward workspace is device memory that the caller allocates.

void contrastive_forward_cuda(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<float*>& outputs, void* stream);

std::size_t contrastive_backward_cuda_workspace(const ContrastiveInputs& inputs);  // bytes

void contrastive_backward_cuda(const ContrastiveInputs& inputs,
                               const ContrastiveStatistics<const float*>& outputs,
                               const ContrastiveStatistics<const float*>& upstream,
                               const ContrastiveGradients& gradients, void* workspace,
                               void* stream);

}  // namespace unimo
