// What the CUDA part does, all rows of all layers and clients in one launch (two or three where said). Pointers are to
// device memory; nothing synchronizes. The definitions are in fedlps_kernels/<op>/definition.py.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/launch.h"
#include "cuda/views.h"

namespace fedlps::cuda {

// Where each layer's lines, tiles and chunks begin (views.h), (layers + 1) each, one behind the other. On the host.
std::vector<std::int64_t> pieces_of_work(std::span<const Layer> layers);

// sums: (C, U).
template <class T>
void unit_abs_sum(const Model& model, std::int64_t clients, const T* parameters, T* sums, Stream stream);

// scores: (C, U), or their negatives; kept: (C, U). changed: (C, G), 1 where kept differs from what it held; or null.
template <class T>
void select_units(const Model& model, std::int64_t clients, const T* scores, bool negated, const std::int32_t* counts,
                  const Active& active, std::int32_t* kept, std::int32_t* changed, Stream stream);

// stepped: (C, U), may be the redundancies themselves. unit_gradient: null for zeros.
template <class T>
void importance_step(const Model& model, std::int64_t clients, const T* redundancy, const T* sums,
                     const T* unit_gradient, const T* lr, const Importance& importance, const Active& active, T* stepped,
                     Stream stream);

enum class Rounding { NONE, TF32 };

// Submodels' entries from their places in one buffer to those in another; pads and all else stay. The units that `taken`
// keeps are chosen among the source's, those of `placed` among the target's; both have the same counts. Beyond the
// widths, (C, G), the target becomes 0; null: nowhere.
// Target: the source's type, or std::uint16_t: bfloat16, rounded to nearest, ties to even.
template <class Source, class Target>
void move(const Model& model, const Cohort& taken, const Source* source, const Places& from, const Cohort& placed,
          Target* target, const Places& to, Rounding rounding, const std::int32_t* widths, Stream stream);

// ranks: (C, U), each unit's rank among the kept ones of its group, or -1.
void rank_units(const Model& model, const Cohort& cohort, std::int32_t* ranks, Stream stream);

// dropped: (C, U), for each kept unit the sum of |entries| of its rows' dropped columns. changed: (C, G) of
// `select_units`: only where the selection changed; or null.
template <class T>
void dropped_sums(const Model& model, const Cohort& cohort, const T* parameters, const std::int32_t* ranks,
                  const std::int32_t* changed, T* dropped, Stream stream);

// gates: (C, U), for each kept unit the sum of w g over its own entries: of a layer with a norm scale and shift, else row
// and bias. Others stay as they are.
template <class T>
void gate_gradients(const Model& model, const Cohort& cohort, const T* parameters, const T* gradient,
                    const Places& places, T* gates, Stream stream);

// The step on kept entries, in place; with clip three launches: squares (C, units + lines) and factors (C), float64.
// sums: (C, U), for each kept unit dropped + the sum of |entries| just written; null without.
template <class T>
void scatter_update(const Model& model, const Cohort& cohort, T* parameters, const T* gradient, const Places& places,
                    const Update<T>& update, const Active& active, const T* dropped, T* sums, double* squares,
                    double* factors, Stream stream);

// residuals at `places`; result: (P). Clients are added in order.
template <class T>
void scatter_aggregate(const Model& model, std::int64_t clients, const T* parameters, const T* residuals,
                       const Places& places, const std::int32_t* ranks, const double* weights, bool holders, T* result,
                       Stream stream);

}  // namespace fedlps::cuda
