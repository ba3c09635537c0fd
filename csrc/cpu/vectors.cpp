// What is done to a whole vector of weights: one pass each.
#include "cpu/declarations.h"
#include "cpu/image.h"
#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

template <class T>
void add(std::int64_t size, double factor, const T* from, T* to) {
    const T by = static_cast<T>(factor);
    for (std::int64_t entry = 0; entry < size; ++entry) to[entry] += by * from[entry];
}

template <class T>
void pull(std::int64_t size, double coefficient, const T* weights, const T* reference, T* gradient) {
    const T by = static_cast<T>(coefficient);
    for (std::int64_t entry = 0; entry < size; ++entry) gradient[entry] += by * (weights[entry] - reference[entry]);
}

template <class T>
void keep(std::int64_t size, const std::uint8_t* mask, T* values) {
    for (std::int64_t entry = 0; entry < size; ++entry) values[entry] = mask[entry] ? values[entry] : T{0};
}

template <class T>
double squares(std::int64_t size, const T* values) {
    constexpr std::int64_t PARTS = 16;
    double parts[PARTS] = {};
    std::int64_t entry = 0;
    for (; entry + PARTS <= size; entry += PARTS)
        for (std::int64_t part = 0; part < PARTS; ++part) {
            const double value = values[entry + part];
            parts[part] += value * value;
        }
    for (; entry < size; ++entry) parts[0] += static_cast<double>(values[entry]) * static_cast<double>(values[entry]);
    double total = 0;
    for (const double part : parts) total += part;
    return total;
}

template <class T>
void sgd(std::int64_t size, double lr, double weight_decay, double momentum, double factor,
         const std::uint8_t* mask, const T* gradient, T* weights, T* velocity) {
    const T rate = static_cast<T>(lr), decay = static_cast<T>(weight_decay), carried = static_cast<T>(momentum);
    const T scale = static_cast<T>(factor);
    if (!velocity && !mask) {
        for (std::int64_t entry = 0; entry < size; ++entry)
            weights[entry] -= rate * (scale * gradient[entry] + decay * weights[entry]);
        return;
    }
    for (std::int64_t entry = 0; entry < size; ++entry) {
        if (mask && !mask[entry]) continue;
        T change = scale * gradient[entry] + decay * weights[entry];
        if (velocity) velocity[entry] = change = carried * velocity[entry] + change;
        weights[entry] -= rate * change;
    }
}

template <class T>
bool plain_step(const PlainStep<T>& step, std::int64_t rows, std::int64_t columns, std::int64_t pitch, const T* gradient,
                std::int64_t gradient_pitch) {
    const T rate = static_cast<T>(step.lr), decay = static_cast<T>(step.weight_decay), by = static_cast<T>(step.coefficient);
    Vector<T> lost{};  // not a number where a weight is not finite
    T lost_rest{};
    const auto stepped = [&](auto weight, auto old, auto towards) {
        return weight - rate * (towards + by * (weight - old) + decay * weight);
    };
    for (std::int64_t row = 0; row < rows; ++row, gradient += gradient_pitch) {
        T* weights = step.weights + row * pitch;
        const T* old = step.reference ? step.reference + row * pitch : weights;
        Vector<T> parts{};
        std::int64_t column = 0;
        for (; column + LANES<T> <= columns; column += LANES<T>) {
            const Vector<T> weight = load(weights + column);
            parts += weight < Vector<T>{} ? -weight : weight;
            const Vector<T> next = stepped(weight, load(old + column), load(gradient + column));
            lost += next - next;
            store(weights + column, next);
        }
        T total = sum<T>(parts);
        for (; column < columns; ++column) {
            const T weight = weights[column];
            total += weight < 0 ? -weight : weight;
            const T next = stepped(weight, old[column], gradient[column]);
            lost_rest += next - next;
            weights[column] = next;
        }
        if (step.sums) step.sums[row] += total;
    }
    return sum<T>(lost) + lost_rest == 0;
}

template <class T>
bool finite(std::int64_t size, const T* values) {
    Vector<T> sums{};
    std::int64_t entry = 0;
    for (; entry + LANES<T> <= size; entry += LANES<T>) {
        const Vector<T> value = load(values + entry);
        sums += value - value;  // not a number where the value is not finite
    }
    T total = sum<T>(sums);
    for (; entry < size; ++entry) total += values[entry] - values[entry];
    return total == 0;
}

template <class T>
void row_sums(std::int64_t rows, std::int64_t columns, const T* weights, T* sums) {
    for (std::int64_t row = 0; row < rows; ++row, weights += columns) {
        Vector<T> parts{};
        std::int64_t column = 0;
        for (; column + LANES<T> <= columns; column += LANES<T>) {
            const Vector<T> value = load(weights + column);
            parts += value < Vector<T>{} ? -value : value;
        }
        T total = sum<T>(parts);
        for (; column < columns; ++column) total += weights[column] < 0 ? -weights[column] : weights[column];
        sums[row] += total;
    }
}

// Samples of one batch, transposed so that the sample is innermost: as many samples and columns at once as a vector has
// lanes.
template <class T>
void load_samples(const T* values, const std::int64_t* indices, const Image& image, T* result) {
    const std::int64_t area = image.height * image.width, size = image.channels * area;
    for (std::int64_t first = 0; first < image.batch; first += LANES<T>) {
        const std::int64_t count = image.batch - first < LANES<T> ? image.batch - first : LANES<T>;
        for (std::int64_t channel = 0; channel < image.channels; ++channel)
            for (std::int64_t y = 0; y < image.height; ++y) {
                T* row = result + image.row(channel, y) + first;
                const std::int64_t from = channel * area + y * image.width;
                Columns column(image, image.padding);
                for (std::int64_t x = 0; x < image.width; x += LANES<T>) {
                    const std::int64_t width = image.width - x < LANES<T> ? image.width - x : LANES<T>;
                    Vector<T> rows[LANES<T>];
#pragma GCC unroll 16
                    for (int sample = 0; sample < LANES<T>; ++sample) {
                        // behind the last sample again the first: what is not stored must only be readable
                        const std::int64_t index = indices[first + (sample < count ? sample : 0)];
                        const std::int64_t start = index * size + from + x;
                        rows[sample] = load_first(values + start, width);
                    }
                    transpose_square<T>(rows);
#pragma GCC unroll 16
                    for (int each = 0; each < LANES<T>; ++each)
                        if (each < width) {
                            store_first(row + column.offset, rows[each], count);
                            column.next();
                        }
                }
            }
    }
}

template void add(std::int64_t, double, const float*, float*);
template void add(std::int64_t, double, const double*, double*);
template void pull(std::int64_t, double, const float*, const float*, float*);
template void pull(std::int64_t, double, const double*, const double*, double*);
template void keep(std::int64_t, const std::uint8_t*, float*);
template void keep(std::int64_t, const std::uint8_t*, double*);
template double squares(std::int64_t, const float*);
template double squares(std::int64_t, const double*);
template void sgd(std::int64_t, double, double, double, double, const std::uint8_t*, const float*, float*, float*);
template void sgd(std::int64_t, double, double, double, double, const std::uint8_t*, const double*, double*, double*);
template bool plain_step(const PlainStep<float>&, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t);
template bool plain_step(const PlainStep<double>&, std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t);
template bool finite(std::int64_t, const float*);
template bool finite(std::int64_t, const double*);
template void row_sums(std::int64_t, std::int64_t, const float*, float*);
template void row_sums(std::int64_t, std::int64_t, const double*, double*);
template void load_samples(const float*, const std::int64_t*, const Image&, float*);
template void load_samples(const double*, const std::int64_t*, const Image&, double*);

}  // namespace fedlps::FEDLPS_ISA
