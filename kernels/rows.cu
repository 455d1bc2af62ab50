// Kernels around the pixel loop: random numbers, windows of slices, a row of the planes, known pixels.
// All sizes are words of 64 bits; grids and blocks may have any size.

#include "mixture.cuh"
#include "philox.cuh"

typedef long long Size;

DEVICE Size first_index() { return Size(blockIdx.x) * blockDim.x + threadIdx.x; }

DEVICE Size index_step() { return Size(gridDim.x) * blockDim.x; }

// Origin of a lane's random numbers: slice, sample, and the window's place in the slice.
struct Origin {
    unsigned number, sample, top, left;
};

// target (height, width, lanes): uniform numbers of the pixels, as nearer tails.
KERNEL tails(
    float* target, const Origin* origins, unsigned long long seed, Size height, Size width,
    Size lanes
) {
    for (Size i = first_index(); i < height * width * lanes; i += index_step()) {
        const Origin at = origins[i % lanes];
        const unsigned row = unsigned(i / lanes / width), column = unsigned(i / lanes % width);
        target[i] =
            nearer_tail(uniform(seed, at.number, at.top + row, at.left + column, at.sample));
    }
}

// First pixel of a window: a slice, and a place in it.
struct Corner {
    unsigned slice, row, column;
};

DEVICE Size pixel_of(
    const Corner& corner, Size row, Size column, Size slice_height, Size slice_width
) {
    return (corner.slice * slice_height + corner.row + row) * slice_width + corner.column + column;
}

// Windows of slices (slices, slice_height, slice_width) -> target (count, height, width).
KERNEL load_windows(
    float* target, const float* slices, const Corner* corners, Size count, Size height,
    Size width, Size slice_height, Size slice_width
) {
    for (Size i = first_index(); i < count * height * width; i += index_step()) {
        const Size column = i % width, row = i / width % height, window = i / width / height;
        target[i] = slices[pixel_of(corners[window], row, column, slice_height, slice_width)];
    }
}

// Pixels of a row of windows, from a column on -> the first lanes of pixels (columns, lanes).
KERNEL load_pixels(
    float* pixels, const float* slices, const Corner* corners, Size count, Size columns,
    Size lanes, Size row, Size column, Size slice_height, Size slice_width
) {
    for (Size i = first_index(); i < count * columns; i += index_step()) {
        const Size lane = i % count, at = i / count;
        const Size place = pixel_of(corners[lane], row, column + at, slice_height, slice_width);
        pixels[at * lanes + lane] = slices[place];
    }
}

// The reverse.
KERNEL store_pixels(
    const float* pixels, float* slices, const Corner* corners, Size count, Size columns,
    Size lanes, Size row, Size column, Size slice_height, Size slice_width
) {
    for (Size i = first_index(); i < count * columns; i += index_step()) {
        const Size lane = i % count, at = i / count;
        const Size place = pixel_of(corners[lane], row, column + at, slice_height, slice_width);
        slices[place] = pixels[at * lanes + lane];
    }
}

template <class Word>
DEVICE void copy_row(
    Word* target, const Word* plane, Size row, Size lanes, Size height, Size width, Size words
) {
    for (Size i = first_index(); i < width * lanes * words; i += index_step()) {
        const Size word = i % words, lane = i / words % lanes, column = i / words / lanes;
        target[i] = plane[((lane * height + row) * width + column) * words + word];
    }
}

// (lanes, height, width, channels)[:, row] -> target (width, lanes, channels), in words of 16, 8
// or 4 bytes.
KERNEL load_row(
    float* target, const float* plane, Size row, Size lanes, Size height, Size width,
    Size channels
) {
    const Size alignment = (Size(target) | Size(plane) | 4 * channels) % 16;
    if (alignment == 0)
        copy_row((uint4*)target, (const uint4*)plane, row, lanes, height, width, channels / 4);
    else if (alignment == 8)
        copy_row((uint2*)target, (const uint2*)plane, row, lanes, height, width, channels / 2);
    else
        copy_row(target, plane, row, lanes, height, width, channels);
}

// Known pixels (count) and their mixtures (count, channels), the last two channels of which are
// the midpoint's mean and log-scale -> residuals (count).
KERNEL standardise(
    float* residuals, const float* pixels, const float* mixture, Size count, Size channels
) {
    for (Size i = first_index(); i < count; i += index_step()) {
        const float* midpoint = mixture + (i + 1) * channels - 2;
        residuals[i] = residual(pixels[i], midpoint[0], midpoint[1]);
    }
}
