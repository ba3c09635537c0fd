// How a kernel is launched: every error code becomes one line.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace fedlps::cuda {

using Stream = std::uintptr_t;  // a cudaStream_t as torch hands it over

// Throws what an error code says of an op's launch.
void check(const char* op, cudaError_t error);

// 64-bit numbers of blocks, one dimension; none is no launch.
template <class... Parameters, class... Arguments>
void launch(const char* op, void (*kernel)(Parameters...), std::int64_t blocks, int threads, Stream stream,
            const Arguments&... arguments) {
    if (blocks == 0) return;
    if (blocks > std::numeric_limits<std::int32_t>::max())
        throw std::invalid_argument(std::string(op) + ": got " + std::to_string(blocks) +
                                    " blocks, expected less than 2^31: take fewer clients at once");
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = reinterpret_cast<cudaStream_t>(stream);
    check(op, cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

}  // namespace fedlps::cuda
