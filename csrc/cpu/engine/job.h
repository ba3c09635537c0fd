// What one client trains in one segment: the plan's terms (fedlps/engine/plan.py), as plain data.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedlps {

template <class T>
struct PullTerm {
    double coefficient;
    std::span<const T> reference;  // (P)
};

struct PassTerm {
    std::int64_t batch;
    std::vector<std::pair<std::int64_t, double>> at;  // earlier pass, coefficient
    double weight;
    bool narrowed;
    std::vector<std::int32_t> widths;  // (steps, groups), -1 first where the step has no such pass
    std::int64_t teacher;              // earlier pass; -1: the labels
};

struct LearnedTerm {
    double strength, kappa;
    bool mean;
};

template <class T>
struct Job {
    // batches: of all epochs, sample indices and (steps + 1) edges
    std::span<const std::int64_t> samples, edges;
    std::int64_t epoch_steps, first_step, last_step;

    std::span<const std::int32_t> counts;
    std::span<const std::uint8_t> mask;  // (P), entries that train; empty: all that are held
    std::int64_t exits;
    std::span<const double> scale;  // per group; empty: 1
    std::vector<PullTerm<T>> pulls;
    double penalty, mutual;
    double lr, momentum, weight_decay, clip;
    std::vector<PassTerm> passes;
    bool learned;
    LearnedTerm learning;
    bool after_gradient;

    std::span<const T> start;  // (P); read only if `parameters` is empty

    // in and out
    std::span<T> parameters;          // (P); empty: begun from `start`, and only `compact` is asked for
    std::span<T> velocity;            // (P); empty without momentum
    std::span<T> redundancy;          // (U)
    std::span<std::int32_t> kept;     // (U)
    // out
    std::span<T> compact;                  // what the submodel ends with, in compact order
    std::span<double> losses, squares;     // (all steps)
    std::span<std::int32_t> kept_by_step;  // (all steps, U); empty: not asked for
    std::span<T> gradients;                // (P), added to; empty: not asked for
    std::span<T> first_gradient;           // (P), of the segment's first batch after its last step
    std::span<std::int64_t> told;          // hits, samples, steps, diverged: added to
};

}  // namespace fedlps
