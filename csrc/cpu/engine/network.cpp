#include "cpu/engine/network.h"

#include <algorithm>

namespace fedlps {

namespace {

// A step and what is fused behind it.
struct Fused {
    std::int64_t step;
    std::int64_t last;  // the step whose output is the stage's
    std::int64_t pool;
    bool relu;
};

// How steps hang together, and which of them the exits need.
struct Readers {
    std::vector<std::vector<std::int64_t>> of;  // per step
    std::vector<bool> needed, exit;

    Readers(const Program& program, std::int64_t exits)
        : of(program.steps.size()), needed(program.steps.size()), exit(program.steps.size()) {
        for (std::int64_t number = 0; number < exits; ++number) {
            exit[program.exits[number]] = true;
            for (std::int64_t step = program.exits[number]; step >= 0 && !needed[step]; step = program.steps[step].input)
                needed[step] = true;
        }
        for (std::size_t step = 0; step < of.size(); ++step)
            if (needed[step] && program.steps[step].input >= 0)
                of[program.steps[step].input].push_back(static_cast<std::int64_t>(step));
    }

    // The only reader of a step, -1 if there are several, none, or the output is the model's.
    std::int64_t only(std::int64_t step) const { return of[step].size() == 1 && !exit[step] ? of[step].front() : -1; }
};

Fused fuse(const Program& program, const Readers& readers, std::int64_t step) {
    const ProgramStep& first = program.steps[step];
    const bool pools = first.kind == StepKind::conv || first.kind == StepKind::linear || first.kind == StepKind::norm;
    Fused fused{step, step, 1, first.kind == StepKind::relu};
    for (std::int64_t next = readers.only(step); next >= 0; next = readers.only(next)) {
        const ProgramStep& behind = program.steps[next];
        if (behind.kind == StepKind::relu && !fused.relu && first.kind != StepKind::avgpool)
            fused.relu = true;
        else if (behind.kind == StepKind::maxpool && behind.kernel == 2 && pools && fused.pool == 1)
            fused.pool = 2;
        else
            break;
        fused.last = next;
    }
    return fused;
}

}  // namespace

template <class T>
Network<T>::Network(const Kernels<T>& kernels, const Program& program, std::span<const std::int32_t> counts,
                    std::int64_t batch, std::int64_t exits, const double* scale, bool training, Arena<T>& arena)
    : kernels_(kernels), layout_(program.layout, counts), counts_(counts), batch_(batch) {
    const Readers readers(program, exits);
    partly_ = exits < static_cast<std::int64_t>(program.exits.size());
    std::vector<std::int64_t> stage_of(program.steps.size(), -2);  // whose output a step's is
    std::vector<Shape> shapes;                                     // of the stages' outputs
    std::vector<bool> trained;                                     // parameters stand before or in the stage
    std::vector<bool> taken(program.steps.size());

    for (std::size_t number = 0; number < program.steps.size(); ++number) {
        const auto step = static_cast<std::int64_t>(number);
        if (!readers.needed[number] || taken[number]) continue;
        const ProgramStep& is = program.steps[number];
        const std::int64_t source = is.input < 0 ? -1 : stage_of[is.input];
        if (is.kind == StepKind::flatten) {
            stage_of[number] = source;
            continue;
        }
        const Fused fused = fuse(program, readers, step);
        for (std::int64_t each = fused.step; each != fused.last; each = readers.only(each)) taken[readers.only(each)] = true;
        const Shape from = source < 0 ? Shape{program.channels, program.height, program.width} : shapes[source];
        const bool passes_gradient = training && source >= 0 && trained[source];

        Stage stage{source, is.layer, {}, {}};
        if (is.kind == StepKind::conv || is.kind == StepKind::linear) {
            const Layer& layer = program.layout.layers[is.layer];
            const bool linear = is.kind == StepKind::linear;
            Conv<T> conv{};
            const Shape in = linear ? Shape{from.channels * from.height * from.width, 1, 1} : from;
            conv.rows = kept(layer.row_group, layer.rows);
            conv.kernel = is.kernel, conv.stride = is.stride, conv.pool = fused.pool;
            if (!linear)
                conv.method = Tiling::best(is.kernel, is.stride, is.padding, in.channels, conv.rows, is.height, is.width);
            const Tiling tiling(conv.method, in.channels, conv.rows, is.height, is.width, batch, sizeof(T));
            const std::int64_t phases = conv.method == Method::direct ? conv.stride * conv.pool : tiling.step;
            conv.in = {in.channels, in.height, in.width, is.padding, phases, batch};
            conv.height = is.height / fused.pool, conv.width = is.width / fused.pool;
            conv.relu = fused.relu;
            conv.scale = static_cast<T>(scale && layer.row_group >= 0 ? scale[layer.row_group] : 1.0);
            T* input = arena.take(conv.in.size() + SLACK);
            conv.input = input;
            if (passes_gradient) conv.input_gradient = arena.scratch(conv.in.size() + SLACK);
            if (training && (conv.relu || conv.pool > 1))
                conv.codes = arena.scratch(conv.rows * conv.height * conv.width * batch + SLACK);
            const Image image = linear ? Image{from.channels, from.height, from.width, 0, 1, batch} : conv.in;
            connect(source, image, input, conv.input_gradient);
            shapes.push_back({conv.rows, conv.height, conv.width});
            trained.push_back(true);
            stage.work = conv;
        } else if (is.kind == StepKind::norm) {
            Norm<T> norm{};
            const Conv<T>* before = source < 0 ? nullptr : std::get_if<Conv<T>>(&stages_[source].work);
            const bool in_tiles = before && before->method != Method::direct;  // columns lie as these write them
            const std::int64_t phases = in_tiles ? before->in.phases / before->pool : 1;
            norm.in = {from.channels, from.height, from.width, 0, phases, batch};
            norm.pool = fused.pool, norm.height = from.height / fused.pool, norm.width = from.width / fused.pool;
            norm.relu = fused.relu;
            T* input = arena.scratch(norm.in.size() + SLACK);
            norm.input = input;
            norm.mean = arena.scratch(from.channels), norm.reciprocal = arena.scratch(from.channels);
            if (training) {
                const std::int64_t outputs = from.channels * norm.height * norm.width * batch + SLACK;
                norm.input_gradient = arena.scratch(norm.in.size() + SLACK);
                if (norm.relu || norm.pool > 1) norm.codes = arena.scratch(outputs);
                if (norm.pool > 1) norm.winners = arena.scratch(outputs);
            }
            connect(source, norm.in, input, norm.input_gradient);
            shapes.push_back({from.channels, norm.height, norm.width});
            trained.push_back(true);
            stage.work = norm;
        } else {
            Pool<T> pool{};
            pool.window = is.kind == StepKind::relu ? 1 : is.kernel;
            pool.in = {from.channels, from.height, from.width, 0, 1, batch};
            pool.height = from.height / pool.window, pool.width = from.width / pool.window;
            pool.average = is.kind == StepKind::avgpool, pool.relu = fused.relu;
            T* input = arena.take(pool.in.size() + SLACK);
            pool.input = input;
            if (passes_gradient) pool.input_gradient = arena.scratch(pool.in.size() + SLACK);
            if (!pool.average) pool.codes = arena.scratch(from.channels * pool.height * pool.width * batch + SLACK);
            connect(source, pool.in, input, pool.input_gradient);
            shapes.push_back({from.channels, pool.height, pool.width});
            trained.push_back(passes_gradient);
            stage.work = pool;
        }
        stages_.push_back(std::move(stage));
        stage_of[fused.last] = static_cast<std::int64_t>(stages_.size()) - 1;
    }

    for (std::int64_t exit = 0; exit < exits; ++exit) {
        const std::int64_t stage = stage_of[program.exits[exit]];
        const Shape shape = stage < 0 ? Shape{program.channels, program.height, program.width} : shapes[stage];
        const Image image{shape.channels, shape.height, shape.width, 0, 1, batch};
        T* values = arena.take(image.size() + SLACK);
        T* gradient = training ? arena.take(image.size() + SLACK) : nullptr;
        logits_.push_back(values);
        logit_gradients_.push_back(gradient);
        connect(stage, image, values, gradient);
    }

    ScratchSizes<T> most;
    for (Stage& stage : stages_)
        if (Conv<T>* conv = std::get_if<Conv<T>>(&stage.work)) {
            const ScratchSizes<T> sizes(*conv);
            most.packed = std::max(most.packed, sizes.packed);
            most.line = std::max(most.line, sizes.line);
            most.partial = std::max(most.partial, sizes.partial);
            const bool direct = conv->method == Method::direct;
            if (training && direct) conv->expanded = arena.take(sizes.expanded);
            if (!direct) most.expanded = std::max(most.expanded, sizes.expanded);
            most.tiles = std::max(most.tiles, sizes.tiles);
        } else if (const Norm<T>* norm = std::get_if<Norm<T>>(&stage.work)) {
            most.line = std::max(most.line, norm->height * norm->width * batch + SLACK);
        } else {
            const Pool<T>& pool = std::get<Pool<T>>(stage.work);
            most.line = std::max(most.line, pool.width * batch + SLACK);
        }
    T* packed = arena.scratch(most.packed);
    T* line = arena.scratch(most.line);
    T* partial = arena.scratch(most.partial);
    T* expanded = training ? arena.scratch(most.expanded) : nullptr;
    T* tiles = arena.scratch(most.tiles);
    for (Stage& stage : stages_) {
        std::visit([&](auto& work) { work.line = line, work.targets = stage.targets; }, stage.work);
        if (Conv<T>* conv = std::get_if<Conv<T>>(&stage.work)) {
            conv->packed = packed, conv->partial = partial, conv->tiles = tiles;
            if (conv->method != Method::direct) conv->expanded = expanded;
        }
    }
}

template <class T>
void Network<T>::connect(std::int64_t source, Image image, T* values, T* gradient) {
    (source < 0 ? sample_ : stages_[source].targets).push_back({image, values, gradient});
}

template <class T>
void Network<T>::forward(const Samples<T>& samples, const std::int64_t* places, const T* weights) {
    for (const Target<T>& target : sample_)
        kernels_.load_samples(samples.values(), places, target.image, target.values);
    for (Stage& stage : stages_) {
        if (Conv<T>* conv = std::get_if<Conv<T>>(&stage.work)) {
            const CompactLayer& layer = layout_.layers[stage.layer];
            conv->weight = weights + layer.weight;
            conv->bias = layer.bias < 0 ? nullptr : weights + layer.bias;
            (conv->method == Method::direct ? kernels_.conv_forward : kernels_.winograd_forward)(*conv);
        } else if (Norm<T>* norm = std::get_if<Norm<T>>(&stage.work)) {
            norm->scale = weights + layout_.layers[stage.layer].scale;
            norm->shift = weights + layout_.layers[stage.layer].shift;
            kernels_.norm_forward(*norm);
        } else {
            kernels_.pool_forward(std::get<Pool<T>>(stage.work));
        }
    }
}

template <class T>
void Network<T>::backward(T* gradient, std::span<PlainStep<T>> steps) {
    if (partly_) std::fill_n(gradient, layout_.size, T{0});
    for (auto stage = stages_.rbegin(); stage != stages_.rend(); ++stage) {
        if (Norm<T>* norm = std::get_if<Norm<T>>(&stage->work)) {
            norm->scale_gradient = gradient + layout_.layers[stage->layer].scale;
            norm->shift_gradient = gradient + layout_.layers[stage->layer].shift;
            kernels_.norm_backward(*norm);
            continue;
        }
        Conv<T>* conv = std::get_if<Conv<T>>(&stage->work);
        if (!conv) {
            kernels_.pool_backward(std::get<Pool<T>>(stage->work));
            continue;
        }
        const CompactLayer& layer = layout_.layers[stage->layer];
        conv->weight_gradient = gradient + layer.weight;
        conv->bias_gradient = layer.bias < 0 ? nullptr : gradient + layer.bias;
        if (conv->method != Method::direct) {
            conv->step = steps.empty() ? nullptr : &steps[stage->layer];
            kernels_.winograd_gradients(*conv);
            continue;
        }
        const bool linear = conv->linear();
        if (linear || conv->input_gradient) kernels_.conv_expand(*conv);
        (linear ? kernels_.linear_weight_gradient : kernels_.conv_weight_gradient)(*conv);
        if (conv->input_gradient) kernels_.conv_input_gradient(*conv);
    }
}

template class Network<float>;
template class Network<double>;

}  // namespace fedlps
