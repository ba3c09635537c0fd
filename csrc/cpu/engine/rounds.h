// Many clients: their segments, and their models on their own samples; one client per thread, the largest first.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/engine/job.h"
#include "cpu/engine/program.h"
#include "cpu/engine/samples.h"
#include "cpu/kernels.h"

namespace fedlps {

template <class T>
void local_round(const Kernels<T>& kernels, const Program& program, const Source<T>& source, std::span<Job<T>> jobs,
                 int threads);

template <class T>
struct Model {
    std::span<const std::int32_t> counts;
    std::span<const T> weights;              // in compact order
    std::span<const std::int64_t> samples;   // indices
    std::span<std::uint8_t> hits;            // per sample
    double* loss;                            // summed
};

// batch: how many consecutive samples are run at once, which is part of the answer of a model with norms.
template <class T>
void evaluate(const Kernels<T>& kernels, const Program& program, const Source<T>& source, std::span<Model<T>> models,
              std::int64_t batch, int threads);

}  // namespace fedlps
