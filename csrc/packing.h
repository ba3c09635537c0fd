// One client's part of a cohort's tensor as the step kernels keep it, and back.
#pragma once

#include <algorithm>

#include "common/arrays.h"
#include "cpu/engine/arena.h"
#include "cpu/image.h"

namespace fedlps {

// A tensor's extent; 1 for a dimension that it does not have.
inline std::int64_t side(const Array& array, std::size_t dimension) {
    return dimension < std::get<1>(array).size() ? extent(array, dimension) : 1;
}

// Calls visit(place in the tensor, place in the image) for every entry of an image, whose tensor is
// (samples, channels, height, width) with room for more of both.
template <class Visit>
void for_each_entry(const Image& image, std::int64_t channels, const Visit& visit) {
    constexpr std::int64_t TOGETHER = 8;  // as many samples are read at once as the prefetcher follows
    const std::int64_t pitch = channels * image.height * image.width;
    for (std::int64_t first = 0; first < image.batch; first += TOGETHER) {
        const std::int64_t last = std::min(image.batch, first + TOGETHER);
        for (std::int64_t channel = 0; channel < image.channels; ++channel)
            for (std::int64_t y = 0; y < image.height; ++y) {
                const std::int64_t from = (channel * image.height + y) * image.width, row = image.row(channel, y);
                Columns column(image, image.padding);
                for (std::int64_t x = 0; x < image.width; ++x, column.next())
                    for (std::int64_t sample = first; sample < last; ++sample)
                        visit(sample * pitch + from + x, row + column.offset + sample);
            }
    }
}

template <class T>
T* packed(const T* tensor, std::int64_t channels, const Image& image, Arena<T>& arena) {
    T* values = arena.take(image.size() + SLACK);
    for_each_entry(image, channels, [&](std::int64_t from, std::int64_t to) { values[to] = tensor[from]; });
    return values;
}

template <class T>
void unpack(const T* values, const Image& image, std::int64_t channels, T* tensor) {
    for_each_entry(image, channels, [&](std::int64_t to, std::int64_t from) { tensor[to] = values[from]; });
}

}  // namespace fedlps
