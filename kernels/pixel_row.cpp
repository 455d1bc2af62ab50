// A row of pixels for a batch of lanes on the CPU: what pixel_row.cu does on a GPU, following
// PixelGraph. Eight lanes at once form a vector of floats for every channel.

#include <cstdint>
#include <new>
#include <vector>

#include "line.cuh"
#include "mixture.cuh"

namespace {

const int LANES = 8;
const int BLOCK = 8;  // number of outputs of a product that are summed in registers

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int Ints __attribute__((vector_size(4 * LANES)));

// ---- structures of what is read and written, which cpu_pixels.py fills in words of 64 bits

struct Layer {
    const float *first, *second;  // (inputs, C) and (inputs, 2 C)
};

struct Level {
    const float* shares;  // (columns, lanes, ...), see Layout.shares in pmtool/interface/layout.py
    float* carry_next;    // (columns, lanes, C), if the level below is touched
    const Line* lines;    // first and second of every gated layer, then the strided block's
    const Layer* layers;
    const float *strided, *upsample, *upsample_bias;  // to and from the level below
};

struct Row {
    long long lanes, columns, depth, chooses_mean;
    long long channels, blocks, mixtures, outer_mixtures, bits;
    const float *input, *output, *output_bias;  // (C), (C, 3 K), (3 K)
    const float *mixture;       // (columns, lanes, 3 per outer component, 2)
    const float *tails;         // (columns, lanes)
    const float *previous;      // (lanes)
    const float *carry;         // (columns of the deepest level, lanes, C)
    float *pixels, *residuals;  // (columns, lanes)
    float *parameters;          // (columns, lanes, 3 K) or null
    Level levels[LEVELS];

    int components() const { return int(mixtures + outer_mixtures); }
};

// ---- functions of eight lanes

#include "vectors.h"

inline Floats elu(Floats x) { return fmax(x, exp(fmin(x, all(0))) - 1); }

inline Floats clip(Floats x, float limit) { return fmin(fmax(x, all(-limit)), all(limit)); }

// ---- products

template <int N>
inline void products(
    Floats* sums, const Floats* inputs, int count, const float* matrix, int width
) {
    Floats sum[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sum[n] = sums[n];
    for (int k = 0; k < count; ++k, matrix += width)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) sum[n] += inputs[k] * matrix[n];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sums[n] = sum[n];
}

// Add inputs times a matrix (count, width) to the sums.
inline void add_product(
    Floats* sums, const Floats* inputs, int count, const float* matrix, int width
) {
    int n = 0;
    for (; n + BLOCK <= width; n += BLOCK)
        products<BLOCK>(sums + n, inputs, count, matrix + n, width);
    for (; n + 2 <= width; n += 2) products<2>(sums + n, inputs, count, matrix + n, width);
    for (; n < width; ++n) products<1>(sums + n, inputs, count, matrix + n, width);
}

// ---- the walk

// Column by column, the levels from the finest to the coarsest and back.
struct Walk {
    const Row& row;
    const int channels, first_lane, existing;  // existing: how many of these eight lanes do
    std::vector<float> memory;
    Floats* free;
    Floats *lines[LEVELS], *skip[LEVELS], *pending[LEVELS];  // pending: the next column
    Floats *h, *hidden, *operand, *outputs, *outer, *found, *weights, *means, *inverse_scales;
    Floats previous;

    Walk(const Row& row, int first_lane)
        : row(row),
          channels(int(row.channels)),
          first_lane(first_lane),
          existing(row.lanes - first_lane < LANES ? int(row.lanes) - first_lane : LANES),
          memory((size() + 1) * LANES),
          free(aligned(memory.data())) {
        const int components = row.components();
        for (int level = 0; level < LEVELS; ++level) {
            lines[level] = take(lines_size(level));
            skip[level] = take(2 * channels);
            pending[level] = take(channels);
        }
        h = take(channels);
        hidden = take(channels);
        operand = take(channels);
        outputs = take(4 * channels);
        outer = take(3 * int(row.outer_mixtures) + 2);
        found = take(3 * int(row.mixtures));
        weights = take(components);
        means = take(components);
        inverse_scales = take(components);
    }

    void run() {
        for (int level = 0; level < row.depth; ++level) load_lines(level);
        load(&previous, row.previous, 1, 0, 1);
        for (int x = 0; x < row.columns; ++x) {
            load_share(h, 0, x, 0, channels);
            for (int c = 0; c < channels; ++c) h[c] += previous * row.input[c];
            walk<0>(x);
            choose(x);
        }
    }

    // ---- memory

    static Floats* aligned(float* start) {
        const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(start), size = sizeof(Floats);
        return reinterpret_cast<Floats*>((at + size - 1) / size * size);
    }

    Floats* take(int count) {
        free += count;
        return free - count;
    }

    int gated(int level) const { return int(2 * row.blocks) + (level < LEVELS - 1); }

    int lines_size(int level) const {
        return LINE_COLUMNS * (4 * gated(level) + (level < LEVELS - 1)) * channels;
    }

    int size() const {
        int sum = (3 * LEVELS + 7) * channels + 6 * row.components() + 2;
        for (int level = 0; level < LEVELS; ++level) sum += lines_size(level);
        return sum;
    }

    // A column of a line; the strided block's line is the last one and has half the channels.
    Floats* slot(int level, int line, int column) const {
        const int width = line < 2 * gated(level) ? 2 * channels : channels;
        return lines[level] + LINE_COLUMNS * 2 * channels * line + column % LINE_COLUMNS * width;
    }

    // Load channels from `offset` on of a column (lanes, width); the last lane is repeated for
    // lanes that do not exist.
    void load(Floats* to, const float* column, long long width, int offset, int count) const {
        for (int lane = 0; lane < LANES; ++lane) {
            const int index = first_lane + (lane < existing ? lane : existing - 1);
            const float* from = column + index * width + offset;
            for (int c = 0; c < count; ++c) to[c][lane] = from[c];
        }
    }

    void store(float* column, const Floats* from, long long width) const {
        for (int lane = 0; lane < existing; ++lane) {
            float* to = column + (first_lane + lane) * width;
            for (int c = 0; c < width; ++c) to[c] = from[c][lane];
        }
    }

    void load_share(Floats* to, int level, int column, int part, int count) const {
        const long long width = channels * (1 + 3 * gated(level));
        const float* from = row.levels[level].shares + column * row.lanes * width;
        load(to, from, width, part * channels, count);
    }

    // Load the two columns before the first as columns 1 and 2, which are -2 and -1 modulo 3.
    void load_lines(int level) const {
        for (int line = 0; line < 2 * gated(level) + (level < LEVELS - 1); ++line) {
            const Line& at = row.levels[level].lines[line];
            const int width = line < 2 * gated(level) ? 2 * channels : channels;
            load(slot(level, line, 1), at.before2, width, 0, width);
            load(slot(level, line, 2), at.before1, width, 0, width);
        }
    }

    // ---- the steps of a column

    // Pass `h` through a level and, if they are due, through the levels below.
    template <int level>
    void walk(int x) {
        const int n = int(row.blocks);
        for (int layer = 0; layer < n; ++layer) gated_layer(level, layer, x, nullptr);
        if constexpr (level < LEVELS - 1) {
            concat_elu(skip[level], h);
            append_strided(level, x);
            from_below<level>(x);
        }
        for (int layer = n; layer < gated(level); ++layer) {
            const int index = gated(level) - 1 - layer;  // of the features taken by the layer
            gated_layer(level, layer, x, index == n ? skip[level] : slot(level, 2 * index, x));
        }
    }

    void concat_elu(Floats* to, const Floats* x) const {
        for (int c = 0; c < channels; ++c) {
            const Floats m = exp(-fabs(x[c])) - 1;
            to[c] = fmax(x[c], m);
            to[channels + c] = fmax(-x[c], m);
        }
    }

    // Store features as the newest column of a gated layer's line.
    void append(int level, int line, int x, const Floats* features) const {
        concat_elu(slot(level, line, x), features);
        write_last(level, line, x, 2 * channels);
    }

    // Store `h` as the newest column of the strided block's line, which is the level's last one.
    void append_strided(int level, int x) const {
        const int line = 2 * gated(level);
        for (int c = 0; c < channels; ++c) slot(level, line, x)[c] = h[c];
        write_last(level, line, x, channels);
    }

    // Write a line's newest column for the rows that follow.
    void write_last(int level, int line, int x, int width) const {
        float* last = row.levels[level].lines[line].last + x * row.lanes * width;
        store(last, slot(level, line, x), width);
    }

    // Add three columns of a line times a matrix; return a pointer to the rest of the matrix.
    const float* add_line(
        Floats* sums, int level, int line, int x, int inputs, const float* matrix, int width
    ) const {
        for (int column = x + 1; column <= x + 3; ++column, matrix += inputs * width)
            add_product(sums, slot(level, line, column), inputs, matrix, width);
        return matrix;
    }

    void gated_layer(int level, int layer, int x, const Floats* taken) {
        const Layer& matrices = row.levels[level].layers[layer];
        append(level, 2 * layer, x, h);
        load_share(hidden, level, x, 1 + 3 * layer, channels);
        const float* rest =
            add_line(hidden, level, 2 * layer, x, 2 * channels, matrices.first, channels);
        if (taken) add_product(hidden, taken, 2 * channels, rest, channels);
        append(level, 2 * layer + 1, x, hidden);
        load_share(outputs, level, x, 2 + 3 * layer, 2 * channels);
        add_line(outputs, level, 2 * layer + 1, x, 2 * channels, matrices.second, 2 * channels);
        for (int c = 0; c < channels; ++c) h[c] += outputs[c] * sigmoid(outputs[channels + c]);
    }

    // This column's features from the level below, which advances on every second column.
    template <int level>
    void from_below(int x) {
        if (level == row.depth - 1) {
            load(h, row.carry + x * row.lanes * channels, channels, 0, channels);
            return;
        }
        if (x % 2 == 0) {
            const int line = 2 * gated(level);
            load_share(operand, level + 1, x / 2, 0, channels);
            add_line(operand, level, line, x, channels, row.levels[level].strided, channels);
            for (int c = 0; c < channels; ++c) h[c] = operand[c];
            walk<level + 1>(x / 2);
            upsample(level, x);
        } else
            for (int c = 0; c < channels; ++c) h[c] = pending[level][c];
    }

    // Upsample `h` to two columns of this row, the second of which is kept pending, and to two
    // columns of the next row.
    void upsample(int level, int x) {
        const Level& at = row.levels[level];
        for (int i = 0; i < 4 * channels; ++i) outputs[i] = all(at.upsample_bias[i % channels]);
        add_product(outputs, h, channels, at.upsample, 4 * channels);
        for (int c = 0; c < channels; ++c) {
            h[c] = outputs[c];
            pending[level][c] = outputs[channels + c];
        }
        for (int later = 0; later < 2; ++later) {
            float* to = at.carry_next + (x + later) * row.lanes * channels;
            store(to, outputs + (2 + later) * channels, channels);
        }
    }

    // ---- the choice of a pixel

    void choose(int x) {
        const int count = row.components();
        const long long at = x * row.lanes;
        components(at);
        Floats level;
        if (row.chooses_mean)
            level = mean_levels(count);
        else {
            Floats tails;
            load(&tails, row.tails + at, 1, 0, 1);
            level = quantile_levels(tails, count);
        }
        const int top = (1 << row.bits) - 1;
        const Floats pixels = level * float(2.0 / top) - 1;
        const Floats* midpoint = outer + 3 * row.outer_mixtures;
        previous = clip((pixels - midpoint[0]) * exp(-midpoint[1]), RESIDUAL_MAX);
        store(row.pixels + at, &pixels, 1);
        store(row.residuals + at, &previous, 1);
    }

    // Compute weights, means and inverse scales: first the target's own, from the output, then
    // those of the outer slices.
    void components(long long at) {
        const int own = int(row.mixtures), others = int(row.outer_mixtures), count = own + others;
        const int known = 3 * others + 2;
        for (int c = 0; c < channels; ++c) operand[c] = elu(h[c]);
        for (int k = 0; k < 3 * own; ++k) found[k] = all(row.output_bias[k]);
        add_product(found, operand, channels, row.output, 3 * own);
        load(outer, row.mixture + at * known, known, 0, known);
        const Floats middle = outer[known - 2], log_scale = outer[known - 1];
        const Floats scale = exp(log_scale);
        for (int k = 0; k < own; ++k) {
            found[own + k] = middle + scale * clip(found[own + k], COMPONENT_MAX);
            const Floats relative = fmin(found[2 * own + k], all(COMPONENT_LOG_SCALE_MAX));
            found[2 * own + k] = fmax(log_scale + relative, all(LOG_SCALE_MIN));
        }
        if (row.parameters) store(row.parameters + at * 3 * own, found, 3 * own);
        for (int k = 0; k < own; ++k) {
            weights[k] = found[k];
            means[k] = found[own + k];
            inverse_scales[k] = exp(-found[2 * own + k]);
        }
        for (int k = 0; k < others; ++k) {
            weights[own + k] = outer[k];
            means[own + k] = outer[others + k];
            inverse_scales[own + k] = outer[2 * others + k];
        }
        Floats top = weights[0];
        for (int k = 1; k < count; ++k) top = fmax(top, weights[k]);
        for (int k = 0; k < count; ++k) weights[k] = exp(weights[k] - top);
    }

    // The smallest levels at whose upper edge the CDF reaches a uniform number; see `below` in
    // mixture.cuh.
    Floats quantile_levels(Floats tails, int count) const {
        const Floats side = tails < 0 ? all(-1) : all(1), size = fabs(tails);
        const float unit = float(2.0 / ((1 << row.bits) - 1));
        Floats level = all(0);
        for (int step = 1 << (row.bits - 1); step; step >>= 1) {
            const Floats edge = (level + (step - 0.5f)) * unit - 1;
            Floats excess = all(0);
            for (int k = 0; k < count; ++k) {
                const Floats centred = (edge - means[k]) * inverse_scales[k];
                excess += weights[k] * (sigmoid(side * centred) - size);
            }
            level += side * excess < 0 ? all(float(step)) : all(0);
        }
        return level;
    }

    Floats mean_levels(int count) const {
        std::vector<float> mixture(3 * count);
        Floats levels;
        for (int lane = 0; lane < LANES; ++lane) {
            const Floats* parts[] = {weights, means, inverse_scales};
            for (int i = 0; i < 3 * count; ++i) mixture[i] = parts[i / count][i % count][lane];
            const float* start = mixture.data();
            const Components components = {start, start + count, start + 2 * count, count};
            levels[lane] = float(mean(components, int(row.bits)));
        }
        return levels;
    }
};

}  // namespace

#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12
#define EVERY_CPU __attribute__((flatten, target_clones("arch=x86-64-v3", "default")))
#else
#define EVERY_CPU
#endif

// Returns 0, or 1 if memory is short.
extern "C" EVERY_CPU int pixel_row(const Row* row) {
    try {
        for (int lane = 0; lane < row->lanes; lane += LANES) Walk(*row, lane).run();
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
