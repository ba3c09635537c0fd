// Activations of one client's batch, as the step kernels keep them. Plain data: every instruction set shares it.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/tiling.h"

namespace fedlps {

// Batch-innermost: [channel][row][phase][column / phases][sample], samples of neighbouring columns of one phase side by
// side, so that vectors run over (column, sample) without padding, whatever the batch. Column x lies in phase
// (x + padding) mod phases: a reader that steps by `phases` columns finds what it needs side by side. The halo of
// `padding` rows and columns is zero.
struct Image {
    std::int64_t channels, height, width, padding, phases, batch;

    [[gnu::always_inline]] constexpr std::int64_t columns() const { return (width + 2 * padding + phases - 1) / phases; }
    [[gnu::always_inline]] constexpr std::int64_t phase_stride() const { return columns() * batch; }
    [[gnu::always_inline]] constexpr std::int64_t row_stride() const { return phases * phase_stride(); }
    [[gnu::always_inline]] constexpr std::int64_t channel_stride() const { return (height + 2 * padding) * row_stride(); }
    [[gnu::always_inline]] constexpr std::int64_t size() const { return channels * channel_stride(); }
    // Where padded column x begins within a row.
    [[gnu::always_inline]] constexpr std::int64_t column(std::int64_t x) const { return x % phases * phase_stride() + x / phases * batch; }
    // Where the row begins of which column(padding) is the first column.
    [[gnu::always_inline]] constexpr std::int64_t row(std::int64_t channel, std::int64_t y) const {
        return channel * channel_stride() + (y + padding) * row_stride();
    }
};

// The columns of an image's row from one on, without a division for each.
struct Columns {
    std::int64_t phases, phase_stride, batch, phase, offset;

    [[gnu::always_inline]] Columns(const Image& image, std::int64_t x)
        : phases(image.phases), phase_stride(image.phase_stride()), batch(image.batch), phase(x % image.phases),
          offset(image.column(x)) {}
    [[gnu::always_inline]] void next() {
        offset += phase_stride;
        if (++phase == phases) {
            phase = 0;
            offset += batch - phases * phase_stride;
        }
    }
};

// An image that a stage writes, and the gradient that its reader leaves there, in the same layout; null: not wanted.
template <class T>
struct Target {
    Image image;
    T* values;
    T* gradient;
};

// Kernels read past the end of an image by fewer entries than this.
inline constexpr std::int64_t SLACK = 256;
// The code of an output that ReLU cut off; else the position of the pooling window's maximum.
inline constexpr int DEAD = 15;

// A step without momentum, mask and clipping on rows of a layer's weights:
// w -= lr (g + coefficient (w - reference) + weight_decay w).
template <class T>
struct PlainStep {
    double lr, weight_decay, coefficient;
    T* weights;
    const T* reference;  // null: no pull
    T* sums;             // per row, grows by the sum of |weights| before the step; null: not wanted
    bool taken = false;  // by the kernel that makes the gradient, which then is not stored
    bool finite = true;  // what was written
};

// A convolution of any square window, stride and padding, for one batch of one client, with what is fused behind it: a
// factor, a maximum over 2x2 windows, ReLU. A linear layer is one of kernel 1 on images of one position.
template <class T>
struct Conv {
    Method method;
    Image in;  // padding: the convolution's; phases: stride * pool, or the tiles' step
    std::int64_t rows, kernel, stride, pool;  // pool: 1 or 2
    std::int64_t height, width;  // of the output, after pooling
    bool relu;
    T scale;                     // of the outputs, before pooling
    const T* input;
    T* input_gradient;  // null: not wanted
    const T* weight;    // (rows, channels, kernel, kernel)
    const T* bias;      // null: none
    T* codes;           // (rows, height, width * batch); null where neither pooled nor cut off
    T* weight_gradient;
    T* bias_gradient;
    PlainStep<T>* step;  // to be taken on the weights behind their last use; null, or direct: none
    std::span<const Target<T>> targets;
    T* packed;    // scratch: the weight, transposed
    T* expanded;  // scratch: the gradient of the outputs before pooling (Expanded)
    T* line;      // scratch: one row of every channel
    T* partial;   // scratch: sums of the weight gradient, lane by lane
    T* tiles;     // scratch: the input's tiles, transformed; null: direct

    [[gnu::always_inline]] bool linear() const {
        return kernel == 1 && in.height == 1 && in.width == 1 && in.padding == 0 && in.phases == 1;
    }
};

// The gradient of a convolution's outputs before pooling, as its gradients' kernels read it:
// [row][pooled row, window row][window column][halo, columns, halo][sample], zeros around and behind.
struct Expanded {
    std::int64_t pool, batch, halo, phase_stride, row_stride, channel_stride;

    // height: how many pooled rows it holds.
    template <class T>
    [[gnu::always_inline]] Expanded(const Conv<T>& conv, std::int64_t height)
        : pool(conv.pool), batch(conv.in.batch), halo(0) {
        if (conv.input_gradient) {
            const std::int64_t step = conv.stride * conv.pool;
            halo = conv.in.columns() - conv.width + (conv.kernel - 1 + step - 1) / step;
        }
        phase_stride = ((conv.width + 2 * halo) * batch + 31) / 16 * 16;
        row_stride = pool * phase_stride;
        channel_stride = height * pool * row_stride;
    }

    // Where the first column of a row's phase lies.
    [[gnu::always_inline]] std::int64_t offset(std::int64_t channel, std::int64_t row) const {
        return channel * channel_stride + row * row_stride + halo * batch;
    }
};

// The most vectors' lanes of any instruction set.
inline constexpr int MOST_LANES = 16;

// Pooled rows whose expanded gradient, for a few channels, stays in the first cache.
template <class T>
[[gnu::always_inline]] inline std::int64_t portion_height(const Conv<T>& conv) {
    const std::int64_t row = 4 * conv.pool * conv.pool * conv.width * conv.in.batch * std::int64_t{sizeof(T)};
    const std::int64_t rows = 16384 / row;
    return rows < 1 ? 1 : rows > conv.height ? conv.height : rows;
}

// The entries of its scratch.
template <class T>
struct ScratchSizes {
    std::int64_t packed = 0, expanded = 0, line = 0, partial = 0, tiles = 0;

    ScratchSizes() = default;
    [[gnu::always_inline]] explicit ScratchSizes(const Conv<T>& conv)
        : packed(conv.rows * (conv.in.channels * conv.kernel * conv.kernel + conv.in.batch) + SLACK),
          line(conv.rows * (conv.width * conv.in.batch + SLACK)),
          partial((conv.linear() ? conv.in.batch : 8 * MOST_LANES) * conv.in.channels * conv.kernel * conv.kernel +
                  SLACK) {
        const bool whole = conv.input_gradient != nullptr || conv.linear();
        const Expanded each(conv, whole ? conv.height : portion_height(conv));
        expanded = (whole ? conv.rows : 8) * each.channel_stride + SLACK;
        if (conv.method == Method::direct) return;
        const Tiling tiling(conv.method, conv.in.channels, conv.rows, conv.height * conv.pool, conv.width * conv.pool,
                            conv.in.batch, sizeof(T));
        const std::int64_t widest = greatest(conv.in.channels, conv.rows);
        packed = 2 * tiling.packed();  // weights, and their gradient
        line = 20 * tiling.line_pitch() + SLACK;
        expanded = tiling.values * tiling.plane(conv.rows) + SLACK;
        tiles = tiling.values * tiling.plane(conv.in.channels) + SLACK;
        partial = tiling.values * (tiling.sum_plane(greatest(tiling.row_block, tiling.channel_block)) +
                                   tiling.turned_plane(widest)) + SLACK;
    }
};

// Pooling over windows that do not overlap, or ReLU (a window of 1), on its own.
template <class T>
struct Pool {
    Image in;  // no padding, one phase
    std::int64_t window, height, width;
    bool average, relu;
    const T* input;
    T* input_gradient;  // null: not wanted
    T* codes;           // (channels, height, width * batch); null for an average
    std::span<const Target<T>> targets;
    T* line;  // scratch: width * batch
};

// Batch-statistics norm, and what is fused behind it: a maximum over 2x2 windows, ReLU.
template <class T>
struct Norm {
    Image in;                          // no padding; phases: one, or an even number that divides the width
    std::int64_t pool, height, width;  // pool: 1 or 2; of the output, after pooling
    bool relu;
    const T* input;
    T* input_gradient;
    const T* scale;  // per channel, as shift
    const T* shift;
    T* scale_gradient;
    T* shift_gradient;
    T* mean;        // per channel, of the batch, from forward to backward
    T* reciprocal;  // 1 / its deviation
    T* codes;       // (channels, height, width * batch); null where neither pooled nor cut off
    T* winners;     // the same shape: the inputs that were the maxima; null where not pooled
    std::span<const Target<T>> targets;
    T* line;  // scratch: height * width * batch
};

// Logits of one batch against labels, or against what another pass answered.
template <class T>
struct Loss {
    std::int64_t classes, batch, exits;
    const T* const* logits;       // per exit (classes, batch)
    T* const* gradients;          // per exit (classes, batch), of the mean loss; null: not wanted
    const std::int64_t* labels;   // (batch)
    const T* teacher;             // (classes, batch) probabilities; null: the labels
    double mutual;                // weight of the divergence between exits, divided by how many others there are
    T* log_probabilities;         // scratch: (exits, classes, batch)
    std::uint8_t* right;          // per sample, whether the last exit answers its label; null: not wanted
    // what is told
    double loss;                  // mean, with all terms
    double squares;               // sum over the samples of the squared cross entropy of the last exit's answer
    std::int64_t hits;            // of the last exit
};

}  // namespace fedlps
