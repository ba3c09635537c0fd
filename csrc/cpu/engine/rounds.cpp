#include "cpu/engine/rounds.h"

#include <algorithm>

#include "cpu/engine/training.h"
#include "cpu/engine/workers.h"

namespace fedlps {

namespace {

// Multiplications per sample of a submodel, up to a factor.
double work(const Program& program, std::span<const std::int32_t> counts) {
    const CompactLayout layout(program.layout, counts);
    double total = 1;
    for (const ProgramStep& step : program.steps)
        if (step.kind == StepKind::conv || step.kind == StepKind::linear) {
            const CompactLayer& layer = layout.layers[step.layer];
            total += static_cast<double>(layer.rows * layer.width() * step.height * step.width);
        }
    return total;
}

}  // namespace

template <class T>
void local_round(const Kernels<T>& kernels, const Program& program, const Source<T>& source, std::span<Job<T>> jobs,
                 int threads) {
    std::vector<double> works;
    for (const Job<T>& job : jobs) {
        const std::int64_t samples = job.edges[job.last_step] - job.edges[job.first_step];
        works.push_back(work(program, job.counts) * static_cast<double>(samples * std::max<std::size_t>(job.passes.size(), 1)));
    }
    Arenas<T> arenas(std::max(threads, 1));
    largest_first(works, threads, [&](std::int64_t index, int worker) {
        Training<T>(kernels, program, source, jobs[index], arenas[worker]).run();
        arenas[worker].give_back();
    });
}

template <class T>
void evaluate(const Kernels<T>& kernels, const Program& program, const Source<T>& source, std::span<Model<T>> models,
              std::int64_t usual, int threads) {
    std::vector<double> works;
    for (const Model<T>& model : models)
        works.push_back(work(program, model.counts) * static_cast<double>(model.samples.size()));
    Arenas<T> arenas(std::max(threads, 1));
    const auto exits = static_cast<std::int64_t>(program.exits.size());
    largest_first(works, threads, [&](std::int64_t index, int worker) {
        const Model<T>& model = models[index];
        const auto size = static_cast<std::int64_t>(model.samples.size());
        double total = 0;
        Samples<T> samples;
        std::vector<T> mean, log_probabilities;
        std::vector<std::int64_t> labels;
        for (const bool rest : {false, true}) {
            const std::int64_t whole = size / usual * usual;
            const std::int64_t start = rest ? whole : 0, end = rest ? size : whole;
            if (start == end) continue;
            const std::int64_t batch = rest ? end - start : usual;
            Network<T> network(kernels, program, model.counts, batch, exits, nullptr, false, arenas[worker]);
            for (std::int64_t first = start; first < end; first += batch) {
                samples.gather(kernels, source, model.samples.subspan(first, batch), program.channels,
                               program.height * program.width);
                network.forward(samples, samples.places(), model.weights.data());
                // a model with exits answers with the mean of their logits
                mean.assign(program.classes * batch, T{0});
                for (const T* logits : network.logits())
                    kernels.add(program.classes * batch, 1.0 / static_cast<double>(exits), logits, mean.data());
                log_probabilities.resize(mean.size());
                labels.clear();
                for (std::int64_t sample = 0; sample < batch; ++sample)
                    labels.push_back(samples.label(samples.places()[sample]));
                const T* logits = mean.data();
                Loss<T> loss{};
                loss.classes = program.classes, loss.batch = batch, loss.exits = 1;
                loss.logits = &logits, loss.labels = labels.data(), loss.log_probabilities = log_probabilities.data();
                loss.right = model.hits.data() + first;
                kernels.loss(loss);
                total += loss.loss * static_cast<double>(batch);
            }
        }
        *model.loss = total;
        arenas[worker].give_back();
    });
}

template void local_round(const Kernels<float>&, const Program&, const Source<float>&, std::span<Job<float>>, int);
template void local_round(const Kernels<double>&, const Program&, const Source<double>&, std::span<Job<double>>, int);
template void evaluate(const Kernels<float>&, const Program&, const Source<float>&, std::span<Model<float>>, std::int64_t,
                       int);
template void evaluate(const Kernels<double>&, const Program&, const Source<double>&, std::span<Model<double>>,
                       std::int64_t, int);

}  // namespace fedlps
