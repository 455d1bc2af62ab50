// Structures of what a row of pixels reads and writes, which launch.py fills in words of 64 bits.
#pragma once

#include "line.cuh"
#include "portable.cuh"

static const int GROUP = 16;  // number of channels of a warp

// Place of a part of a block's memory: an offset into shared memory or into other memory.
struct Place {
    long long shared, offset;
};

struct Level {
    const float* shares;   // (columns, lanes, ...), see Layout.shares in pmtool/interface/layout.py
    float* carry_next;     // (columns, lanes, channels), if the level below is touched
    const Line* lines;     // first and second of every gated layer, then the strided block's
    Place state;           // of the lines, in shared memory or the block's workspace
    Place weights;         // of a copy in shared memory, if there is one
    long long weights_at, weights_bytes;  // offset and size in `Row.weights`
};

struct Row {
    long long lanes, columns, depth, chooses_mean;
    long long channels, blocks, mixtures, outer_mixtures, bits;
    long long workspace_bytes;  // of a block
    const unsigned char* weights;
    unsigned char* workspace;
    const float *input, *upsample_bias, *output_bias;  // biases of levels 0 and 1, 16 G each
    const float *mixture;       // (columns, lanes, 3 per outer component, 2)
    const float *tails;         // (columns, lanes)
    const float *previous;      // (lanes)
    const float *carry;         // (columns of the deepest level, lanes, channels)
    float *pixels, *residuals;  // (columns, lanes)
    float *parameters;          // (columns, lanes, 3 K) or null
    Level levels[LEVELS];

    DEVICE int components() const { return int(mixtures + outer_mixtures); }
    DEVICE int known() const { return int(3 * outer_mixtures + 2); }  // channels of `mixture`
};
