#include "cpu/engine/frame.h"

#include <algorithm>
#include <cmath>

#include "cpu/submodel.h"

namespace fedlps {

template <class T>
Frame<T>::Frame(const Kernels<T>& kernels, const Program& program, Job<T>& job, Arena<T>& arena)
    : kernels_(kernels), program_(program), job_(job), arena_(arena), layout_(program.layout, job.counts),
      own_(job.parameters), full_(own_.empty() ? job.start : own_) {
    weights = arena.vector(layout_.size);
    if (!job.velocity.empty()) velocity = arena.vector(layout_.size);
    for (std::size_t pull = 0; pull < job.pulls.size(); ++pull) references.push_back(arena.vector(layout_.size));
    if (!job.mask.empty()) mask_.resize(layout_.size);
    if (job.learned) outside_.resize(program.units());
    gather();
}

template <class T>
template <class Visit>
void Frame<T>::for_each_entry(const Visit& visit) const {
    for_each_run(program_.layout, submodel(), [&](std::int64_t compact, std::int64_t flat, std::int64_t length) {
        for (std::int64_t entry = 0; entry < length; ++entry) visit(compact + entry, flat + entry);
    });
}

template <class T>
void Frame<T>::gather() {
    kernels_.gather_weights(program_.layout, submodel(), full_, weights);
    if (!velocity.empty()) kernels_.gather_weights(program_.layout, submodel(), job_.velocity, velocity);
    for (std::size_t pull = 0; pull < references.size(); ++pull)
        kernels_.gather_weights(program_.layout, submodel(), job_.pulls[pull].reference, references[pull]);
    if (!mask_.empty())
        for_each_entry([&](std::int64_t compact, std::int64_t flat) { mask_[compact] = job_.mask[flat]; });
    if (outside_.empty()) return;
    std::vector<T> within(outside_.size());
    std::fill(outside_.begin(), outside_.end(), T{0});
    absolute_sums(within);
    kernels_.unit_abs_sum(program_.layout, full_, outside_);
    for (std::size_t unit = 0; unit < outside_.size(); ++unit) outside_[unit] -= within[unit];
}

template <class T>
void Frame<T>::scatter() {
    if (own_.empty()) {
        own_ = arena_.vector(program_.parameters);
        std::copy(full_.begin(), full_.end(), own_.begin());
        full_ = own_;
    }
    const auto write = [&](std::span<const T> from, std::span<T> to) {
        for_each_run(program_.layout, submodel(), [&](std::int64_t compact, std::int64_t flat, std::int64_t length) {
            std::copy_n(from.data() + compact, length, to.data() + flat);
        });
    };
    write(weights, own_);
    if (!velocity.empty()) write(velocity, job_.velocity);
}

template <class T>
void Frame<T>::absolute_sums(std::span<T> sums) const {
    std::copy(outside_.begin(), outside_.end(), sums.begin());
    std::vector<T> rows;
    for (std::size_t number = 0; number < layout_.layers.size(); ++number) {
        const std::int64_t group = program_.layout.layers[number].row_group;
        if (group < 0) continue;
        const CompactLayer& held = layout_.layers[number];
        rows.assign(held.rows, T{0});
        kernels_.row_sums(held.rows, held.width(), weights.data() + held.weight, rows.data());
        const std::int64_t first = program_.layout.groups[group];
        for (std::int64_t row = 0; row < held.rows; ++row) sums[first + job_.kept[first + row]] += rows[row];
    }
}

template <class T>
void Frame<T>::begin_step() {
    const double coefficient = references.empty() ? 0.0 : job_.pulls.front().coefficient;
    std::int64_t rows = 0;
    for (const CompactLayer& held : layout_.layers) rows += held.rows;
    row_sums_.assign(rows, T{0});
    steps_.clear();
    T* sums = row_sums_.data();
    for (const CompactLayer& held : layout_.layers) {
        const T* reference = references.empty() ? nullptr : references.front().data() + held.weight;
        steps_.push_back({job_.lr, job_.weight_decay, coefficient, weights.data() + held.weight, reference, sums});
        sums += held.rows;
    }
}

template <class T>
bool Frame<T>::plain_step(const T* gradient, std::span<T> sums) {
    std::copy(outside_.begin(), outside_.end(), sums.begin());
    bool finite = true;
    for (std::size_t number = 0; number < layout_.layers.size(); ++number) {
        const CompactLayer& held = layout_.layers[number];
        PlainStep<T>& step = steps_[number];
        if (!step.taken)
            step.finite = kernels_.plain_step(step, held.rows, held.width(), held.width(), gradient + held.weight, held.width());
        finite &= step.finite;
        for (const std::int64_t vector : {held.bias, held.scale, held.shift}) {
            if (vector < 0) continue;
            PlainStep<T> of_vector = step;
            of_vector.weights = weights.data() + vector;
            of_vector.reference = references.empty() ? nullptr : references.front().data() + vector;
            of_vector.sums = nullptr;
            finite &= kernels_.plain_step(of_vector, 1, held.rows, 0, gradient + vector, 0);
        }
        const std::int64_t group = program_.layout.layers[number].row_group;
        if (group < 0 || outside_.empty()) continue;
        const std::int64_t first = program_.layout.groups[group];
        for (std::int64_t row = 0; row < held.rows; ++row) sums[first + job_.kept[first + row]] += step.sums[row];
    }
    return finite;
}

template <class T>
void Frame<T>::add_to(const T* values, std::span<T> full) const {
    for_each_entry([&](std::int64_t compact, std::int64_t flat) { full[flat] += values[compact]; });
}

template <class T>
void Frame<T>::add_gate_gradients(const T* at, const T* gradient, std::span<T> units) const {
    for (std::size_t number = 0; number < layout_.layers.size(); ++number) {
        const std::int64_t group = program_.layout.layers[number].row_group;
        if (group < 0) continue;
        const CompactLayer& held = layout_.layers[number];
        const std::int64_t first = program_.layout.groups[group];
        const auto product = [&](std::int64_t entry) { return double{at[entry]} * double{gradient[entry]}; };
        for (std::int64_t row = 0; row < held.rows; ++row) {
            double total = 0;
            if (held.scale >= 0) {
                total = product(held.scale + row) + product(held.shift + row);
            } else {
                if (held.bias >= 0) total = product(held.bias + row);
                const std::int64_t start = held.weight + row * held.width();
                for (std::int64_t entry = start; entry < start + held.width(); ++entry) total += product(entry);
            }
            units[first + job_.kept[first + row]] += static_cast<T>(total);
        }
    }
}

template <class T>
void Frame<T>::add_penalty(double penalty, T* gradient) const {
    const auto trains = [&](std::int64_t entry) { return mask_.empty() || mask_[entry]; };
    for (std::size_t number = 0; number < layout_.layers.size(); ++number) {
        if (program_.layout.layers[number].row_group < 0) continue;
        const CompactLayer& held = layout_.layers[number];
        for (std::int64_t row = 0; row < held.rows; ++row) {
            const std::int64_t start = held.weight + row * held.width(), end = start + held.width();
            const std::int64_t bias = held.bias < 0 ? -1 : held.bias + row;
            double squares = 0;
            for (std::int64_t entry = start; entry < end; ++entry)
                if (trains(entry)) squares += double{weights[entry]} * double{weights[entry]};
            if (bias >= 0 && trains(bias)) squares += double{weights[bias]} * double{weights[bias]};
            const T factor = static_cast<T>(penalty / std::max(std::sqrt(squares), 1e-30));
            for (std::int64_t entry = start; entry < end; ++entry)
                if (trains(entry)) gradient[entry] += factor * weights[entry];
            if (bias >= 0 && trains(bias)) gradient[bias] += factor * weights[bias];
        }
    }
}

template class Frame<float>;
template class Frame<double>;

}  // namespace fedlps
