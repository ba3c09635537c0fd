#include "cpu/engine/training.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fedlps {

enum Told { HITS, SAMPLES, STEPS, DIVERGED };

template <class T>
Training<T>::Training(const Kernels<T>& kernels, const Program& program, const Source<T>& source, Job<T>& job,
                      Arena<T>& arena)
    : kernels_(kernels), program_(program), job_(job), arena_(arena), frame_(kernels, program, job, arena),
      ran_(job.passes.size()), total_(arena.vector(frame_.size())) {
    samples_.gather(kernels, source, job.samples, program.channels, program.height * program.width);
    for (const PassTerm& pass : job.passes) partial_ = partial_ || pass.narrowed;
    plain_ = job.pulls.size() <= 1 && job.velocity.empty() && job.mask.empty() && !partial_ && job.penalty == 0 && job.clip == 0;
    at_once_ = plain_ && ran_.size() == 1 && job.passes.front().weight == 1 && job.gradients.empty() &&
               !(job.learned && job.learning.kappa != 0);
    const auto units = static_cast<std::size_t>(program.units());
    if (job.learned) {
        for (std::vector<T>* vector : {&unit_gradient_, &sums_, &next_redundancy_, &scores_}) vector->resize(units);
        selected_.resize(units);
    }
}

template <class T>
void Training<T>::run() {
    const bool finite = kernels_.finite(program_.parameters, frame_.full().data());
    for (std::int64_t number = job_.first_step; number < job_.last_step; ++number) {
        step(number);
        if (!finite) job_.told[DIVERGED] = 1;
        if (job_.told[DIVERGED]) break;
    }
    if (job_.after_gradient && !job_.told[DIVERGED]) tell_gradient();
    if (!job_.parameters.empty()) frame_.scatter();
    std::copy(frame_.weights.begin(), frame_.weights.end(), job_.compact.begin());
}

template <class T>
void Training<T>::step(std::int64_t number) {
    if (plain_) frame_.begin_step();
    passes(number);
    const auto units = static_cast<std::int64_t>(job_.kept.size());
    if (!job_.kept_by_step.empty()) std::copy(job_.kept.begin(), job_.kept.end(), &job_.kept_by_step[number * units]);
    ++job_.told[STEPS];
    // the importance reads the weights of before the update
    bool finite = std::isfinite(loss_);
    if (plain_) {
        finite &= frame_.plain_step(total_.data(), sums_);
    } else {
        if (job_.learned) frame_.absolute_sums(sums_);
        update();
        finite = finite && kernels_.finite(frame_.size(), frame_.weights.data());
    }
    if (job_.learned) learn(sums_);
    finite = finite && kernels_.finite(units, job_.redundancy.data());
    if (!finite)
        job_.told[DIVERGED] = 1;
    else if (job_.learned)
        select();
}

template <class T>
typename Training<T>::Batch Training<T>::batch(std::int64_t step, std::int64_t later) const {
    const std::int64_t first = step - step % job_.epoch_steps;
    const std::int64_t length = std::min(job_.epoch_steps, steps() - first);
    const std::int64_t place = (step - first + later) % length;
    const std::int64_t number = first + (place < 0 ? place + length : place);
    return {samples_.places() + job_.edges[number], job_.edges[number + 1] - job_.edges[number]};
}

template <class T>
Network<T>& Training<T>::network(std::span<const std::int32_t> counts, std::int64_t batch) {
    auto& made = networks_[{{counts.begin(), counts.end()}, batch}];
    if (!made)
        made = std::make_unique<Network<T>>(kernels_, program_, counts, batch, job_.exits,
                                            job_.scale.empty() ? nullptr : job_.scale.data(), true, arena_);
    return *made;
}

template <class T>
void Training<T>::passes(std::int64_t number) {
    if (job_.learned) std::fill(unit_gradient_.begin(), unit_gradient_.end(), T{0});
    if (partial_) touched_.assign(total_.size(), 0);
    bool first = true;
    const bool alone = ran_.size() == 1 && !partial_ && job_.passes.front().weight == 1;
    if (!alone) std::fill(total_.begin(), total_.end(), T{0});
    for (std::size_t each = 0; each < ran_.size(); ++each) {
        const PassTerm& term = job_.passes[each];
        const std::int64_t position = number - job_.first_step;
        const std::int32_t* widths = term.narrowed ? &term.widths[position * program_.groups()] : nullptr;
        ran_[each].taken = !widths || *widths >= 0;
        if (!ran_[each].taken) continue;
        if (alone) ran_[each].gradient = total_;
        if (ran_[each].gradient.empty()) ran_[each].gradient = arena_.vector(frame_.size());
        const T* weights = frame_.weights.data();
        if (!term.at.empty()) {
            weights_at_.assign(frame_.weights.begin(), frame_.weights.end());
            for (const auto& [earlier, coefficient] : term.at)
                kernels_.add(frame_.size(), coefficient, ran_[earlier].gradient.data(), weights_at_.data());
            weights = weights_at_.data();
        }
        const Batch samples = batch(number, term.batch);
        const std::span<T> gradient = ran_[each].gradient;
        double loss;
        if (widths) {
            loss = narrow_pass(term, ran_[each], weights, widths, samples, first);
        } else {
            Network<T>& whole = network(job_.counts, samples.size);
            const auto steps = at_once_ ? frame_.steps() : std::span<PlainStep<T>>();
            loss = run_network(whole, term, ran_[each], weights, gradient.data(), samples, first, steps);
            if (partial_) std::fill(touched_.begin(), touched_.end(), std::uint8_t{1});
        }
        if (first) {
            loss_ = job_.losses[number] = loss;
            job_.squares[number] = squares_;
        }
        first = false;
        if (job_.learned && job_.learning.kappa != 0) frame_.add_gate_gradients(weights, gradient.data(), unit_gradient_);
        if (!job_.gradients.empty()) {
            std::vector<T> weighted(gradient.begin(), gradient.end());
            for (T& value : weighted) value *= static_cast<T>(term.weight);
            frame_.add_to(weighted.data(), job_.gradients);
        }
        if (frame_.mask()) kernels_.keep(frame_.size(), frame_.mask(), gradient.data());
        if (!alone)
            kernels_.add(frame_.size(), term.weight, gradient.data(), total_.data());
    }
    if (partial_ && first) std::fill(touched_.begin(), touched_.end(), std::uint8_t{1});
    if (partial_ && frame_.mask())
        for (std::size_t entry = 0; entry < touched_.size(); ++entry) touched_[entry] &= frame_.mask()[entry];
}

template <class T>
double Training<T>::narrow_pass(const PassTerm& term, Ran& ran, const T* weights, const std::int32_t* widths, Batch samples,
                                bool first) {
    const std::span<const std::int32_t> counts(widths, static_cast<std::size_t>(program_.groups()));
    const CompactLayout narrow(program_.layout, counts);
    std::vector<T> own(narrow.size), gradient(narrow.size);
    // The leading units of the frame, row by row.
    const auto for_each_run = [&](const auto& visit) {
        for (std::size_t number = 0; number < narrow.layers.size(); ++number) {
            const CompactLayer& held = frame_.layout().layers[number];
            const CompactLayer& part = narrow.layers[number];
            for (std::int64_t row = 0; row < part.rows; ++row)
                visit(part.weight + row * part.width(), held.weight + row * held.width(), part.width());
            if (part.bias >= 0) visit(part.bias, held.bias, part.rows);
            if (part.scale >= 0) visit(part.scale, held.scale, part.rows);
            if (part.shift >= 0) visit(part.shift, held.shift, part.rows);
        }
    };
    for_each_run([&](std::int64_t to, std::int64_t from, std::int64_t length) {
        std::copy_n(weights + from, length, own.data() + to);
    });
    const double loss = run_network(network(counts, samples.size), term, ran, own.data(), gradient.data(), samples, first);
    std::fill(ran.gradient.begin(), ran.gradient.end(), T{0});
    for_each_run([&](std::int64_t from, std::int64_t to, std::int64_t length) {
        std::copy_n(gradient.data() + from, length, ran.gradient.data() + to);
        std::fill_n(touched_.begin() + to, length, std::uint8_t{1});
    });
    return loss;
}

template <class T>
double Training<T>::run_network(Network<T>& network, const PassTerm& term, Ran& ran, const T* weights, T* gradient,
                                Batch samples, bool first, std::span<PlainStep<T>> steps) {
    network.forward(samples_, samples.samples, weights);
    const std::int64_t size = program_.classes * samples.size;
    labels_.resize(samples.size);
    for (std::int64_t sample = 0; sample < samples.size; ++sample) labels_[sample] = samples_.label(samples.samples[sample]);
    std::vector<T> teacher;
    if (term.teacher >= 0) {
        teacher.resize(size);
        kernels_.softmax(program_.classes, samples.size, ran_[term.teacher].outputs.data(), teacher.data());
    }
    log_probabilities_.resize(size * job_.exits);
    Loss<T> loss{};
    loss.classes = program_.classes, loss.batch = samples.size, loss.exits = job_.exits;
    loss.logits = network.logits().data();
    loss.gradients = network.logit_gradients().data();
    loss.labels = labels_.data();
    loss.teacher = teacher.empty() ? nullptr : teacher.data();
    loss.mutual = job_.exits > 1 ? job_.mutual / static_cast<double>(job_.exits - 1) : 0.0;
    loss.log_probabilities = log_probabilities_.data();
    kernels_.loss(loss);
    network.backward(gradient, steps);
    if (ran_.size() > 1) ran.outputs.assign(network.logits().back(), network.logits().back() + size);
    if (first) {
        job_.told[HITS] += loss.hits;
        job_.told[SAMPLES] += samples.size;
        squares_ = loss.squares;
    }
    return loss.loss;
}

template <class T>
void Training<T>::update() {
    const std::uint8_t* touched = partial_ ? touched_.data() : frame_.mask();
    for (std::size_t pull = 0; pull < job_.pulls.size(); ++pull)
        kernels_.pull(frame_.size(), job_.pulls[pull].coefficient, frame_.weights.data(), frame_.references[pull].data(),
                      total_.data());
    if (job_.penalty != 0) frame_.add_penalty(job_.penalty, total_.data());
    double factor = 1;
    if (job_.clip > 0) {
        if (touched) kernels_.keep(frame_.size(), touched, total_.data());
        const double allowed = job_.clip / (std::sqrt(kernels_.squares(frame_.size(), total_.data())) + 1e-6);
        if (!(allowed >= 1)) factor = allowed;
    }
    kernels_.sgd(frame_.size(), job_.lr, job_.weight_decay, job_.momentum, factor, touched, total_.data(),
                 frame_.weights.data(), frame_.velocity.empty() ? nullptr : frame_.velocity.data());
}

template <class T>
void Training<T>::learn(std::span<const T> sums) {
    kernels_.importance_step(program_.layout, job_.redundancy, sums, unit_gradient_, job_.lr, job_.learning.strength,
                             job_.learning.kappa, job_.learning.mean, next_redundancy_);
    std::copy(next_redundancy_.begin(), next_redundancy_.end(), job_.redundancy.begin());
}

template <class T>
void Training<T>::select() {
    bool changed = false;
    std::vector<bool> kept;
    for (std::int64_t group = 0; group < program_.groups() && !changed; ++group) {
        const std::int64_t first = program_.layout.groups[group], units = program_.layout.groups[group + 1] - first;
        kept.assign(units, false);
        T most = -std::numeric_limits<T>::infinity(), least = std::numeric_limits<T>::infinity();
        for (std::int32_t rank = 0; rank < job_.counts[group]; ++rank) {
            const std::int32_t unit = job_.kept[first + rank];
            kept[unit] = true;
            most = std::max(most, job_.redundancy[first + unit]);
        }
        for (std::int64_t unit = 0; unit < units; ++unit)
            if (!kept[unit]) least = std::min(least, job_.redundancy[first + unit]);
        changed = !(most < least);
    }
    if (!changed) return;
    for (std::size_t unit = 0; unit < scores_.size(); ++unit) scores_[unit] = -job_.redundancy[unit];
    kernels_.select_units(program_.layout, scores_, job_.counts, selected_);
    if (std::equal(selected_.begin(), selected_.end(), job_.kept.begin())) return;
    frame_.scatter();
    std::copy(selected_.begin(), selected_.end(), job_.kept.begin());
    frame_.gather();
}

template <class T>
void Training<T>::tell_gradient() {
    const Batch samples = batch(job_.first_step, 0);
    std::vector<T> gradient(total_.size());
    Ran ran;
    const PassTerm plain{0, {}, 1.0, false, {}, -1};
    run_network(network(job_.counts, samples.size), plain, ran, frame_.weights.data(), gradient.data(), samples, false);
    frame_.add_to(gradient.data(), job_.first_gradient);
}

template class Training<float>;
template class Training<double>;

}  // namespace fedlps
