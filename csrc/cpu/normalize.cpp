#include "cpu/declarations.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void normalize(const std::uint8_t* bytes, std::int64_t size, const T* table, const double* line, T* values) {
    if (!line) {
        for (std::int64_t entry = 0; entry < size; ++entry) values[entry] = table[bytes[entry]];
        return;
    }
    const double slope = line[0], start = line[1];
    for (std::int64_t entry = 0; entry < size; ++entry) values[entry] = static_cast<T>(slope * bytes[entry] + start);
}

template void normalize(const std::uint8_t*, std::int64_t, const float*, const double*, float*);
template void normalize(const std::uint8_t*, std::int64_t, const double*, const double*, double*);

}  // namespace fedlps::FEDLPS_ISA
