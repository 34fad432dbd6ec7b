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

// Neighbouring floats, loaded and stored at once.
struct alignas(8) FloatPair {
  float value[2];
};
struct alignas(16) FloatQuad {
  float value[4];
};

UNIMO_DEVICE std::uint32_t in_chunks(std::int64_t floats) {
  return static_cast<std::uint32_t>(floats / kChunk);
}

UNIMO_DEVICE int at_most(std::int64_t count, int limit) {
  return count < limit ? static_cast<int>(count) : limit;
}

// A slice of an operand in shared memory. A lane of a warp reads 8 of the depth (a step) of octets:
// eights of lines along the tile, of which lane / 4 picks one. With q = lane % 4 the lane needs two
// elements of a line, those that Fragment puts at depths q and q + 4. The order of a sum is free,
// so these are the neighbours 2 q and 2 q + 1 of the slice: where they lie side by side one load
// brings both. Where the tile's lines lie side by side, one load brings a line each of four octets,
// which are every fourth line of 32. Steps or lines are padded so that what a warp reads or copies
// at once comes from different banks.
template <Layout kLayout, int kWidth>
struct OperandSlice {
  static constexpr bool kSumContiguous = kLayout == Layout::kSumContiguous;
  static constexpr int kLines = kSumContiguous ? kWidth : kProductDepth;
  static constexpr int kLength = kSumContiguous ? kProductDepth : kWidth;
  static constexpr int kPitch = kSumContiguous ? Fragment::kDepth : kWidth + 4;
  static constexpr int kStep = Fragment::kDepth * (kSumContiguous ? kWidth + 2 : kPitch);
  static constexpr int kFloats = kProductDepth / Fragment::kDepth * kStep;
  static constexpr int kOctetsAtOnce = kSumContiguous ? 2 : 4;

  UNIMO_DEVICE static int place(int i, int k) {
    return kSumContiguous ? k / Fragment::kDepth * kStep + i * kPitch + k % Fragment::kDepth
                          : k * kPitch + i;
  }
  // Which line of the warp's part is a lane's within an octet; lane / 4 for what it reads.
  UNIMO_DEVICE static int octet_line(int octet, int within) {
    return kSumContiguous ? 8 * octet + within : octet / 4 * 32 + 4 * within + octet % 4;
  }
  // Where the lane's reading begins, with the warp's first line.
  UNIMO_DEVICE static int lane_place(int first_line, int lane) {
    return place(first_line + octet_line(0, lane / 4), lane % 4 * 2);
  }
  // The lane's two elements of each of the octets from first on, of one step. from points at the
  // lane's place.
  template <int kCount>
  UNIMO_DEVICE static void load(const float* from, int first, float (&values)[kCount][2]) {
    static_assert(kCount % kOctetsAtOnce == 0, "whole loads");
    if constexpr (kSumContiguous) {
      UNIMO_UNROLL
      for (int octet = 0; octet < kCount; ++octet) {
        const auto pair =
            *reinterpret_cast<const FloatPair*>(from + octet_line(first + octet, 0) * kPitch);
        values[octet][0] = pair.value[0];
        values[octet][1] = pair.value[1];
      }
    } else {
      UNIMO_UNROLL
      for (int octet = 0; octet < kCount; octet += 4) {
        UNIMO_UNROLL
        for (int k = 0; k < 2; ++k) {
          const auto quad =
              *reinterpret_cast<const FloatQuad*>(from + k * kPitch + octet_line(first + octet, 0));
          UNIMO_UNROLL
          for (int e = 0; e < 4; ++e) values[octet + e][k] = quad.value[e];
        }
      }
    }
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
        target_(kSumContiguous ? Slice::place(line(thread), chunk(thread) * kChunk)
                               : Slice::place(chunk(thread) * kChunk, line(thread))),
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
  // How many steps are summed in tensor cores from zero: two where registers are left for that.
  static constexpr int kStepsAtOnce = kRowFragments <= 2 ? 2 : 1;
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
    return first_row(thread) + RowSlice::octet_line(r, thread % kWarpSize / 4);
  }
  UNIMO_DEVICE static int column(int thread, int c) {
    return first_column(thread) +
           ColumnSlice::octet_line(c / 2, Fragment::c_column(thread % kWarpSize, c % 2));
  }
};

// values[.][.] of a lane as tf32: the big parts, and the small ones where both are wanted.
template <bool kSplit, int kCount>
UNIMO_DEVICE void to_operand(const float (&values)[kCount][2], float (&big)[kCount][2],
                             float (&small)[kCount][2]) {
  UNIMO_UNROLL
  for (int octet = 0; octet < kCount; ++octet) {
    UNIMO_UNROLL
    for (int k = 0; k < 2; ++k) {
      if constexpr (kSplit) {
        const SplitFloat split = split_float(values[octet][k]);
        big[octet][k] = split.big;
        small[octet][k] = split.small;
      } else {
        big[octet][k] = to_tf32(values[octet][k]);
        small[octet][k] = 0.0f;
      }
    }
  }
}

// sums += the products of one step, of the row fragment of two octets with all column fragments.
template <int kCount, typename Thread>
UNIMO_DEVICE void multiply_fragments(Thread& thread, const float (&even)[2], const float (&odd)[2],
                                     const float (&columns)[kCount][2], float (&sums)[kCount][4]) {
  const float rows[4] = {even[0], odd[0], even[1], odd[1]};
  UNIMO_UNROLL
  for (int j = 0; j < kCount; ++j) thread.multiply(sums[j], rows, columns[j]);
}

// The products of some steps of a slice in shared memory. rows and columns point at the lane's
// places there; the others lie at places relative to them that are known when this is compiled.
template <bool kSplit, typename Shape, typename Thread>
UNIMO_DEVICE void multiply_steps(Thread& thread, const float* rows, const float* columns,
                                 typename Shape::Sums* sums) {
  using RowSlice = typename Shape::RowSlice;
  using ColumnSlice = typename Shape::ColumnSlice;
  constexpr int kSteps = Shape::kStepsAtOnce, kCount = Shape::kColumnFragments;
  constexpr int kOctets = RowSlice::kOctetsAtOnce;
  float b_big[kSteps][kCount][2], b_small[kSteps][kCount][2];
  UNIMO_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    float b[kCount][2];
    ColumnSlice::load(columns + step * ColumnSlice::kStep, 0, b);
    to_operand<kSplit>(b, b_big[step], b_small[step]);
  }
  UNIMO_UNROLL
  for (int first = 0; first < Shape::kOwnRows; first += kOctets) {
    float a[kSteps][kOctets][2];
    UNIMO_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      RowSlice::load(rows + step * RowSlice::kStep, first, a[step]);
    }
    UNIMO_UNROLL
    for (int octet = 0; octet < kOctets; octet += 2) {
      float (&total)[kCount][4] = sums->value[(first + octet) / 2];
      float parts[kCount][4] = {};
      UNIMO_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const float pair[2][2] = {{a[step][octet][0], a[step][octet][1]},
                                  {a[step][octet + 1][0], a[step][octet + 1][1]}};
        float big[2][2], small[2][2];
        to_operand<kSplit>(pair, big, small);
        if constexpr (kSplit) {
          multiply_fragments(thread, big[0], big[1], b_small[step], parts);
          multiply_fragments(thread, small[0], small[1], b_big[step], parts);
          multiply_fragments(thread, big[0], big[1], b_big[step], parts);
        } else {
          multiply_fragments(thread, big[0], big[1], b_big[step], total);
        }
      }
      if constexpr (kSplit) {
        UNIMO_UNROLL
        for (int j = 0; j < kCount; ++j) {
          UNIMO_UNROLL
          for (int e = 0; e < 4; ++e) total[j][e] += parts[j][e];
        }
      }
    }
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
  const int own_row = Shape::RowSlice::lane_place(Shape::first_row(own), lane);
  const int own_column =
      Shape::RowSlice::kFloats + Shape::ColumnSlice::lane_place(Shape::first_column(own), lane);
  constexpr int kSteps = kProductDepth / Fragment::kDepth;
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
    // place the next copy takes. It starts after the products, so that their loads do not wait
    // behind it.
    thread.barrier();
    UNIMO_UNROLL
    for (int step = 0; step < kSteps; step += Shape::kStepsAtOnce) {
      multiply_steps<kSplit, Shape>(
          thread, stages + stage + own_row + step * Shape::RowSlice::kStep,
          stages + stage + own_column + step * Shape::ColumnSlice::kStep, sums);
    }
    copy_next(stages + (stage == 0 ? kLast : stage - Shape::kStageFloats),
              left - kAhead * kProductDepth);
    stage = stage == kLast ? 0 : stage + Shape::kStageFloats;
  }
  thread.template wait_for_copies<0>();
  thread.barrier();
}

}  // namespace unimo
