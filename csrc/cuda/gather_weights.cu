// Entries from one form of places to another: a block for each tile of 16 rows and some 256 entries of each. A tile is read
// along the source's rows and, where the target's order is another, turned round in shared memory.
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/warp.h"
#include "cuda/work.h"

namespace fedlps::cuda {
namespace {

constexpr int TOGETHER = 5;  // loads in flight per lane

__device__ inline double rounded(double value, Rounding) { return value; }

// To TF32's 10 bits, ties away from zero, as the hardware's own conversion does; infinities and NaN stay.
__device__ inline float rounded(float value, Rounding rounding) {
    const std::uint32_t bits = __float_as_uint(value);
    if (rounding == Rounding::NONE || (bits & 0x7f800000U) == 0x7f800000U) return value;
    return __uint_as_float((bits + 0x1000U) & ~0x1fffU);
}

// To bfloat16, ties to even; NaN stays NaN.
__device__ inline std::uint16_t bfloat16(float value) {
    const std::uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

template <class Target, class Source>
__device__ Target converted(Source value, Rounding rounding) {
    if constexpr (sizeof(Target) == 2)
        return bfloat16(value);
    else
        return rounded(value, rounding);
}

// One layer of one client in one form of places. A layer's own entries are counted in 32 bits (work.cu sees to it).
struct Side {
    std::int64_t weight;
    int row, column, inner;
    const std::int64_t* vectors;  // (3)
    Units rows, columns;

    __device__ Side(const Model& model, const Cohort& cohort, const Places& places, std::int64_t client, std::int64_t layer)
        : weight(places.weight[client * model.layer_count + layer]),
          row(static_cast<int>(places.row[client * model.layer_count + layer])),
          column(static_cast<int>(places.column[client * model.layer_count + layer])),
          inner(static_cast<int>(places.inner[client * model.layer_count + layer])),
          vectors(places.vectors + (client * model.layer_count + layer) * 3),
          rows(units_of(model, cohort, client, model.layers[layer].row_group)),
          columns(units_of(model, cohort, client, model.layers[layer].column_group)) {}

    __device__ std::int64_t at(int rank) const { return weight + rows[rank] * row; }
    __device__ int in_row(int rank, int place) const { return columns[rank] * column + place * inner; }
};

template <class Source, class Target>
__global__ void __launch_bounds__(WARPS* LANES, 3)
    move_tile(Model model, Cohort taken, const Source* __restrict__ source, Places from, Cohort placed,
              Target* __restrict__ target, Places to, Rounding rounding, const std::int32_t* __restrict__ leading) {
    __shared__ Source tile[TILE_ROWS][TILE_PITCH + 1];
    const std::int64_t client = blockIdx.x / model.tiles, piece = blockIdx.x % model.tiles;
    const std::int64_t number = layer_of(model.first_tile, model.layer_count, piece);
    const Layer& layer = model.layers[number];
    const int inner = static_cast<int>(layer.inner), wide = tile_columns(inner);
    const int across = quotient(layer.columns, wide), deep = quotient(inner, TILE_INNER);
    const int within = static_cast<int>(piece - model.first_tile[number]);
    const int first_place = within % deep * TILE_INNER, first_column = within / deep % across * wide;
    const int first_row = within / deep / across * TILE_ROWS;
    const int all_rows = count_of(model, taken, client, layer.row_group, layer.rows);
    const int all_columns = count_of(model, taken, client, layer.column_group, layer.columns);
    if (first_row >= all_rows) return;
    const Cohort live{taken.clients, nullptr, leading};
    const int live_rows = count_of(model, live, client, layer.row_group, layer.rows);
    const Side left(model, taken, from, client, number), right(model, placed, to, client, number);
    const int rows = min(TILE_ROWS, all_rows - first_row);

    if (first_place == 0 && first_column == 0 && warp() < 3 && left.vectors[warp()] >= 0 && right.vectors[warp()] >= 0 &&
        lane() < rows) {
        const int rank = first_row + lane();
        const Source value = rank < live_rows ? source[left.vectors[warp()] + left.rows[rank]] : Source{0};
        target[right.vectors[warp()] + right.rows[rank]] = converted<Target>(value, rounding);
    }
    if (first_column >= all_columns) return;

    const int columns = min(wide, all_columns - first_column);
    const int live_columns =
        min(columns, count_of(model, live, client, layer.column_group, layer.columns) - first_column);
    const int places = min(TILE_INNER, inner - first_place), pitch = places | 1;
    const int columns_each = LANES / places, places_each = LANES % places;
    const bool straight = right.column == inner;  // the target's order is the source's
    for (int row = warp(); row < rows; row += WARPS) {
        const Source* line = source + left.at(first_row + row);
        Target* written = target + right.at(first_row + row);
        const int present = first_row + row < live_rows ? live_columns : 0;
        Walk walk(lane(), places);
        while (walk.column < columns) {
            Source values[TOGETHER];
            Walk again = walk;
#pragma unroll
            for (int each = 0; each < TOGETHER; ++each, walk.next(columns_each, places_each, places))
                values[each] = walk.column < present
                                   ? line[left.in_row(first_column + walk.column, first_place + walk.place)]
                                   : Source{0};
#pragma unroll
            for (int each = 0; each < TOGETHER; ++each, again.next(columns_each, places_each, places)) {
                if (again.column >= columns) continue;
                if (straight)
                    written[right.in_row(first_column + again.column, first_place + again.place)] =
                        converted<Target>(values[each], rounding);
                else
                    tile[row][again.column * pitch + again.place] = values[each];
            }
        }
    }
    if (straight) return;
    __syncthreads();
    if (right.column == 1) {  // columns innermost
        for (int item = warp(); item < rows * places; item += WARPS) {
            const int row = item / places, place = item % places;
            Target* written = target + right.at(first_row + row);
            for (int column = lane(); column < columns; column += LANES)
                written[right.in_row(first_column + column, first_place + place)] =
                    converted<Target>(tile[row][column * pitch + place], rounding);
        }
    } else {  // rows innermost: half a warp for each entry
        const int row = lane() % TILE_ROWS;
        for (int item = 2 * warp() + lane() / TILE_ROWS; item < columns * places; item += 2 * WARPS)
            if (row < rows)
                target[right.at(first_row + row) + right.in_row(first_column + item / places, first_place + item % places)] =
                    converted<Target>(tile[row][item / places * pitch + item % places], rounding);
    }
}

}  // namespace

template <class Source, class Target>
void move(const Model& model, const Cohort& taken, const Source* source, const Places& from, const Cohort& placed,
          Target* target, const Places& to, Rounding rounding, const std::int32_t* widths, Stream stream) {
    launch("move", move_tile<Source, Target>, taken.clients * model.tiles, WARPS * LANES, stream, model, taken, source,
           from, placed, target, to, rounding, widths ? widths : taken.counts);
}

template void move(const Model&, const Cohort&, const float*, const Places&, const Cohort&, float*, const Places&,
                   Rounding, const std::int32_t*, Stream);
template void move(const Model&, const Cohort&, const float*, const Places&, const Cohort&, std::uint16_t*, const Places&,
                   Rounding, const std::int32_t*, Stream);
template void move(const Model&, const Cohort&, const double*, const Places&, const Cohort&, double*, const Places&,
                   Rounding, const std::int32_t*, Stream);

}  // namespace fedlps::cuda
