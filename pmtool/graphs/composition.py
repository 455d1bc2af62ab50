"""Weights of the graphs: every block's share of the target as one convolution.

A block of three slices has two causal convolutions. There is no activation between them, and the
target's own share has no bias. Therefore ``merge o pair`` is a single convolution,
(2, 3) o (2, 3) -> 3x5 and (2, 2) o (2, 2) -> 3x3, which is what a block of the target alone has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pmtool.network.layers import AnyBlock, Block, TargetBlock, Upsample


class Parts(NamedTuple):
    """A block's convolutions by the depth that they read; weights are ``(out, in, kh, kw)``."""

    pair_first: Tensor
    pair_second: Tensor
    merge_upper: Tensor
    merge_lower: Tensor


def parts(block: Block) -> Parts:
    """Split the depth-2 convolutions of a block."""
    pair, merge = block.pair.weight.detach(), block.merge.weight.detach()
    return Parts(*pair.chunk(2, dim=1), *merge.chunk(2, dim=1))


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Kernel of ``outer`` applied after ``inner``, both ``(out, in, kh, kw)``, unpadded."""
    (_, _, oh, ow), (_, _, ih, iw) = outer.shape, inner.shape
    kernel = outer.new_zeros(outer.shape[0], inner.shape[1], oh + ih - 1, ow + iw - 1)
    for y in range(oh):
        for x in range(ow):
            kernel[:, :, y : y + ih, x : x + iw] += torch.einsum(
                "om,mikl->oikl", outer[:, :, y, x], inner
            )
    return kernel


def target_kernel(block: AnyBlock) -> Tensor:
    """The target's own share of a block, as one kernel."""
    if isinstance(block, TargetBlock):
        return block.conv.weight.detach()
    p = parts(block)
    return compose(p.merge_upper, p.pair_second) + compose(p.merge_lower, p.pair_first)


def edge_kernel(block: Block, side: str) -> Tensor:
    """Excess of `target_kernel` at the first or last column, ``(out, in, rows)``.

    At the edges, the merge convolution pads with zeros where the composed kernel counts what the
    pair convolution would have computed beyond the edge.
    """
    merge_column, pair_column = (0, -1) if side == "left" else (-1, 0)
    p = parts(block)
    total = sum(
        compose(m[..., merge_column, None], q[..., pair_column, None])
        for m, q in ((p.merge_upper, p.pair_second), (p.merge_lower, p.pair_first))
    )
    assert isinstance(total, Tensor)
    return total[..., 0]


def as_matrix(kernel: Tensor) -> Tensor:
    """Reorder a kernel as a matrix: ``(out, in, rows, columns) -> (rows x in, columns x out)``.

    Multiplied by the features of the rows, concatenated by channel, it gives the product with every
    column tap.
    """
    out, channels, rows, columns = kernel.shape
    return kernel.permute(2, 1, 3, 0).reshape(rows * channels, columns * out).contiguous()


def column_matrix(kernel: Tensor) -> Tensor:
    """Reorder one row of a kernel as a matrix: ``(out, in, columns) -> (columns x in, out)``.

    It is multiplied by columns concatenated by channel.
    """
    out, channels, columns = kernel.shape
    return kernel.permute(2, 1, 0).reshape(columns * channels, out).contiguous()


def upsample_matrix(upsample: Upsample) -> Tensor:
    """Weight of a transposed convolution as a matrix ``(C, 2 rows x columns x C)``."""
    weight = upsample.conv.weight.detach()  # (in, out, rows, columns)
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous()
