#include "cuda/launch.h"

namespace fedlps::cuda {

void check(const char* op, cudaError_t error) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // or the next call would report it again
    throw std::runtime_error(std::string(op) + ": CUDA says " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

}  // namespace fedlps::cuda
