// exp for arguments that are not positive: branch-free, so that it vectorizes, and the same bits everywhere.
#pragma once

#include <bit>
#include <cstdint>

namespace fedlps::FEDLPS_ISA {

// exp(x) for x <= 0, within 2 ulp; 0 below -708, where the result would leave double's normal range.
inline double exp_of_negative(double x) {
    constexpr double ROUNDER = 0x1.8p52;  // adding it leaves the nearest integer in the low bits
    constexpr double LOG2_E = 0x1.71547652b82fep+0;
    constexpr double LN2_HIGH = 0x1.62e42fee00000p-1;  // few bits, so that times an integer is exact
    constexpr double LN2_LOW = 0x1.a39ef35793c76p-33;
    const double bounded = x < -708.0 ? -708.0 : x;
    const double rounded = bounded * LOG2_E + ROUNDER;
    const double power = rounded - ROUNDER;
    const double rest = (bounded - power * LN2_HIGH) - power * LN2_LOW;  // |rest| <= ln(2) / 2
    // Taylor's series; the next term is below 5e-18.
    double tail = 1.0 / 6227020800.0;
    tail = tail * rest + 1.0 / 479001600.0;
    tail = tail * rest + 1.0 / 39916800.0;
    tail = tail * rest + 1.0 / 3628800.0;
    tail = tail * rest + 1.0 / 362880.0;
    tail = tail * rest + 1.0 / 40320.0;
    tail = tail * rest + 1.0 / 5040.0;
    tail = tail * rest + 1.0 / 720.0;
    tail = tail * rest + 1.0 / 120.0;
    tail = tail * rest + 1.0 / 24.0;
    tail = tail * rest + 1.0 / 6.0;
    tail = tail * rest + 0.5;
    const double mantissa = 1.0 + (rest + rest * rest * tail);
    const auto scale = std::bit_cast<double>((std::bit_cast<std::uint64_t>(rounded) + 1023) << 52);
    return x < -708.0 ? 0.0 : mantissa * scale;
}

}  // namespace fedlps::FEDLPS_ISA
