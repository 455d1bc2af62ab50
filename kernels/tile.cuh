// The part of a tile of lanes that a warp holds, and its transfers from and to global memory.
#pragma once

#include "number.cuh"
#include "pixel_row.cuh"

template <int T>
struct Tile {
    static const int LANES = 8 * T;

    int warp, g, q;         // of this thread, see number.cuh
    int first_lane, lanes;  // first lane of the block's tile; number of all lanes
    int channels;

    DEVICE explicit Tile(const Row& row)
        : warp(threadIdx.x / 32),
          g(thread_of_warp() / 4),
          q(thread_of_warp() % 4),
          first_lane(blockIdx.x * LANES),
          lanes(int(row.lanes)),
          channels(int(row.channels)) {}

    // Channel of an element of `Sums`, and its lane within the tile.
    DEVICE int channel(int e) const { return GROUP * warp + g + 8 * (e / 2); }
    DEVICE int index(int t, int e) const { return 8 * t + 2 * q + e % 2; }

    // Index among all lanes of a lane of the tile; the last lane is repeated for lanes that do not
    // exist.
    DEVICE int lane(int index) const {
        return first_lane + index < lanes ? first_lane + index : lanes - 1;
    }
    DEVICE bool exists(int index) const { return first_lane + index < lanes; }

    // Load the warp's channels of a column (lanes, width), from channel `offset` on, with zeros
    // beyond the last channel.
    DEVICE void load(Sums<T>& target, const float* column, long long width, int offset) const {
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float* from = column + lane(index(t, e)) * width + offset;
                target.at[t][e] = channel(e) < channels ? from[channel(e)] : 0.0f;
            }
    }

    DEVICE void store(float* column, long long width, int offset, const Sums<T>& source) const {
#pragma unroll
        for (int t = 0; t < T; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                if (exists(index(t, e)) && channel(e) < channels)
                    column[lane(index(t, e)) * width + offset + channel(e)] = source.at[t][e];
    }

    // Prefetch the tile's part of a column of an array (columns, lanes, width), with a cache line
    // per thread.
    DEVICE void prefetch_column(const float* columns, int x, long long width) const {
        const float* start = columns + (1LL * x * lanes + first_lane) * width;
        const long long count = (lane(LANES - 1) - first_lane + 1) * width;
        for (long long i = 32 * threadIdx.x; i < count; i += 32 * blockDim.x) prefetch(start + i);
    }
};
