// Windows of 3x3 lie one behind another: each of their nine entries as a vector over windows, and back.
#pragma once

#include <utility>

#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

// Every third entry of three vectors behind one another, from the one given on.
template <class T, int FIRST, std::size_t... LANE>
[[gnu::always_inline]] inline Vector<T> every_third(Vector<T> a, Vector<T> b, Vector<T> c, std::index_sequence<LANE...>) {
    constexpr auto at = [](std::size_t lane) { return FIRST + 3 * static_cast<int>(lane); };
    constexpr auto first = [at](std::size_t lane) { return at(lane) < 2 * LANES<T> ? at(lane) : -1; };
    constexpr auto second = [at](std::size_t lane) {
        return at(lane) < 2 * LANES<T> ? static_cast<int>(lane) : at(lane) - LANES<T>;
    };
    const Vector<T> begun = __builtin_shufflevector(a, b, first(LANE)...);
    return __builtin_shufflevector(begun, c, second(LANE)...);
}

// The part of that number of what every_third took apart.
template <class T, int PART, std::size_t... LANE>
[[gnu::always_inline]] inline Vector<T> one_of_thirds(Vector<T> a, Vector<T> b, Vector<T> c, std::index_sequence<LANE...>) {
    constexpr auto at = [](std::size_t lane) { return PART * LANES<T> + static_cast<int>(lane); };
    constexpr auto first = [at](std::size_t lane) {
        return at(lane) % 3 == 0 ? at(lane) / 3 : at(lane) % 3 == 1 ? LANES<T> + at(lane) / 3 : -1;
    };
    constexpr auto second = [at](std::size_t lane) {
        return at(lane) % 3 < 2 ? static_cast<int>(lane) : LANES<T> + at(lane) / 3;
    };
    const Vector<T> begun = __builtin_shufflevector(a, b, first(LANE)...);
    return __builtin_shufflevector(begun, c, second(LANE)...);
}

template <class T>
[[gnu::always_inline]] inline void split_thirds(Vector<T>& a, Vector<T>& b, Vector<T>& c) {
    constexpr auto lanes = std::make_index_sequence<LANES<T>>();
    const Vector<T> parts[] = {every_third<T, 0>(a, b, c, lanes), every_third<T, 1>(a, b, c, lanes),
                               every_third<T, 2>(a, b, c, lanes)};
    a = parts[0], b = parts[1], c = parts[2];
}

template <class T>
[[gnu::always_inline]] inline void join_thirds(Vector<T>& a, Vector<T>& b, Vector<T>& c) {
    constexpr auto lanes = std::make_index_sequence<LANES<T>>();
    const Vector<T> parts[] = {one_of_thirds<T, 0>(a, b, c, lanes), one_of_thirds<T, 1>(a, b, c, lanes),
                               one_of_thirds<T, 2>(a, b, c, lanes)};
    a = parts[0], b = parts[1], c = parts[2];
}

// LANES windows, one behind another, to [entry][window].
template <class T>
[[gnu::always_inline]] inline void split_windows(const T* windows, T* entries) {
    Vector<T> of[9];
#pragma GCC unroll 9
    for (int each = 0; each < 9; ++each) of[each] = load(windows + each * LANES<T>);
#pragma GCC unroll 3
    for (int each = 0; each < 9; each += 3) split_thirds<T>(of[each], of[each + 1], of[each + 2]);
#pragma GCC unroll 3
    for (int each = 0; each < 3; ++each) {
        split_thirds<T>(of[each], of[each + 3], of[each + 6]);
        // entries each, each + 3, each + 6
        store(entries + each * LANES<T>, of[each]);
        store(entries + (each + 3) * LANES<T>, of[each + 3]);
        store(entries + (each + 6) * LANES<T>, of[each + 6]);
    }
}

// And back.
template <class T>
[[gnu::always_inline]] inline void join_windows(const T* entries, T* windows) {
    Vector<T> of[9];
#pragma GCC unroll 9
    for (int each = 0; each < 9; ++each) of[each] = load(entries + each * LANES<T>);
#pragma GCC unroll 3
    for (int each = 0; each < 3; ++each) join_thirds<T>(of[each], of[each + 3], of[each + 6]);
#pragma GCC unroll 3
    for (int each = 0; each < 9; each += 3) {
        join_thirds<T>(of[each], of[each + 1], of[each + 2]);
        store(windows + each * LANES<T>, of[each]);
        store(windows + (each + 1) * LANES<T>, of[each + 1]);
        store(windows + (each + 2) * LANES<T>, of[each + 2]);
    }
}

}  // namespace fedlps::FEDLPS_ISA
