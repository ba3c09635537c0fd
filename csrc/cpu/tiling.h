// How a convolution of stride 1 goes over its maps. Plain data.
#pragma once

#include <cstdint>

namespace fedlps {

// direct: window by window. Else the products of transformed tiles: of 4x4 or 2x2 outputs of 3x3 windows, of 2x2 outputs
// of 5x5 windows, or of a map that is one tile of 2x2 and needs no padding.
enum class Method { direct, whole_map, tiles_of_2, tiles_of_4, wide_tiles_of_2 };

// As std::min and std::max, which no file of one instruction set may emit.
[[gnu::always_inline]] constexpr std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
[[gnu::always_inline]] constexpr std::int64_t greatest(std::int64_t a, std::int64_t b) { return a < b ? b : a; }

// Tiles are transformed to [value of a tile][channel][tile row, tile, sample], so many at once as the second cache holds;
// the last index is a lane.
struct Tiling {
    std::int64_t step = 0, values = 0;               // outputs along a side of a tile; what one is transformed to
    std::int64_t rows = 0, run = 0;                  // rows of tiles, and lanes of one
    std::int64_t chunk_rows = 0, chunk_run = 0;      // taken at once: rows of tiles, or a part of one
    std::int64_t lanes = 0, pitch = 0;               // of such a chunk; from channel to channel
    std::int64_t sum_pitch = 0;                      // where products write whole vectors
    std::int64_t row_block = 0, channel_block = 0;   // of weights transformed at once
    std::int64_t kept_rows = 1, kept_channels = 1;   // blocks of transformed weights that are kept
    bool once = false;                               // all of them: for all chunks

    // Of outputs of this height and width, before pooling; bytes: of one value.
    [[gnu::always_inline]] constexpr Tiling(Method method, std::int64_t channels, std::int64_t units, std::int64_t height, std::int64_t width,
                     std::int64_t batch, std::int64_t bytes) {
        if (method == Method::direct) return;
        constexpr std::int64_t CACHE = 640 << 10, FEWEST = 96, MANY = 128, CHANNELS = 64, MOST = 1 << 22;
        step = method == Method::tiles_of_4 ? 4 : 2;
        values = method == Method::whole_map ? 9 : method == Method::tiles_of_2 ? 16 : 36;
        rows = chunk_rows = height / step, run = chunk_run = width / step * batch;
        once = rows * run >= FEWEST && values * channels * units <= MOST;
        // few lanes: sums, weights and inputs of a block fit the second cache together; many: what passes through counts
        row_block = least(units, rows * run < MANY ? 32 : 64), channel_block = least(channels, CHANNELS);
        if (once) {
            kept_rows = divided(units, row_block), kept_channels = divided(channels, channel_block);
            const std::int64_t most = greatest(FEWEST, CACHE / (values * (channels + units) * bytes));
            const std::int64_t fitting = greatest(most / run, 1);
            chunk_rows = divided(rows, divided(rows, fitting));
            if (run > most) chunk_run = padded(divided(run, divided(run, most)));
        }
        lanes = chunk_rows * chunk_run;
        sum_pitch = padded(lanes);
        if (sum_pitch % 128 == 0) sum_pitch += 16;  // each channel on other cache sets
        pitch = lanes < 32 ? divided(lanes, 4) * 4 : sum_pitch;  // as close as can be: these are only read
    }

    [[gnu::always_inline]] static constexpr std::int64_t divided(std::int64_t entries, std::int64_t by) { return (entries + by - 1) / by; }
    [[gnu::always_inline]] static constexpr std::int64_t padded(std::int64_t entries) { return divided(entries, 16) * 16; }
    // Between the values of a tile, each on other cache sets than the last one.
    [[gnu::always_inline]] constexpr std::int64_t plane(std::int64_t channels) const { return padded(channels * pitch) + 16; }
    [[gnu::always_inline]] constexpr std::int64_t sum_plane(std::int64_t channels) const { return channels * sum_pitch + 16; }
    // Lane by lane instead: [value][lane][channel].
    [[gnu::always_inline]] constexpr std::int64_t turned_plane(std::int64_t channels) const { return lanes * padded(channels) + 16; }
    // Transformed weights: [value][row][column].
    [[gnu::always_inline]] static constexpr std::int64_t weight_plane(std::int64_t rows, std::int64_t columns) {
        return rows * padded(columns) + 16;
    }
    [[gnu::always_inline]] constexpr std::int64_t block_size() const {
        return values * greatest(weight_plane(row_block, channel_block), weight_plane(channel_block, row_block));
    }
    [[gnu::always_inline]] constexpr std::int64_t packed() const { return kept_rows * kept_channels * block_size(); }
    // Where the block lies that begins at this row and channel.
    [[gnu::always_inline]] constexpr std::int64_t block(std::int64_t row, std::int64_t channel) const {
        return once ? (row / row_block * kept_channels + channel / channel_block) * block_size() : 0;
    }
    [[gnu::always_inline]] constexpr std::int64_t line_pitch() const { return padded(chunk_run); }

    // Of outputs of this height and width.
    [[gnu::always_inline]] static constexpr Method best(std::int64_t kernel, std::int64_t stride, std::int64_t padding, std::int64_t channels,
                                 std::int64_t units, std::int64_t height, std::int64_t width) {
        if (stride != 1 || (kernel != 3 && kernel != 5) || height % 2 != 0 || width % 2 != 0) return Method::direct;
        if (kernel == 3 && padding == 1 && height == 2 && width == 2) return Method::whole_map;
        // for few channels the transforms cost more than the products save: measured from 10 to 64 of them
        if (channels * units < 12 * (channels + units)) return Method::direct;
        if (kernel == 5) return Method::wide_tiles_of_2;
        return height % 4 == 0 && width % 4 == 0 ? Method::tiles_of_4 : Method::tiles_of_2;
    }
};

// What is taken at once: rows of tiles, of each so many lanes from one on.
struct Chunk {
    std::int64_t first_row, rows, first, run;

    [[gnu::always_inline]] constexpr std::int64_t lanes() const { return rows * run; }
};

[[gnu::always_inline]] inline void for_each_chunk(const Tiling& tiling, const auto& visit) {
    for (std::int64_t row = 0; row < tiling.rows; row += tiling.chunk_rows)
        for (std::int64_t first = 0; first < tiling.run; first += tiling.chunk_run)
            visit(Chunk{row, least(tiling.chunk_rows, tiling.rows - row), first,
                        least(tiling.chunk_run, tiling.run - first)});
}

}  // namespace fedlps
