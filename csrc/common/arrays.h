// Tensors as they cross from Python: (address, shape, dtype). The ops in fedlps_kernels check shapes and contents.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace fedlps {

using Array = std::tuple<std::uintptr_t, std::vector<std::int64_t>, std::string>;

inline std::int64_t extent(const Array& array, std::size_t dimension) { return std::get<1>(array).at(dimension); }

template <class T>
constexpr const char* dtype_name() {
    using Value = std::remove_const_t<T>;
    if constexpr (std::is_same_v<Value, float>) return "float32";
    if constexpr (std::is_same_v<Value, double>) return "float64";
    if constexpr (std::is_same_v<Value, std::uint8_t>) return "uint8";
    if constexpr (std::is_same_v<Value, std::int32_t>) return "int32";
    if constexpr (std::is_same_v<Value, std::int64_t>) return "int64";
}

// All entries of a contiguous tensor.
template <class T>
std::span<T> entries(const Array& array) {
    const auto& [address, shape, dtype] = array;
    if (dtype != dtype_name<T>())
        throw std::invalid_argument("dtype: got " + dtype + ", expected " + dtype_name<T>());
    const std::int64_t size = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    return {reinterpret_cast<T*>(address), static_cast<std::size_t>(size)};
}

// Row `index` of a matrix; a matrix of one row serves every index.
template <class T>
std::span<T> row_of(std::span<T> matrix, std::int64_t columns, std::int64_t index) {
    const auto width = static_cast<std::size_t>(columns);
    return matrix.subspan(matrix.size() == width ? 0 : static_cast<std::size_t>(index) * width, width);
}

}  // namespace fedlps
