// A row of pixels for a batch of lanes in one launch: a block takes 8 or 16 lanes, with 32 threads
// for every 16 channels and at least 128 threads. See walk.cuh.

#include "walk.cuh"

#ifdef __CUDACC__
#define ROW const __grid_constant__ Row row
#else
#define ROW const Row row
#endif

#define PIXEL_ROW(name, number, lanes, threads)              \
    KERNEL LAUNCH_BOUNDS(threads) name##_##lanes(ROW) {      \
        Walk<number, lanes / 8>(row, shared_memory()).run(); \
    }

#define PIXEL_ROWS(name, number)    \
    PIXEL_ROW(name, number, 8, 512) \
    PIXEL_ROW(name, number, 16, 256)

PIXEL_ROWS(pixel_row_float32, Single)
PIXEL_ROWS(pixel_row_float16, Tensor<Float16>)
PIXEL_ROWS(pixel_row_bfloat16, Tensor<Bfloat16>)
