// What the convolution's kernels share.
#pragma once

#include "cpu/declarations.h"
#include "cpu/image.h"
#include "cpu/vector.h"

namespace fedlps::FEDLPS_ISA {

// The most rows of a convolution that one tile covers.
inline constexpr int MOST_TILES = 12;

// Implementations by their number of rows, from 1.
template <class Function>
struct Tiles {
    Function of[MOST_TILES];
    std::int64_t most;
};

// Rows divided into blocks of nearly one size, the larger ones first.
struct Blocks {
    std::int64_t count, size, larger;

    Blocks(std::int64_t rows, std::int64_t most)
        : count((rows + most - 1) / most), size(count > 0 ? rows / count : 0), larger(rows - size * count) {}
    struct Block {
        std::int64_t first, rows;
    };
    // without a division: these are slower than a small tile
    Block operator[](std::int64_t block) const {
        return {block * size + (block < larger ? block : larger), size + (block < larger)};
    }
};

// Between the line buffers of two rows.
template <class T>
std::int64_t line_pitch(const Conv<T>& conv) {
    return conv.width * conv.in.batch + SLACK;
}

inline void copy_entries(const auto* from, std::int64_t count, auto* to) {
    for (std::int64_t entry = 0; entry < count; ++entry) to[entry] = from[entry];
}

// One output row of a channel, of which every phases-th column makes a line: so many lanes of each, from one on, with so
// much between the lines.
struct Lines {
    std::int64_t phases, first, run, pitch;
};

// Calls visit(target, offset in its image, offset in the lines, count) for the pieces of a row.
template <class T>
[[gnu::always_inline]] inline void for_each_piece(std::span<const Target<T>> targets, std::int64_t channel,
                                                  std::int64_t y, const Lines& lines, const auto& visit) {
    const std::int64_t end = lines.first + lines.run;
    for (const Target<T>& target : targets) {
        const Image image = target.image;
        const std::int64_t row = image.row(channel, y);
        if (image.phases == lines.phases) {  // a line is one piece there
            Columns column(image, image.padding);
            for (std::int64_t line = 0; line < lines.phases; ++line, column.next())
                visit(target, row + column.offset + lines.first, line * lines.pitch, lines.run);
            continue;
        }
        const std::int64_t tile = lines.first / image.batch;
        Columns column(image, image.padding + tile * lines.phases);
        for (std::int64_t start = tile * image.batch; start < end; start += image.batch) {
            const std::int64_t from = start > lines.first ? start : lines.first;
            const std::int64_t count = least(start + image.batch, end) - from;
            for (std::int64_t line = 0; line < lines.phases; ++line, column.next())
                visit(target, row + column.offset + from - start, line * lines.pitch + from - lines.first, count);
        }
    }
}

// To where the row's readers find it.
template <class T>
void write_lines(std::span<const Target<T>> targets, std::int64_t channel, std::int64_t y, const Lines& lines, const T* values) {
    const auto write = [&](const Target<T>& target, std::int64_t to, std::int64_t from, std::int64_t count) {
        for (std::int64_t entry = 0; entry < count; entry += LANES<T>)
            store_first(target.values + to + entry, load(values + from + entry), count - entry);
    };
    for_each_piece(targets, channel, y, lines, write);
}

// The sum of what the readers of a row left as its gradient, in their order.
template <class T>
void read_lines(std::span<const Target<T>> targets, std::int64_t channel, std::int64_t y, const Lines& lines, T* values) {
    const auto read = [&](const Target<T>& target, std::int64_t from, std::int64_t to, std::int64_t count) {
        const bool first = &target == targets.data();
        for (std::int64_t entry = 0; entry < count; entry += LANES<T>) {
            const Vector<T> value = load(target.gradient + from + entry);
            store_first(values + to + entry, first ? value : load(values + to + entry) + value, count - entry);
        }
    };
    for_each_piece(targets, channel, y, lines, read);
}

// A row whose columns lie one behind another: (width * batch).
template <class T>
void write_line(std::span<const Target<T>> targets, std::int64_t channel, std::int64_t y, std::int64_t width, const T* line) {
    write_lines(targets, channel, y, {1, 0, width * targets.front().image.batch, 0}, line);
}
template <class T>
void read_line(std::span<const Target<T>> targets, std::int64_t channel, std::int64_t y, std::int64_t width, T* line) {
    read_lines(targets, channel, y, {1, 0, width * targets.front().image.batch, 0}, line);
}

// One square of a matrix, of which so many rows and columns are there.
template <class T>
[[gnu::always_inline]] inline void transpose_part(const T* from, std::int64_t from_pitch, std::int64_t height,
                                                  std::int64_t width, T* to, std::int64_t to_pitch) {
    Vector<T> square[LANES<T>];
#pragma GCC unroll 16
    for (int each = 0; each < LANES<T>; ++each) {
        square[each] = load_first(from, width);
        from += each + 1 < height ? from_pitch : 0;
        opaque(from);
    }
    transpose_square<T>(square);
#pragma GCC unroll 16
    for (int each = 0; each < LANES<T>; ++each) {
        if (each < width) store_first(to, square[each], height);
        to += to_pitch;
        opaque(to);
    }
}

// An output with the code of what it came from.
template <class T>
struct Output {
    Vector<T> value, code;
};

// The maximum of a window; the first of equal ones, as torch has it.
template <class T>
[[gnu::always_inline]] inline Output<T> largest_of(Vector<T> left, Vector<T> right, Vector<T> low_left, Vector<T> low_right) {
    const auto upper_right = right > left, lower_right = low_right > low_left;
    const Vector<T> upper = upper_right ? right : left, lower = lower_right ? low_right : low_left;
    const auto below = lower > upper;
    Vector<T> largest = below ? lower : upper;
    const Vector<T> code = upper_right ? broadcast(T{1}) : Vector<T>{};
    // what is not a number stays visible
    largest = unordered<T>(left, right) ? left + right : largest;
    largest = unordered<T>(low_left, low_right) ? low_left + low_right : largest;
    return {largest, below ? (lower_right ? broadcast(T{3}) : broadcast(T{2})) : code};
}

// ReLU, where it is fused.
template <class T>
[[gnu::always_inline]] inline Output<T> cut_off(const Conv<T>& conv, Output<T> output) {
    if (conv.relu) {
        const auto dead = output.value <= Vector<T>{};
        output.value = dead ? Vector<T>{} : output.value;
        output.code = dead ? broadcast(static_cast<T>(DEAD)) : output.code;
    }
    return output;
}

// What follows a convolution's sum or its maximum.
template <class T>
[[gnu::always_inline]] inline Output<T> finished(const Conv<T>& conv, Vector<T> bias, Output<T> output) {
    output.value = (output.value + bias) * broadcast(conv.scale);
    return cut_off(conv, output);
}

// (rows, columns) to (columns, rows), with so much between the rows of either.
template <class T>
void transpose(const T* from, std::int64_t from_pitch, std::int64_t rows, std::int64_t columns, T* to,
               std::int64_t to_pitch) {
    // along the rows that are read: these are fetched ahead
    for (std::int64_t row = 0; row < rows; row += LANES<T>)
        for (std::int64_t column = 0; column < columns; column += LANES<T>) {
            const T* source = from + row * from_pitch + column;
            T* result = to + column * to_pitch + row;
            const std::int64_t height = rows - row, width = columns - column;
            if (height >= LANES<T> && width >= LANES<T>)
                transpose_part(source, from_pitch, LANES<T>, LANES<T>, result, to_pitch);
            else
                transpose_part(source, from_pitch, height, width, result, to_pitch);
        }
}

template <class T>
void transpose(const T* from, std::int64_t rows, std::int64_t columns, T* to) {
    transpose(from, columns, rows, columns, to, rows);
}

}  // namespace fedlps::FEDLPS_ISA
