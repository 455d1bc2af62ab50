"""The network cut into the graphs of the cached sampler, in PyTorch.

A window is generated row by row and pixel by pixel, and most of a forward pass does not change
from one pixel to the next. Four pure functions share the work by what is already known:

========  ======================  ===========================================================
graph     runs once per           computes
========  ======================  ===========================================================
window    window                  the neighbours' *share* in every block: the encoder's features or,
                                  without an encoder, the outer slices' way through the stacks
row       row                     the vertical stack; earlier rows' share in the horizontal one
known     row with known columns  the horizontal stack where pixels are given
pixel     four pixels             the horizontal stack, column by column, and the new pixels
========  ======================  ===========================================================

A block is linear between its activations, so its target output is the sum of what the
neighbours, the earlier rows, the known columns and the last columns contribute.

Features of one row are stored as ``(columns, lanes, channels)``, a lane being a window of a slice
pair. The middle level advances on every second row and column, the coarsest on every fourth: a
graph comes in three *depths*, the number of levels that a row touches (`depth_of_row`).
"""
