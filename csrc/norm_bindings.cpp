// unit_norm: a client's part of each tensor packed for the engine's step kernels, what these leave unpacked.
#include "norm_bindings.h"

#include <pybind11/stl.h>

#include <array>

#include "common/arrays.h"
#include "cpu/engine/workers.h"
#include "cpu/isa.h"
#include "packing.h"

namespace py = pybind11;

namespace fedlps {

namespace {

using Counts = std::array<Array, 2>;  // of samples and rows, (C) each

// The norms of a cohort: what one client's part of each tensor is.
struct Norms {
    std::span<const std::int32_t> samples, rows;
    std::int64_t all_samples, all_rows;  // what there is room for
    std::int64_t height, width;

    Norms(const Array& inputs, const Counts& counts)
        : samples(entries<const std::int32_t>(counts[0])), rows(entries<const std::int32_t>(counts[1])),
          all_samples(extent(inputs, 1)), all_rows(extent(inputs, 2)), height(side(inputs, 3)), width(side(inputs, 4)) {}

    std::int64_t clients() const { return static_cast<std::int64_t>(samples.size()); }
    std::int64_t work(std::int64_t client) const {
        return std::int64_t{samples[client]} * rows[client] * height * width;
    }
    Image image(std::int64_t client) const { return {rows[client], height, width, 0, 1, samples[client]}; }
    // Where a client's part begins.
    std::int64_t start(std::int64_t client) const { return client * all_samples * all_rows * height * width; }
};

// One client's norm, in a worker's memory. Tensors are the whole cohort's.
template <class T>
class ClientNorm {
  public:
    ClientNorm(const Kernels<T>& kernels, const Norms& norms, std::int64_t client, const T* inputs, const T* scale,
               Arena<T>& arena)
        : kernels_(kernels), norms_(norms), client_(client), arena_(arena), image_(norms.image(client)) {
        norm_.in = image_;
        norm_.pool = 1, norm_.height = norms.height, norm_.width = norms.width;
        norm_.input = packed(inputs + norms.start(client), norms.all_rows, image_, arena);
        norm_.scale = scale + units();
        norm_.mean = arena.scratch(image_.channels), norm_.reciprocal = arena.scratch(image_.channels);
        norm_.line = arena.scratch(image_.channel_stride() + SLACK);
        target_.image = image_;
        norm_.targets = {&target_, 1};
    }
    ClientNorm(const ClientNorm&) = delete;
    ClientNorm& operator=(const ClientNorm&) = delete;

    void forward(const T* shift, T* outputs) {
        norm_.shift = shift + units();
        target_.values = arena_.scratch(image_.size() + SLACK);
        kernels_.norm_forward(norm_);
        unpack(target_.values, image_, norms_.all_rows, outputs + norms_.start(client_));
    }

    void backward(const T* gradient, T* input_gradient, T* scale_gradient, T* shift_gradient) {
        target_.gradient = packed(gradient + norms_.start(client_), norms_.all_rows, image_, arena_);
        norm_.input_gradient = arena_.scratch(image_.size() + SLACK);
        norm_.scale_gradient = scale_gradient + units(), norm_.shift_gradient = shift_gradient + units();
        kernels_.norm_statistics(norm_);
        kernels_.norm_backward(norm_);
        unpack(norm_.input_gradient, image_, norms_.all_rows, input_gradient + norms_.start(client_));
    }

  private:
    std::int64_t units() const { return client_ * norms_.all_rows; }

    const Kernels<T>& kernels_;
    const Norms& norms_;
    std::int64_t client_;
    Arena<T>& arena_;
    Image image_;
    Norm<T> norm_{};
    Target<T> target_{};
};

// Calls work(norm) for every client that has outputs. Results begin as zeros, and the others' stay so.
template <class T, class Work>
void for_each_norm(const Kernels<T>& kernels, const Norms& norms, const T* inputs, const T* scale, int threads,
                   const Work& work) {
    std::vector<double> works;
    std::int64_t total = 0;
    for (std::int64_t client = 0; client < norms.clients(); ++client) {
        total += norms.work(client);
        works.push_back(static_cast<double>(norms.work(client)));
    }
    const int used = useful_threads(total, norms.clients(), threads);
    Arenas<T> arenas(used);
    largest_first(works, used, [&](std::int64_t client, int worker) {
        if (norms.work(client) == 0) return;
        ClientNorm<T> norm(kernels, norms, client, inputs, scale, arenas[worker]);
        work(norm);
        arenas[worker].give_back();
    });
}

void forward(const Array& inputs, const Array& scale, const Array& shift, const Counts& counts, const Array& outputs,
             int threads) {
    const Norms norms(inputs, counts);
    const py::gil_scoped_release released;
    with_dtype(std::get<2>(inputs), [&]<class T>(const Kernels<T>& kernels) {
        const T* added = entries<const T>(shift).data();
        T* to = entries<T>(outputs).data();
        for_each_norm(kernels, norms, entries<const T>(inputs).data(), entries<const T>(scale).data(), threads,
                      [&](auto& norm) { norm.forward(added, to); });
    });
}

void gradient(const Array& inputs, const Array& gradient, const Array& scale, const Counts& counts,
              const Array& input_result, const Array& scale_result, const Array& shift_result, int threads) {
    const Norms norms(inputs, counts);
    const py::gil_scoped_release released;
    with_dtype(std::get<2>(inputs), [&]<class T>(const Kernels<T>& kernels) {
        const T* behind = entries<const T>(gradient).data();
        T* to_inputs = entries<T>(input_result).data();
        T* to_scale = entries<T>(scale_result).data();
        T* to_shift = entries<T>(shift_result).data();
        for_each_norm(kernels, norms, entries<const T>(inputs).data(), entries<const T>(scale).data(), threads,
                      [&](auto& norm) { norm.backward(behind, to_inputs, to_scale, to_shift); });
    });
}

}  // namespace

void bind_norm(py::module_& module) {
    module.def("norm_forward", &forward);
    module.def("norm_gradient", &gradient);
}

}  // namespace fedlps
