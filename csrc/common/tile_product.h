// One tile of a matrix product by one block of threads: C = A B^T, A [rows, depth], B [columns,
// depth], through shared memory and tensor cores.
//
// Thread mapping: 8 warps share the tile; a warp owns a part of kWarpRows x kWarpColumns of it, as
// fragments of 16 x 8 in registers. All threads copy slices of 16 of the depth into shared memory,
// two slices ahead of the one in use (cp.async, a ring of three), with one barrier a slice.
//
// kSplit: each float32 is split into two tf32, big + small, and big small + small big + big big is
// summed: three products. Tensor cores cut off, not round, when they add; so each 8 of the depth
// are summed there from zero, and added to the running sum by the ordinary float32 units. The error
// is like that of float32 arithmetic. Without kSplit: one product of operands rounded to tf32.
//
// Registers: 128 a thread let two blocks share a multiprocessor, so that one computes while the
// other waits. That is why loops here are unrolled or not, and places counted as they are.

#pragma once

#include "common/tensor_core.h"

namespace unimo {

constexpr int kProductThreads = 256;
constexpr int kProductDepth = 16;
constexpr int kProductStages = 3;

// Element (i, k) of an operand, i along the tile and k along the sum, is
enum class Layout {
  kSumContiguous,   // data[i * stride + k]
  kTileContiguous,  // data[k * stride + i]
};

// A tile's operand within a matrix whose lines begin at multiples of 16 bytes. Places are counted
// in chunks of 4 floats: that saves registers, and reaches 64 GiB.
struct Operand {
  const float* matrix;
  std::uint32_t first;   // of the tile, in chunks
  std::uint32_t stride;  // of lines, in chunks
  int width;             // how many i there are from there on, at least 1
};

constexpr int kChunk = 4;

UNIMO_DEVICE std::uint32_t in_chunks(std::int64_t floats) {
  return static_cast<std::uint32_t>(floats / kChunk);
}

UNIMO_DEVICE int at_most(std::int64_t count, int limit) {
  return count < limit ? static_cast<int>(count) : limit;
}

// A slice of an operand in shared memory. The padding of a line puts the 32 elements that a warp
// reads at once (8 along the tile, 4 along the sum) into 32 different banks.
template <Layout kLayout, int kWidth>
struct OperandSlice {
  static constexpr bool kSumContiguous = kLayout == Layout::kSumContiguous;
  static constexpr int kLines = kSumContiguous ? kWidth : kProductDepth;
  static constexpr int kLength = kSumContiguous ? kProductDepth : kWidth;
  static constexpr int kPitch = kLength + (kSumContiguous ? 4 : 8);
  static constexpr int kFloats = kLines * kPitch;

  UNIMO_DEVICE static int place(int i, int k) {
    return kSumContiguous ? i * kPitch + k : k * kPitch + i;
  }
};

// One thread's part in copying the slices of an operand, one after the other: one or two chunks.
// Chunks beyond the depth become zero (a line's last chunk must be filled up with zeros). Beyond
// the width something that is there is copied instead, for what comes of it is of no interest to
// anyone. The slice begins at kBegin floats in a stage.
template <typename Slice, int kBegin>
class SliceCopier {
 public:
  UNIMO_DEVICE SliceCopier(int thread, const Operand& from)
      : matrix_(from.matrix),
        stride_(from.stride),
        target_(line(thread) * Slice::kPitch + chunk(thread) * kChunk),
        first_k_(kSumContiguous ? chunk(thread) * kChunk : line(thread)) {
    const int last = from.width - 1;
    if constexpr (kSumContiguous) {
      place_ = from.first + at_most(line(thread), last) * stride_ + chunk(thread);
      second_place_ =
          from.first + at_most(line(thread) + kStepLines, last) * stride_ + chunk(thread);
    } else {
      place_ = from.first + line(thread) * stride_ + at_most(chunk(thread), last / kChunk);
    }
  }

  // Starts to copy the next slice, of which num_k lie within the depth.
  template <typename Thread>
  UNIMO_DEVICE void copy_next(Thread& thread, float* stage, int num_k) {
    copy<kBegin>(thread, stage + target_, place_, first_k_ < num_k);
    if constexpr (kSteps == 2) {
      copy<kBegin + kStepLines * Slice::kPitch>(
          thread, stage + target_, kSumContiguous ? second_place_ : place_ + kStepLines * stride_,
          (kSumContiguous ? first_k_ : first_k_ + kStepLines) < num_k);
    }
    place_ += kSumContiguous ? kProductDepth / kChunk : kProductDepth * stride_;
    second_place_ += kProductDepth / kChunk;
  }

 private:
  static constexpr bool kSumContiguous = Slice::kSumContiguous;
  static constexpr int kLineChunks = Slice::kLength / kChunk;
  static constexpr int kStepLines = kProductThreads / kLineChunks;
  static constexpr int kSteps = Slice::kLines / kStepLines;
  static_assert(kSteps * kStepLines == Slice::kLines && kSteps <= 2, "one chunk or two");

  UNIMO_DEVICE static int line(int thread) { return thread / kLineChunks; }
  UNIMO_DEVICE static int chunk(int thread) { return thread % kLineChunks; }

  template <int kOffset, typename Thread>
  UNIMO_DEVICE void copy(Thread& thread, float* target, std::uint32_t place, bool is_there) const {
    thread.template copy_async<kOffset>(target, matrix_ + std::size_t{place} * kChunk, is_there);
  }

  const float* matrix_;
  std::uint32_t stride_;
  int target_;                      // the first chunk's place in the slice
  int first_k_;                     // and its place along the sum
  std::uint32_t place_;             // of the thread's first chunk in the next slice
  std::uint32_t second_place_ = 0;  // of its second, if there is no stride to it
};

template <int kTileRows, int kTileColumns, int kWarpRows, int kWarpColumns, Layout kRowLayout,
          Layout kColumnLayout>
struct TileShape {
  static constexpr int kRows = kTileRows;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kWarpsDown = kTileRows / kWarpRows;
  static constexpr int kWarpsAcross = kTileColumns / kWarpColumns;
  static constexpr int kRowFragments = kWarpRows / Fragment::kRows;
  static constexpr int kColumnFragments = kWarpColumns / Fragment::kColumns;
  static_assert(kWarpsDown * kWarpsAcross * kWarpSize == kProductThreads, "warps cover the tile");
  using RowSlice = OperandSlice<kRowLayout, kTileRows>;
  using ColumnSlice = OperandSlice<kColumnLayout, kTileColumns>;
  static constexpr int kStageFloats = RowSlice::kFloats + ColumnSlice::kFloats;
  static constexpr int kPipelineBytes =
      kProductStages * kStageFloats * static_cast<int>(sizeof(float));

  // A thread owns the elements (row(thread, r), column(thread, c)), r < kOwnRows, c < kOwnColumns.
  static constexpr int kOwnRows = 2 * kRowFragments;
  static constexpr int kOwnColumns = 2 * kColumnFragments;
  struct Sums {
    float value[kRowFragments][kColumnFragments][4];
    UNIMO_DEVICE float& at(int r, int c) { return value[r / 2][c / 2][r % 2 * 2 + c % 2]; }
    UNIMO_DEVICE float at(int r, int c) const { return value[r / 2][c / 2][r % 2 * 2 + c % 2]; }
  };

  UNIMO_DEVICE static int first_row(int thread) {
    return thread / kWarpSize / kWarpsAcross * kWarpRows;
  }
  UNIMO_DEVICE static int first_column(int thread) {
    return thread / kWarpSize % kWarpsAcross * kWarpColumns;
  }
  UNIMO_DEVICE static int row(int thread, int r) {
    return first_row(thread) + r / 2 * Fragment::kRows +
           Fragment::c_row(thread % kWarpSize, r % 2 * 2);
  }
  UNIMO_DEVICE static int column(int thread, int c) {
    return first_column(thread) + c / 2 * Fragment::kColumns +
           Fragment::c_column(thread % kWarpSize, c % 2);
  }
};

// values[.] of a lane as tf32: the big parts, and the small ones where both are wanted.
template <bool kSplit, int kCount>
UNIMO_DEVICE void to_operand(const float (&values)[kCount], float (&big)[kCount],
                             float (&small)[kCount]) {
  UNIMO_UNROLL
  for (int e = 0; e < kCount; ++e) {
    if constexpr (kSplit) {
      const SplitFloat split = split_float(values[e]);
      big[e] = split.big;
      small[e] = split.small;
    } else {
      big[e] = to_tf32(values[e]);
      small[e] = 0.0f;
    }
  }
}

// The products of 8 of the depth, of one row fragment with all column fragments.
template <bool kSplit, int kCount, typename Thread>
UNIMO_DEVICE void multiply_fragments(Thread& thread, const float (&a_big)[4],
                                     const float (&a_small)[4], const float (&b_big)[kCount][2],
                                     const float (&b_small)[kCount][2], float (&sums)[kCount][4]) {
  if constexpr (kSplit) {
    UNIMO_UNROLL
    for (int j = 0; j < kCount; ++j) {
      float part[4] = {};
      thread.multiply(part, a_big, b_small[j]);
      thread.multiply(part, a_small, b_big[j]);
      thread.multiply(part, a_big, b_big[j]);
      UNIMO_UNROLL
      for (int e = 0; e < 4; ++e) sums[j][e] += part[e];
    }
  } else {
    UNIMO_UNROLL
    for (int j = 0; j < kCount; ++j) thread.multiply(sums[j], a_big, b_big[j]);
  }
}

// The products of one slice in shared memory. rows and columns point at the lane's first element;
// the others lie at places relative to it that are known when this is compiled.
template <bool kSplit, typename Shape, typename Thread>
UNIMO_DEVICE void multiply_slice(Thread& thread, const float* rows, const float* columns,
                                 typename Shape::Sums* sums) {
  UNIMO_NO_UNROLL
  for (int k = 0; k < kProductDepth; k += Fragment::kDepth) {
    float b_big[Shape::kColumnFragments][2], b_small[Shape::kColumnFragments][2];
    UNIMO_UNROLL
    for (int j = 0; j < Shape::kColumnFragments; ++j) {
      float b[2];
      UNIMO_UNROLL
      for (int e = 0; e < 2; ++e) {
        b[e] = columns[Shape::ColumnSlice::place(j * Fragment::kColumns, Fragment::b_depth(0, e))];
      }
      to_operand<kSplit>(b, b_big[j], b_small[j]);
    }
    UNIMO_UNROLL
    for (int i = 0; i < Shape::kRowFragments; ++i) {
      float a[4], a_big[4], a_small[4];
      UNIMO_UNROLL
      for (int e = 0; e < 4; ++e) {
        a[e] = rows[Shape::RowSlice::place(i * Fragment::kRows + Fragment::a_row(0, e),
                                           Fragment::a_depth(0, e))];
      }
      to_operand<kSplit>(a, a_big, a_small);
      multiply_fragments<kSplit>(thread, a_big, a_small, b_big, b_small, sums->value[i]);
    }
    rows += Shape::RowSlice::place(0, Fragment::kDepth);
    columns += Shape::ColumnSlice::place(0, Fragment::kDepth);
  }
}

// The whole tile, in the order of k. At the end all threads have left the shared memory, and what
// any of them wrote to shared memory before is visible to all.
template <bool kSplit, typename Shape, typename Thread>
UNIMO_DEVICE void multiply_tile(Thread& thread, const Operand& rows, const Operand& columns,
                                int depth, float* stages, typename Shape::Sums* sums) {
  UNIMO_UNROLL
  for (int r = 0; r < Shape::kOwnRows; ++r) {
    UNIMO_UNROLL
    for (int c = 0; c < Shape::kOwnColumns; ++c) sums->at(r, c) = 0.0f;
  }
  // A group is committed for every slice, even one beyond the depth, so that the count of groups
  // says which slice has arrived.
  const int own = thread.index(), lane = own % kWarpSize;
  SliceCopier<typename Shape::RowSlice, 0> row_copier(own, rows);
  SliceCopier<typename Shape::ColumnSlice, Shape::RowSlice::kFloats> column_copier(own, columns);
  const auto copy_next = [&](float* stage, int num_k) {
    row_copier.copy_next(thread, stage, num_k);
    column_copier.copy_next(thread, stage, num_k);
    thread.commit_copies();
  };
  const int own_row = Shape::RowSlice::place(Shape::first_row(own) + Fragment::a_row(lane, 0),
                                             Fragment::a_depth(lane, 0));
  const int own_column =
      Shape::RowSlice::kFloats +
      Shape::ColumnSlice::place(Shape::first_column(own) + Fragment::b_column(lane),
                                Fragment::b_depth(lane, 0));
  constexpr int kAhead = kProductStages - 1;
  constexpr int kLast = kAhead * Shape::kStageFloats;
  UNIMO_UNROLL
  for (int ahead = 0; ahead < kAhead; ++ahead) {
    copy_next(stages + ahead * Shape::kStageFloats, depth - ahead * kProductDepth);
  }
  int stage = 0;  // where the present slice begins
  for (int left = depth; left > 0; left -= kProductDepth) {
    thread.template wait_for_copies<kAhead - 1>();
    // Behind the barrier the slice is there for all, and all have left the one before it, whose
    // place the next copy takes.
    thread.barrier();
    copy_next(stages + (stage == 0 ? kLast : stage - Shape::kStageFloats),
              left - kAhead * kProductDepth);
    multiply_slice<kSplit, Shape>(thread, stages + stage + own_row, stages + stage + own_column,
                                  sums);
    stage = stage == kLast ? 0 : stage + Shape::kStageFloats;
  }
  thread.template wait_for_copies<0>();
  thread.barrier();
}

}  // namespace unimo
