// Launch checks that all CUDA files share.

#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace unimo {

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
  }
}

}  // namespace unimo
