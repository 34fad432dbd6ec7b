// Which instruction sets run here: kernels are compiled once for each and chosen at run time.

#pragma once

namespace unimo {

#if defined(__x86_64__)
// CMakeLists.txt compiles for what is asked for here and nothing else. A level as x86-64-v3 brings
// more (BMI, F16C), which a virtual machine may hide.
inline bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

inline bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace unimo

// The best kernel that runs here, of one for each instruction set: prefix##Avx512 and so on.
#if defined(__x86_64__)
#define UNIMO_BEST_KERNEL(prefix) \
  (runs_avx512() ? prefix##Avx512 : runs_avx2() ? prefix##Avx2 : prefix##Portable)
#else
#define UNIMO_BEST_KERNEL(prefix) (prefix##Portable)
#endif
