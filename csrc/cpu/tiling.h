// How a convolution of 3x3 windows, stride 1 and padding 1 goes over its maps. Plain data.
#pragma once

#include <cstdint>

namespace fedlps {

// direct: window by window. Else the products of transformed tiles: of 4x4 or 2x2 outputs, or of a map that is one tile
// of 2x2 and needs no padding.
enum class Method { direct, whole_map, tiles_of_2, tiles_of_4 };

// Weights are transformed block by block, so that a block stays in the second cache.
inline constexpr std::int64_t BLOCK = 64;

// Tiles: [value of a tile][channel][tile row, tile, sample], each value's plane on other cache sets than the last one's.
struct Tiling {
    std::int64_t step = 0, values = 0, weights = 0;  // outputs along a side of a tile; what one is transformed to
    std::int64_t rows = 0, run = 0, lanes = 0, pitch = 0;  // rows of tiles; lanes of one; of all; between channels

    constexpr Tiling(Method method, std::int64_t height, std::int64_t width, std::int64_t batch) {
        if (method == Method::direct) return;
        step = method == Method::tiles_of_4 ? 4 : 2;
        values = method == Method::tiles_of_4 ? 36 : method == Method::tiles_of_2 ? 16 : 4;
        weights = method == Method::whole_map ? 9 : values;
        rows = height / step, run = width / step * batch, lanes = rows * run;
        pitch = (lanes + 15) / 16 * 16;
        if (pitch % 128 == 0) pitch += 16;
    }

    constexpr std::int64_t plane(std::int64_t channels) const { return channels * pitch + 16; }
    // Lane by lane instead: [value][lane][channel].
    constexpr std::int64_t turned_plane(std::int64_t channels) const { return lanes * turned_pitch(channels) + 16; }
    static constexpr std::int64_t turned_pitch(std::int64_t channels) { return (channels + 15) / 16 * 16; }
    // Between the values of one row of tiles.
    constexpr std::int64_t line_pitch() const { return (run + 15) / 16 * 16; }

    static constexpr Method best(std::int64_t kernel, std::int64_t stride, std::int64_t padding, std::int64_t pool,
                                 std::int64_t channels, std::int64_t rows, std::int64_t height, std::int64_t width) {
        const bool fits = kernel == 3 && stride == 1 && padding == 1 && pool == 1;
        if (!fits || height % 2 != 0 || width % 2 != 0) return Method::direct;
        if (height == 2 && width == 2) return Method::whole_map;
        // for few channels the transforms cost more than the products save: 8 -> 16 lose, 16 -> 16 do not
        if (channels * rows < 8 * (channels + rows)) return Method::direct;
        return height % 4 == 0 && width % 4 == 0 ? Method::tiles_of_4 : Method::tiles_of_2;
    }
};

}  // namespace fedlps
