#include "cpu/plain_tiles.h"

namespace fedlps::FEDLPS_ISA {
// Vectors run over the features, since a batch is too short to be summed lane by lane.
template <class T>
void linear_weight_gradient(const Conv<T>& conv) {
    const std::int64_t features = conv.in.channels, batch = conv.in.batch, units = conv.rows;
    T* gradient = conv.packed;
    T* input = conv.partial;
    transpose(conv.input, features, batch, input);
    const Expanded expanded(conv, 1);
    for (std::int64_t unit = 0; unit < units; ++unit)
        for (std::int64_t sample = 0; sample < batch; ++sample)
            gradient[sample * units + unit] = conv.expanded[expanded.offset(unit, 0) + sample];
    const std::int64_t vectors = (features + LANES<T> - 1) / LANES<T>;
    const Tap tap{{0, 0}, 0};
    const Walk walk{batch, features, units, 0, &tap, 1};
    for (std::int64_t feature = 0; feature < features;) {
        const int width = vectors >= 4 ? 2 : plain_width<T>((features - feature + LANES<T> - 1) / LANES<T>, units);
        const Tiles<PlainTile<T>>& tiles = plain_tiles<T>(width);
        const Blocks blocks(units, tiles.most);
        for (std::int64_t block = 0; block < blocks.count; ++block) {
            const auto [first, count] = blocks[block];
            tiles.of[count - 1]({walk, input + feature, gradient + first, conv.weight_gradient + first * features + feature,
                                 features, features - feature});
        }
        feature += LANES<T> << width;
    }
}

template void linear_weight_gradient(const Conv<float>&);
template void linear_weight_gradient(const Conv<double>&);

}  // namespace fedlps::FEDLPS_ISA
