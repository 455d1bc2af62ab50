// The choice of a column's pixels within a block, with 16 threads per lane.
#pragma once

#include "mixture.cuh"
#include "tile.cuh"

template <int T>
struct Choice {
    static const int TEAM = 1 << SEARCH_BITS;  // threads of a lane

    const Row& row;
    const Tile<T>& tile;
    const float* parameters;  // (lanes of the tile, stride): the output convolution's result
    int stride;
    float* components;  // (lanes of the tile, 4, components): logits, weights, means, inverse scales
    float* previous;    // (lanes of the tile): the residuals of the last chosen pixels

    DEVICE void choose(int x) const {
        for (int i = threadIdx.x / TEAM; i < Tile<T>::LANES; i += blockDim.x / TEAM)
            choose_lane(1LL * x * tile.lanes + tile.lane(i), i, threadIdx.x % TEAM);
    }

    // `at` is the index of the pixel in arrays (columns, lanes), `i` its lane in the tile.
    DEVICE void choose_lane(long long at, int i, int thread) const {
        const int count = row.components(), bits = int(row.bits);
        const float* outer = row.mixture + at * row.known();
        const float* midpoint = outer + row.known() - 2;
        float* own = components + i * 4 * count;
        for (int k = thread; k < count; k += TEAM) component(own, at, i, k, outer);
        warp_barrier();
        float top = own[0];
        for (int k = 1; k < count; ++k) top = fmax(top, own[k]);
        for (int k = thread; k < count; k += TEAM) own[count + k] = exp(own[k] - top);
        warp_barrier();
        const Components mixture = {own + count, own + 2 * count, own + 3 * count, count};
        const int level = row.chooses_mean ? mean_level(mixture, own, thread, bits)
                                           : quantile_level(mixture, row.tails[at], thread, bits);
        if (thread) return;
        const float pixel = pixel_of_level(level, bits);
        previous[i] = residual(pixel, midpoint[0], midpoint[1]);
        if (!tile.exists(i)) return;
        row.pixels[at] = pixel;
        row.residuals[at] = previous[i];
    }

    // Compute one component: the target's own from the output, the others from the outer slices.
    DEVICE void component(float* own, long long at, int i, int k, const float* outer) const {
        const int targets = int(row.mixtures), others = int(row.outer_mixtures);
        const int count = targets + others;
        if (k >= targets) {
            for (int part = 0; part < 3; ++part)
                own[(part ? part + 1 : 0) * count + k] = outer[part * others + k - targets];
            return;
        }
        const float* found = parameters + i * stride + k;
        const float middle = outer[3 * others], log_scale = outer[3 * others + 1];
        const float mean = middle + exp(log_scale) * clip(found[targets], COMPONENT_MAX);
        const float relative = fmin(found[2 * targets], COMPONENT_LOG_SCALE_MAX);
        const float log_width = fmax(log_scale + relative, LOG_SCALE_MIN);
        own[k] = found[0];
        own[2 * count + k] = mean;
        own[3 * count + k] = exp(-log_width);
        if (!row.parameters || !tile.exists(i)) return;
        float* target = row.parameters + at * 3 * targets + k;
        target[0] = found[0];
        target[targets] = mean;
        target[2 * targets] = log_width;
    }

    // The smallest level at whose upper edge the CDF reaches a uniform number, with a thread for
    // every threshold.
    static DEVICE int quantile_level(const Components& mixture, float tail, int thread, int bits) {
        int level = 0;
        for (int remaining = bits; remaining > 0;) {
            const int decided = remaining < SEARCH_BITS ? remaining : SEARCH_BITS;
            remaining -= decided;
            const bool vote = thread > 0 && thread < 1 << decided &&
                              below_threshold(mixture, tail, level, thread, remaining, bits);
            const unsigned votes = warp_votes(vote) >> (thread_of_warp() & TEAM);
            level += count_bits(votes & ((1u << TEAM) - 1)) << remaining;
        }
        return level;
    }

    // `mean` of mixture.cuh with a thread for every component; `integrals` are overwritten.
    static DEVICE int mean_level(const Components& mixture, float* integrals, int thread, int bits) {
        for (int k = thread; k < mixture.count; k += TEAM)
            integrals[k] = weighted_integral(mixture, k);
        warp_barrier();
        float integral = 0, weight = 0;
        for (int k = 0; k < mixture.count; ++k) {
            integral += integrals[k];
            weight += mixture.weights[k];
        }
        return nearest_level(integral, weight, bits);
    }
};
