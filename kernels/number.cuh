// Products in several precisions: 16 output channels of a warp times the lanes of a tile.
//
// A warp holds a tile of sums as mma.m16n8k16 does: with g = thread / 4 and q = thread % 4, element
// e of part t belongs to channel g + 8 (e / 2) and lane 8 t + 2 q + e % 2. Weights come in tiles
// of 16 channels by 16 inputs, 256 numbers in the order in which the warp's threads read them
// (packing.py). Operands lie in rows, one per lane, with the inputs of a tile side by side.
//
// Number::Operand          type in which weights and inputs are kept
// Number::PAD              operands after each row, so that a warp's reads have no bank conflicts
// Number::store4, store2   round and write neighbouring operands
// Number::accumulate       sums += weights x operands, for N tiles of channels
#pragma once

#include "portable.cuh"

template <int T>
struct Sums {
    float at[T][4];

    DEVICE void clear() {
        for (int t = 0; t < T; ++t)
            for (int e = 0; e < 4; ++e) at[t][e] = 0;
    }
    DEVICE void add(const Sums& other) {
        for (int t = 0; t < T; ++t)
            for (int e = 0; e < 4; ++e) at[t][e] += other.at[t][e];
    }
};

static const int TILE_NUMBERS = 256;

DEVICE unsigned thread_of_warp() { return threadIdx.x % 32; }

#ifdef __CUDACC__

struct Bfloat16 {
    static DEVICE unsigned pair(float low, float high) {
        unsigned both;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    static DEVICE void multiply(float (&d)[4], uint4 a, uint2 b) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y)
        );
    }
};

struct Float16 {
    static DEVICE unsigned pair(float low, float high) {
        unsigned both;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    static DEVICE void multiply(float (&d)[4], uint4 a, uint2 b) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y)
        );
    }
};

#else

// The same product, computed from what the 32 threads of a warp hold together.
template <class Format>
void multiply_portably(float (&d)[4], uint4 a, uint2 b) {
    struct Held {
        unsigned a[4], b[2];
    };
    const Held mine = {{a.x, a.y, a.z, a.w}, {b.x, b.y}};
    const Held* held = reinterpret_cast<const Held*>(exchange(&mine, sizeof mine));
    const int g = thread_of_warp() / 4, q = thread_of_warp() % 4;
    for (int e = 0; e < 4; ++e)
        for (int k = 0; k < 16; ++k) {
            const int word = k % 4 / 2, shift = 16 * (k % 2);
            const unsigned weight = held[4 * g + k / 4].a[2 * word + e / 2] >> shift;
            const unsigned input = held[4 * (2 * q + e % 2) + k / 4].b[word] >> shift;
            d[e] += Format::value(weight) * Format::value(input);
        }
}

struct Bfloat16 {
    static unsigned short bits(float x) {
        unsigned word;
        std::memcpy(&word, &x, 4);
        return (unsigned short)((word + 0x7fff + (word >> 16 & 1)) >> 16);
    }
    static float value(unsigned word) {
        word <<= 16;
        float x;
        std::memcpy(&x, &word, 4);
        return x;
    }
    static unsigned pair(float low, float high) { return bits(low) | unsigned(bits(high)) << 16; }
    static void multiply(float (&d)[4], uint4 a, uint2 b) {
        multiply_portably<Bfloat16>(d, a, b);
    }
};

struct Float16 {
    static unsigned short bits(float x) {
        const _Float16 half = _Float16(x);
        unsigned short word;
        std::memcpy(&word, &half, 2);
        return word;
    }
    static float value(unsigned word) {
        const unsigned short low = (unsigned short)word;
        _Float16 half;
        std::memcpy(&half, &low, 2);
        return float(half);
    }
    static unsigned pair(float low, float high) { return bits(low) | unsigned(bits(high)) << 16; }
    static void multiply(float (&d)[4], uint4 a, uint2 b) { multiply_portably<Float16>(d, a, b); }
};

#endif

// 16 bits per number, sums in float32: tensor cores.
template <class Format>
struct Tensor {
    typedef unsigned short Operand;
    static const int PAD = 16;

    static DEVICE void store4(Operand* target, float a, float b, float c, float d) {
        const uint2 words = {Format::pair(a, b), Format::pair(c, d)};
        *reinterpret_cast<uint2*>(target) = words;
    }
    static DEVICE void store2(Operand* target, float a, float b) {
        *reinterpret_cast<unsigned*>(target) = Format::pair(a, b);
    }

    template <int N, int T>
    static DEVICE void accumulate(
        Sums<T> (&sums)[N], const Operand* weights, long long between, const Operand* operands,
        int stride, int tiles
    ) {
        const int thread = thread_of_warp(), g = thread / 4, q = thread % 4;
        const Operand* inputs = operands + g * stride + 4 * q;
        const Operand* own = weights + 8 * thread;
#pragma unroll 4
        for (int k = 0; k < tiles; ++k) {
            uint4 a[N];
            for (int n = 0; n < N; ++n)
                a[n] = *reinterpret_cast<const uint4*>(own + n * between + k * TILE_NUMBERS);
            for (int t = 0; t < T; ++t) {
                const Operand* place = inputs + 8 * t * stride + 16 * k;
                const uint2 b = *reinterpret_cast<const uint2*>(place);
                for (int n = 0; n < N; ++n) Format::multiply(sums[n].at[t], a[n], b);
            }
        }
    }
};

DEVICE float dot(float sum, float4 a, float4 b) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    return sum + a.w * b.w;
}

// Single precision throughout.
struct Single {
    typedef float Operand;
    static const int PAD = 4;

    static DEVICE void store4(Operand* target, float a, float b, float c, float d) {
        *reinterpret_cast<float4*>(target) = float4{a, b, c, d};
    }
    static DEVICE void store2(Operand* target, float a, float b) {
        *reinterpret_cast<float2*>(target) = float2{a, b};
    }

    template <int N, int T>
    static DEVICE void accumulate(
        Sums<T> (&sums)[N], const Operand* weights, long long between, const Operand* operands,
        int stride, int tiles
    ) {
        const int thread = thread_of_warp(), g = thread / 4, q = thread % 4;
        const float4* inputs = reinterpret_cast<const float4*>(operands + 2 * q * stride);
        const int row = stride / 4;
#pragma unroll 2
        for (int k = 0; k < 4 * tiles; ++k) {
            float4 low[N], high[N];
            for (int n = 0; n < N; ++n) {
                const Operand* own = weights + n * between + 64 * k + 4 * g;
                low[n] = *reinterpret_cast<const float4*>(own);
                high[n] = *reinterpret_cast<const float4*>(own + 32);
            }
            for (int t = 0; t < T; ++t) {
                const float4 even = inputs[8 * t * row + k], odd = inputs[(8 * t + 1) * row + k];
                for (int n = 0; n < N; ++n) {
                    float(&sum)[4] = sums[n].at[t];
                    sum[0] = dot(sum[0], low[n], even);
                    sum[1] = dot(sum[1], low[n], odd);
                    sum[2] = dot(sum[2], high[n], even);
                    sum[3] = dot(sum[3], high[n], odd);
                }
            }
        }
    }
};
