#include "cpu/conv.h"

namespace fedlps::FEDLPS_ISA {
namespace {

template <class T>
void forward_line(const Pool<T>& pool, const T* input, T* line, T* codes) {
    const std::int64_t batch = pool.in.batch, row = pool.in.row_stride(), window = pool.window;
    const T share = T{1} / static_cast<T>(window * window);
    for (std::int64_t x = 0; x < pool.width; ++x, line += batch, input += window * batch) {
        T* code = codes ? codes + x * batch : nullptr;
        for (std::int64_t sample = 0; sample < batch; ++sample) line[sample] = input[sample];
        if (code)
            for (std::int64_t sample = 0; sample < batch; ++sample) code[sample] = 0;
        for (std::int64_t place = 1; place < window * window; ++place) {
            const T* from = input + place / window * row + place % window * batch;
            if (pool.average) {
                for (std::int64_t sample = 0; sample < batch; ++sample) line[sample] += from[sample];
                continue;
            }
            const T here = static_cast<T>(place + (place >= DEAD));  // the code of what is cut off stays free
            for (std::int64_t sample = 0; sample < batch; ++sample) {
                const bool larger = from[sample] > line[sample] || from[sample] != from[sample];
                line[sample] = larger ? from[sample] : line[sample];
                code[sample] = larger ? here : code[sample];
            }
        }
        if (pool.average)
            for (std::int64_t sample = 0; sample < batch; ++sample) line[sample] *= share;
        if (pool.relu)
            for (std::int64_t sample = 0; sample < batch; ++sample) {
                const bool dead = line[sample] <= 0;
                line[sample] = dead ? T{0} : line[sample];
                code[sample] = dead ? static_cast<T>(DEAD) : code[sample];
            }
    }
}

template <class T>
void backward_line(const Pool<T>& pool, const T* line, const T* codes, T* gradient) {
    const std::int64_t batch = pool.in.batch, row = pool.in.row_stride(), window = pool.window;
    const T share = T{1} / static_cast<T>(window * window);
    for (std::int64_t x = 0; x < pool.width; ++x, line += batch, gradient += window * batch) {
        const T* code = codes ? codes + x * batch : nullptr;
        for (std::int64_t place = 0; place < window * window; ++place) {
            T* to = gradient + place / window * row + place % window * batch;
            const T here = static_cast<T>(place + (place >= DEAD));
            if (pool.average)
                for (std::int64_t sample = 0; sample < batch; ++sample) to[sample] = line[sample] * share;
            else
                for (std::int64_t sample = 0; sample < batch; ++sample)
                    to[sample] = code[sample] == here ? line[sample] : T{0};
        }
    }
}

}  // namespace

template <class T>
void pool_forward(const Pool<T>& pool) {
    const std::int64_t samples = pool.width * pool.in.batch;
    for (std::int64_t channel = 0; channel < pool.in.channels; ++channel)
        for (std::int64_t y = 0; y < pool.height; ++y) {
            T* codes = pool.codes ? pool.codes + (channel * pool.height + y) * samples : nullptr;
            forward_line(pool, pool.input + pool.in.row(channel, y * pool.window), pool.line, codes);
            write_line(pool.targets, channel, y, pool.width, pool.line);
        }
}

template <class T>
void pool_backward(const Pool<T>& pool) {
    if (!pool.input_gradient) return;
    const std::int64_t samples = pool.width * pool.in.batch;
    // rows and columns behind the last whole window reach no output
    for (std::int64_t entry = 0; entry < pool.in.size(); ++entry) pool.input_gradient[entry] = 0;
    for (std::int64_t channel = 0; channel < pool.in.channels; ++channel)
        for (std::int64_t y = 0; y < pool.height; ++y) {
            const T* codes = pool.codes ? pool.codes + (channel * pool.height + y) * samples : nullptr;
            read_line(pool.targets, channel, y, pool.width, pool.line);
            backward_line(pool, pool.line, codes, pool.input_gradient + pool.in.row(channel, y * pool.window));
        }
}

template void pool_forward(const Pool<float>&);
template void pool_forward(const Pool<double>&);
template void pool_backward(const Pool<float>&);
template void pool_backward(const Pool<double>&);

}  // namespace fedlps::FEDLPS_ISA
