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

// An output row: runs of entries whose inputs lie side by side, one after another in the row's line.
struct Runs {
    std::int64_t count, length;
    std::int64_t stride, right;  // of the inputs: from run to run; to the right column of a window
    std::int64_t phases;         // of the line

    template <class T>
    explicit Runs(const Norm<T>& norm) {
        const Image& in = norm.in;
        const bool apart = norm.pool == 2 && in.phases == 1;  // columns of a window alternate
        right = in.phases == 1 ? in.batch : in.phase_stride();
        phases = apart ? 1 : greatest(in.phases / norm.pool, 1);
        count = apart ? norm.width : phases;
        length = norm.width * in.batch / count;
        stride = norm.pool * right;
    }
    std::int64_t size() const { return count * length; }
    Lines lines() const { return {phases, 0, size() / phases, size() / phases}; }
};

// Where a row's outputs lie: what is written over the end of one run, the next one overwrites.
template <class T>
struct Spot {
    Vector<T> mean, factor, shift;
    bool relu;
    T* line;
    T* codes;    // null: none
    T* winners;  // null: none
};

template <class T, int POOL>
void forward_row(const Norm<T>& norm, const Runs& runs, const T* input, const Spot<T>& at) {
    const std::int64_t row = norm.in.row_stride();
    for (std::int64_t run = 0; run < runs.count; ++run)
        for (std::int64_t entry = 0; entry < runs.length; entry += LANES<T>) {
            const T* from = input + run * runs.stride + entry;
            const std::int64_t to = run * runs.length + entry;
            Vector<T> winner = load(from), code{};
            Vector<T> largest = (winner - at.mean) * at.factor + at.shift;
#pragma GCC unroll 3
            for (int other = 1; other < POOL * POOL; ++other) {
                const Vector<T> value = load(from + other / 2 * row + other % 2 * runs.right);
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

// What the readers left as a channel's gradient, without that of outputs which were cut off: [row][run][entry].
template <class T>
void collect(const Norm<T>& norm, const Runs& runs, std::int64_t channel, const T* codes) {
    for (std::int64_t y = 0; y < norm.height; ++y)
        read_lines(norm.targets, channel, y, runs.lines(), norm.line + y * runs.size());
    if (!norm.relu) return;
    const Vector<T> dead = broadcast(static_cast<T>(DEAD));
    for (std::int64_t entry = 0; entry < outputs(norm); entry += LANES<T>)
        store(norm.line + entry, load(codes + entry) == dead ? Vector<T>{} : load(norm.line + entry));
}

template <class T>
void backward_channel(const Norm<T>& norm, std::int64_t channel) {
    const std::int64_t size = norm.in.channel_stride(), kept = outputs(norm);
    const T* input = channel_of(norm, norm.input, channel);
    const T* codes = norm.codes ? norm.codes + channel * kept : nullptr;
    const T* winners = norm.pool == 1 ? input : norm.winners + channel * kept;
    T* result = norm.input_gradient + channel * norm.in.channel_stride();
    const Runs runs(norm);
    collect(norm, runs, channel, codes);

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
    const auto of = [&](Vector<T> gradient, const T* value) {
        return factor * (gradient - all - slope * (load(value) - mean));
    };
    if (norm.pool == 1) {
        for (std::int64_t entry = 0; entry < size; entry += LANES<T>)
            store(result + entry, of(load(norm.line + entry), input + entry));
        return;
    }
    if (norm.in.height % 2 || norm.in.width % 2)  // what lies in no window
        for (std::int64_t entry = 0; entry < size; entry += LANES<T>) store(result + entry, of(Vector<T>{}, input + entry));
    const std::int64_t row = norm.in.row_stride();
    for (std::int64_t y = 0; y < norm.height; ++y)
        for (std::int64_t run = 0; run < runs.count; ++run)
            for (std::int64_t entry = 0; entry < runs.length; entry += LANES<T>) {
                const std::int64_t from = y * runs.size() + run * runs.length + entry;
                const Vector<T> code = load(codes + from), gradient = load(norm.line + from);
#pragma GCC unroll 4
                for (int window = 0; window < 4; ++window) {
                    const std::int64_t to = (2 * y + window / 2) * row + run * runs.stride + window % 2 * runs.right + entry;
                    const Vector<T> winning = code == broadcast(static_cast<T>(window)) ? gradient : Vector<T>{};
                    store_first(result + to, of(winning, input + to), runs.length - entry);
                }
            }
}

}  // namespace

template <class T>
void norm_statistics(const Norm<T>& norm) {
    for (std::int64_t channel = 0; channel < norm.in.channels; ++channel) statistics(norm, channel);
}

template <class T>
void norm_forward(const Norm<T>& norm) {
    const Runs runs(norm);
    const auto forward = norm.pool == 1 ? forward_row<T, 1> : forward_row<T, 2>;
    for (std::int64_t channel = 0; channel < norm.in.channels; ++channel) {
        statistics(norm, channel);
        const T factor = static_cast<T>(double{norm.scale[channel]} * double{norm.reciprocal[channel]});
        Spot<T> at{broadcast(norm.mean[channel]), broadcast(factor), broadcast(norm.shift[channel]), norm.relu,
                   norm.line, nullptr, nullptr};
        for (std::int64_t y = 0; y < norm.height; ++y) {
            const std::int64_t first = (channel * norm.height + y) * runs.size();
            if (norm.codes) at.codes = norm.codes + first;
            if (norm.winners) at.winners = norm.winners + first;
            forward(norm, runs, norm.input + norm.in.row(channel, y * norm.pool), at);
            write_lines(norm.targets, channel, y, runs.lines(), norm.line);
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
