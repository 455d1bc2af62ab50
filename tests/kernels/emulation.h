// Runs kernels on a CPU, a block after the other, for tests of what they compute.
//
// A thread of a block is a fiber that runs until it has to wait for others. Whose turn it is next
// changes from wait to wait, so that a missing barrier shows. A barrier that not all threads reach
// and a write beyond the shared memory end the process.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "portable.cuh"

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

const unsigned WARP = 32, LARGEST = 64, STACK = 1 << 16, GUARD = 64;
const unsigned char UNSET = 0xff;  // a NaN in every format

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Warp {
    Barrier barrier;
    unsigned char given[2][WARP * LARGEST];
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    const Barrier* waits_for = nullptr;
    unsigned generation = 0, exchanges = 0;
    bool done = false;

    bool can_run() const {
        return !done && (!waits_for || waits_for->generation != generation);
    }
};

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline std::vector<unsigned char> shared;
inline Barrier block;
inline std::function<void()> kernel;

inline void fail(const char* what) {
    std::fprintf(stderr, "kernel: %s, block %u\n", what, blockIdx.x);
    std::abort();
}

inline void wait(Barrier& barrier, unsigned threads) {
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    const unsigned self = threadIdx.x;
    fibers[self].waits_for = &barrier;
    fibers[self].generation = barrier.generation;
    swapcontext(&fibers[self].context, &scheduler);
    fibers[self].waits_for = nullptr;
}

inline void run_kernel() {
    kernel();
    fibers[threadIdx.x].done = true;
}

inline void start(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_kernel, 0);
}

inline void run_block(std::mt19937& order) {
    std::vector<unsigned> turns(fibers.size());
    for (unsigned i = 0; i < turns.size(); ++i) turns[i] = i;
    for (Fiber& fiber : fibers) start(fiber);
    for (bool going = true; going;) {
        going = false;
        std::shuffle(turns.begin(), turns.end(), order);
        for (unsigned i : turns) {
            if (!fibers[i].can_run()) continue;
            threadIdx.x = i;
            swapcontext(&scheduler, &fibers[i].context);
            going = true;
        }
    }
    for (const Fiber& fiber : fibers)
        if (!fiber.done) fail("a barrier that not all threads reach");
}

inline void launch(unsigned blocks, unsigned threads, size_t bytes, std::function<void()> body) {
    std::mt19937 order(1);
    kernel = body;
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        fibers = std::vector<Fiber>(threads);
        warps = std::vector<Warp>((threads + WARP - 1) / WARP);
        shared.assign(bytes + GUARD, UNSET);
        block = Barrier();
        run_block(order);
        for (size_t i = bytes; i < bytes + GUARD; ++i)
            if (shared[i] != UNSET) fail("a write beyond the shared memory");
    }
}

}  // namespace emulation

unsigned char* shared_memory() { return emulation::shared.data(); }

void block_barrier() { emulation::wait(emulation::block, blockDim.x); }

void warp_barrier() {
    emulation::wait(emulation::warps[threadIdx.x / emulation::WARP].barrier, emulation::WARP);
}

const unsigned char* exchange(const void* mine, unsigned bytes) {
    emulation::Warp& warp = emulation::warps[threadIdx.x / emulation::WARP];
    unsigned char* given = warp.given[emulation::fibers[threadIdx.x].exchanges++ % 2];
    std::memcpy(given + threadIdx.x % emulation::WARP * bytes, mine, bytes);
    warp_barrier();
    return given;
}

unsigned warp_votes(bool vote) {
    const unsigned char mine = vote, *given = exchange(&mine, 1);
    unsigned votes = 0;
    for (unsigned i = 0; i < emulation::WARP; ++i) votes |= unsigned(given[i]) << i;
    return votes;
}
