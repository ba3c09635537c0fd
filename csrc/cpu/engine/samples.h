// Where the samples of a part lie, and those of one client, gathered.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernels.h"

namespace fedlps {

// Bytes with what each becomes, or values as they are.
template <class T>
struct Source {
    const std::uint8_t* bytes;  // null: values
    const T* table;             // (channels, 256)
    const double* line;         // (channels, 2): slope and start that give the same as the table; null: there are none
    const T* values;
    const std::int64_t* labels;
};

// The distinct samples of some steps, normalized once; steps name them by their place here.
template <class T>
class Samples {
  public:
    // indices: as the steps use them, with repetitions. area: positions of a channel. In place of what was gathered before.
    void gather(const Kernels<T>& kernels, const Source<T>& source, std::span<const std::int64_t> indices,
                std::int64_t channels, std::int64_t area) {
        rows_.assign(indices.begin(), indices.end());
        std::sort(rows_.begin(), rows_.end());
        rows_.erase(std::unique(rows_.begin(), rows_.end()), rows_.end());
        places_.resize(indices.size());
        for (std::size_t each = 0; each < indices.size(); ++each)
            places_[each] = std::lower_bound(rows_.begin(), rows_.end(), indices[each]) - rows_.begin();
        values_.resize(rows_.size() * static_cast<std::size_t>(channels * area));
        T* to = values_.data();
        for (const std::int64_t row : rows_)
            for (std::int64_t channel = 0; channel < channels; ++channel, to += area) {
                const std::int64_t start = (row * channels + channel) * area;
                if (source.bytes)
                    kernels.normalize(source.bytes + start, area, source.table + channel * 256,
                                      source.line ? source.line + channel * 2 : nullptr, to);
                else
                    std::copy_n(source.values + start, area, to);
            }
        labels_.clear();
        for (const std::int64_t row : rows_) labels_.push_back(source.labels[row]);
    }

    const T* values() const { return values_.data(); }
    // What stands for indices[each].
    const std::int64_t* places() const { return places_.data(); }
    std::int64_t label(std::int64_t place) const { return labels_[place]; }

  private:
    std::vector<std::int64_t> rows_, places_, labels_;
    std::vector<T> values_;
};

}  // namespace fedlps
