"""Operations on rows of features, ``(columns, lanes, channels)``."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F


def concat_elu(x: Tensor, dim: int = -1) -> Tensor:
    """ELU of the features and of their negatives, with a single exponential for both.

    ``elu(x) = max(x, exp(-|x|) - 1)``, and the same for ``-x``.
    """
    m = torch.exp(-x.abs()) - 1
    return torch.cat((torch.maximum(x, m), torch.maximum(-x, m)), dim=dim)


def concat_elu_small(x: Tensor) -> Tensor:
    """`concat_elu` in fewer steps, for tensors so small that each step costs the same."""
    return F.elu(torch.cat((x, -x), dim=-1))


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """Matrix product, computed in the type of the matrix and returned in float32."""
    return x @ matrix if x.dtype == matrix.dtype else (x.to(matrix.dtype) @ matrix).float()


def add_product(share: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """``share + product(x, matrix)`` of two matrices, in one step if their types are the same."""
    if x.dtype == matrix.dtype:
        return torch.addmm(share, x, matrix)
    return share + product(x, matrix)


def gate(x: Tensor, outputs: Tensor, dim: int = -1) -> Tensor:
    """Last step of a gated layer: ``x + value * sigmoid(gate)``, with both from ``outputs``."""
    value, gate = outputs.chunk(2, dim=dim)
    return x + value * torch.sigmoid(gate)


def convolve(x: Tensor, matrix: Tensor, left: int, right: int) -> Tensor:
    """Convolution along the columns, with zeros beyond the edges.

    Parameters
    ----------
    x
        One or several rows ``(W, M, in)``, concatenated by channel.
    matrix
        Weights ``(in, taps x out)`` of ``left + 1 + right`` taps, from left to right.
    left, right
        Number of taps to the left and to the right.

    Returns
    -------
    Tensor
        ``(W, M, out)``.
    """
    taps = product(x, matrix).chunk(left + 1 + right, dim=-1)
    return _sum([_shift(tap, offset) for offset, tap in enumerate(taps, -left)])


def convolve_strided(x: Tensor, matrix: Tensor, left: int, right: int) -> Tensor:
    """`convolve` at every second column: ``(W, M, in) -> (W / 2, M, out)``."""
    weights = dict(enumerate(matrix.chunk(left + 1 + right, dim=-1), -left))
    terms = []
    for parity in (0, 1):
        offsets = [offset for offset in weights if offset % 2 == parity]
        columns = torch.cat([weights[offset] for offset in offsets], dim=-1)
        products = product(x[parity::2], columns)
        taps = products.chunk(len(offsets), dim=-1)
        terms += [_shift(tap, offset // 2) for offset, tap in zip(offsets, taps, strict=True)]
    return _sum(terms)


def _shift(x: Tensor, offset: int) -> Tensor:
    """Shift column ``j + offset`` to column ``j``, with zeros beyond the edges."""
    if offset < 0:
        return F.pad(x[:offset], (0, 0, 0, 0, -offset, 0))
    return F.pad(x[offset:], (0, 0, 0, 0, 0, offset)) if offset else x


def _sum(terms: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


def subtract_edges(y: Tensor, x: Tensor, left: Tensor, right: Tensor | None) -> Tensor:
    """Correct the first and last column of a composed convolution, see `edge_kernel`.

    ``y`` is ``(W, M, out)``; the corrections are ``x[0] @ left`` and ``x[-1] @ right``.
    """
    first = y[:1] - product(x[:1], left)
    if right is None:
        return torch.cat((first, y[1:]))
    return torch.cat((first, y[1:-1], y[-1:] - product(x[-1:], right)))


def upsample_columns(x: Tensor, matrix: Tensor, bias: Tensor, row: int) -> Tensor:
    """One of the two rows that a transposed convolution makes from one.

    Parameters
    ----------
    x
        Features ``(W, M, C)``.
    matrix
        Weights ``(C, 2 x columns x C)``: the taps of the upper row, then those of the lower one;
        two columns for the horizontal stack, three (the first of them cropped) for the vertical
        one.
    bias
        Bias of the convolution.
    row
        0 for the upper row, 1 for the lower one.

    Returns
    -------
    Tensor
        ``(2 W, M, C)``.
    """
    count = matrix.shape[1] // (2 * x.shape[2])
    taps = product(x, matrix.chunk(2, dim=-1)[row]).chunk(count, dim=-1)
    even, odd = taps[-2], taps[-1]
    if len(taps) == 3:
        odd = odd + F.pad(taps[0][1:], (0, 0, 0, 0, 0, 1))
    return torch.stack((even, odd), dim=1).flatten(0, 1) + bias
