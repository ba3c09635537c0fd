// The CUDA part for Python: fedlps_kernels/<op>/cuda.py calls these with tensors in device memory, which nobody reads here.
#include "cuda_bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "common/arrays.h"
#include "cuda/kernels.h"

namespace py = pybind11;

namespace fedlps {
namespace {

using cuda::Stream;
using Maybe = std::optional<Array>;
// fedlps_kernels/on_device.py: table, groups, pieces of work; parameters, units, lines, tiles, chunks
using ModelArrays = std::tuple<Array, Array, Array, std::array<std::int64_t, 5>>;
using PlacesArrays = std::array<Array, 5>;     // weight, row, column, inner, vectors
using CohortArrays = std::pair<Maybe, Array>;  // kept, counts
using ActiveArrays = std::pair<Maybe, Maybe>;  // samples, lost
using PullArrays = std::pair<double, Array>;   // coefficient, reference

template <class T>
T* pointer(const Array& array) {
    return entries<T>(array).data();
}

template <class T>
T* pointer(const Maybe& array) {
    return array ? pointer<T>(*array) : nullptr;
}

cuda::Model model_of(const ModelArrays& arrays) {
    const auto& [table, groups, pieces, sizes] = arrays;
    const auto& [parameters, units, lines, tiles, chunks] = sizes;
    const std::int64_t layers = extent(table, 0);
    const auto* work = pointer<const std::int64_t>(pieces);
    return {reinterpret_cast<const Layer*>(pointer<const std::int64_t>(table)),
            pointer<const std::int64_t>(groups), work, work + layers + 1, work + 2 * (layers + 1),
            layers, extent(groups, 0) - 1, units, parameters, lines, tiles, chunks};
}

cuda::Places places_of(const PlacesArrays& arrays) {
    const auto offsets = [&](int number) { return pointer<const std::int64_t>(arrays[number]); };
    return {offsets(0), offsets(1), offsets(2), offsets(3), offsets(4)};
}

cuda::Cohort cohort_of(const CohortArrays& arrays) {
    const auto& [kept, counts] = arrays;
    return {extent(counts, 0), pointer<const std::int32_t>(kept), pointer<const std::int32_t>(counts)};
}

cuda::Active active_of(const ActiveArrays& arrays) {
    return {pointer<const std::int32_t>(arrays.first), pointer<std::int32_t>(arrays.second)};
}

cuda::Widths widths_of(const Maybe& counts) {
    if (!counts) return {0, nullptr};
    return {static_cast<int>(extent(*counts, 0)), pointer<const std::int32_t>(counts)};
}

// Calls work(T{}) for the tensor's dtype.
template <class Work>
void with_type(const Array& tensor, const Work& work) {
    const std::string& dtype = std::get<2>(tensor);
    if (dtype == "float32") return work(float{});
    if (dtype == "float64") return work(double{});
    throw std::invalid_argument("dtype: got " + dtype + ", expected float32 or float64");
}

std::vector<std::int64_t> pieces_of_work(const Array& table) {
    const auto rows = entries<const std::int64_t>(table);
    return cuda::pieces_of_work({reinterpret_cast<const Layer*>(rows.data()), rows.size() / 9});
}

void unit_abs_sum(const ModelArrays& model, const Array& parameters, const Array& sums, Stream stream) {
    with_type(parameters, [&]<class T>(T) {
        cuda::unit_abs_sum(model_of(model), extent(parameters, 0), pointer<const T>(parameters), pointer<T>(sums), stream);
    });
}

void select_units(const ModelArrays& model, const Array& scores, bool negated, const Array& counts,
                  const ActiveArrays& active, const Array& kept, const Maybe& changed, Stream stream) {
    with_type(scores, [&]<class T>(T) {
        cuda::select_units(model_of(model), extent(scores, 0), pointer<const T>(scores), negated,
                           pointer<const std::int32_t>(counts), active_of(active), pointer<std::int32_t>(kept),
                           pointer<std::int32_t>(changed), stream);
    });
}

void importance_step(const ModelArrays& model, const Array& redundancy, const Array& sums, const Maybe& unit_gradient,
                     const Array& lr, double lam, double kappa, bool mean, const ActiveArrays& active,
                     const Array& stepped, Stream stream) {
    with_type(redundancy, [&]<class T>(T) {
        cuda::importance_step(model_of(model), extent(redundancy, 0), pointer<const T>(redundancy), pointer<const T>(sums),
                              pointer<const T>(unit_gradient), pointer<const T>(lr), {lam, kappa, mean},
                              active_of(active), pointer<T>(stepped), stream);
    });
}

void move(const ModelArrays& model, const CohortArrays& taken, const Array& source, const PlacesArrays& from,
          const CohortArrays& placed, const Array& target, const PlacesArrays& to, bool tf32, const Maybe& widths,
          Stream stream) {
    const cuda::Rounding rounding = tf32 ? cuda::Rounding::TF32 : cuda::Rounding::NONE;
    with_type(source, [&]<class T>(T) {
        const auto into = [&](auto* address) {
            cuda::move(model_of(model), cohort_of(taken), pointer<const T>(source), places_of(from), cohort_of(placed),
                       address, places_of(to), rounding, pointer<const std::int32_t>(widths), stream);
        };
        if constexpr (std::is_same_v<T, float>)
            if (std::get<2>(target) == "bfloat16") return into(reinterpret_cast<std::uint16_t*>(std::get<0>(target)));
        into(pointer<T>(target));
    });
}

void rank_units(const ModelArrays& model, const CohortArrays& cohort, const Array& ranks, Stream stream) {
    cuda::rank_units(model_of(model), cohort_of(cohort), pointer<std::int32_t>(ranks), stream);
}

void dropped_sums(const ModelArrays& model, const CohortArrays& cohort, const Array& parameters, const Array& ranks,
                  const Maybe& changed, const Array& dropped, Stream stream) {
    with_type(parameters, [&]<class T>(T) {
        cuda::dropped_sums(model_of(model), cohort_of(cohort), pointer<const T>(parameters),
                           pointer<const std::int32_t>(ranks), pointer<const std::int32_t>(changed), pointer<T>(dropped),
                           stream);
    });
}

void gate_gradients(const ModelArrays& model, const CohortArrays& cohort, const Array& parameters, const Array& gradient,
                    const PlacesArrays& places, const Array& gates, Stream stream) {
    with_type(parameters, [&]<class T>(T) {
        cuda::gate_gradients(model_of(model), cohort_of(cohort), pointer<const T>(parameters), pointer<const T>(gradient),
                             places_of(places), pointer<T>(gates), stream);
    });
}

void scatter_update(const ModelArrays& model, const CohortArrays& cohort, const Array& parameters, const Array& gradient,
                    const PlacesArrays& places, const std::vector<PullArrays>& pulls, const Array& lr,
                    double weight_decay, double clip, double momentum, const Maybe& velocity, const ActiveArrays& active,
                    const Maybe& widths, const Maybe& dropped, const Maybe& sums, const Maybe& squares,
                    const Maybe& factors, Stream stream) {
    if (pulls.size() > cuda::MOST_PULLS)
        throw std::invalid_argument("pulls: got " + std::to_string(pulls.size()) + ", expected at most " +
                                    std::to_string(cuda::MOST_PULLS));
    with_type(parameters, [&]<class T>(T) {
        cuda::Update<T> update{{}, static_cast<int>(pulls.size()), weight_decay, clip, momentum, pointer<const T>(lr),
                               pointer<T>(velocity), widths_of(widths)};
        for (std::size_t number = 0; number < pulls.size(); ++number) {
            const auto& [coefficient, reference] = pulls[number];
            const std::int64_t pitch = std::get<1>(reference).size() == 1 ? 0 : extent(reference, 1);
            update.pulls[number] = {static_cast<T>(coefficient), pointer<const T>(reference), pitch};
        }
        cuda::scatter_update(model_of(model), cohort_of(cohort), pointer<T>(parameters), pointer<const T>(gradient),
                             places_of(places), update, active_of(active), pointer<const T>(dropped), pointer<T>(sums),
                             pointer<double>(squares), pointer<double>(factors), stream);
    });
}

void scatter_aggregate(const ModelArrays& model, const Array& parameters, const Array& residuals,
                       const PlacesArrays& places, const Array& ranks, const Array& weights, bool holders,
                       const Array& result, Stream stream) {
    with_type(parameters, [&]<class T>(T) {
        cuda::scatter_aggregate(model_of(model), extent(weights, 0), pointer<const T>(parameters),
                                pointer<const T>(residuals), places_of(places), pointer<const std::int32_t>(ranks),
                                pointer<const double>(weights), holders, pointer<T>(result), stream);
    });
}

}  // namespace

void bind_cuda(py::module_& module) {
    module.def("cuda_pieces_of_work", &pieces_of_work);
    module.def("cuda_unit_abs_sum", &unit_abs_sum);
    module.def("cuda_select_units", &select_units);
    module.def("cuda_importance_step", &importance_step);
    module.def("cuda_move", &move);
    module.def("cuda_rank_units", &rank_units);
    module.def("cuda_dropped_sums", &dropped_sums);
    module.def("cuda_gate_gradients", &gate_gradients);
    module.def("cuda_scatter_update", &scatter_update);
    module.def("cuda_scatter_aggregate", &scatter_aggregate);
}

}  // namespace fedlps
