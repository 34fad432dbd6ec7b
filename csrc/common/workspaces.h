// Scratch memory of threads.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace unimo {

// A workspace of `count` floats for each thread. They are allocated before threads start: what is
// thrown within a parallel region ends the process.
class Workspaces {
 public:
  Workspaces(int num_threads, std::size_t count)
      : stride_(std::max<std::size_t>(1, (count + kLine - 1) / kLine) * kLine),
        memory_(static_cast<float*>(
            std::aligned_alloc(kLine * sizeof(float), num_threads * stride_ * sizeof(float)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  float* of_this_thread() const { return memory_.get() + omp_get_thread_num() * stride_; }

 private:
  struct AlignedFree {
    void operator()(float* memory) const { std::free(memory); }
  };
  static constexpr std::size_t kLine = 64 / sizeof(float);  // kernels want this alignment

  std::size_t stride_;
  std::unique_ptr<float[], AlignedFree> memory_;
};

}  // namespace unimo
