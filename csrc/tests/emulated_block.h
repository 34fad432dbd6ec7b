// A block of CUDA threads on one CPU thread, so that tests can run kernels where there is no GPU.
//
// EmulatedThread offers what CudaThread does. Every thread of the block runs on a stack of its own
// and goes on until it must wait for others. Warps run one after the other, each as far ahead of
// the others as barriers allow, forwards or backwards: a missing barrier shows. Copies take effect
// as early as they may (at once) or as late as they may (when waited for), shared memory begins as
// NaN, and a copy that nobody waits for or an operation of a warp that not all lanes join is an
// error: a missing wait shows too.
//
// The tensor core follows the tables of the PTX ISA (mma.m16n8k8, .tf32), written down here once
// more and not shared with the kernels. Operands must be tf32. Sums of four products are exact and
// then cut off to float32, which is at least as coarse as what is known of the hardware.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/tensor_core.h"
#include "fiber.h"

namespace unimo {

[[noreturn]] inline void emulation_error(const char* what) {
  std::fprintf(stderr, "emulated block: %s\n", what);
  std::abort();
}

struct EmulationOrder {
  bool is_reversed;  // the last warp and lane first
  bool is_eager;     // copies take effect at once
};

class EmulatedBlock;

class EmulatedThread {
 public:
  EmulatedThread(EmulatedBlock* block, int index) : block_(block), index_(index) {}

  int index() const { return index_; }
  int block() const;
  void barrier();
  template <typename Number>
  Number shuffle_xor(Number value, int mask);
  bool any_in_warp(bool value);
  void multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]);
  template <int kOffset>
  void copy_async(float* shared, const float* source, bool is_there);
  void commit_copies() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  template <int kPending>
  void wait_for_copies() {
    while (groups_.size() > kPending) {
      for (const Copy& copy : groups_.front()) copy.perform();
      groups_.pop_front();
    }
  }

 private:
  friend class EmulatedBlock;

  struct Copy {
    float* target;
    const float* source;
    bool is_there;

    void perform() const {
      for (int i = 0; i < 4; ++i) target[i] = is_there ? source[i] : 0.0f;
    }
  };

  // What this lane brings to the collective operation that it waits in.
  struct Joined {
    int operation = 0;  // 0: none
    double number = 0.0;
    int mask = 0;
    float* c = nullptr;
    const float *a = nullptr, *b = nullptr;
  };

  void join(const Joined& own);

  EmulatedBlock* block_;
  int index_;
  Fiber fiber_;
  bool waits_for_block_ = false;
  Joined joined_;
  double result_ = 0.0;
  std::vector<Copy> open_;
  std::deque<std::vector<Copy>> groups_;
};

class EmulatedBlock {
 public:
  explicit EmulatedBlock(EmulationOrder order) : order_(order) {}

  // Runs all threads of one block of a kernel to their end.
  template <typename Kernel>
  void run(const Kernel& kernel, int block) {
    number_ = block;
    num_threads_ = Kernel::kThreads;
    // Vectors of exactly the size, so that a sanitizer sees what goes beyond.
    shared_.assign((Kernel::kSharedBytes + 15) / 16, Line());
    struct Argument {
      const Kernel* kernel;
      EmulatedThread* thread;
      unsigned char* shared;
    };
    std::vector<Argument> arguments(num_threads_);
    while (static_cast<int>(threads_.size()) < num_threads_) {
      threads_.push_back(std::make_unique<EmulatedThread>(this, static_cast<int>(threads_.size())));
    }
    for (int i = 0; i < num_threads_; ++i) {
      arguments[i] = {&kernel, threads_[i].get(), reinterpret_cast<unsigned char*>(shared_.data())};
      threads_[i]->fiber_.start(
          [](void* pointer) {
            const Argument& own = *static_cast<Argument*>(pointer);
            (*own.kernel)(*own.thread, own.shared);
          },
          &arguments[i]);
    }
    while (!all_done()) {
      const int num_warps = (num_threads_ + kWarpSize - 1) / kWarpSize;
      for (int warp = 0; warp < num_warps; ++warp) {
        run_warp(order_.is_reversed ? num_warps - 1 - warp : warp);
      }
      release_barrier();
    }
    for (const auto& thread : threads_) {
      if (!thread->open_.empty() || !thread->groups_.empty()) {
        emulation_error("a copy was never waited for");
      }
    }
  }

 private:
  friend class EmulatedThread;

  struct alignas(16) Line {
    std::uint32_t word[4] = {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
  };

  bool all_done() const {
    for (int i = 0; i < num_threads_; ++i) {
      if (!threads_[i]->fiber_.is_done()) return false;
    }
    return true;
  }

  // Until every lane has ended or waits at the block's barrier.
  void run_warp(int warp) {
    const int lanes = std::min(kWarpSize, num_threads_ - warp * kWarpSize);
    bool has_moved = true;
    while (has_moved) {
      has_moved = false;
      for (int i = 0; i < lanes; ++i) {
        const int lane = order_.is_reversed ? lanes - 1 - i : i;
        EmulatedThread& thread = *threads_[warp * kWarpSize + lane];
        if (thread.fiber_.is_done() || thread.waits_for_block_ || thread.joined_.operation != 0) {
          continue;
        }
        thread.fiber_.resume();
        has_moved = true;
      }
      if (perform_collective(warp, lanes)) has_moved = true;
    }
  }

  bool perform_collective(int warp, int lanes) {
    EmulatedThread::Joined* joined[kWarpSize];
    int num_joined = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      joined[lane] = &threads_[warp * kWarpSize + lane]->joined_;
      if (joined[lane]->operation != 0) ++num_joined;
    }
    if (num_joined == 0) return false;
    if (num_joined != kWarpSize) emulation_error("not all lanes joined a collective operation");
    for (int lane = 1; lane < lanes; ++lane) {
      if (joined[lane]->operation != joined[0]->operation ||
          joined[lane]->mask != joined[0]->mask) {
        emulation_error("lanes of a warp joined different operations");
      }
    }
    switch (joined[0]->operation) {
      case kShuffle:
        for (int lane = 0; lane < lanes; ++lane) {
          threads_[warp * kWarpSize + lane]->result_ = joined[lane ^ joined[0]->mask]->number;
        }
        break;
      case kAny: {
        double any = 0.0;
        for (int lane = 0; lane < lanes; ++lane) any = joined[lane]->number != 0.0 ? 1.0 : any;
        for (int lane = 0; lane < lanes; ++lane) threads_[warp * kWarpSize + lane]->result_ = any;
        break;
      }
      case kMultiply:
        multiply(joined);
        break;
    }
    for (int lane = 0; lane < lanes; ++lane) joined[lane]->operation = 0;
    return true;
  }

  // PTX ISA, "Matrix fragments for mma.m16n8k8", .tf32: with groupID = lane >> 2 and
  // threadID_in_group = lane % 4,
  //   A: row = groupID for a0 and a2, groupID + 8 for a1 and a3;
  //      column = threadID_in_group for a0 and a1, threadID_in_group + 4 for a2 and a3
  //   B: row = threadID_in_group for b0, threadID_in_group + 4 for b1; column = groupID
  //   C: row = groupID for c0 and c1, groupID + 8 for c2 and c3;
  //      column = threadID_in_group * 2 + (i & 1)
  static void multiply(EmulatedThread::Joined* const* joined) {
    double a[16][8], b[8][8];
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const int group = lane >> 2, member = lane % 4;
      a[group][member] = operand(joined[lane]->a[0]);
      a[group + 8][member] = operand(joined[lane]->a[1]);
      a[group][member + 4] = operand(joined[lane]->a[2]);
      a[group + 8][member + 4] = operand(joined[lane]->a[3]);
      b[member][group] = operand(joined[lane]->b[0]);
      b[member + 4][group] = operand(joined[lane]->b[1]);
    }
    for (int lane = 0; lane < kWarpSize; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
        float sum = joined[lane]->c[i];
        for (int first = 0; first < 8; first += 4) {
          double exact = sum;
          for (int k = first; k < first + 4; ++k) exact += a[row][k] * b[k][column];
          sum = cut_off(exact);
        }
        joined[lane]->c[i] = sum;
      }
    }
  }

  static double operand(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    // Of NaN as well: the hardware drops these bits, and may be left with infinity.
    if ((bits & 0x1fffu) != 0) emulation_error("an operand is no tf32");
    return value;
  }

  static float cut_off(double value) {
    const auto nearest = static_cast<float>(value);
    if (!std::isfinite(nearest) || std::abs(static_cast<double>(nearest)) <= std::abs(value)) {
      return nearest;
    }
    return std::nextafter(nearest, 0.0f);
  }

  void release_barrier() {
    int num_waiting = 0, num_done = 0;
    for (int i = 0; i < num_threads_; ++i) {
      num_waiting += threads_[i]->waits_for_block_;
      num_done += threads_[i]->fiber_.is_done();
    }
    if (num_waiting == 0) return;
    if (num_done != 0) emulation_error("threads ended before a barrier that others wait at");
    if (num_waiting != num_threads_) emulation_error("the block does not get on");
    for (int i = 0; i < num_threads_; ++i) threads_[i]->waits_for_block_ = false;
  }

  enum Operation { kShuffle = 1, kAny, kMultiply };

  EmulationOrder order_;
  int number_ = 0;
  int num_threads_ = 0;
  std::vector<Line> shared_;
  std::vector<std::unique_ptr<EmulatedThread>> threads_;
};

inline int EmulatedThread::block() const { return block_->number_; }

inline void EmulatedThread::barrier() {
  waits_for_block_ = true;
  fiber_.yield();
}

inline void EmulatedThread::join(const Joined& own) {
  joined_ = own;
  fiber_.yield();
}

template <typename Number>
Number EmulatedThread::shuffle_xor(Number value, int mask) {
  Joined own;
  own.operation = EmulatedBlock::kShuffle;
  own.number = value;  // a double holds every float
  own.mask = mask;
  join(own);
  return static_cast<Number>(result_);
}

inline bool EmulatedThread::any_in_warp(bool value) {
  Joined own;
  own.operation = EmulatedBlock::kAny;
  own.number = value ? 1.0 : 0.0;
  join(own);
  return result_ != 0.0;
}

inline void EmulatedThread::multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  Joined own;
  own.operation = EmulatedBlock::kMultiply;
  own.c = c;
  own.a = a;
  own.b = b;
  join(own);
}

template <int kOffset>
void EmulatedThread::copy_async(float* shared, const float* source, bool is_there) {
  const auto is_aligned = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  };
  if (!is_aligned(shared + kOffset)) emulation_error("a copy's target is not aligned");
  if (!is_aligned(source)) emulation_error("a copy's source is not aligned");
  open_.push_back({shared + kOffset, source, is_there});
  if (block_->order_.is_eager) open_.back().perform();
}

// Runs the blocks of kernels one after the other, in place of CudaLauncher.
class EmulatedLauncher {
 public:
  explicit EmulatedLauncher(EmulationOrder order) : order_(order), block_(order) {}

  template <typename Kernel>
  void operator()(const Kernel& kernel, std::int64_t num_blocks, const char*) const {
    for (std::int64_t i = 0; i < num_blocks; ++i) {
      const std::int64_t block = order_.is_reversed ? num_blocks - 1 - i : i;
      block_.run(kernel, static_cast<int>(block));
    }
  }

 private:
  EmulationOrder order_;
  mutable EmulatedBlock block_;  // keeps the stacks
};

}  // namespace unimo
