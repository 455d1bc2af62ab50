// A row of the target through the vertical stack, and what the rows before it give the horizontal
// one: what RowGraph computes. Included by vertical_row.cpp for every kind of CPU, with so many
// POSITIONS times VECTORS that their sums fit into its registers. A position is a lane of a column;
// a vector is sixteen channels of it.

// ---- functions of a vector

inline Floats load(const float* from, int count = WIDTH) {
    Floats x{};
    std::memcpy(&x, from, count * sizeof(float));
    return x;
}

inline void store(float* to, Floats x, int count = WIDTH) {
    std::memcpy(to, &x, count * sizeof(float));
}

#include "vectors.h"

// ---- convolutions along the columns

// Channels of all positions; the lanes of a column follow each other.
struct Inputs {
    const float* at;
    long long step;  // from one position to the next
    int count;
};

// Where products are added to what, by output and position.
struct Sums {
    float* to;
    long long step;
    const float* base;
    long long base_step;
    int count;

    // Further products are added to these.
    Sums further() const { return {to, step, to, step, count}; }
};

// Several rows of inputs, which follow each other in the matrix: (inputs, taps x outputs).
struct Convolution {
    Sums sums;
    Inputs rows[3];
    int row_count;
    const float* matrix;
    int matrix_step;  // from one input to the next
    int taps;
    long long lanes;

    // Compute columns whose taps start `left` columns before them; beyond the edges are zeros.
    // Every `stride`-th of the columns has an output, in every `spread`-th column of the sums.
    void run(int columns, int left, int stride, int spread) const {
        const int count = columns / stride;
        int inner = count, end = count;  // columns that see all taps are computed together
        if (stride == 1 && spread == 1) {
            inner = std::max(left, 0);
            end = std::max(inner, std::min(count, columns + left - taps + 1));
        }
        for (int x = 0, together; x < count; x += together) {
            together = x == inner && end > inner ? end - inner : 1;
            const int start = x * stride - left;
            const int first = std::max(0, -start), last = std::min(taps, columns - start);
            positions(x * spread * lanes, start * lanes, together * lanes, first, last);
        }
    }

    // Compute the positions from `to` on, whose taps lie at `from` and every `lanes` positions on.
    void positions(long long to, long long from, long long count, int first, int last) const {
        if constexpr (POSITIONS >= 12) tiles<12>(to, from, count, first, last);
        if constexpr (POSITIONS >= 6) tiles<6>(to, from, count, first, last);
        tiles<3>(to, from, count, first, last);
        tiles<1>(to, from, count, first, last);
    }

    template <int P>
    void tiles(long long& to, long long& from, long long& count, int first, int last) const {
        for (; count >= P; count -= P, to += P, from += P) {
            int n = 0;
            for (; n + VECTORS * WIDTH <= sums.count; n += VECTORS * WIDTH)
                tile<P, VECTORS, true>(to, from, first, last, n);
            for (; n + WIDTH <= sums.count; n += WIDTH)
                tile<P, 1, true>(to, from, first, last, n);
            if (n < sums.count) tile<P, 1, false>(to, from, first, last, n);
        }
    }

    // Compute N vectors of outputs, from the n-th output on, for P positions; a vector that is not
    // whole has as many outputs as remain.
    template <int P, int N, bool whole>
    void tile(long long to, long long from, int first, int last, int n) const {
        constexpr int GROUP = P < 3 ? P : 3, GROUPS = P / GROUP;  // positions with one pointer
        const int width = whole ? WIDTH : sums.count - n;
        Floats sum[P][N];
        for (int p = 0; p < P; ++p)
            for (int j = 0; j < N; ++j)
                sum[p][j] = load(sums.base + (to + p) * sums.base_step + n + WIDTH * j, width);
        for (int tap = first; tap < last; ++tap) {
            const float* weights = matrix + tap * sums.count + n;
            for (int row = 0; row < row_count; ++row) {
                const long long step = rows[row].step;
                const float* x[GROUPS];
                for (int g = 0; g < GROUPS; ++g)
                    x[g] = rows[row].at + (from + tap * lanes + GROUP * g) * step;
                for (int k = 0; k < rows[row].count; ++k, weights += matrix_step) {
                    Floats weight[N];
                    for (int j = 0; j < N; ++j) weight[j] = load(weights + WIDTH * j, width);
#pragma GCC unroll 4
                    for (int g = 0; g < GROUPS; ++g) {
#pragma GCC unroll 3
                        for (int p = 0; p < GROUP; ++p)
#pragma GCC unroll 2
                            for (int j = 0; j < N; ++j)
                                sum[GROUP * g + p][j] += x[g][p * step] * weight[j];
                        ++x[g];
                    }
                }
            }
        }
        for (int p = 0; p < P; ++p)
            for (int j = 0; j < N; ++j)
                store(sums.to + (to + p) * sums.step + n + WIDTH * j, sum[p][j], width);
    }
};

// ---- the row

// Features of all positions, and the ELU of them and of their negatives.
struct Features {
    const float *x, *elu;
};

struct Walk {
    const Row& row;
    const int channels, blocks;
    const std::unique_ptr<float[]> memory;
    float* free;
    float *hidden, *hidden_elu, *outputs;
    std::vector<Features> skips;

    explicit Walk(const Row& row)
        : row(row),
          channels(int(row.channels)),
          blocks(int(row.blocks)),
          memory(new float[size()]),
          free(memory.get()),
          hidden(take(0, 1)),
          hidden_elu(take(0, 2)),
          outputs(take(0, 2)) {}

    void run() {
        const int depth = int(row.depth);
        Features v = entry();
        skips.push_back(v);
        for (int level = 0; level < depth; ++level) {
            if (level) skips.push_back(v = strided(level - 1, v));
            for (int layer = 0; layer < blocks; ++layer)
                skips.push_back(v = gated_layer(level, layer, v, nullptr));
        }
        keep_strided(depth - 1, v);
        if (depth == LEVELS)
            skips.pop_back();
        else
            v = activated(row.carry, depth - 1);
        for (int level = depth - 1; level >= 0; --level) {
            if (level < depth - 1) v = upsample(level, v);
            for (int layer = blocks; layer < gated(level); ++layer, skips.pop_back())
                v = gated_layer(level, layer, v, &skips.back());
        }
    }

    // ---- memory

    int gated(int level) const { return 2 * blocks + (level < LEVELS - 1); }
    int columns(int level) const { return int(row.columns) >> level; }
    long long positions(int level) const { return columns(level) * row.lanes; }
    int shares(int level) const { return channels * (1 + 3 * gated(level)); }

    size_t size() const {
        long long sum = 5 * positions(0);
        for (int level = 0; level < row.depth; ++level)
            sum += positions(level) * 3 * (gated(level) + 2);
        return sum * channels;
    }

    // Memory for features of a level; `times` is how many times the number of channels they have.
    float* take(int level, int times) {
        float* const taken = free;
        free += positions(level) * channels * times;
        return taken;
    }

    // ---- products

    typedef std::initializer_list<Inputs> Rows;

    Inputs channels_of(const float* x, int times = 1) const {
        return {x, times * channels, times * channels};
    }

    // Products that are added to the shares of a stack, from the `part`-th channels on.
    Sums shared(int level, bool horizontal, int part, int times, float* to, int step) const {
        const float* base = row.levels[level].shares + shares(level) * horizontal;
        return {to, step, base + part * channels, 2 * shares(level), times * channels};
    }

    Sums vertical_shares(int level, int part, int times, float* to) const {
        return shared(level, false, part, times, to, times * channels);
    }

    Sums horizontal_shares(int level, int part, int times) const {
        float* to = row.levels[level].h_shares + part * channels;
        return shared(level, true, part, times, to, shares(level));
    }

    Convolution convolution(
        const Sums& sums, Rows rows, const float* matrix, int taps = 1
    ) const {
        Convolution result = {sums, {}, 0, matrix, taps * sums.count, taps, row.lanes};
        for (const Inputs& inputs : rows) result.rows[result.row_count++] = inputs;
        return result;
    }

    // Add a product with every column.
    void multiply(const Sums& sums, Rows rows, const float* matrix, int columns) const {
        convolution(sums, rows, matrix).run(columns, 0, 1, 1);
    }

    // Add a block of the vertical stack, and what it has in excess in the first and last column.
    void add_block(
        const Sums& sums, Rows rows, const Block& block, int columns, int stride = 1
    ) const {
        convolution(sums, rows, block.matrix, 5).run(columns, 2, stride, 1);
        const long long last = (columns - 1) * row.lanes;
        if (block.left)
            convolution(sums.further(), rows, block.left).positions(0, 0, row.lanes, 0, 1);
        if (block.right)
            convolution(sums.further(), rows, block.right).positions(last, last, row.lanes, 0, 1);
    }

    // Add the two earlier rows of a line of the horizontal stack, and advance its cache.
    void add_earlier(
        const Sums& sums, const Line& line, int times, const float* matrix, int level, int stride = 1
    ) const {
        const Rows rows = {channels_of(line.cache, times), channels_of(line.last, times)};
        convolution(sums, rows, matrix, 3).run(columns(level), 2, stride, 1);
        advance(line, times, level);
    }

    void advance(const Line& line, int times, int level) const {
        std::copy_n(line.last, positions(level) * channels * times, line.cache);
    }

    // Append a row to the two of a line of the vertical stack, and drop the first.
    void advance(float* cache, const float* newest, int times, int level) const {
        const int count = channels * times;
        for (long long p = 0; p < positions(level); ++p, cache += 2 * count, newest += count) {
            std::copy_n(cache + count, count, cache);
            std::copy_n(newest, count, cache + count);
        }
    }

    // ---- the steps of a row

    Features entry() {
        const long long lanes = row.lanes, length = (1 + row.columns) * lanes;
        const float* above = row.residuals + 2 * length;  // each row starts with a column of zeros
        const auto at = [](const float* x) { return Inputs{x, 1, 1}; };
        float* v = take(0, 1);
        const float* x = above + lanes;
        const Rows rows = {at(x - 2 * length), at(x - length), at(x)};
        add_block(vertical_shares(0, 0, 1, v), rows, row.input_vertical, columns(0));
        const Sums sums = horizontal_shares(0, 0, 1);
        add_block(sums, {at(x)}, row.input_row, columns(0));
        multiply(sums.further(), {at(above - length), at(above)}, row.input_column, columns(0));
        return activated(v, 0);
    }

    // Lead both stacks from a level to the level below.
    Features strided(int level, const Features& v) {
        const Level& at = row.levels[level];
        const int line = 2 * gated(level);
        add_earlier(
            horizontal_shares(level + 1, 0, 1), at.h_lines[line], 1, at.h_strided, level, 2
        );
        float* result = take(level + 1, 1);
        const Rows rows = {channels_of(at.v_caches[line], 2), channels_of(v.x)};
        const Sums sums = vertical_shares(level + 1, 0, 1, result);
        add_block(sums, rows, at.v_strided, columns(level), 2);
        advance(at.v_caches[line], v.x, 1, level);
        return activated(result, level + 1);
    }

    // Keep the strided blocks' lines for the level below, which this row does not touch.
    void keep_strided(int level, const Features& v) {
        if (level == LEVELS - 1) return;
        const int line = 2 * gated(level);
        advance(row.levels[level].h_lines[line], 1, level);
        advance(row.levels[level].v_caches[line], v.x, 1, level);
    }

    Features gated_layer(int level, int index, const Features& v, const Features* skip) {
        const Layer& layer = row.levels[level].layers[index];
        float* const* caches = row.levels[level].v_caches + 2 * index;
        const int part = 1 + 3 * index;
        const Sums first = vertical_shares(level, part, 1, hidden);
        add_line(first, caches[0], v.elu, layer.first, level);
        if (skip)
            multiply(first.further(), {channels_of(skip->elu, 2)}, layer.shortcut, columns(level));
        concat_elu(hidden_elu, hidden, level);
        const Sums second = vertical_shares(level, part + 1, 2, outputs);
        add_line(second, caches[1], hidden_elu, layer.second, level);
        const Features result = activated(gate(v.x, level), level);
        add_to_horizontal(level, index, result);
        return result;
    }

    // Add a block of a gated layer, and advance its line.
    void add_line(
        const Sums& sums, float* cache, const float* newest, const Block& block, int level
    ) const {
        const Rows rows = {channels_of(cache, 4), channels_of(newest, 2)};
        add_block(sums, rows, block, columns(level));
        advance(cache, newest, 2, level);
    }

    void add_to_horizontal(int level, int index, const Features& v) const {
        const Layer& layer = row.levels[level].layers[index];
        const Line* lines = row.levels[level].h_lines + 2 * index;
        const int part = 1 + 3 * index;
        const Sums first = horizontal_shares(level, part, 1);
        add_earlier(first, lines[0], 2, layer.h_first, level);
        multiply(first.further(), {channels_of(v.elu, 2)}, layer.to_horizontal, columns(level));
        add_earlier(horizontal_shares(level, part + 1, 2), lines[1], 2, layer.h_second, level);
    }

    // Upsample from the level below to this row, and to the next one as a carry. Of the three taps
    // of a row, the first is that of the column after.
    Features upsample(int level, const Features& v) {
        const Level& at = row.levels[level];
        float* result = take(level, 1);
        for (int part = 0; part < 4; ++part) {  // even and odd columns of this row and the next
            const int odd = part % 2, first_tap = 3 * (part / 2);
            float* to = (part < 2 ? result : at.carry_next) + odd * row.lanes * channels;
            const Sums sums = {to, channels, at.upsample_bias, 0, channels};
            Convolution taps = convolution(sums, {channels_of(v.x)}, at.upsample, 6);
            taps.taps = 1;
            taps.matrix += (first_tap + 1 + odd) * channels;
            taps.run(columns(level + 1), 0, 1, 2);
            if (odd) {
                taps.sums = sums.further();
                taps.matrix = at.upsample + first_tap * channels;
                taps.run(columns(level + 1), -1, 1, 2);
            }
        }
        return activated(result, level);
    }

    // ---- activations

    Features activated(const float* x, int level) {
        float* elu = take(level, 2);
        concat_elu(elu, x, level);
        return {x, elu};
    }

    void concat_elu(float* to, const float* x, int level) const {
        for (long long p = 0; p < positions(level); ++p, x += channels, to += 2 * channels)
            for (int c = 0; c < channels; c += WIDTH) {
                const int width = std::min(WIDTH, channels - c);
                const Floats value = load(x + c, width), m = exp(-fabs(value)) - 1;
                store(to + c, fmax(value, m), width);
                store(to + channels + c, fmax(-value, m), width);
            }
    }

    // The last step of a gated layer.
    const float* gate(const float* v, int level) {
        float* const result = take(level, 1);
        const float* y = outputs;
        long long at = 0;
        for (long long p = 0; p < positions(level); ++p, at += channels, y += 2 * channels)
            for (int c = 0; c < channels; c += WIDTH) {
                const int width = std::min(WIDTH, channels - c);
                const Floats gate = sigmoid(load(y + channels + c, width));
                store(result + at + c, load(v + at + c, width) + load(y + c, width) * gate, width);
            }
        return result;
    }
};

void run(const Row& row) { Walk(row).run(); }
