#include "cuda/work.h"

#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/kernels.h"

namespace fedlps::cuda {

std::vector<std::int64_t> pieces_of_work(std::span<const Layer> layers) {
    std::vector<std::int64_t> lines{0}, tiles{0}, chunks{0};
    std::int64_t entries = 0;
    for (const Layer& layer : layers) {
        const std::int64_t width = layer.columns * layer.inner, wide = tile_columns(static_cast<int>(layer.inner));
        lines.push_back(lines.back() + (layer.row_group < 0 ? layer.rows : 0));
        tiles.push_back(tiles.back() + quotient(layer.rows, TILE_ROWS) * quotient(layer.columns, wide) *
                                           quotient(layer.inner, TILE_INNER));
        chunks.push_back(chunks.back() + layer.rows * quotient(width + 3, CHUNK));  // 3: bias, scale and shift
        entries += layer.rows * (width + 3);
    }
    // Kernels count one client's entries in 32 bits, pads to 16 included; clients and their sum in 64.
    if (16 * entries > std::int64_t{16} * std::numeric_limits<std::int32_t>::max() / 16)
        throw std::invalid_argument("layout: got some " + std::to_string(entries) +
                                    " parameters, expected less than 2^27 for a GPU");
    std::vector<std::int64_t> all(lines);
    all.insert(all.end(), tiles.begin(), tiles.end());
    all.insert(all.end(), chunks.begin(), chunks.end());
    return all;
}

}  // namespace fedlps::cuda
