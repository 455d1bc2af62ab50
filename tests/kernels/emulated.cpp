// The kernels as a library for the CPU: launch_<kernel>(blocks, threads, shared bytes, arguments),
// where an argument is one or more words of 64 bits.

#include <tuple>

#include "emulation.h"

#include "pixel_row.cu"
#include "rows.cu"

typedef unsigned long long Word;

struct Arguments {
    const Word* words;

    template <class T>
    operator T() {
        static_assert(sizeof(T) % sizeof(Word) == 0, "whole words");
        T value;
        std::memcpy(&value, words, sizeof value);
        words += sizeof value / sizeof(Word);
        return value;
    }
};

template <class... Parameters>
void launch(unsigned blocks, unsigned threads, Word shared, const Word* words,
            void (*kernel)(Parameters...)) {
    emulation::launch(blocks, threads, shared, [=] {
        Arguments next{words};
        std::tuple<Parameters...> arguments{Parameters(next)...};  // braces: from left to right
        std::apply(kernel, arguments);
    });
}

#define LAUNCHER(kernel)                                                                        \
    extern "C" void launch_##kernel(unsigned blocks, unsigned threads, Word shared,             \
                                    const Word* words) {                                        \
        launch(blocks, threads, shared, words, kernel);                                         \
    }

LAUNCHER(tails)
LAUNCHER(load_windows)
LAUNCHER(load_pixels)
LAUNCHER(store_pixels)
LAUNCHER(load_row)
LAUNCHER(standardise)
LAUNCHER(pixel_row_float32_8)
LAUNCHER(pixel_row_float32_16)
LAUNCHER(pixel_row_float16_8)
LAUNCHER(pixel_row_float16_16)
LAUNCHER(pixel_row_bfloat16_8)
LAUNCHER(pixel_row_bfloat16_16)

// ---- device functions, one call a pixel

extern "C" void philox_words(const unsigned* counter, Word seed, unsigned* words) {
    Counter result;
    std::memcpy(result.words, counter, sizeof result);
    result = philox(result, seed);
    std::memcpy(words, result.words, sizeof result);
}

// The smallest level whose upper edge reaches a uniform number, as `Choice` finds it.
inline int quantile(const Components& mixture, float tail, int bits) {
    int level = 0;
    for (int remaining = bits; remaining > 0;) {
        const int decided = remaining < SEARCH_BITS ? remaining : SEARCH_BITS;
        remaining -= decided;
        int count = 0;
        for (int index = 1; index < 1 << decided; ++index)
            count += below_threshold(mixture, tail, level, index, remaining, bits);
        level += count << remaining;
    }
    return level;
}

// mixtures (count, 3, components): weights, means, inverse scales.
extern "C" void quantiles(const float* mixtures, const float* tails, int count, int components,
                          int bits, int* levels) {
    for (int i = 0; i < count; ++i, mixtures += 3 * components)
        levels[i] = quantile({mixtures, mixtures + components, mixtures + 2 * components,
                              components}, tails[i], bits);
}

extern "C" void means(const float* mixtures, int count, int components, int bits, int* levels) {
    for (int i = 0; i < count; ++i, mixtures += 3 * components)
        levels[i] = mean({mixtures, mixtures + components, mixtures + 2 * components, components},
                         bits);
}

extern "C" void concat_elus(const float* x, int count, float* positive, float* negative) {
    for (int i = 0; i < count; ++i) concat_elu(x[i], positive[i], negative[i]);
}
