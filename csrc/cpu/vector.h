// Vectors of one instruction set, over the compiler's own vector types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace fedlps::FEDLPS_ISA {

#if defined(__AVX512F__)
inline constexpr int VECTOR_BYTES = 64;
inline constexpr int REGISTERS = 32;
#elif defined(__AVX2__)
inline constexpr int VECTOR_BYTES = 32;
inline constexpr int REGISTERS = 16;
#else
inline constexpr int VECTOR_BYTES = 16;
inline constexpr int REGISTERS = 16;
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(VECTOR_BYTES)));
    typedef T anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
inline constexpr int LANES = VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
inline Vector<T> load(const T* from) {
    return *reinterpret_cast<const typename VectorOf<T>::anywhere*>(from);
}

template <class T>
inline void store(T* to, Vector<T> values) {
    *reinterpret_cast<typename VectorOf<T>::anywhere*>(to) = values;
}

// Where one of them is not a number.
template <class T>
inline auto unordered(Vector<T> a, Vector<T> b) {
    return (a != a) | (b != b);
}

// Only the first lanes, at most all of them.
template <class T>
inline void store_first(T* to, Vector<T> values, std::int64_t lanes) {
    if (lanes >= LANES<T>) return store(to, values);
    if (lanes <= 0) return;
#if defined(__AVX512F__)
    const auto mask = static_cast<unsigned>((1u << lanes) - 1);
    if constexpr (sizeof(T) == 4)
        _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), values);
    else
        _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask), values);
#else
    for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = values[lane];
#endif
}

// The first lanes, then zeros; nothing behind them is read.
template <class T>
inline Vector<T> load_first(const T* from, std::int64_t lanes) {
    if (lanes >= LANES<T>) return load(from);
#if defined(__AVX512F__)
    const auto mask = static_cast<unsigned>((1u << lanes) - 1);
    if constexpr (sizeof(T) == 4)
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from);
    else
        return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from);
#else
    Vector<T> values{};
    for (std::int64_t lane = 0; lane < lanes; ++lane) values[lane] = from[lane];
    return values;
#endif
}

// Swaps blocks of DISTANCE lanes between rows that lie DISTANCE apart: one stage of a transposition.
template <class T, int DISTANCE, std::size_t... LANE>
[[gnu::always_inline]] inline void exchange(Vector<T>& upper, Vector<T>& lower, std::index_sequence<LANE...>) {
    constexpr auto first = [](std::size_t lane) {
        return static_cast<int>(lane & DISTANCE ? lane - DISTANCE + LANES<T> : lane);
    };
    constexpr auto second = [](std::size_t lane) {
        return static_cast<int>(lane & DISTANCE ? lane + LANES<T> : lane + DISTANCE);
    };
    const Vector<T> kept = __builtin_shufflevector(upper, lower, first(LANE)...);
    lower = __builtin_shufflevector(upper, lower, second(LANE)...);
    upper = kept;
}

// Rows become columns.
template <class T, int DISTANCE = LANES<T> / 2>
[[gnu::always_inline]] inline void transpose_square(Vector<T> (&rows)[LANES<T>]) {
#pragma GCC unroll 16
    for (int row = 0; row < LANES<T>; ++row)
        if (!(row & DISTANCE))
            exchange<T, DISTANCE>(rows[row], rows[row + DISTANCE], std::make_index_sequence<LANES<T>>());
    if constexpr (DISTANCE > 1) transpose_square<T, DISTANCE / 2>(rows);
}

template <class T>
inline Vector<T> broadcast(T value) {
    return value - Vector<T>{};
}

// The sum of the lanes, halves first.
template <class T>
inline T sum(Vector<T> values) {
    T parts[LANES<T>];
    store(parts, values);
    for (int half = LANES<T> / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
    return parts[0];
}

// Hides where a pointer comes from: without, the compiler keeps one register per address and spills them.
template <class P>
inline void opaque(P*& pointer) {
    asm("" : "+r"(pointer));
}

}  // namespace fedlps::FEDLPS_ISA
