// The levels and lines of a stack, common to the pixel loops on a GPU and on the CPU.
#pragma once

const int LEVELS = 3;        // pmtool/models/hyperparameters.py
const int LINE_COLUMNS = 3;  // columns kept of a line: the current one and the two before it

// A line's last two columns before the row's first new one, (lanes, channels), and where its new
// columns go, (columns, lanes, channels).
struct Line {
    const float *before2, *before1;
    float* last;
};
