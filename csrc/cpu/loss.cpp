#include <bit>

#include "cpu/declarations.h"
#include "cpu/exponential.h"
#include "cpu/image.h"

namespace fedlps::FEDLPS_ISA {
namespace {

// log(x) for 1 <= x < 2^52: the series of atanh after halving down to [0.7, 1.4), within a few ulp; branch-free, so
// that it vectorizes.
inline double log_of(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    const std::uint64_t power = (bits - 0x3fe6a09e667f3bcdULL) >> 52;  // how often sqrt(2) / 2 * 2^power fits
    const double mantissa = std::bit_cast<double>(bits - (power << 52));
    const double ratio = (mantissa - 1) / (mantissa + 1), square = ratio * ratio;
    double series = 1.0 / 19;
    for (int odd = 17; odd > 0; odd -= 2) series = series * square + 1.0 / odd;
    return static_cast<double>(static_cast<std::int64_t>(power)) * 0x1.62e42fefa39efp-1 + 2 * ratio * series;
}

// Log probabilities of one exit, per sample: logits less their log sum exp.
template <class T>
void log_softmax(std::int64_t classes, std::int64_t batch, const T* logits, T* result) {
    constexpr std::int64_t TOGETHER = 16;
    for (std::int64_t first = 0; first < batch; first += TOGETHER) {
        const std::int64_t count = batch - first < TOGETHER ? batch - first : TOGETHER;
        double largest[TOGETHER], total[TOGETHER] = {}, shift[TOGETHER];
        for (std::int64_t sample = 0; sample < count; ++sample) largest[sample] = logits[first + sample];
        for (std::int64_t label = 1; label < classes; ++label)
            for (std::int64_t sample = 0; sample < count; ++sample) {
                const double value = logits[label * batch + first + sample];
                largest[sample] = value > largest[sample] || value != value ? value : largest[sample];
            }
        for (std::int64_t label = 0; label < classes; ++label)
            for (std::int64_t sample = 0; sample < count; ++sample)
                total[sample] +=
                    exp_of_negative(static_cast<double>(logits[label * batch + first + sample]) - largest[sample]);
        // an infinite or undefined logit leaves no number: the caller sees it in the loss
        for (std::int64_t sample = 0; sample < count; ++sample) {
            const double nothing = largest[sample] - largest[sample];
            shift[sample] = nothing == 0 ? largest[sample] + log_of(total[sample]) : nothing;
        }
        for (std::int64_t label = 0; label < classes; ++label)
            for (std::int64_t sample = 0; sample < count; ++sample) {
                const std::int64_t at = label * batch + first + sample;
                result[at] = static_cast<T>(static_cast<double>(logits[at]) - shift[sample]);
            }
    }
}

}  // namespace

template <class T>
void loss(Loss<T>& of) {
    const std::int64_t classes = of.classes, batch = of.batch, size = classes * batch;
    const double share = 1.0 / static_cast<double>(batch);
    double total = 0;
    of.squares = 0;
    of.hits = 0;
    for (std::int64_t exit = 0; exit < of.exits; ++exit)
        log_softmax(classes, batch, of.logits[exit], of.log_probabilities + exit * size);
    for (std::int64_t exit = 0; exit < of.exits; ++exit) {
        const T* own = of.log_probabilities + exit * size;
        T* gradient = of.gradients ? of.gradients[exit] : nullptr;
        for (std::int64_t sample = 0; sample < batch; ++sample) {
            const std::int64_t truth = of.labels[sample];
            double weight = 1, entropy = 0;
            if (of.teacher) {
                weight = 0;
                for (std::int64_t label = 0; label < classes; ++label) {
                    const double wanted = of.teacher[label * batch + sample];
                    weight += wanted;
                    entropy -= wanted * static_cast<double>(own[label * batch + sample]);
                }
            } else {
                entropy = -static_cast<double>(own[truth * batch + sample]);
            }
            total += share * entropy;
            if (gradient && of.teacher)
                for (std::int64_t at = sample; at < size; at += batch)
                    gradient[at] = static_cast<T>(share * (weight * exp_of_negative(static_cast<double>(own[at])) -
                                                           static_cast<double>(of.teacher[at])));
        }
        if (gradient && !of.teacher) {
            for (std::int64_t at = 0; at < size; ++at)
                gradient[at] = static_cast<T>(share * exp_of_negative(static_cast<double>(own[at])));
            for (std::int64_t sample = 0; sample < batch; ++sample) {
                T& right = gradient[of.labels[sample] * batch + sample];
                right = static_cast<T>(share * (exp_of_negative(static_cast<double>(own[&right - gradient])) - 1));
            }
        }
        if (of.mutual == 0 || of.exits == 1) continue;
        for (std::int64_t other = 0; other < of.exits; ++other) {
            if (other == exit) continue;
            const T* theirs = of.log_probabilities + other * size;
            for (std::int64_t sample = 0; sample < batch; ++sample) {
                double held = 0, divergence = 0;
                for (std::int64_t at = sample; at < size; at += batch) {
                    const double share_of_class = exp_of_negative(static_cast<double>(theirs[at]));
                    held += share_of_class;
                    divergence += share_of_class * (static_cast<double>(theirs[at]) - static_cast<double>(own[at]));
                }
                total += share * of.mutual * divergence;
                if (!gradient) continue;
                for (std::int64_t at = sample; at < size; at += batch)
                    gradient[at] += static_cast<T>(share * of.mutual *
                                                   (held * exp_of_negative(static_cast<double>(own[at])) -
                                                    exp_of_negative(static_cast<double>(theirs[at]))));
            }
        }
    }
    const T* last = of.logits[of.exits - 1];
    const T* log_last = of.log_probabilities + (of.exits - 1) * size;
    for (std::int64_t sample = 0; sample < batch; ++sample) {
        std::int64_t best = 0;
        for (std::int64_t label = 1; label < classes; ++label)
            if (last[label * batch + sample] > last[best * batch + sample]) best = label;
        const bool right = best == of.labels[sample];
        of.hits += right;
        if (of.right) of.right[sample] = right;
        const double entropy = static_cast<double>(log_last[of.labels[sample] * batch + sample]);
        of.squares += entropy * entropy;
    }
    of.loss = total;
}

template <class T>
void softmax(std::int64_t classes, std::int64_t batch, const T* logits, T* probabilities) {
    log_softmax(classes, batch, logits, probabilities);
    for (std::int64_t entry = 0; entry < classes * batch; ++entry)
        probabilities[entry] = static_cast<T>(exp_of_negative(static_cast<double>(probabilities[entry])));
}

template void loss(Loss<float>&);
template void loss(Loss<double>&);
template void softmax(std::int64_t, std::int64_t, const float*, float*);
template void softmax(std::int64_t, std::int64_t, const double*, double*);

}  // namespace fedlps::FEDLPS_ISA
