// What every kernel source of one instruction set shares. FEDLPS_ISA, its name, is also the namespace: nothing that one
// set's flags compiled can be linked into another's.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/kernels.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void unit_abs_sum(const Layout&, std::span<const T>, std::span<T>);
template <class T>
void select_units(const Layout&, std::span<const T>, std::span<const std::int32_t>, std::span<std::int32_t>);
template <class T>
void importance_step(const Layout&, std::span<const T>, std::span<const T>, std::span<const T>, double, double, double,
                     bool, std::span<T>);
template <class T>
void gather_weights(const Layout&, const Submodel&, std::span<const T>, std::span<T>);
template <class T>
void scatter_weights(const Layout&, const Submodel&, std::span<const T>, std::span<T>);
template <class T>
void scatter_update(const Layout&, const Submodel&, const Step&, std::span<const T>, std::span<const T>, std::span<T>,
                    std::span<T>);
template <class T>
void aggregate_row(const Layout&, const Cohort&, bool, std::int64_t, std::int64_t, std::span<const T>,
                   std::span<const T>, std::span<double>, std::span<T>);

template <class T>
void conv_forward(const Conv<T>&);
template <class T>
void conv_expand(const Conv<T>&);
template <class T>
void conv_input_gradient(const Conv<T>&);
template <class T>
void conv_weight_gradient(const Conv<T>&);
template <class T>
void linear_weight_gradient(const Conv<T>&);
template <class T>
void winograd_forward(const Conv<T>&);
template <class T>
void winograd_gradients(const Conv<T>&);
template <class T>
void pool_forward(const Pool<T>&);
template <class T>
void pool_backward(const Pool<T>&);
template <class T>
void norm_statistics(const Norm<T>&);
template <class T>
void norm_forward(const Norm<T>&);
template <class T>
void norm_backward(const Norm<T>&);
template <class T>
void loss(Loss<T>&);
template <class T>
void softmax(std::int64_t, std::int64_t, const T*, T*);
template <class T>
void add(std::int64_t, double, const T*, T*);
template <class T>
void pull(std::int64_t, double, const T*, const T*, T*);
template <class T>
void keep(std::int64_t, const std::uint8_t*, T*);
template <class T>
double squares(std::int64_t, const T*);
template <class T>
void sgd(std::int64_t, double, double, double, double, const std::uint8_t*, const T*, T*, T*);
template <class T>
bool plain_step(const PlainStep<T>&, std::int64_t, std::int64_t, std::int64_t, const T*, std::int64_t);
template <class T>
bool finite(std::int64_t, const T*);
template <class T>
void row_sums(std::int64_t, std::int64_t, const T*, T*);
template <class T>
void normalize(const std::uint8_t*, std::int64_t, const T*, const double*, T*);
template <class T>
void load_samples(const T*, const std::int64_t*, const Image&, T*);

}  // namespace fedlps::FEDLPS_ISA
