// How the work on a model's layers is cut into pieces of one size for the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fedlps::cuda {

constexpr int TILE_ROWS = 16, TILE_INNER = 16;
constexpr int TILE_PITCH = 272;  // entries of a tile's row; 16 columns of TILE_INNER | 1 fit
constexpr int CHUNK = 256;       // entries of a row that one block of `scatter_aggregate` takes

__host__ __device__ constexpr std::int64_t quotient(std::int64_t items, std::int64_t each) {
    return (items + each - 1) / each;
}

// A tile's places of `inner`, and the pitch between its columns: odd, so that lanes meet different banks.
__host__ __device__ constexpr int tile_places(int inner) { return inner < TILE_INNER ? inner : TILE_INNER; }

__host__ __device__ constexpr int tile_columns(int inner) { return TILE_PITCH / (tile_places(inner) | 1) / 16 * 16; }

}  // namespace fedlps::cuda
