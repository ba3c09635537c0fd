// fedlps_kernels._native: each op's batch over clients, one client per thread, without the GIL.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "common/arrays.h"
#include "common/parallel.h"
#include "cpu/isa.h"
#include "engine_bindings.h"
#include "grouped_bindings.h"
#include "norm_bindings.h"
#ifdef FEDLPS_HAS_CUDA
#include "cuda/runtime.h"
#include "cuda_bindings.h"
#endif

namespace py = pybind11;
using namespace fedlps;

namespace {

Layout layout_of(const Array& table, const Array& groups) {
    const auto rows = entries<const std::int64_t>(table);
    return {{reinterpret_cast<const Layer*>(rows.data()), rows.size() / 9}, entries<const std::int64_t>(groups)};
}

// Only groups: for ops that know of no layers.
Layout layout_of(const Array& groups) { return {{}, entries<const std::int64_t>(groups)}; }

// The kept units and counts of a cohort.
struct Submodels {
    std::span<const std::int32_t> kept, counts;
    std::int64_t units, groups;

    Submodels(const Array& kept, const Array& counts)
        : kept(entries<const std::int32_t>(kept)), counts(entries<const std::int32_t>(counts)),
          units(extent(kept, 1)), groups(extent(counts, 1)) {}

    Submodel operator[](std::int64_t client) const {
        return {kept.subspan(client * units, units), counts.subspan(client * groups, groups)};
    }
};

// Calls work(kernels) with this instruction set's kernels for the tensor's dtype.
template <class Work>
void with_kernels(const Array& tensor, const Work& work) {
    py::gil_scoped_release released;
    with_dtype(std::get<2>(tensor), work);
}

template <class Body>
void for_each_client(std::int64_t clients, std::int64_t entries_each, int threads, const Body& body) {
    parallel_for(clients, useful_threads(clients * entries_each, clients, threads),
                 [&](std::int64_t client, int) { body(client); });
}

void unit_abs_sum(const Array& table, const Array& groups, const Array& parameters, const Array& sums, int threads) {
    const Layout layout = layout_of(table, groups);
    const std::int64_t size = extent(parameters, 1), units = extent(sums, 1);
    with_kernels(parameters, [&]<class T>(const Kernels<T>& kernels) {
        const auto from = entries<const T>(parameters);
        const auto to = entries<T>(sums);
        for_each_client(extent(parameters, 0), size, threads, [&](std::int64_t client) {
            kernels.unit_abs_sum(layout, row_of(from, size, client), row_of(to, units, client));
        });
    });
}

void select_units(const Array& groups, const Array& scores, const Array& counts, const Array& kept, int threads) {
    const Layout layout = layout_of(groups);
    const auto numbers = entries<const std::int32_t>(counts);
    const auto to = entries<std::int32_t>(kept);
    const std::int64_t units = extent(scores, 1), number = extent(counts, 1);
    with_kernels(scores, [&]<class T>(const Kernels<T>& kernels) {
        const auto from = entries<const T>(scores);
        // Selecting costs some ten times what streaming does.
        for_each_client(extent(scores, 0), 10 * units, threads, [&](std::int64_t client) {
            kernels.select_units(layout, row_of(from, units, client), row_of(numbers, number, client),
                                 row_of(to, units, client));
        });
    });
}

void importance_step(const Array& groups, const Array& redundancy, const Array& sums, const Array& unit_gradient,
                     double lr, double lam, double kappa, bool mean, const Array& stepped, int threads) {
    const Layout layout = layout_of(groups);
    const std::int64_t units = extent(redundancy, 1);
    with_kernels(redundancy, [&]<class T>(const Kernels<T>& kernels) {
        const auto d = entries<const T>(redundancy), a = entries<const T>(sums), t = entries<const T>(unit_gradient);
        const auto to = entries<T>(stepped);
        for_each_client(extent(redundancy, 0), 10 * units, threads, [&](std::int64_t client) {
            kernels.importance_step(layout, row_of(d, units, client), row_of(a, units, client),
                                    row_of(t, units, client), lr, lam, kappa, mean, row_of(to, units, client));
        });
    });
}

void gather_weights(const Array& table, const Array& groups, const Array& parameters, const Array& kept,
                    const Array& counts, const Array& compact, int threads) {
    const Layout layout = layout_of(table, groups);
    const Submodels submodels(kept, counts);
    const std::int64_t size = extent(parameters, 1), capacity = extent(compact, 1);
    with_kernels(parameters, [&]<class T>(const Kernels<T>& kernels) {
        const auto from = entries<const T>(parameters);
        const auto to = entries<T>(compact);
        for_each_client(extent(compact, 0), capacity, threads, [&](std::int64_t client) {
            kernels.gather_weights(layout, submodels[client], row_of(from, size, client),
                                   row_of(to, capacity, client));
        });
    });
}

void scatter_weights(const Array& table, const Array& groups, const Array& compact, const Array& kept,
                     const Array& counts, const Array& parameters, int threads) {
    const Layout layout = layout_of(table, groups);
    const Submodels submodels(kept, counts);
    const std::int64_t size = extent(parameters, 1), capacity = extent(compact, 1);
    with_kernels(compact, [&]<class T>(const Kernels<T>& kernels) {
        const auto from = entries<const T>(compact);
        const auto to = entries<T>(parameters);
        for_each_client(extent(compact, 0), size, threads, [&](std::int64_t client) {
            kernels.scatter_weights(layout, submodels[client], row_of(from, capacity, client),
                                    row_of(to, size, client));
        });
    });
}

void scatter_update(const Array& table, const Array& groups, const Array& parameters, const Array& gradient,
                    const Array& anchor, const Array& kept, const Array& counts, double lr, double pull,
                    double weight_decay, double clip, double momentum, const std::optional<Array>& velocity,
                    int threads) {
    const Layout layout = layout_of(table, groups);
    const Submodels submodels(kept, counts);
    const Step step{lr, pull, weight_decay, clip, momentum};
    const std::int64_t size = extent(parameters, 1), capacity = extent(gradient, 1);
    with_kernels(parameters, [&]<class T>(const Kernels<T>& kernels) {
        const auto w = entries<T>(parameters);
        const auto g = entries<const T>(gradient), start = entries<const T>(anchor);
        const auto v = velocity ? entries<T>(*velocity) : std::span<T>();
        for_each_client(extent(parameters, 0), capacity, threads, [&](std::int64_t client) {
            kernels.scatter_update(layout, submodels[client], step, row_of(g, capacity, client), start,
                                   row_of(w, size, client), velocity ? row_of(v, size, client) : v);
        });
    });
}

// Where each client's layers begin in its compact vector, and the rank of each of its kept units.
struct TurnedRound {
    std::vector<std::int32_t> ranks;
    std::vector<std::int64_t> starts;

    TurnedRound(const Layout& layout, const Submodels& submodels, std::int64_t clients)
        : ranks(static_cast<std::size_t>(clients * submodels.units), -1) {
        starts.reserve(static_cast<std::size_t>(clients) * layout.layers.size());
        for (std::int64_t client = 0; client < clients; ++client) {
            const Submodel submodel = submodels[client];
            for (std::int64_t group = 0; group < submodels.groups; ++group) {
                const std::int64_t first = layout.groups[group];
                for (std::int32_t rank = 0; rank < submodel.counts[group]; ++rank)
                    ranks[client * submodels.units + first + submodel.kept[first + rank]] = rank;
            }
            std::int64_t start = 0;
            for (const Layer& layer : layout.layers) {
                starts.push_back(start);
                const std::int64_t rows = layer.row_group < 0 ? layer.rows : submodel.counts[layer.row_group];
                const std::int64_t columns =
                    layer.column_group < 0 ? layer.columns : submodel.counts[layer.column_group];
                const int vectors = (layer.bias >= 0) + (layer.scale >= 0) + (layer.shift >= 0);
                start += rows * (columns * layer.inner + vectors);
            }
        }
    }
};

void scatter_aggregate(const Array& table, const Array& groups, const Array& parameters, const Array& residuals,
                       const Array& kept, const Array& counts, const Array& weights, bool holders,
                       const Array& result, int threads) {
    const Layout layout = layout_of(table, groups);
    const Submodels submodels(kept, counts);
    const std::int64_t clients = extent(residuals, 0);
    const TurnedRound turned(layout, submodels, clients);
    const Cohort cohort{clients,       submodels.units,  submodels.groups, extent(residuals, 1),
                        turned.ranks,  submodels.counts, turned.starts,    entries<const double>(weights)};
    std::vector<std::pair<std::int64_t, std::int64_t>> rows;  // (layer, row): each is summed by one thread
    std::size_t widest = 0;
    for (std::size_t index = 0; index < layout.layers.size(); ++index) {
        const Layer& layer = layout.layers[index];
        widest = std::max(widest, static_cast<std::size_t>(layer.columns * (layer.inner + 1)));
        for (std::int64_t row = 0; row < layer.rows; ++row) rows.emplace_back(index, row);
    }
    const auto number = static_cast<std::int64_t>(rows.size());
    const int workers = useful_threads(extent(parameters, 0) * (clients + 1), number, threads);
    std::vector<std::vector<double>> scratch(static_cast<std::size_t>(workers), std::vector<double>(widest));
    with_kernels(parameters, [&]<class T>(const Kernels<T>& kernels) {
        const auto from = entries<const T>(parameters), changes = entries<const T>(residuals);
        const auto to = entries<T>(result);
        parallel_for(number, workers, [&](std::int64_t item, int worker) {
            kernels.aggregate_row(layout, cohort, holders, rows[item].first, rows[item].second, from, changes,
                                  scratch[worker], to);
        });
    });
}

std::vector<std::string> available_isa_names() {
    std::vector<std::string> names;
    for (const InstructionSet* set : available_isas()) names.emplace_back(set->name);
    return names;
}

void use_named_isa(const std::string& name) {
    if (use_isa(name)) return;
    std::string allowed;
    for (const std::string& each : available_isa_names()) allowed += (allowed.empty() ? "" : ", ") + each;
    throw std::invalid_argument("instruction set: got '" + name + "', expected one of those this machine runs: " + allowed);
}

py::object cuda_runtime() {
#ifdef FEDLPS_HAS_CUDA
    const fedlps::cuda::Runtime found = fedlps::cuda::runtime();
    return py::dict(py::arg("architectures") = found.architectures, py::arg("runtime") = found.version,
                    py::arg("driver") = found.driver, py::arg("capabilities") = found.capabilities);
#else
    return py::none();
#endif
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "Native implementations of fedlps_kernels' ops; called by the ops, which check their arguments.";
    module.def("unit_abs_sum", &unit_abs_sum);
    module.def("select_units", &select_units);
    module.def("importance_step", &importance_step);
    module.def("gather_weights", &gather_weights);
    module.def("scatter_weights", &scatter_weights);
    module.def("scatter_update", &scatter_update);
    module.def("scatter_aggregate", &scatter_aggregate);
    bind_engine(module);
    bind_grouped(module);
    bind_norm(module);
#ifdef FEDLPS_HAS_CUDA
    bind_cuda(module);
#endif
    module.def("available_isas", &available_isa_names, "Instruction sets that this machine runs, fastest last.");
    module.def("isa", [] { return std::string(isa().name); }, "The instruction set in use.");
    module.def("use_isa", &use_named_isa, "Use another instruction set from now on.");
    module.def("cuda", &cuda_runtime, "What the CUDA part was built for and finds here; None if it was not built.");
}
