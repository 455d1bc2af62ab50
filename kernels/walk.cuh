// The pixel loop of a row: PixelGraph of pmtool/graphs/pixel.py for a tile of lanes, all columns.
//
// Lanes are independent, so a block takes a tile of 8 T lanes and walks along the row alone. Warp w
// owns 16 channels of every layer: it keeps their features `h` in registers, as `Sums`, and passes
// them to the other warps as operands in shared memory. A product waits at one barrier for the
// newest column; the contributions of earlier columns are added before it.
#pragma once

#include "choice.cuh"
#include "mixture.cuh"
#include "number.cuh"
#include "tile.cuh"

// Number of levels that a column touches.
DEVICE int levels_of_column(int x) { return x % 4 == 0 ? 3 : x % 2 == 0 ? 2 : 1; }

template <class Number, int T>
struct Walk {
    typedef typename Number::Operand Operand;
    typedef Sums<T> Features;  // 16 channels of the tile's lanes
    static const int LANES = Tile<T>::LANES;

    const Row& row;
    const Tile<T> tile;
    unsigned char *shared, *workspace;  // the next pointers are at the start of `shared`
    int groups, output_tiles;
    bool owner;  // whether the warp owns channels; others help with the output and the choice
    Operand* plain;     // (LANES, 16 G): operand of the upsampling and the output
    float* parameters;  // (LANES, 16 * output tiles): the output's result
    float* components;  // see Choice
    float* previous;    // (LANES): residuals on the left
    Features h, pending[LEVELS - 1];  // `pending`: those of the next column, by level

    DEVICE Walk(const Row& row, unsigned char* shared) : row(row), tile(row), shared(shared) {
        groups = int((row.channels + GROUP - 1) / GROUP);
        output_tiles = int((3 * row.mixtures + GROUP - 1) / GROUP);
        owner = tile.warp < groups;
        workspace = row.workspace + blockIdx.x * row.workspace_bytes;
        plain = reinterpret_cast<Operand*>(shared);
        parameters = reinterpret_cast<float*>(plain + LANES * plain_stride());
        components = parameters + LANES * GROUP * output_tiles;
        previous = components + LANES * 4 * row.components();
    }

    DEVICE void run() {
        prepare();
        const Choice<T> choice = {row, tile, parameters, GROUP * output_tiles, components, previous};
#pragma unroll 1
        for (int x = 0; x < row.columns; ++x) {
            enter(x);
            column(x);
            output();
            choice.choose(x);
        }
    }

    // Walk through all levels that a column touches: 0, 1, 2 in the up pass, then 2, 1, 0 in the
    // down pass.
    DEVICE void column(int x) {
        const int due = levels_of_column(x);
        const int depth = due < row.depth ? due : int(row.depth);
#pragma unroll 1
        for (int pass = 0; pass < 2 * depth; ++pass) {
            const bool down = pass >= depth;
            const int level = down ? 2 * depth - 1 - pass : pass, i = x >> level;
            if (!down && level) strided(level, i);
            if (down && level < LEVELS - 1) from_below(level, i, depth);
            const int last = down ? gated(level) : int(row.blocks);
#pragma unroll 1
            for (int layer = down ? int(row.blocks) : 0; layer < last; ++layer)
                gated_layer(level, layer, i);
            if (!down && level < LEVELS - 1) keep_strided(level, i);
        }
    }

    // ---- places in memory, as laid out by packing.py and placement.py

    DEVICE int gated(int level) const { return int(2 * row.blocks) + (level < LEVELS - 1); }
    DEVICE int concat_stride() const { return 2 * GROUP * groups + Number::PAD; }
    DEVICE int plain_stride() const { return GROUP * groups + Number::PAD; }

    DEVICE Operand* lines(int level) const {
        const Place& place = row.levels[level].state;
        return reinterpret_cast<Operand*>((place.shared ? shared : workspace) + place.offset);
    }
    DEVICE Operand* slot(int level, int line, int column) const {
        const int index = LINE_COLUMNS * line + column % LINE_COLUMNS;
        return lines(level) + index * LANES * concat_stride();
    }
    DEVICE Operand* strided_slot(int level, int column) const {
        const int index = column % LINE_COLUMNS;
        return slot(level, 2 * gated(level), 0) + index * LANES * plain_stride();
    }
    // Concat-ELU of the up pass's last features, which a layer of the down pass takes.
    DEVICE Operand* top_skip(int level) const {
        return slot(level, 2 * gated(level), 0) + LINE_COLUMNS * LANES * plain_stride();
    }
    // Concat-ELU of the features that a layer of the down pass takes from the up pass: the i-th
    // features of a level are the input of its i-th layer.
    DEVICE const Operand* skip(int level, int layer, int column) const {
        const int index = gated(level) - 1 - layer;
        return index == row.blocks ? top_skip(level) : slot(level, 2 * index, column);
    }

    DEVICE const Operand* weights(int level) const {
        const Level& at = row.levels[level];
        return reinterpret_cast<const Operand*>(
            at.weights.shared ? shared + at.weights.offset : row.weights + at.weights_at
        );
    }
    // A layer's weights, which come after the level's own matrices: those of the output, or of the
    // strided block and the upsampling.
    DEVICE const Operand* layer_weights(int level, int layer) const {
        const long long up = layer < row.blocks ? layer : row.blocks, down = layer - up;
        const long long own = level ? 7 * groups : output_tiles;
        const long long tiles = own + (18 * up + 20 * down) * groups;
        return weights(level) + tiles * groups * TILE_NUMBERS;
    }

    DEVICE void load_share(Features& target, int level, int column, int part) const {
        const long long width = row.channels * (1 + 3 * gated(level));
        const float* from = row.levels[level].shares + column * row.lanes * width;
        tile.load(target, from, width, part * int(row.channels));
    }

    // ---- operands

    DEVICE void put_concat(Operand* to, const Features& plus, const Features& minus) const {
        Operand* own = to + 2 * GROUP * tile.warp + 4 * tile.g;
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                Number::store4(
                    own + tile.index(t, e) * concat_stride(), plus.at[t][e], minus.at[t][e],
                    plus.at[t][e + 2], minus.at[t][e + 2]
                );
    }

    DEVICE void put_plain(Operand* to, const Features& x) const {
        Operand* own = to + GROUP * tile.warp + 2 * tile.g;
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                Number::store2(own + tile.index(t, e) * plain_stride(), x.at[t][e], x.at[t][e + 2]);
    }

    // Store the concat-ELU of features as operands and, if `last` is given, in a line's newest
    // column.
    DEVICE void put_elu(Operand* to, float* last, const Features& x) const {
        Features plus, minus;
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) concat_elu(x.at[t][e], plus.at[t][e], minus.at[t][e]);
        put_concat(to, plus, minus);
        if (!last) return;
        tile.store(last, 2 * row.channels, 0, plus);
        tile.store(last, 2 * row.channels, tile.channels, minus);
    }

    DEVICE void append(int level, int line, int column, const Features& x) const {
        float* last = row.levels[level].lines[line].last + column * row.lanes * 2 * row.channels;
        put_elu(slot(level, line, column), last, x);
    }

    // ---- before the first column

    DEVICE void prepare() {
        for (int level = 0; level < row.depth; ++level) {
            const Level& at = row.levels[level];
            if (at.weights.shared)
                copy(shared + at.weights.offset, row.weights + at.weights_at, at.weights_bytes);
            if (owner) load_lines(level);
        }
        for (int i = threadIdx.x; i < LANES; i += blockDim.x)
            previous[i] = row.previous[tile.lane(i)];
    }

    static DEVICE void copy(unsigned char* to, const unsigned char* from, long long bytes) {
        for (long long i = threadIdx.x; i < bytes / 16; i += blockDim.x)
            reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
    }

    // Load the two columns before the first as columns 1 and 2, which are -2 and -1 modulo 3.
    DEVICE void load_lines(int level) const {
        Features plus, minus;
        for (int line = 0; line < 2 * gated(level) + (level < LEVELS - 1); ++line)
            for (int back = 1; back <= 2; ++back) {
                const Line& at = row.levels[level].lines[line];
                const float* from = back == 1 ? at.before1 : at.before2;
                if (line == 2 * gated(level)) {
                    tile.load(plus, from, row.channels, 0);
                    put_plain(strided_slot(level, LINE_COLUMNS - back), plus);
                } else {
                    tile.load(plus, from, 2 * row.channels, 0);
                    tile.load(minus, from, 2 * row.channels, tile.channels);
                    put_concat(slot(level, line, LINE_COLUMNS - back), plus, minus);
                }
            }
    }

    // ---- the steps of a column

    DEVICE void enter(int x) {
        if (x + 1 < row.columns) {
            tile.prefetch_column(row.levels[0].shares, x + 1, row.channels * (1 + 3 * gated(0)));
            tile.prefetch_column(row.mixture, x + 1, row.known());
        }
        block_barrier();
        if (!owner) return;
        load_share(h, 0, x, 0);
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                h.at[t][e] += previous[tile.index(t, e)] * row.input[tile.channel(e)];
    }

    // Multiply three columns of a line, and a skip if there is one, by their weights. Each has
    // `inputs` tiles; the newest column and the skip are complete once all warps have reached the
    // barrier.
    template <int N>
    DEVICE void product(
        Features (&sums)[N], const Operand* matrix, int inputs, int stride,
        const Operand* before2, const Operand* before1, const Operand* newest, const Operand* skip
    ) const {
        const int parts = skip ? 4 : 3, size = inputs * TILE_NUMBERS;
        const Operand* own = matrix + 1LL * tile.warp * parts * size;
        const long long between = 1LL * groups * parts * size;
#pragma unroll
        for (int n = 0; n < N; ++n) sums[n].clear();
#pragma unroll 1
        for (int part = 0; part < parts; ++part, own += size) {
            if (part == 2) block_barrier();
            const Operand* operands = part == 0   ? before2
                                      : part == 1 ? before1
                                      : part == 2 ? newest
                                                  : skip;
            if (owner) Number::accumulate(sums, own, between, operands, stride, inputs);
        }
    }

    template <int N>
    DEVICE void line_product(
        Features (&sums)[N], const Operand* matrix, int level, int line, int column,
        const Operand* skip
    ) const {
        product(
            sums, matrix, 2 * groups, concat_stride(), slot(level, line, column + 1),
            slot(level, line, column + 2), slot(level, line, column), skip
        );
    }

    DEVICE void gated_layer(int level, int layer, int column) {
        const bool down = layer >= row.blocks;
        const Operand* matrix = layer_weights(level, layer);
        Features share[2], hidden[1], outputs[2];
        if (owner) {
            append(level, 2 * layer, column, h);
            load_share(share[0], level, column, 1 + 3 * layer);
        }
        line_product(
            hidden, matrix, level, 2 * layer, column, down ? skip(level, layer, column) : 0
        );
        matrix += (down ? 8LL : 6LL) * groups * groups * TILE_NUMBERS;
        if (owner) {
            hidden[0].add(share[0]);
            append(level, 2 * layer + 1, column, hidden[0]);
            load_share(share[0], level, column, 2 + 3 * layer);
            load_share(share[1], level, column, 3 + 3 * layer);
        }
        line_product(outputs, matrix, level, 2 * layer + 1, column, 0);
        if (!owner) return;
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float value = outputs[0].at[t][e] + share[0].at[t][e];
                h.at[t][e] += value * sigmoid(outputs[1].at[t][e] + share[1].at[t][e]);
            }
    }

    // The level's first block, which reads columns 2 i - 2 to 2 i of the level above.
    DEVICE void strided(int level, int column) {
        Features sums[1];
        const int above = level - 1, x = 2 * column;
        if (owner) load_share(h, level, column, 0);
        product(
            sums, weights(level), groups, plain_stride(), strided_slot(above, x + 1),
            strided_slot(above, x + 2), strided_slot(above, x), 0
        );
        if (owner) h.add(sums[0]);
    }

    DEVICE void keep_strided(int level, int column) const {
        if (!owner) return;
        float* last = row.levels[level].lines[2 * gated(level)].last;
        tile.store(last + column * row.lanes * row.channels, row.channels, 0, h);
        put_plain(strided_slot(level, column), h);
        put_elu(top_skip(level), 0, h);
    }

    // Take a column from the level below, which advances on every second column. The column
    // touches `depth` levels; the row may touch more.
    DEVICE void from_below(int level, int column, int depth) {
        if (level < depth - 1)
            upsample(level, column);
        else if (owner && level == row.depth - 1)
            tile.load(h, row.carry + column * row.lanes * row.channels, row.channels, 0);
        else if (owner)
            h = level ? pending[1] : pending[0];
    }

    // Upsample `h` to two columns of this row, the second of which is kept pending, and to two
    // columns of the next row.
    DEVICE void upsample(int level, int column) {
        if (owner) put_plain(plain, h);
        block_barrier();
        if (!owner) return;
        const long long between = 1LL * groups * groups * TILE_NUMBERS;
        const long long size = row.lanes * row.channels;
        const Operand* own =
            weights(level + 1) + 3 * between + 1LL * tile.warp * groups * TILE_NUMBERS;
        float* next = row.levels[level].carry_next + column * size;
#pragma unroll 1
        for (int later = 0; later < 2; ++later, own += 2 * between) {
            Features two[2];
            upsampled_columns(two, own, between, level);
            if (later) {
                tile.store(next, row.channels, 0, two[0]);
                tile.store(next + size, row.channels, 0, two[1]);
            } else {
                h = two[0];
                if (level)
                    pending[1] = two[1];
                else
                    pending[0] = two[1];
            }
        }
    }

    DEVICE void upsampled_columns(
        Features (&two)[2], const Operand* own, long long between, int level
    ) const {
        const float* bias = row.upsample_bias + level * GROUP * groups;
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int t = 0; t < T; ++t)
#pragma unroll
                for (int e = 0; e < 4; ++e) two[n].at[t][e] = bias[tile.channel(e)];
        Number::accumulate(two, own, between, plain, plain_stride(), groups);
    }

    DEVICE void output() {
        if (owner) {
            Features x;
#pragma unroll
            for (int t = 0; t < T; ++t)
#pragma unroll
                for (int e = 0; e < 4; ++e) x.at[t][e] = elu(h.at[t][e]);
            put_plain(plain, x);
        }
        block_barrier();
#pragma unroll 1
        for (int part = tile.warp; part < output_tiles; part += blockDim.x / 32) {
            Features sums[1];
            sums[0].clear();
            const Operand* own = weights(0) + 1LL * part * groups * TILE_NUMBERS;
            Number::accumulate(sums, own, 0, plain, plain_stride(), groups);
#pragma unroll
            for (int t = 0; t < T; ++t)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int k = GROUP * part + tile.g + 8 * (e / 2);
                    const float bias = k < 3 * row.mixtures ? row.output_bias[k] : 0;
                    parameters[tile.index(t, e) * GROUP * output_tiles + k] =
                        sums[0].at[t][e] + bias;
                }
        }
        block_barrier();
    }
};
