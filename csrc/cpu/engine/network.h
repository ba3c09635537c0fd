// A submodel on batches of one size: its stages, their memory, forward and backward.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "cpu/engine/arena.h"
#include "cpu/engine/program.h"
#include "cpu/engine/samples.h"
#include "cpu/kernels.h"

namespace fedlps {

template <class T>
class Network {
  public:
    // counts: kept units per group. exits: how many of the program's are run, from the first. scale: per group, what
    // its layers' outputs are multiplied by; null: 1. Without training there is nothing for backward.
    Network(const Kernels<T>& kernels, const Program& program, std::span<const std::int32_t> counts, std::int64_t batch,
            std::int64_t exits, const double* scale, bool training, Arena<T>& arena);

    std::int64_t batch() const { return batch_; }
    std::span<T* const> logits() const { return logits_; }
    std::span<T* const> logit_gradients() const { return logit_gradients_; }

    // Samples at these places, through the network with these weights (in compact order), to the logits.
    void forward(const Samples<T>& samples, const std::int64_t* places, const T* weights);
    // From the gradients of the logits to those of the weights, in compact order; zero where no exit that is run
    // depends on them. After forward with the same weights.
    // steps: per layer, what may be done to its weights at once; their gradients are not stored then. Empty: nothing.
    void backward(T* gradient, std::span<PlainStep<T>> steps);

  private:
    // A step with what is fused behind it. Stages stand in the order of the steps.
    struct Stage {
        std::int64_t source;  // the stage whose output it reads, -1: the sample
        std::int64_t layer;
        std::variant<Conv<T>, Pool<T>, Norm<T>> work;
        std::vector<Target<T>> targets;
    };
    struct Shape {
        std::int64_t channels, height, width;
    };

    std::int64_t kept(std::int64_t group, std::int64_t all) const { return group < 0 ? all : counts_[group]; }
    void connect(std::int64_t source, Image image, T* values, T* gradient);

    const Kernels<T>& kernels_;
    CompactLayout layout_;
    std::span<const std::int32_t> counts_;
    std::int64_t batch_;
    bool partly_ = false;  // some layers stand behind no exit that is run
    std::vector<Stage> stages_;
    std::vector<Target<T>> sample_;
    std::vector<T*> logits_, logit_gradients_;
};

extern template class Network<float>;
extern template class Network<double>;

}  // namespace fedlps
