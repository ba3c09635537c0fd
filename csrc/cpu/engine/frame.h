// What a client holds at the moment, gathered: the vectors that training works on, in compact order.
#pragma once

#include <span>
#include <vector>

#include "cpu/engine/arena.h"
#include "cpu/engine/job.h"
#include "cpu/engine/program.h"
#include "cpu/kernels.h"

namespace fedlps {

template <class T>
class Frame {
  public:
    Frame(const Kernels<T>& kernels, const Program& program, Job<T>& job, Arena<T>& arena);

    // Gathers what job.kept says from the full vectors.
    void gather();
    // Writes the weights and the velocity back to the full vectors; a start that is only lent is copied first.
    void scatter();
    // The full weights: what was scattered last, around what no one held since.
    std::span<const T> full() const { return full_; }

    const CompactLayout& layout() const { return layout_; }
    std::int64_t size() const { return layout_.size; }
    const std::uint8_t* mask() const { return mask_.empty() ? nullptr : mask_.data(); }
    // Sums of |weights| over each unit's rows, kept columns or not: (U).
    void absolute_sums(std::span<T> sums) const;
    // A step without momentum, mask, clipping or penalty, with one pull at most, layer by layer: for whoever makes the
    // gradients, or else for plain_step, which must follow.
    void begin_step();
    std::span<PlainStep<T>> steps() { return steps_; }
    // Takes what is left of it, in one pass over the weights; sums as absolute_sums before the step. Returns whether all
    // weights are finite behind it.
    bool plain_step(const T* gradient, std::span<T> sums);
    // Adds values of the kept entries to a full vector.
    void add_to(const T* values, std::span<T> full) const;
    // units += weights * gradient, summed over each kept unit's row and bias, or its scale and shift where a norm
    // follows: the gradient of its gate.
    void add_gate_gradients(const T* weights, const T* gradient, std::span<T> units) const;
    // gradient += penalty * direction of each thinned layer's unit, over the entries that train (group lasso).
    void add_penalty(double penalty, T* gradient) const;

    std::span<T> weights, velocity;
    std::vector<std::span<T>> references;  // of the pulls

  private:
    Submodel submodel() const { return {job_.kept, job_.counts}; }
    // Calls visit(compact, flat) for each kept entry.
    template <class Visit>
    void for_each_entry(const Visit& visit) const;

    const Kernels<T>& kernels_;
    const Program& program_;
    Job<T>& job_;
    Arena<T>& arena_;
    CompactLayout layout_;
    std::span<T> own_;  // (P), to be written to; empty: none yet
    std::span<const T> full_;
    std::vector<std::uint8_t> mask_;
    std::vector<PlainStep<T>> steps_;   // per layer
    std::vector<T> row_sums_;           // of all layers, before the step
    std::vector<T> outside_;  // (U), of each unit's row what is not kept
};

extern template class Frame<float>;
extern template class Frame<double>;

}  // namespace fedlps
