// Stands in for CUDA's header, so that the .cu files compile as C++: a kernel's threads are fibers of one thread
// (fibers.cpp), which switch at barriers and at what the lanes of a warp do together.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __syncthreads() fibers::barrier(__FILE__, __LINE__)
#define __syncwarp() fibers::warp_barrier(__FILE__, __LINE__)

using std::abs;
using std::exp;
using std::isfinite;
using std::max;
using std::min;
using std::sqrt;

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the fiber that runs

namespace fibers {

void barrier(const char* file, int line);
void warp_barrier(const char* file, int line);
// Every lane of the calling warp deposits a value; returns those of all 32, valid until the lane's next exchange.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value);
void launch(unsigned blocks, unsigned threads, const std::function<void()>& thread);

}  // namespace fibers

inline std::uint32_t __float_as_uint(float value) { return std::bit_cast<std::uint32_t>(value); }
inline float __uint_as_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
    std::uint64_t bits;
    if constexpr (sizeof(T) == 8)
        bits = std::bit_cast<std::uint64_t>(value);
    else
        bits = std::bit_cast<std::uint32_t>(value);
    const std::uint64_t other = fibers::exchange(mask, bits)[threadIdx.x % 32 ^ static_cast<unsigned>(distance)];
    if constexpr (sizeof(T) == 8)
        return std::bit_cast<T>(other);
    else
        return std::bit_cast<T>(static_cast<std::uint32_t>(other));
}

unsigned __ballot_sync(unsigned mask, bool flag);
unsigned __reduce_add_sync(unsigned mask, unsigned value);
inline int atomicOr(int* address, int bits) { return __atomic_fetch_or(address, bits, __ATOMIC_RELAXED); }

// What csrc/cuda uses of the runtime.
using cudaError_t = int;
using cudaStream_t = void*;
inline constexpr cudaError_t cudaSuccess = 0;

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
};

extern cudaError_t next_error;  // what the next launch is to return

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
    if (next_error != cudaSuccess) return next_error;
    fibers::launch(config->gridDim.x, config->blockDim.x, [&] { kernel(arguments...); });
    return cudaSuccess;
}

inline cudaError_t cudaGetLastError() {
    const cudaError_t error = next_error;
    next_error = cudaSuccess;
    return error;
}
inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorOfTheShim"; }
inline const char* cudaGetErrorString(cudaError_t) { return "as the test wants it"; }
