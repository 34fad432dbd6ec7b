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
// Cost: forward 2 N M D operations, backward 6 N M D (s is recomputed once for both gradients; on a
// CPU only where it was not kept).
// Memory beyond inputs and outputs, on a CPU: O(N + M), at most 30 MB of kept scores, for each
// thread one tile of scores and the packed features of a block, and a list of the blocks, which
// alone grows with N M: 56 bytes for 768 x 768 scores, 6.5 MB at N = M = 262,144.
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

// The CPU form takes the kernel of the best instruction set of the processor where none is named:
// see cpu/dispatch.h.
struct ContrastiveKernel;

// Floats of memory in which the forward pass may keep scores for the backward pass: all of them up
// to some 2,500 x 2,500, and never more than 30 MB. What is kept is not computed again: backward
// then takes 4 N M D operations and not 6. The results are the same to the bit.
std::int64_t contrastive_kept_scores(std::int64_t num_rows, std::int64_t num_columns);

// How many pairs that memory holds the scores of. Both are 0 where there are no rows or no columns.
std::int64_t contrastive_kept_pairs(std::int64_t num_rows, std::int64_t num_columns);

void contrastive_forward_cpu(const ContrastiveInputs& inputs,
                             const ContrastiveStatistics<float*>& outputs, int num_threads,
                             const ContrastiveKernel* kernel = nullptr, float* kept = nullptr);

void contrastive_backward_cpu(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<const float*>& outputs,
                              const ContrastiveStatistics<const float*>& upstream,
                              const ContrastiveGradients& gradients, int num_threads,
                              const ContrastiveKernel* kernel = nullptr,
                              const float* kept = nullptr);

// The loss sum_i weights[i] (row_all[i] - row_positive[i]), rows without positives left out, with
// its gradients: 6 N M D operations in all instead of 8, for weights known in advance spare the
// second computation of the scores. They are kept for 384 rows at a time: memory beyond inputs and
// outputs: O(N) plus 1.7 kB a column and thread.
void contrastive_one_way_cpu(const ContrastiveInputs& inputs, const float* weights, float* row_all,
                             float* row_positive, const ContrastiveGradients& gradients,
                             int num_threads, const ContrastiveKernel* kernel = nullptr);

// The CUDA form takes device pointers and a cudaStream_t, passed as void* to keep this header free
// of CUDA. It works on tensor cores (mma.sync, sm_80 and later) in blocks of the score matrix:
// forward 2 N M D operations (rows and columns at once), backward 6 N M D (the gradient of the
// scores is kept, 4096 x 4096 at a time, for both products). Memory beyond inputs and outputs:
// O(N + M) and at most 17 MB forward, 68 MB backward; where D is no multiple of 4, a padded copy of
// the features as well.
// There are no atomic operations: every result has one writer and every sum a fixed order, so
// results are equal to the bit from run to run, and a second, unordered mode would save nothing.
// Sums of exponentials are float32 within a tile of 128 and double beyond; d t is float32 within 8
// scores and double beyond.

enum class ContrastivePrecision {
  kFloat32,  // the default: three tf32 products of split operands; errors like those of float32
  kTf32,     // one product of operands rounded to tf32, a third of the work. A score is off by up
             // to 2^-10 |r| |c| / t, in practice 0.02 at t = 0.01. For both directions or neither.
};

// Workspaces are device memory that the caller allocates, aligned to 256 bytes.
std::size_t contrastive_forward_cuda_workspace(const ContrastiveInputs& inputs);  // bytes

void contrastive_forward_cuda(const ContrastiveInputs& inputs,
                              const ContrastiveStatistics<float*>& outputs,
                              ContrastivePrecision precision, void* workspace, void* stream);

std::size_t contrastive_backward_cuda_workspace(const ContrastiveInputs& inputs);  // bytes

void contrastive_backward_cuda(const ContrastiveInputs& inputs,
                               const ContrastiveStatistics<const float*>& outputs,
                               const ContrastiveStatistics<const float*>& upstream,
                               const ContrastiveGradients& gradients,
                               ContrastivePrecision precision, void* workspace, void* stream);

}  // namespace unimo
