// What kernels know of models and cohorts: plain data in device memory, passed by value.
#pragma once

#include <cstdint>

#include "common/layout.h"

namespace fedlps::cuda {

// A Layout on the device, and where each layer's pieces of work begin (csrc/cuda/work.h).
struct Model {
    const Layer* layers;
    const std::int64_t* groups;       // (groups + 1)
    const std::int64_t* first_line;   // (layers + 1): rows of layers without a row group
    const std::int64_t* first_tile;   // (layers + 1): tiles that `move` takes
    const std::int64_t* first_chunk;  // (layers + 1): chunks of rows that `scatter_aggregate` takes
    std::int64_t layer_count, group_count, units, parameters, lines, tiles, chunks;
};

// fedlps_kernels/places.py: where the entries of every client's layers lie, (clients, layers) each.
struct Places {
    const std::int64_t *weight, *row, *column, *inner, *vectors;  // vectors: (clients, layers, 3)
};

// Which units C clients keep. counts: (C, G); kept: (C, U), or null: the leading ones.
struct Cohort {
    std::int64_t clients;
    const std::int32_t *kept, *counts;
};

// So many leading ones of each group's kept units that passes take, (passes, clients, groups); null: all.
struct Widths {
    int passes;
    const std::int32_t* counts;
};

// Whom a step concerns; either may be null. samples: (C), 0: the client has no batch, its state stays as it is.
// lost: (C), set where a written value is not finite. Never read here: what a launch writes must not decide what it does.
struct Active {
    const std::int32_t* samples;
    std::int32_t* lost;
};

// How redundancies step (spec section 4, step 2).
struct Importance {
    double lam, kappa;
    bool mean;
};

constexpr int MOST_PULLS = 4;

// One pull: q += coefficient (w - reference); client_pitch: 0 if all clients share the reference, else P.
template <class T>
struct Pull {
    T coefficient;
    const T* reference;
    std::int64_t client_pitch;
};

// How kept entries step (spec section 4, step 3), as far as the host knows it. velocity: null without momentum.
template <class T>
struct Update {
    Pull<T> pulls[MOST_PULLS];
    int pull_count;
    double weight_decay, clip, momentum;
    const T* lr;  // one number
    T* velocity;  // (C, P)
    Widths widths;  // what no pass takes stays as it is
};

}  // namespace fedlps::cuda
