// Uniform random numbers, bit by bit those of pmtool/pixels/uniforms.py, and their nearer tails as
// in pmtool/pixels/mixture.py. Philox4x32-10: Salmon et al., SC 2011,
// doi:10.1145/2063384.2063405.
#pragma once

#include "portable.cuh"

struct Counter {
    unsigned words[4];
};

DEVICE Counter philox(Counter counter, unsigned long long seed) {
    unsigned key0 = unsigned(seed), key1 = unsigned(seed >> 32);
    unsigned* c = counter.words;
    for (int round = 0; round < 10; ++round) {
        const unsigned long long product0 = c[0] * 0xD2511F53ull;
        const unsigned long long product1 = c[2] * 0xCD9E8D57ull;
        c[0] = unsigned(product1 >> 32) ^ c[1] ^ key0;
        c[2] = unsigned(product0 >> 32) ^ c[3] ^ key1;
        c[1] = unsigned(product1);
        c[3] = unsigned(product0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// The middle of one of 2**23 equal parts of (0, 1).
DEVICE float to_unit_interval(unsigned word) { return (float(word >> 9) + 0.5f) * 0x1p-23f; }

DEVICE float uniform(
    unsigned long long seed, unsigned number, unsigned row, unsigned column, unsigned sample
) {
    const Counter counter = {{number, row, column, sample}};
    return to_unit_interval(philox(counter, seed).words[0]);
}

// Uniform numbers up to 1/2 unchanged, larger ones as u - 1: exact in float32.
DEVICE float nearer_tail(float u) { return u > 0.5f ? u - 1 : u; }
