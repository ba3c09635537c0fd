// A client's segment of a local round (specification, section 4).
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "cpu/engine/arena.h"
#include "cpu/engine/frame.h"
#include "cpu/engine/network.h"

namespace fedlps {

template <class T>
class Training {
  public:
    Training(const Kernels<T>& kernels, const Program& program, const Source<T>& source, Job<T>& job, Arena<T>& arena);

    // All steps of the segment; stops at the first after which something is not finite.
    void run();

  private:
    // A pass that the current step took: its gradient over the frame, and its last exit's answers.
    struct Ran {
        bool taken = false;
        std::span<T> gradient;
        std::vector<T> outputs;
    };
    struct Batch {
        const std::int64_t* samples;
        std::int64_t size;
    };

    void step(std::int64_t number);
    // The step's gradient to total_, and the entries it touches to touched_.
    void passes(std::int64_t step);
    // A pass of a submodel of the frame's leading units; returns the mean loss.
    double narrow_pass(const PassTerm& term, Ran& ran, const T* weights, const std::int32_t* widths, Batch samples,
                       bool first);
    // Forward and backward; returns the mean loss.
    double run_network(Network<T>& network, const PassTerm& term, Ran& ran, const T* weights, T* gradient, Batch samples,
                       bool first, std::span<PlainStep<T>> steps = {});
    void update();
    void learn(std::span<const T> sums);
    void select();
    void tell_gradient();
    Network<T>& network(std::span<const std::int32_t> counts, std::int64_t batch);
    Batch batch(std::int64_t step, std::int64_t later) const;
    std::int64_t steps() const { return static_cast<std::int64_t>(job_.edges.size()) - 1; }

    const Kernels<T>& kernels_;
    const Program& program_;
    Samples<T> samples_;
    Job<T>& job_;
    Arena<T>& arena_;
    Frame<T> frame_;
    std::map<std::pair<std::vector<std::int32_t>, std::int64_t>, std::unique_ptr<Network<T>>> networks_;
    std::vector<Ran> ran_;
    std::span<T> total_;
    std::vector<T> weights_at_, unit_gradient_, sums_, next_redundancy_, scores_, log_probabilities_;
    std::vector<std::uint8_t> touched_;
    bool partial_ = false;  // the step touches touched_ only
    bool plain_ = false;    // one pass over the weights makes the step
    bool at_once_ = false;  // which may be taken as soon as a layer's gradient is there
    std::vector<std::int64_t> labels_;
    std::vector<std::int32_t> selected_;
    double loss_ = 0, squares_ = 0;
};

extern template class Training<float>;
extern template class Training<double>;

}  // namespace fedlps
