#include "sanitized_engine.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/engine/rounds.h"

namespace fedlps {

namespace {

constexpr std::int64_t SAMPLES = 13, CLASSES = 3;

class Draw {
  public:
    explicit Draw(std::mt19937& generator) : generator_(generator) {}
    std::int64_t operator()(std::int64_t low, std::int64_t high) {
        return std::uniform_int_distribution<std::int64_t>(low, high)(generator_);
    }
    bool coin() { return (*this)(0, 1) == 1; }
    template <class T>
    std::vector<T> values(std::int64_t size) {
        std::normal_distribution<T> normal(0, T{0.3});
        std::vector<T> drawn(static_cast<std::size_t>(size));
        for (T& value : drawn) value = normal(generator_);
        return drawn;
    }

  private:
    std::mt19937& generator_;
};

// Convolutions and linear layers with what may stand behind them, norms too; a second exit behind the first one's layer.
struct Chain {
    std::vector<Layer> layers;
    std::vector<std::int64_t> groups{0}, exits;
    std::vector<ProgramStep> steps;
    std::int64_t channels, side, parameters = 0;

    explicit Chain(Draw& draw) : channels(draw(1, 2)), side(draw(5, 14)) {
        std::int64_t at = -1, group = -1, depth = channels, map = side;
        const bool tiled = draw.coin();  // a convolution that goes over tiles, where the side is even
        if (tiled) side = map = 2 * draw(1, 6), channels = depth = draw(16, 18);
        for (std::int64_t number = draw(tiled, 2); number > 0; --number) {
            const std::int64_t padding = tiled ? 1 : draw(0, 2), stride = tiled ? 1 : draw(1, 2);
            const std::int64_t kernel = tiled ? 3 : std::min(draw(1, 6), map + 2 * padding);
            map = (map + 2 * padding - kernel) / stride + 1;
            depth = add_layer(tiled ? draw(17, 40) : draw(1, 7), depth, kernel * kernel, group, draw.coin());
            group = static_cast<std::int64_t>(groups.size()) - 2;
            at = add_step({StepKind::conv, at, last_layer(), kernel, stride, padding, depth, map, map});
            if (draw.coin()) at = add_norm(at, depth, map);
            if (draw.coin()) at = add_step({StepKind::relu, at, -1, 1, 1, 0, depth, map, map});
            if (const std::int64_t window = draw(1, 3); window > 1 && window <= map) {
                map /= window;
                const StepKind kind = draw.coin() ? StepKind::maxpool : StepKind::avgpool;
                at = add_step({kind, at, -1, window, window, 0, depth, map, map});
            }
        }
        at = add_step({StepKind::flatten, at, -1, 1, 1, 0, depth * map * map, 1, 1});
        std::int64_t inner = map * map;
        if (draw.coin()) {
            depth = add_layer(draw(1, 20), depth, inner, group, draw.coin());
            group = static_cast<std::int64_t>(groups.size()) - 2, inner = 1;
            at = add_step({StepKind::linear, at, last_layer(), 1, 1, 0, depth, 1, 1});
            if (draw.coin()) at = add_norm(at, depth, 1);
            at = add_step({StepKind::relu, at, -1, 1, 1, 0, depth, 1, 1});
        }
        for (std::int64_t exit = draw(1, 2); exit > 0; --exit) {
            layers.push_back({-1, group, CLASSES, depth, inner, parameters, -1, -1, -1});
            parameters += CLASSES * depth * inner;
            exits.push_back(add_step({StepKind::linear, at, last_layer(), 1, 1, 0, CLASSES, 1, 1}));
        }
    }

    Program program() const { return {{layers, groups}, steps, exits, channels, side, side, CLASSES, parameters}; }

  private:
    std::int64_t last_layer() const { return static_cast<std::int64_t>(layers.size()) - 1; }

    std::int64_t add_layer(std::int64_t rows, std::int64_t columns, std::int64_t inner, std::int64_t column_group, bool bias) {
        layers.push_back({static_cast<std::int64_t>(groups.size()) - 1, column_group, rows, columns, inner, parameters, -1, -1, -1});
        parameters += rows * columns * inner;
        if (bias) layers.back().bias = std::exchange(parameters, parameters + rows);
        groups.push_back(groups.back() + rows);
        return rows;
    }

    // Behind the last layer.
    std::int64_t add_norm(std::int64_t at, std::int64_t rows, std::int64_t map) {
        layers.back().scale = std::exchange(parameters, parameters + rows);
        layers.back().shift = std::exchange(parameters, parameters + rows);
        return add_step({StepKind::norm, at, last_layer(), 1, 1, 0, rows, map, map});
    }

    std::int64_t add_step(const ProgramStep& step) {
        steps.push_back(step);
        return static_cast<std::int64_t>(steps.size()) - 1;
    }
};

// One client with everything it owns, in buffers of just the size that the engine may touch.
template <class T>
struct Client {
    std::vector<std::int64_t> samples, edges{0}, told = std::vector<std::int64_t>(4);
    std::vector<std::int32_t> counts, kept, kept_by_step;
    std::vector<std::uint8_t> mask;
    std::vector<T> parameters, reference, velocity, redundancy, gradients, first_gradient, compact;
    std::vector<double> losses, squares, scale;
    Job<T> job{};

    Client(Draw& draw, const Program& program, const Kernels<T>& kernels) {
        const std::int64_t steps = draw(1, 4);
        for (std::int64_t step = 0; step < steps; ++step) {
            for (std::int64_t sample = draw(1, 9); sample > 0; --sample) samples.push_back(draw(0, SAMPLES - 1));
            edges.push_back(static_cast<std::int64_t>(samples.size()));
        }
        for (std::int64_t group = 0; group < program.groups(); ++group) {
            counts.push_back(static_cast<std::int32_t>(draw(1, program.layout.groups[group + 1] - program.layout.groups[group])));
            scale.push_back(1.5);
        }
        parameters = draw.values<T>(program.parameters), reference = draw.values<T>(program.parameters);
        redundancy = draw.values<T>(program.units());
        kept.resize(program.units());
        kernels.select_units(program.layout, redundancy, counts, kept);
        losses.resize(steps), squares.resize(steps), kept_by_step.resize(steps * program.units());

        job.samples = samples, job.edges = edges, job.epoch_steps = draw(1, steps), job.last_step = steps;
        job.counts = counts, job.kept = kept, job.exits = draw(1, static_cast<std::int64_t>(program.exits.size()));
        compact.resize(CompactLayout(program.layout, counts).size);
        job.start = parameters, job.compact = compact, job.redundancy = redundancy, job.told = told;
        job.losses = losses, job.squares = squares, job.kept_by_step = kept_by_step;
        job.lr = 0.1, job.weight_decay = 0.01, job.mutual = 0.5;
        if (draw.coin()) job.parameters = parameters;
        if (draw.coin()) job.pulls.push_back({0.1, reference});
        if (draw.coin()) job.clip = 0.5, job.penalty = 0.1, job.scale = scale;
        if (draw.coin()) job.momentum = 0.9, velocity.resize(program.parameters), job.velocity = velocity;
        if (draw.coin()) mask.assign(program.parameters, 1), mask[0] = 0, job.mask = mask;
        if (draw.coin()) gradients.resize(program.parameters), job.gradients = gradients;
        if (draw.coin()) first_gradient.resize(program.parameters), job.first_gradient = first_gradient, job.after_gradient = true;
        job.learned = draw.coin(), job.learning = {1.0, 0.5, true};
        job.passes.push_back({0, {}, 1.0, false, {}, -1});
        if (draw.coin()) job.passes.push_back({-1, {{0, 0.1}}, 0.5, false, {}, -1});
        if (!job.learned && draw.coin()) {
            // leading units at some steps
            std::int64_t first = 0;
            for (std::int64_t group = 0; group < program.groups(); first = program.layout.groups[++group])
                std::iota(kept.begin() + first, kept.begin() + first + counts[group], 0);
            PassTerm narrow{0, {}, 1.0, true, {}, 0};
            for (std::int64_t step = 0; step < steps; ++step)
                for (const std::int32_t count : counts) narrow.widths.push_back(step % 2 ? -1 : (count + 1) / 2);
            if (!counts.empty()) job.passes.push_back(narrow);
        }
    }
};

template <class T>
void run(const Kernels<T>& kernels, Draw& draw) {
    const Chain chain(draw);
    const Program program = chain.program();
    const std::int64_t area = program.height * program.width, size = program.channels * area;
    std::vector<std::uint8_t> bytes(SAMPLES * size);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(draw(0, 255));
    const std::vector<T> table = draw.values<T>(program.channels * 256), values = draw.values<T>(SAMPLES * size);
    std::vector<std::int64_t> labels(SAMPLES);
    for (std::int64_t& label : labels) label = draw(0, CLASSES - 1);
    Source<T> source{bytes.data(), table.data(), nullptr, nullptr, labels.data()};
    if (draw.coin()) source = {nullptr, nullptr, nullptr, values.data(), labels.data()};

    std::vector<Client<T>> clients;
    clients.reserve(3);
    for (std::int64_t number = draw(0, 3); number > 0; --number) clients.emplace_back(draw, program, kernels);
    std::vector<Job<T>> jobs;
    for (const Client<T>& client : clients) jobs.push_back(client.job);
    local_round<T>(kernels, program, source, jobs, 2);

    std::vector<std::vector<T>> weights;
    std::vector<std::vector<std::uint8_t>> hits;
    std::vector<double> losses(clients.size());
    std::vector<Model<T>> models;
    for (std::size_t number = 0; number < clients.size(); ++number) {
        const Client<T>& client = clients[number];
        weights.emplace_back(CompactLayout(program.layout, client.counts).size);
        hits.emplace_back(client.samples.size());
        kernels.gather_weights(program.layout, {client.kept, client.counts}, client.parameters, weights.back());
        models.push_back({client.counts, weights.back(), client.samples, hits.back(), &losses[number]});
    }
    evaluate<T>(kernels, program, source, models, draw(1, 8), 2);
}

}  // namespace

void run_engine(const InstructionSet& set, std::mt19937& generator) {
    Draw draw(generator);
    run(set.single, draw);
    run(set.wide, draw);
}

}  // namespace fedlps
