// Per client and group the units with the largest scores: a warp for each row, no shared memory, no barrier. The smallest
// chosen score is found bit by bit, from how many keys reach a candidate.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

constexpr int HELD = 16;  // keys that a lane holds in registers: rows of up to 512

// Keys in the order of the scores: the sign bit set for what is not negative, all bits turned for what is.
// No score has key 0, so that stands for none.
__device__ inline std::uint32_t key_of(float score) {
    const std::uint32_t bits = __float_as_uint(score + 0.0F);  // -0.0 equals 0.0
    return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}

__device__ inline std::uint64_t key_of(double score) {
    const auto bits = static_cast<std::uint64_t>(__double_as_longlong(score + 0.0));
    return bits >> 63 ? ~bits : bits | std::uint64_t{1} << 63;
}

// One row's keys: held in registers, or made anew from memory for rows that are too long.
template <class T, bool SHORT>
struct Keys {
    using Key = decltype(key_of(T{}));

    const T* scores;
    std::int64_t units;
    bool negated;
    Key held[SHORT ? HELD : 1];

    __device__ Keys(const T* scores, std::int64_t units, bool negated) : scores(scores), units(units), negated(negated) {
        if constexpr (SHORT)
#pragma unroll
            for (int part = 0; part < HELD; ++part) held[part] = made(part * LANES + lane());
    }

    __device__ Key made(std::int64_t unit) const {
        if (unit >= units) return 0;
        return key_of(negated ? -scores[unit] : scores[unit]);
    }

    // Calls visit(first unit of 32, this lane's key) in ascending order.
    template <class Visit>
    __device__ void for_each(const Visit& visit) const {
        if constexpr (SHORT) {
#pragma unroll
            for (int part = 0; part < HELD; ++part)
                if (part * LANES < units) visit(std::int64_t{part} * LANES, held[part]);
        } else {
            for (std::int64_t first = 0; first < units; first += LANES) visit(first, made(first + lane()));
        }
    }

    // How many of the row's keys reach the least.
    __device__ int reaching(Key least) const {
        int mine = 0;
        for_each([&](std::int64_t, Key key) { mine += key >= least; });
        return static_cast<int>(__reduce_add_sync(ALL, static_cast<unsigned>(mine)));
    }

    // The count-th largest key.
    __device__ Key smallest_of(int count) const {
        Key found = 0;
        for (int bit = 8 * static_cast<int>(sizeof(Key)) - 1; bit >= 0; --bit) {
            const Key candidate = found | Key{1} << bit;
            if (reaching(candidate) >= count) found = candidate;
        }
        return found;
    }
};

template <class T, bool SHORT>
__device__ bool select_row(const T* scores, std::int64_t units, bool negated, int count, std::int32_t* kept) {
    const Keys<T, SHORT> keys(scores, units, negated);
    const auto threshold = keys.smallest_of(count);  // above all keys if none are to be chosen
    const int ties = threshold + 1 == 0 ? 0 : count - keys.reaching(threshold + 1);  // chosen at the threshold
    const unsigned below = (1U << lane()) - 1;
    int written = 0, tied = 0;
    bool changed = false;
    const auto write = [&](std::int64_t place, std::int32_t value) {
        changed = changed || kept[place] != value;
        kept[place] = value;
    };
    keys.for_each([&](std::int64_t first, auto key) {
        const unsigned level = __ballot_sync(ALL, key == threshold);
        const bool chosen = key > threshold || (key == threshold && tied + __popc(level & below) < ties);
        const unsigned all = __ballot_sync(ALL, chosen);
        if (chosen) write(written + __popc(all & below), static_cast<std::int32_t>(first + lane()));
        written += __popc(all);
        tied += __popc(level);
    });
    for (std::int64_t place = written + lane(); place < units; place += LANES) write(place, -1);
    return __ballot_sync(ALL, changed) != 0;
}

template <class T>
__global__ void __launch_bounds__(WARPS* LANES, 4)
    select(Model model, std::int64_t clients, const T* __restrict__ scores, bool negated,
           const std::int32_t* __restrict__ counts, Active active, std::int32_t* kept, std::int32_t* changed) {
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * WARPS + warp();
    if (item >= clients * model.group_count) return;
    const std::int64_t client = item / model.group_count, group = item % model.group_count;
    bool differs = false;
    if (!left_alone(active, client)) {
        const std::int64_t first = model.groups[group], units = model.groups[group + 1] - first;
        const std::int64_t place = client * model.units + first;
        differs = units <= HELD * LANES
                      ? select_row<T, true>(scores + place, units, negated, counts[item], kept + place)
                      : select_row<T, false>(scores + place, units, negated, counts[item], kept + place);
    }
    if (changed && lane() == 0) changed[item] = differs;
}

}  // namespace

template <class T>
void select_units(const Model& model, std::int64_t clients, const T* scores, bool negated, const std::int32_t* counts,
                  const Active& active, std::int32_t* kept, std::int32_t* changed, Stream stream) {
    launch("select_units", select<T>, quotient(clients * model.group_count, WARPS), WARPS * LANES, stream, model, clients,
           scores, negated, counts, active, kept, changed);
}

template void select_units(const Model&, std::int64_t, const float*, bool, const std::int32_t*, const Active&,
                           std::int32_t*, std::int32_t*, Stream);
template void select_units(const Model&, std::int64_t, const double*, bool, const std::int32_t*, const Active&,
                           std::int32_t*, std::int32_t*, Stream);

}  // namespace fedlps::cuda
