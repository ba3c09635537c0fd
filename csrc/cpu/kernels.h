// The step kernels. Each works for one client (or one row of the global vector) and is compiled once per instruction
// set; all sets give the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/layout.h"
#include "cpu/image.h"

namespace fedlps {

template <class T>
struct Kernels {
    // sums[u] = sum of |entries| of unit u's weight rows.
    void (*unit_abs_sum)(const Layout&, std::span<const T> parameters, std::span<T> sums);
    // Per group the counts[g] largest scores, ties to the lower index; indices ascending, then -1.
    void (*select_units)(const Layout&, std::span<const T> scores, std::span<const std::int32_t> counts,
                         std::span<std::int32_t> kept);
    // stepped = d - lr * (c * (d - sigmoid(-a)) - kappa * t), c = 2 lam / units of the group, or 2 lam.
    void (*importance_step)(const Layout&, std::span<const T> redundancy, std::span<const T> sums,
                            std::span<const T> unit_gradient, double lr, double lam, double kappa, bool mean,
                            std::span<T> stepped);
    // The kept entries in compact order; what lies behind them is left as it is.
    void (*gather_weights)(const Layout&, const Submodel&, std::span<const T> parameters, std::span<T> compact);
    // The kept entries at their places, zeros elsewhere.
    void (*scatter_weights)(const Layout&, const Submodel&, std::span<const T> compact, std::span<T> parameters);
    // One SGD step on the kept entries; velocity is empty without momentum.
    void (*scatter_update)(const Layout&, const Submodel&, const Step&, std::span<const T> gradient,
                           std::span<const T> anchor, std::span<T> parameters, std::span<T> velocity);
    // One row of one layer of the new global vector. scratch: columns * inner + columns.
    void (*aggregate_row)(const Layout&, const Cohort&, bool holders, std::int64_t layer, std::int64_t row,
                          std::span<const T> parameters, std::span<const T> residuals, std::span<double> scratch,
                          std::span<T> result);

    void (*conv_forward)(const Conv<T>&);
    // Expands the gradient of the outputs, and sums it for the bias. Before conv_input_gradient and
    // linear_weight_gradient; before conv_weight_gradient where the input's gradient is wanted.
    void (*conv_expand)(const Conv<T>&);
    void (*conv_input_gradient)(const Conv<T>&);
    void (*conv_weight_gradient)(const Conv<T>&);
    void (*linear_weight_gradient)(const Conv<T>&);
    // The same for a convolution whose method is not direct: forward, and all gradients.
    void (*winograd_forward)(const Conv<T>&);
    void (*winograd_gradients)(const Conv<T>&);
    void (*pool_forward)(const Pool<T>&);
    void (*pool_backward)(const Pool<T>&);
    // Mean and reciprocal, which norm_forward makes itself.
    void (*norm_statistics)(const Norm<T>&);
    void (*norm_forward)(const Norm<T>&);
    void (*norm_backward)(const Norm<T>&);
    void (*loss)(Loss<T>&);
    // Probabilities (classes, batch) of logits.
    void (*softmax)(std::int64_t classes, std::int64_t batch, const T* logits, T* probabilities);

    // to += factor * from.
    void (*add)(std::int64_t size, double factor, const T* from, T* to);
    // gradient += coefficient * (weights - reference).
    void (*pull)(std::int64_t size, double coefficient, const T* weights, const T* reference, T* gradient);
    // Zero where the mask is.
    void (*keep)(std::int64_t size, const std::uint8_t* mask, T* values);
    double (*squares)(std::int64_t size, const T* values);
    // q = factor * gradient + weight_decay * w; v = momentum * v + q; w -= lr * v. No velocity: w -= lr * q. Where the
    // mask is zero nothing changes; null: everything may.
    void (*sgd)(std::int64_t size, double lr, double weight_decay, double momentum, double factor,
                const std::uint8_t* mask, const T* gradient, T* weights, T* velocity);
    // In one pass; so much between the rows of weights and reference, and between those of the gradient. Returns whether
    // all new weights are finite.
    bool (*plain_step)(const PlainStep<T>&, std::int64_t rows, std::int64_t columns, std::int64_t pitch,
                       const T* gradient, std::int64_t gradient_pitch);
    bool (*finite)(std::int64_t size, const T* values);
    // sums[row] += sum of a row's |weights|.
    void (*row_sums)(std::int64_t rows, std::int64_t columns, const T* weights, T* sums);
    // What a channel's bytes stand for: table[byte], which where line is given is slope * byte + start, rounded once.
    void (*normalize)(const std::uint8_t* bytes, std::int64_t size, const T* table, const double* line, T* values);
    // Rows of samples (channels, height, width), at the indices, into an image.
    void (*load_samples)(const T* samples, const std::int64_t* indices, const Image&, T* values);
};

struct InstructionSet {
    std::string_view name;
    Kernels<float> single;
    Kernels<double> wide;
};

}  // namespace fedlps
