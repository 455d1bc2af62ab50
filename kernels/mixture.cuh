// The discretised logistic mixture of a pixel, after pmtool/pixels/mixture.py, the specification.
// Sums run over the components in their order, independently of what else is in the batch.
#pragma once

#include "portable.cuh"

static const int SEARCH_BITS = 4;  // bits decided at once, as in pmtool/graphs/choose.py
// As in pmtool/models/hyperparameters.py.
static const float RESIDUAL_MAX = 16;
static const float COMPONENT_MAX = 4;
static const float COMPONENT_LOG_SCALE_MAX = 0;
static const float LOG_SCALE_MIN = -7;

DEVICE float clip(float x, float limit) { return fmin(fmax(x, -limit), limit); }

// Accurate to the last digits in both tails, and without overflow.
DEVICE float sigmoid(float x) {
    const float decay = exp(-fabs(x));
    return (x < 0 ? decay : 1) / (1 + decay);
}

DEVICE float softplus(float x) { return fmax(x, 0.0f) + log1p(exp(-fabs(x))); }

// ELU of a feature and of its negative, with a single exponential for both.
DEVICE void concat_elu(float x, float& positive, float& negative) {
    const float m = exp(-fabs(x)) - 1;
    positive = fmax(x, m);
    negative = fmax(-x, m);
}

DEVICE float elu(float x) { return x > 0 ? x : exp(x) - 1; }

// What the stacks see of a pixel: its distance from the midpoint in units of the midpoint's scale.
DEVICE float residual(float pixel, float mean, float log_scale) {
    return clip((pixel - mean) * exp(-log_scale), RESIDUAL_MAX);
}

// Components of one pixel; the weights need not add up to one.
struct Components {
    const float *weights, *means, *inverse_scales;
    int count;
};

DEVICE float pixel_of_level(int level, int bits) {
    return rounded_product(float(level), float(2.0 / ((1 << bits) - 1))) - 1;
}

DEVICE float upper_edge(int level, int bits) {
    return float((2 * level + 1) * (1.0 / ((1 << bits) - 1)) - 1);
}

// Whether the mixture's CDF at a pixel value is less than a uniform number, which is given as its
// nearer tail: the sign of sum_k w_k (F_k - u), computed in that tail.
DEVICE bool below(const Components& mixture, float tail, float edge) {
    const float side = tail < 0 ? -1.0f : 1.0f, size = fabs(tail);
    float excess = 0;
    for (int k = 0; k < mixture.count; ++k) {
        const float centred = (edge - mixture.means[k]) * mixture.inverse_scales[k];
        excess += mixture.weights[k] * (sigmoid(side * centred) - size);
    }
    return side * excess < 0;
}

// Test one of the thresholds that decide the next bits of a level: the `index`-th of those that
// divide the levels from `level` on into parts of 2**remaining levels.
DEVICE bool below_threshold(
    const Components& mixture, float tail, int level, int index, int remaining, int bits
) {
    return below(mixture, tail, upper_edge(level + (index << remaining) - 1, bits));
}

// A component's weight times the integral of its CDF over [-1, 1].
DEVICE float weighted_integral(const Components& mixture, int k) {
    const float inverse = mixture.inverse_scales[k];
    const float upper = (1 - mixture.means[k]) * inverse;
    const float lower = (-1 - mixture.means[k]) * inverse;
    return mixture.weights[k] * ((softplus(upper) - softplus(lower)) / inverse);
}

// The level nearest to the expectation, given the sums of the integrals and of the weights.
DEVICE int nearest_level(float integral, float weight, int bits) {
    const float expectation = clip(1 - integral / weight, 1);
    return int(rint((expectation + 1) * (((1 << bits) - 1) * 0.5f)));
}

// The level nearest to the mean of the mixture clipped to [-1, 1].
DEVICE int mean(const Components& mixture, int bits) {
    float integral = 0, weight = 0;
    for (int k = 0; k < mixture.count; ++k) {
        integral += weighted_integral(mixture, k);
        weight += mixture.weights[k];
    }
    return nearest_level(integral, weight, bits);
}
