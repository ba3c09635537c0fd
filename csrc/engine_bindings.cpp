// local_round and evaluate: what fedlps/engine/cpu.py hands over, as the engine takes it.
#include "engine_bindings.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "common/arrays.h"
#include "cpu/engine/rounds.h"
#include "cpu/isa.h"

namespace py = pybind11;

namespace fedlps {

namespace {

// A value of a dictionary, None for an array that is not there.
template <class V>
V value(const py::dict& from, const char* key) {
    return from[key].cast<V>();
}

template <class T>
std::span<T> array(const py::dict& from, const char* key) {
    const auto given = value<std::optional<Array>>(from, key);
    return given ? entries<T>(*given) : std::span<T>();
}

Program program_of(const py::dict& given) {
    const auto layers = array<const std::int64_t>(given, "table");
    const auto steps = array<const std::int64_t>(given, "steps");
    return {{{reinterpret_cast<const Layer*>(layers.data()), layers.size() / 9}, array<const std::int64_t>(given, "groups")},
            {reinterpret_cast<const ProgramStep*>(steps.data()), steps.size() / 9},
            array<const std::int64_t>(given, "exits"),
            value<std::int64_t>(given, "channels"),
            value<std::int64_t>(given, "height"),
            value<std::int64_t>(given, "width"),
            value<std::int64_t>(given, "classes"),
            value<std::int64_t>(given, "parameters")};
}

template <class T>
Source<T> source_of(const Kernels<T>& kernels, const py::dict& given) {
    const auto table = array<const T>(given, "table");
    const auto line = array<const double>(given, "line");
    std::uint8_t bytes[256];
    std::iota(bytes, bytes + 256, std::uint8_t{0});
    bool same = true;
    for (std::size_t channel = 0; 2 * channel < line.size(); ++channel) {
        T values[256];
        kernels.normalize(bytes, 256, nullptr, &line[2 * channel], values);
        same = same && std::equal(values, values + 256, &table[256 * channel]);
    }
    return {array<const std::uint8_t>(given, "bytes").data(), table.data(), same ? line.data() : nullptr,
            array<const T>(given, "values").data(), array<const std::int64_t>(given, "labels").data()};
}

PassTerm pass_of(const py::dict& given) {
    auto widths = value<std::optional<std::vector<std::int32_t>>>(given, "widths");
    return {value<std::int64_t>(given, "batch"),
            value<std::vector<std::pair<std::int64_t, double>>>(given, "at"),
            value<double>(given, "weight"),
            widths.has_value(),
            widths.value_or(std::vector<std::int32_t>()),
            value<std::int64_t>(given, "teacher")};
}

template <class T>
Job<T> job_of(const py::dict& given) {
    Job<T> job{};
    job.samples = array<const std::int64_t>(given, "samples");
    job.edges = array<const std::int64_t>(given, "edges");
    job.epoch_steps = value<std::int64_t>(given, "epoch_steps");
    job.first_step = value<std::int64_t>(given, "first_step");
    job.last_step = value<std::int64_t>(given, "last_step");
    job.counts = array<const std::int32_t>(given, "counts");
    job.mask = array<const std::uint8_t>(given, "mask");
    job.exits = value<std::int64_t>(given, "exits");
    job.scale = array<const double>(given, "scale");
    for (const py::handle pull : value<py::list>(given, "pulls")) {
        const auto [coefficient, reference] = pull.cast<std::pair<double, Array>>();
        job.pulls.push_back({coefficient, entries<const T>(reference)});
    }
    job.penalty = value<double>(given, "penalty");
    job.mutual = value<double>(given, "mutual");
    job.lr = value<double>(given, "lr");
    job.momentum = value<double>(given, "momentum");
    job.weight_decay = value<double>(given, "weight_decay");
    job.clip = value<double>(given, "clip");
    for (const py::handle pass : value<py::list>(given, "passes")) job.passes.push_back(pass_of(pass.cast<py::dict>()));
    const auto learning = value<std::optional<std::tuple<double, double, bool>>>(given, "learning");
    job.learned = learning.has_value();
    if (learning) job.learning = {std::get<0>(*learning), std::get<1>(*learning), std::get<2>(*learning)};
    job.after_gradient = value<bool>(given, "after_gradient");
    job.start = array<const T>(given, "start");
    job.parameters = array<T>(given, "parameters");
    job.velocity = array<T>(given, "velocity");
    job.redundancy = array<T>(given, "redundancy");
    job.kept = array<std::int32_t>(given, "kept");
    job.losses = array<double>(given, "losses");
    job.squares = array<double>(given, "squares");
    job.kept_by_step = array<std::int32_t>(given, "kept_by_step");
    job.gradients = array<T>(given, "gradients");
    job.first_gradient = array<T>(given, "first_gradient");
    job.compact = array<T>(given, "compact");
    job.told = array<std::int64_t>(given, "told");
    return job;
}

void run_local_round(const py::dict& program, const py::dict& source, const py::list& jobs, const std::string& dtype,
                     int threads) {
    const Program model = program_of(program);
    with_dtype(dtype, [&]<class T>(const Kernels<T>& kernels) {
        const Source<T> samples = source_of<T>(kernels, source);
        std::vector<Job<T>> work;
        for (const py::handle job : jobs) work.push_back(job_of<T>(job.cast<py::dict>()));
        py::gil_scoped_release released;
        local_round<T>(kernels, model, samples, work, threads);
    });
}

// rows: per piece, which model runs it; pieces are consecutive samples.
void run_evaluate(const py::dict& program, const py::dict& source, const Array& counts, const Array& weights,
                  const Array& rows, const Array& samples, const Array& edges, const Array& hits, const Array& losses,
                  std::int64_t batch, const std::string& dtype, int threads) {
    const Program model = program_of(program);
    with_dtype(dtype, [&]<class T>(const Kernels<T>& kernels) {
        const Source<T> from = source_of<T>(kernels, source);
        const auto indices = entries<const std::int64_t>(samples), bounds = entries<const std::int64_t>(edges);
        const auto right = entries<std::uint8_t>(hits);
        std::vector<Model<T>> models;
        const auto rows_of = entries<const std::int64_t>(rows);
        for (std::size_t piece = 0; piece < rows_of.size(); ++piece) {
            const std::int64_t row = rows_of[piece];
            const auto first = static_cast<std::size_t>(bounds[piece]), size = static_cast<std::size_t>(bounds[piece + 1]) - first;
            models.push_back({entries<const std::int32_t>(counts).subspan(row * extent(counts, 1), extent(counts, 1)),
                              entries<const T>(weights).subspan(row * extent(weights, 1), extent(weights, 1)),
                              indices.subspan(first, size), right.subspan(first, size), &entries<double>(losses)[piece]});
        }
        py::gil_scoped_release released;
        evaluate<T>(kernels, model, from, models, batch, threads);
    });
}

}  // namespace

void bind_engine(py::module_& module) {
    module.def("local_round", &run_local_round);
    module.def("evaluate", &run_evaluate);
}

}  // namespace fedlps
