// Per channel and batch: statistics, then y = (x - mean) / deviation * scale + shift, ReLU and the maximum.
#include "cpu/conv.h"

namespace fedlps::FEDLPS_ISA {
namespace {

constexpr double EPSILON = 1e-5;

// The sum of the entries that term(position) gives in vectors. No chain of rounded sums is longer than a few vectors,
// so that what follows is as exact as its inputs are.
template <class T, class Term>
[[gnu::always_inline]] inline double total(std::int64_t size, const Term& term) {
    constexpr std::int64_t CHAINS = 4, BLOCK = 16 * CHAINS * LANES<T>;
    double result = 0;
    for (std::int64_t position = 0; position < size;) {
        const std::int64_t end = size - position < BLOCK ? size : position + BLOCK;
        Vector<T> parts[CHAINS] = {};
        for (; position + CHAINS * LANES<T> <= end; position += CHAINS * LANES<T>)
#pragma GCC unroll 4
            for (int chain = 0; chain < CHAINS; ++chain) parts[chain] += term(position + chain * LANES<T>);
        for (; position < end; position += LANES<T>) {
            T counted[LANES<T>] = {};
            store_first(counted, term(position), end - position);
            parts[0] += load(counted);
        }
        result += double{sum<T>((parts[0] + parts[1]) + (parts[2] + parts[3]))};
    }
    return result;
}

template <class T>
const T* channel_of(const Norm<T>& norm, const T* values, std::int64_t channel) {
    return values + channel * norm.in.channel_stride();
}

// Entries of a channel behind the pool.
template <class T>
std::int64_t outputs(const Norm<T>& norm) {
    return norm.height * norm.width * norm.in.batch;
}

template <class T>
void statistics(const Norm<T>& norm, std::int64_t channel) {
    const T* input = channel_of(norm, norm.input, channel);
    const std::int64_t size = norm.in.channel_stride();
    const double share = 1.0 / static_cast<double>(size);
    // about the first value: of equal ones the mean is exactly that
    const Vector<T> first = broadcast(input[0]);
    const double off = total<T>(size, [&](std::int64_t position) { return load(input + position) - first; });
    norm.mean[channel] = static_cast<T>(double{input[0]} + off * share);
    const Vector<T> mean = broadcast(norm.mean[channel]);
    const double squares = total<T>(size, [&](std::int64_t position) {
        const Vector<T> centred = load(input + position) - mean;
        return centred * centred;
    });
    norm.reciprocal[channel] = static_cast<T>(1.0 / __builtin_sqrt(squares * share + EPSILON));
}

// Where a channel's entries lie: what is written over the end of one run, the next one overwrites.
template <class T>
struct Spot {
    Vector<T> mean, factor, shift;
    bool relu;
    T* line;
    T* codes;    // null: none
    T* winners;  // null: none
};

// One output row. Runs of entries whose inputs lie side by side: the row, or each column of a pooled one.
template <class T, int POOL>
void forward_row(const Norm<T>& norm, const T* input, const Spot<T>& at) {
    const std::int64_t batch = norm.in.batch, row = norm.in.row_stride();
    const std::int64_t length = POOL == 1 ? norm.width * batch : batch, runs = POOL == 1 ? 1 : norm.width;
    for (std::int64_t run = 0; run < runs; ++run)
        for (std::int64_t entry = 0; entry < length; entry += LANES<T>) {
            const T* from = input + run * POOL * batch + entry;
            const std::int64_t to = run * length + entry;
            Vector<T> winner = load(from), code{};
            Vector<T> largest = (winner - at.mean) * at.factor + at.shift;
#pragma GCC unroll 3
            for (int other = 1; other < POOL * POOL; ++other) {
                const Vector<T> value = load(from + other / 2 * row + other % 2 * batch);
                const Vector<T> normed = (value - at.mean) * at.factor + at.shift;
                // the first of equal ones, as torch has it; what is not a number stays visible
                const auto larger = (normed > largest) | (normed != normed);
                largest = larger ? normed : largest;
                winner = larger ? value : winner;
                code = larger ? broadcast(static_cast<T>(other)) : code;
            }
            if (at.relu) {
                const auto dead = largest <= Vector<T>{};
                largest = dead ? Vector<T>{} : largest;
                code = dead ? broadcast(static_cast<T>(DEAD)) : code;
            }
            store(at.line + to, largest);
            if (at.codes) store(at.codes + to, code);
            if (at.winners) store(at.winners + to, winner);
        }
}

// What the readers left as a channel's gradient, without that of outputs which were cut off: (height, width, batch).
template <class T>
void collect(const Norm<T>& norm, std::int64_t channel, const T* codes) {
    const std::int64_t row = norm.width * norm.in.batch;
    for (std::int64_t y = 0; y < norm.height; ++y)
        read_line(norm.targets, channel, y, norm.width, norm.line + y * row);
    if (!norm.relu) return;
    const Vector<T> dead = broadcast(static_cast<T>(DEAD));
    for (std::int64_t entry = 0; entry < outputs(norm); entry += LANES<T>)
        store(norm.line + entry, load(codes + entry) == dead ? Vector<T>{} : load(norm.line + entry));
}

// Adds a channel's gradient at the window positions that were the maximum.
template <class T>
void add_to_winners(const Norm<T>& norm, const T* codes, Vector<T> factor, T* result) {
    const std::int64_t batch = norm.in.batch, row = norm.in.row_stride();
    for (std::int64_t y = 0; y < norm.height; ++y)
        for (std::int64_t x = 0; x < norm.width; ++x)
            for (std::int64_t sample = 0; sample < batch; sample += LANES<T>) {
                const std::int64_t from = (y * norm.width + x) * batch + sample;
                const Vector<T> code = load(codes + from), gradient = factor * load(norm.line + from);
#pragma GCC unroll 4
                for (int window = 0; window < 4; ++window) {
                    T* to = result + (2 * y + window / 2) * row + (2 * x + window % 2) * batch + sample;
                    const Vector<T> added = code == broadcast(static_cast<T>(window)) ? gradient : Vector<T>{};
                    store_first(to, load(to) + added, batch - sample);
                }
            }
}

template <class T>
void backward_channel(const Norm<T>& norm, std::int64_t channel) {
    const std::int64_t size = norm.in.channel_stride(), kept = outputs(norm);
    const T* input = channel_of(norm, norm.input, channel);
    const T* codes = norm.codes ? norm.codes + channel * kept : nullptr;
    const T* winners = norm.pool == 1 ? input : norm.winners + channel * kept;
    T* result = norm.input_gradient + channel * norm.in.channel_stride();
    collect(norm, channel, codes);

    const Vector<T> mean = broadcast(norm.mean[channel]);
    const double share = 1.0 / static_cast<double>(size), reciprocal = norm.reciprocal[channel];
    const double shifted = total<T>(kept, [&](std::int64_t entry) { return load(norm.line + entry); });
    const double scaled = reciprocal * total<T>(kept, [&](std::int64_t entry) {
        return load(norm.line + entry) * (load(winners + entry) - mean);
    });
    norm.shift_gradient[channel] = static_cast<T>(shifted);
    norm.scale_gradient[channel] = static_cast<T>(scaled);

    const Vector<T> factor = broadcast(static_cast<T>(norm.scale[channel] * reciprocal));
    const Vector<T> all = broadcast(static_cast<T>(shifted * share));
    const Vector<T> slope = broadcast(static_cast<T>(scaled * share * reciprocal));
    if (norm.pool == 1) {
        for (std::int64_t entry = 0; entry < size; entry += LANES<T>)
            store(result + entry, factor * (load(norm.line + entry) - all - slope * (load(input + entry) - mean)));
        return;
    }
    for (std::int64_t entry = 0; entry < size; entry += LANES<T>)
        store(result + entry, factor * (-all - slope * (load(input + entry) - mean)));
    add_to_winners(norm, codes, factor, result);
}

}  // namespace

template <class T>
void norm_statistics(const Norm<T>& norm) {
    for (std::int64_t channel = 0; channel < norm.in.channels; ++channel) statistics(norm, channel);
}

template <class T>
void norm_forward(const Norm<T>& norm) {
    const std::int64_t row = norm.width * norm.in.batch;
    const auto forward = norm.pool == 1 ? forward_row<T, 1> : forward_row<T, 2>;
    for (std::int64_t channel = 0; channel < norm.in.channels; ++channel) {
        statistics(norm, channel);
        const T factor = static_cast<T>(double{norm.scale[channel]} * double{norm.reciprocal[channel]});
        Spot<T> at{broadcast(norm.mean[channel]), broadcast(factor), broadcast(norm.shift[channel]), norm.relu,
                   norm.line, nullptr, nullptr};
        for (std::int64_t y = 0; y < norm.height; ++y) {
            const std::int64_t first = (channel * norm.height + y) * row;
            if (norm.codes) at.codes = norm.codes + first;
            if (norm.winners) at.winners = norm.winners + first;
            forward(norm, norm.input + norm.in.row(channel, y * norm.pool), at);
            write_line(norm.targets, channel, y, norm.width, norm.line);
        }
    }
}

template <class T>
void norm_backward(const Norm<T>& norm) {
    for (std::int64_t channel = 0; channel < norm.in.channels; ++channel) backward_channel(norm, channel);
}

template void norm_statistics(const Norm<float>&);
template void norm_statistics(const Norm<double>&);
template void norm_forward(const Norm<float>&);
template void norm_forward(const Norm<double>&);
template void norm_backward(const Norm<float>&);
template void norm_backward(const Norm<double>&);

}  // namespace fedlps::FEDLPS_ISA
