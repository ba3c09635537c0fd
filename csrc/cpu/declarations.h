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

}  // namespace fedlps::FEDLPS_ISA
