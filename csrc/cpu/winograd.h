// The transforms that make a convolution products of tiles: Y = A^T ((G w G^T) * (B^T d B)) A (Winograd; Lavin and
// Gray 2016), from the points 0, +-1/sqrt(2), +-sqrt(2), infinity for tiles of 6x6 inputs, 0, +-1,
// infinity for 4x4.
#pragma once

#include <utility>

#include "cpu/conv.h"
#include "cpu/products.h"

namespace fedlps::FEDLPS_ISA {

template <int ROWS_, int COLUMNS_>
struct Matrix {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_;
    double at[ROWS][COLUMNS] = {};

    constexpr Matrix<COLUMNS, ROWS> transposed() const {
        Matrix<COLUMNS, ROWS> turned;
        for (int row = 0; row < ROWS; ++row)
            for (int column = 0; column < COLUMNS; ++column) turned.at[column][row] = at[row][column];
        return turned;
    }
    // The first column that is not zero, COLUMNS if all are.
    constexpr int first(int row) const {
        int column = 0;
        while (column < COLUMNS && at[row][column] == 0) ++column;
        return column;
    }
};

// whole + root * sqrt(2): exact, so that zeros and ones are.
struct Surd {
    double whole = 0, root = 0;

    constexpr double value() const { return whole + root * 1.41421356237309504880; }
    friend constexpr Surd operator+(Surd a, Surd b) { return {a.whole + b.whole, a.root + b.root}; }
    friend constexpr Surd operator-(Surd a, Surd b) { return {a.whole - b.whole, a.root - b.root}; }
    friend constexpr Surd operator*(Surd a, Surd b) {
        return {a.whole * b.whole + 2 * a.root * b.root, a.whole * b.root + a.root * b.whole};
    }
};

// The matrices of outputs (A^T), weights (G) and inputs (B^T) for tiles of STEP outputs along a side.
template <int STEP, int KERNEL>
struct Winograd {
    static constexpr int SIDE = STEP + KERNEL - 1, POINTS = SIDE - 1;  // one more lies at infinity
    Matrix<STEP, SIDE> output;
    Matrix<SIDE, KERNEL> weight;
    Matrix<SIDE, SIDE> input;

    constexpr Winograd() {
        constexpr Surd of_6[] = {{0, 0}, {0, 0.5}, {0, -0.5}, {0, 1}, {0, -1}}, of_4[] = {{0, 0}, {1, 0}, {-1, 0}};
        const Surd* points = SIDE == 6 ? of_6 : of_4;
        for (int point = 0; point <= POINTS; ++point) {
            // the product of (x - other point), coefficient by coefficient, and its value at this point
            Surd product[SIDE] = {{1, 0}}, distance{1, 0};
            for (int other = 0; other < POINTS; ++other) {
                if (other == point) continue;
                if (point < POINTS) distance = distance * (points[point] - points[other]);
                for (int power = POINTS; power >= 0; --power)
                    product[power] = (power > 0 ? product[power - 1] : Surd{}) - product[power] * points[other];
            }
            for (int power = 0; power < SIDE; ++power) input.at[point][power] = product[power].value();
            Surd raised{1, 0};
            for (int power = 0; point < POINTS && power < SIDE; ++power, raised = raised * points[point]) {
                if (power < STEP) output.at[power][point] = raised.value();
                if (power < KERNEL) weight.at[point][power] = raised.value() / distance.whole;  // distances have no root
            }
        }
        output.at[STEP - 1][POINTS] = weight.at[POINTS][KERNEL - 1] = 1;
    }
};

// Value by value a tile's inputs times its weights: VALUES products.
template <int STEP_, int KERNEL_>
struct TilesOf {
    static constexpr int STEP = STEP_, KERNEL = KERNEL_, SIDE = STEP + KERNEL - 1, VALUES = SIDE * SIDE;
    static constexpr auto INPUT = Winograd<STEP, KERNEL>().input;
    static constexpr auto WEIGHT = Winograd<STEP, KERNEL>().weight;
    static constexpr auto OUTPUT = Winograd<STEP, KERNEL>().output;
};

// A map of 2x2 sees none of the halo. Along a side y0 = w1 x0 + w2 x1 and y1 = w0 x0 + w1 x1 are three products instead of
// four: y0 = w1 (x0 + x1) + (w2 - w1) x1, y1 = w1 (x0 + x1) + (w0 - w1) x0.
struct WholeMap {
    static constexpr int STEP = 2, KERNEL = 3, SIDE = 4, VALUES = 9;
    static constexpr Matrix<3, 4> INPUT{{{0, 1, 1, 0}, {0, 0, 1, 0}, {0, 1, 0, 0}}};
    static constexpr Matrix<3, 3> WEIGHT{{{0, 1, 0}, {0, -1, 1}, {1, -1, 0}}};
    static constexpr Matrix<2, 3> OUTPUT{{{1, 1, 0}, {1, 0, 1}}};
};

// Calls work(form) for a convolution that does not go directly.
template <class Work>
[[gnu::always_inline]] inline void with_form(Method method, const Work& work) {
    if (method == Method::tiles_of_4) return work(TilesOf<4, 3>());
    if (method == Method::tiles_of_2) return work(TilesOf<2, 3>());
    if (method == Method::wide_tiles_of_2) return work(TilesOf<2, 5>());
    work(WholeMap());
}

template <auto MATRIX, int ROW, class T, std::size_t... COLUMN>
[[gnu::always_inline]] inline Vector<T> row_of(const Vector<T>* values, std::index_sequence<COLUMN...>) {
    Vector<T> sum{};
    const auto add = [&]<std::size_t EACH>() __attribute__((always_inline)) {
        constexpr T factor = static_cast<T>(MATRIX.at[ROW][EACH]);
        if constexpr (EACH == MATRIX.first(ROW))
            sum = values[EACH] * factor;
        else if constexpr (factor != 0)
            sum += values[EACH] * factor;
    };
    (add.template operator()<COLUMN>(), ...);
    return sum;
}

template <auto MATRIX, class T, std::size_t... ROW>
[[gnu::always_inline]] inline void apply(const Vector<T>* values, Vector<T>* results, std::index_sequence<ROW...>) {
    ((results[ROW] = row_of<MATRIX, ROW, T>(values, std::make_index_sequence<MATRIX.COLUMNS>())), ...);
}

// MATRIX * values * MATRIX^T, lane by lane: values from read(row, column), results to write(row, column, vector).
template <auto MATRIX, class T>
[[gnu::always_inline]] inline void two_sided(const auto& read, const auto& write) {
    constexpr int ROWS = MATRIX.ROWS, COLUMNS = MATRIX.COLUMNS;
    Vector<T> half[ROWS][COLUMNS];
#pragma GCC unroll 1
    for (int column = 0; column < COLUMNS; ++column) {
        Vector<T> values[COLUMNS], results[ROWS];
#pragma GCC unroll 6
        for (int row = 0; row < COLUMNS; ++row) values[row] = read(row, column);
        apply<MATRIX, T>(values, results, std::make_index_sequence<ROWS>());
#pragma GCC unroll 6
        for (int row = 0; row < ROWS; ++row) half[row][column] = results[row];
    }
#pragma GCC unroll 1
    for (int row = 0; row < ROWS; ++row) {
        Vector<T> results[ROWS];
        apply<MATRIX, T>(half[row], results, std::make_index_sequence<ROWS>());
#pragma GCC unroll 6
        for (int column = 0; column < ROWS; ++column) write(row, column, results[column]);
    }
}

// A tile's values lie in as many places, more than the processor fetches ahead on its own.
template <class T>
[[gnu::always_inline]] inline void store_ahead(T* to, Vector<T> values) {
    __builtin_prefetch(to + 2 * LANES<T>, 1);
    store(to, values);
}
template <class T>
[[gnu::always_inline]] inline Vector<T> load_ahead(const T* from, std::int64_t lanes) {
    __builtin_prefetch(from + 2 * LANES<T>);
    return load_first(from, lanes);
}

// Where the weights of LANES channels or rows are turned: [channel, window][row].
template <class Form, class T>
using Strip = T[Form::KERNEL * Form::KERNEL * LANES<T> * LANES<T>];

template <class T>
Tiling tiling_of(const Conv<T>& conv) {
    return {conv.method,  conv.in.channels, conv.rows, conv.height * conv.pool, conv.width * conv.pool,
            conv.in.batch, sizeof(T)};
}

struct Range {
    std::int64_t first, count;
};

// Calls visit(range) for blocks of so many.
[[gnu::always_inline]] inline void for_each_block(std::int64_t all, std::int64_t block, const auto& visit) {
    for (std::int64_t first = 0; first < all; first += block) visit(Range{first, least(all - first, block)});
}

struct Block {
    Range outer, inner;
};

// What nested blocks come to behind this one; nothing behind the last.
[[gnu::always_inline]] inline Block behind(Block at, std::int64_t outer, std::int64_t outer_block, std::int64_t inner,
                                           std::int64_t inner_block) {
    const auto next = [](Range range, std::int64_t all, std::int64_t block) {
        const std::int64_t first = range.first + range.count;
        return Range{first, least(all - first, block)};
    };
    at.inner = next(at.inner, inner, inner_block);
    if (at.inner.count > 0) return at;
    return {next(at.outer, outer, outer_block), next({0, 0}, inner, inner_block)};
}

template <class T>
Ahead<T> ahead_of(const Conv<T>& conv, Range rows, Range channels) {
    const std::int64_t area = conv.kernel * conv.kernel, pitch = conv.in.channels * area;
    const std::int64_t place = rows.first * pitch + channels.first * area;
    return {conv.weight + place, nullptr, rows.count, channels.count * area, pitch};
}

// The inputs of a chunk of tiles, transformed: [value][channel][lane].
template <class Form, class T>
void transform_input(const Conv<T>& conv, const Tiling tiling, const Chunk chunk) {
    const Image in = conv.in;
    const std::int64_t plane = tiling.plane(in.channels), row_stride = in.row_stride();
    std::int64_t columns[Form::SIDE];
    for (int column = 0; column < Form::SIDE; ++column) columns[column] = in.column(column);
    // what a row's last vector writes too much, the next row, channel or plane overwrites
    for (std::int64_t channel = 0; channel < in.channels; ++channel)
        for (std::int64_t row = 0; row < chunk.rows; ++row) {
            const T* input = conv.input + channel * in.channel_stride() +
                             (chunk.first_row + row) * Form::STEP * row_stride + chunk.first;
            T* tiles = conv.tiles + channel * tiling.pitch + row * chunk.run;
            for (std::int64_t position = 0; position < chunk.run; position += LANES<T>)
                two_sided<Form::INPUT, T>(
                    [&](int y, int x) { return load(input + y * row_stride + columns[x] + position); },
                    [&](int y, int x, Vector<T> value) {
                        store_ahead(tiles + (y * Form::INPUT.ROWS + x) * plane + position, value);
                    });
        }
}

// Where a line of a row of tiles begins among the lines of one channel, [line][lane], and its codes.
template <class T>
T* code_line(const Conv<T>& conv, const Tiling& tiling, const Chunk& chunk, std::int64_t channel, std::int64_t row,
             std::int64_t line) {
    const std::int64_t side = tiling.step / conv.pool;
    return conv.codes + ((channel * tiling.rows + chunk.first_row + row) * side * side + line) * tiling.run + chunk.first;
}

// A chunk's part of an output row of so many phases.
[[gnu::always_inline]] inline Lines lines_of(const Tiling& tiling, const Chunk& chunk, std::int64_t phases) {
    return {phases, chunk.first, chunk.run, tiling.line_pitch()};
}

// Where the outputs of a row of tiles lie before anything fused behind them, or their gradients: one line each.
template <class Form>
struct Places {
    bool straight;  // at the only reader, which has every STEP-th column side by side as well; else in lines of their own
    Image image;
    std::int64_t row_stride, columns[Form::STEP];

    template <class T>
    Places(const Conv<T>& conv, const Tiling& tiling) : image(conv.targets.front().image) {
        straight = conv.targets.size() == 1 && image.phases == Form::STEP && conv.pool == 1 && !conv.relu;
        row_stride = straight ? image.row_stride() : Form::STEP * tiling.line_pitch();
        for (int x = 0; x < Form::STEP; ++x)
            columns[x] = straight ? image.column(image.padding + x) : x * tiling.line_pitch();
    }

    [[gnu::always_inline]] std::int64_t offset(const Chunk& chunk, std::int64_t channel, std::int64_t row) const {
        return straight ? image.row(channel, (chunk.first_row + row) * Form::STEP) + chunk.first : 0;
    }
};

// Whether lanes over rows waste less than lanes over tiles and samples.
template <class T>
bool turned(std::int64_t lanes, std::int64_t rows) {
    return (rows + LANES<T> - 1) / LANES<T> * lanes < (lanes + LANES<T> - 1) / LANES<T> * rows;
}

}  // namespace fedlps::FEDLPS_ISA
