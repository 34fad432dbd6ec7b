// A thread of a CUDA block, as the tile kernels see it: the collective operations and inline PTX.
//
// Kernels take the thread as a template argument, so that tests can run them on a CPU with an
// emulated one (tests/emulated_block.h). Everything here works on sm_80 and later.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda_launch.h"

namespace unimo {

struct CudaThread {
  __device__ int index() const { return static_cast<int>(threadIdx.x); }

  // The block's number, read anew: what follows from it is then worked out again rather than kept
  // in registers over a long loop.
  __device__ int block() const {
    int block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    return block;
  }

  __device__ void barrier() const { __syncthreads(); }

  // The value of the lane whose number differs by the mask. All lanes of the warp must call it.
  template <typename Number>
  __device__ Number shuffle_xor(Number value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }

  __device__ bool any_in_warp(bool value) const { return __any_sync(0xffffffffu, value); }

  // c += a b on the warp's tensor core; Fragment says who holds what. a and b must be tf32.
  __device__ void multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]) const {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
  }

  // Starts to copy 4 floats to shared + kOffset, or to write zeros there where the source is not to
  // be read. They arrive once the group that they are committed to has been waited for. Both
  // addresses are multiples of 16. (An offset known in advance costs no register. cg: past the
  // first-level cache, for a block reads each line once.)
  template <int kOffset>
  __device__ void copy_async(float* shared, const float* source, bool is_there) const {
    const auto target = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile(
        "{\n"
        "  .reg .pred is_absent;\n"
        "  setp.eq.u32 is_absent, %3, 0;\n"
        "  cp.async.cg.shared.global [%0 + %1], [%2], 16, is_absent;\n"
        "}" ::"r"(target),
        "n"(kOffset * static_cast<int>(sizeof(float))), "l"(source),
        "r"(static_cast<std::uint32_t>(is_there))
        : "memory");
  }

  __device__ void commit_copies() const { asm volatile("cp.async.commit_group;" ::: "memory"); }

  // Waits until at most kPending of this thread's latest groups are under way.
  template <int kPending>
  __device__ void wait_for_copies() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }
};

// A kernel is a value: what it works on, and operator() for one thread of one block.
// (The bytes of shared memory are an argument so that they show in the name, for the report of
// resources: the compiler knows nothing of dynamic shared memory.)
template <typename Kernel, int kSharedBytes>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kResidentBlocks)
    run_kernel(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(16) unsigned char shared[];
  CudaThread thread;
  kernel(thread, shared);
}

// Starts kernels on a stream, one after the other.
class CudaLauncher {
 public:
  explicit CudaLauncher(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  template <typename Kernel>
  void operator()(const Kernel& kernel, std::int64_t num_blocks, const char* name) const {
    if (num_blocks == 0) return;
    constexpr int kSharedBytes = Kernel::kSharedBytes;
    const auto function = run_kernel<Kernel, kSharedBytes>;
    if (kSharedBytes > 48 * 1024) {  // more than the default limit must be asked for
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
    }
    function<<<static_cast<unsigned>(num_blocks), Kernel::kThreads, kSharedBytes, stream_>>>(
        kernel);
    check_launch(name);
  }

 private:
  cudaStream_t stream_;
};

}  // namespace unimo
