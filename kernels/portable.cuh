// The few things that differ between a GPU and the CPU on which the tests run these kernels. On the
// CPU, one thread after the other runs until it has to wait; see tests/kernels/emulation.h.
#pragma once

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define LAUNCH_BOUNDS(threads) __launch_bounds__(threads)

// The block's shared memory, whose size is given at the launch.
DEVICE unsigned char* shared_memory() {
    extern __shared__ __align__(16) unsigned char memory[];
    return memory;
}

DEVICE void block_barrier() { __syncthreads(); }

DEVICE void warp_barrier() { __syncwarp(); }

// Bit i is the vote of thread i of the warp; all 32 threads take part.
DEVICE unsigned warp_votes(bool vote) { return __ballot_sync(0xffffffffu, vote); }

DEVICE int count_bits(unsigned word) { return __popc(word); }

// A product that is rounded before anything is added to it.
DEVICE float rounded_product(float a, float b) { return __fmul_rn(a, b); }

// Load the cache line of an address into the L2 cache, without waiting for it.
DEVICE void prefetch(const void* address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

#else

#include <cmath>
#include <cstring>

using std::exp;
using std::fabs;
using std::fmax;
using std::fmin;
using std::log1p;
using std::rint;

#define DEVICE inline
#define KERNEL extern "C" void
#define LAUNCH_BOUNDS(threads)

struct Index {
    unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

unsigned char* shared_memory();
void block_barrier();
void warp_barrier();
unsigned warp_votes(bool vote);
// The data of all 32 threads of the warp, one after the other, valid until the next exchange.
const unsigned char* exchange(const void* mine, unsigned bytes);

DEVICE int count_bits(unsigned word) { return __builtin_popcount(word); }

DEVICE float rounded_product(float a, float b) { return a * b; }

DEVICE void prefetch(const void*) {}

#endif
