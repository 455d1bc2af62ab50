// A row of the target through the vertical stack on the CPU, for a batch of lanes, following
// RowGraph. Engines spend most of this time on moving data between their many small operations.

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <vector>

namespace {

const int LEVELS = 3;
const int WIDTH = 16;

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef int Ints __attribute__((vector_size(4 * WIDTH)));

// ---- structures of what is read and written, which cpu_rows.py fills in words of 64 bits

// The target's own share of a block of the vertical stack, (inputs, 5 x outputs). A block of three
// slices has corrections of the first and last column, (inputs, outputs); they may be null.
struct Block {
    const float *matrix, *left, *right;
};

struct Layer {
    Block first, second;
    const float *shortcut, *to_horizontal;  // (2 C, C)
    const float *h_first, *h_second;        // the earlier rows in the horizontal stack
};

// A line of the horizontal stack: the row before the last, and the last, (columns, lanes, ...).
struct Line {
    float* cache;
    const float* last;
};

struct Level {
    const float* shares;     // (columns, lanes, ...) of both stacks, see Layout.shares in layout.py
    float* h_shares;         // the same for the horizontal stack, with everything but this row
    float* carry_next;       // (columns, lanes, C), if the level below is touched
    const Layer* layers;
    float* const* v_caches;  // two rows of every line of the vertical stack, in the order of Line
    const Line* h_lines;     // first and second of every gated layer, then the strided block's
    Block v_strided;         // to the level below
    const float *h_strided, *upsample, *upsample_bias;
};

struct Row {
    long long lanes, columns, depth, channels, blocks;
    const float* residuals;  // (3, 1 + columns, lanes)
    const float* carry;      // (columns of the deepest level, lanes, C)
    Block input_vertical, input_row;
    const float* input_column;
    Level levels[LEVELS];
};

namespace baseline {
const int POSITIONS = 3, VECTORS = 1;
#include "vertical_row.h"
}  // namespace baseline

#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12
#define SEVERAL_CPUS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
namespace v3 {
const int POSITIONS = 6, VECTORS = 1;
#include "vertical_row.h"
}  // namespace v3
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4", "prefer-vector-width=512")
namespace v4 {
const int POSITIONS = 12, VECTORS = 2;
#include "vertical_row.h"
}  // namespace v4
#pragma GCC pop_options
#endif

// The code for a kind of CPU, by the name of its instructions.
struct Kind {
    const char* name;
    void (*run)(const Row& row);
};

Kind of_this_cpu() {
#ifdef SEVERAL_CPUS
    if (__builtin_cpu_supports("x86-64-v4")) return {"x86-64-v4", v4::run};
    if (__builtin_cpu_supports("x86-64-v3")) return {"x86-64-v3", v3::run};
#endif
    return {"baseline", baseline::run};
}

}  // namespace

// The name of the instructions for which the code was compiled that runs here.
extern "C" const char* vertical_row_instructions() { return of_this_cpu().name; }

// Returns 0, or 1 if memory is short.
extern "C" int vertical_row(const Row* row) {
    try {
        of_this_cpu().run(*row);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
