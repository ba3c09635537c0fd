// Vectors of one instruction set, over the compiler's own vector types.
#pragma once

#include <cstdint>
#include <type_traits>

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

// Only the first lanes, at most all of them.
template <class T>
inline void store_first(T* to, Vector<T> values, std::int64_t lanes) {
    if (lanes >= LANES<T>) return store(to, values);
    for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = values[lane];
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
