// What a row of pixels reads and writes, in words of 64 bits: launch.py writes them down.
#pragma once

#include "line.cuh"

static const int GROUP = 16;  // channels of a warp

// Where a part of a block's memory lies: at an offset into shared memory or elsewhere.
struct Place {
    long long shared, offset;
};

struct Level {
    const float* shares;   // (columns, lanes, ...), see Layout.shares in pmtool/interface/layout.py
    float* carry_next;     // (columns, lanes, channels), where the level below is touched
    const Line* lines;     // first and second of every gated layer, then the strided block's
    Place state;           // of the lines: shared memory or the block's workspace
    Place weights;         // shared memory or where they are in `Row.weights`
    long long weights_at, weights_bytes;  // in `Row.weights`
};

struct Row {
    long long lanes, columns, depth, chooses_mean;
    long long channels, blocks, mixtures, bits;
    long long workspace_bytes;  // of a block
    const unsigned char* weights;
    unsigned char* workspace;
    const float *input, *upsample_bias, *output_bias;  // biases of levels 0 and 1, 16 G each
    const float *mixture;       // (columns, lanes, 6 K + 2)
    const float *tails;         // (columns, lanes)
    const float *previous;      // (lanes)
    const float *carry;         // (columns of the deepest level, lanes, channels)
    float *pixels, *residuals;  // (columns, lanes)
    float *parameters;          // (columns, lanes, 3 K) or null
    Level levels[LEVELS];
};
