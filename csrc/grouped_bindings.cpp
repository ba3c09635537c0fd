// grouped_linear and grouped_conv2d: a client's part of each tensor packed for the engine's step kernels, what these
// leave unpacked. A linear layer is a convolution of kernel 1 on maps of one position.
#include "grouped_bindings.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "common/arrays.h"
#include "cpu/engine/workers.h"
#include "cpu/isa.h"
#include "packing.h"

namespace py = pybind11;

namespace fedlps {

namespace {

using Counts = std::array<Array, 3>;  // of samples, columns and rows, (C) each

// The layers of a cohort: what one client's part of each tensor is.
struct Grouped {
    std::span<const std::int32_t> samples, columns, rows;
    std::int64_t all_samples, all_columns, all_rows;  // what there is room for
    std::int64_t height, width, kernel, stride, padding, out_height, out_width;

    Grouped(const Array& inputs, const Array& weights, const Array& outputs, const Counts& counts, std::int64_t stride,
            std::int64_t padding)
        : samples(entries<const std::int32_t>(counts[0])), columns(entries<const std::int32_t>(counts[1])),
          rows(entries<const std::int32_t>(counts[2])), all_samples(extent(inputs, 1)),
          all_columns(extent(inputs, 2)), all_rows(extent(weights, 1)), height(side(inputs, 3)), width(side(inputs, 4)),
          kernel(side(weights, 3)), stride(stride), padding(padding), out_height(side(outputs, 3)),
          out_width(side(outputs, 4)) {}

    std::int64_t clients() const { return static_cast<std::int64_t>(samples.size()); }
    double work(std::int64_t client) const {
        return static_cast<double>(samples[client]) * columns[client] * rows[client] *
               static_cast<double>(kernel * kernel * out_height * out_width);
    }
    Image input_image(std::int64_t client) const {
        return {columns[client], height, width, padding, stride, samples[client]};
    }
    Image output_image(std::int64_t client) const {
        return {rows[client], out_height, out_width, 0, 1, samples[client]};
    }
    // Where a client's part begins.
    std::int64_t input(std::int64_t client) const { return client * all_samples * all_columns * height * width; }
    std::int64_t output(std::int64_t client) const { return client * all_samples * all_rows * out_height * out_width; }
    std::int64_t weight(std::int64_t client) const { return client * all_rows * all_columns * kernel * kernel; }
    std::int64_t bias(std::int64_t client) const { return client * all_rows; }
};

// rows x columns entries, between matrices whose rows lie so far apart.
template <class T>
void copy_rows(const T* from, std::int64_t from_pitch, std::int64_t rows, std::int64_t columns, T* to,
               std::int64_t to_pitch) {
    for (std::int64_t row = 0; row < rows; ++row) std::copy_n(from + row * from_pitch, columns, to + row * to_pitch);
}

// One client's layer, in a worker's memory. Tensors are the whole cohort's.
template <class T>
class ClientLayer {
  public:
    ClientLayer(const Kernels<T>& kernels, const Grouped& grouped, std::int64_t client, Arena<T>& arena)
        : kernels_(kernels), grouped_(grouped), client_(client), arena_(arena) {
        conv_.in = grouped.input_image(client);
        conv_.rows = grouped.rows[client];
        conv_.kernel = grouped.kernel, conv_.stride = grouped.stride, conv_.pool = 1;
        conv_.height = grouped.out_height, conv_.width = grouped.out_width;
        conv_.scale = 1;
        target_.image = grouped.output_image(client);
        conv_.targets = {&target_, 1};
    }
    ClientLayer(const ClientLayer&) = delete;
    ClientLayer& operator=(const ClientLayer&) = delete;

    void forward(const T* inputs, const T* weights, const T* bias, T* outputs) {
        conv_.input = packed(inputs + grouped_.input(client_), grouped_.all_columns, conv_.in, arena_);
        conv_.weight = compact_weight(weights);
        conv_.bias = bias ? bias + grouped_.bias(client_) : nullptr;
        target_.values = arena_.scratch(target_.image.size() + SLACK);
        take_scratch();
        kernels_.conv_forward(conv_);
        unpack(target_.values, target_.image, grouped_.all_rows, outputs + grouped_.output(client_));
    }

    void input_gradient(const T* gradient, const T* weights, T* input_gradient) {
        read_gradient(gradient);
        conv_.weight = compact_weight(weights);
        conv_.input_gradient = arena_.take(conv_.in.size() + SLACK);
        take_scratch();
        kernels_.conv_expand(conv_);
        kernels_.conv_input_gradient(conv_);
        unpack(conv_.input_gradient, conv_.in, grouped_.all_columns, input_gradient + grouped_.input(client_));
    }

    void weight_gradient(const T* inputs, const T* gradient, T* weight_gradient, T* bias_gradient) {
        conv_.input = packed(inputs + grouped_.input(client_), grouped_.all_columns, conv_.in, arena_);
        read_gradient(gradient);
        conv_.weight_gradient = arena_.scratch(conv_.rows * width());
        conv_.bias_gradient = bias_gradient + grouped_.bias(client_);
        take_scratch();
        if (conv_.linear()) {
            kernels_.conv_expand(conv_);
            kernels_.linear_weight_gradient(conv_);
        } else {
            kernels_.conv_weight_gradient(conv_);
        }
        T* all = weight_gradient + grouped_.weight(client_);
        copy_rows(conv_.weight_gradient, width(), conv_.rows, width(), all, all_width());
    }

  private:
    // Entries of a row of the client's weight, and of a row of the tensor.
    std::int64_t width() const { return conv_.in.channels * conv_.kernel * conv_.kernel; }
    std::int64_t all_width() const { return grouped_.all_columns * conv_.kernel * conv_.kernel; }

    const T* compact_weight(const T* weights) {
        T* compact = arena_.scratch(conv_.rows * width());
        copy_rows(weights + grouped_.weight(client_), all_width(), conv_.rows, width(), compact, width());
        return compact;
    }

    void read_gradient(const T* gradient) {
        target_.gradient = packed(gradient + grouped_.output(client_), grouped_.all_rows, target_.image, arena_);
    }

    // When it is known which gradient is wanted.
    void take_scratch() {
        const ScratchSizes<T> sizes(conv_);
        conv_.packed = arena_.scratch(sizes.packed);
        conv_.line = arena_.scratch(sizes.line);
        conv_.expanded = arena_.take(sizes.expanded);
        conv_.partial = arena_.scratch(sizes.partial);
    }

    const Kernels<T>& kernels_;
    const Grouped& grouped_;
    std::int64_t client_;
    Arena<T>& arena_;
    Conv<T> conv_{};
    Target<T> target_{};
};

// Calls work(layer) for every client that has outputs. Results begin as zeros, and the others' stay so.
template <class T, class Work>
void for_each_layer(const Kernels<T>& kernels, const Grouped& grouped, int threads, const Work& work) {
    std::vector<double> works;
    double total = 0;
    for (std::int64_t client = 0; client < grouped.clients(); ++client) {
        works.push_back(grouped.work(client));
        total += works.back();
    }
    constexpr double TOGETHER = 16;  // products that take as long as one entry streamed
    const int used = useful_threads(static_cast<std::int64_t>(total / TOGETHER), grouped.clients(), threads);
    Arenas<T> arenas(used);
    largest_first(works, used, [&](std::int64_t client, int worker) {
        if (grouped.samples[client] == 0 || grouped.rows[client] == 0) return;
        ClientLayer<T> layer(kernels, grouped, client, arenas[worker]);
        work(layer);
        arenas[worker].give_back();
    });
}

void forward(const Array& inputs, const Array& weights, const std::optional<Array>& bias, const Counts& counts,
             std::int64_t stride, std::int64_t padding, const Array& outputs, int threads) {
    const Grouped grouped(inputs, weights, outputs, counts, stride, padding);
    const py::gil_scoped_release released;
    with_dtype(std::get<2>(inputs), [&]<class T>(const Kernels<T>& kernels) {
        const T* from = entries<const T>(inputs).data();
        const T* weight = entries<const T>(weights).data();
        const T* added = bias ? entries<const T>(*bias).data() : nullptr;
        T* to = entries<T>(outputs).data();
        for_each_layer(kernels, grouped, threads, [&](auto& layer) { layer.forward(from, weight, added, to); });
    });
}

void input_gradient(const Array& gradient, const Array& weights, const Counts& counts, std::int64_t stride,
                    std::int64_t padding, const Array& result, int threads) {
    const Grouped grouped(result, weights, gradient, counts, stride, padding);
    const py::gil_scoped_release released;
    with_dtype(std::get<2>(gradient), [&]<class T>(const Kernels<T>& kernels) {
        const T* from = entries<const T>(gradient).data();
        const T* weight = entries<const T>(weights).data();
        T* to = entries<T>(result).data();
        for_each_layer(kernels, grouped, threads, [&](auto& layer) { layer.input_gradient(from, weight, to); });
    });
}

void weight_gradient(const Array& inputs, const Array& gradient, const Counts& counts, std::int64_t stride,
                     std::int64_t padding, const Array& weight_result, const Array& bias_result, int threads) {
    const Grouped grouped(inputs, weight_result, gradient, counts, stride, padding);
    const py::gil_scoped_release released;
    with_dtype(std::get<2>(inputs), [&]<class T>(const Kernels<T>& kernels) {
        const T* from = entries<const T>(inputs).data();
        const T* behind = entries<const T>(gradient).data();
        T* weight = entries<T>(weight_result).data();
        T* bias = entries<T>(bias_result).data();
        for_each_layer(kernels, grouped, threads,
                       [&](auto& layer) { layer.weight_gradient(from, behind, weight, bias); });
    });
}

}  // namespace

void bind_grouped(py::module_& module) {
    module.def("grouped_forward", &forward);
    module.def("grouped_input_gradient", &input_gradient);
    module.def("grouped_weight_gradient", &weight_gradient);
}

}  // namespace fedlps
