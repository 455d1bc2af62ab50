"""The PixelMiner block and the gated residual layer (paper, section 2.2 and figure 1A).

With an encoder, only the target passes through the layers: features are ``(N, C, H, W)``, and the
encoder's are added in every block. Without one, as in the paper, a tensor of features holds the
three depths of a window as three groups of the batch, in the order *above*, *below*, *target*:
shape ``(3 N, C, H, W)``. Layers that treat all depths alike apply to it unchanged, and the outer
slices are the first ``2 N`` entries. A 3-D convolution of depth 2 is written as a 2-D convolution
of the two depths' concatenated channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """`torch.nn.ModuleList` of layers of one type that type checkers know."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__(layers)

    def __getitem__(self, index: int) -> Layer:  # type: ignore[override]
        return cast(Layer, super().__getitem__(index))

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())


def concat_elu(x: Tensor) -> Tensor:
    """ELU of a tensor and of its negative: ``(N, C, H, W) -> (N, 2 C, H, W)``."""
    return F.elu(torch.cat((x, -x), dim=1))


def depths(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``(3 N, C, H, W)`` into above, below and target."""
    n = x.shape[0] // 3
    return x[:n], x[n : 2 * n], x[2 * n :]


def conv(
    c_in: int,
    c_out: int,
    kernel: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    *,
    bias: bool = True,
) -> nn.Conv2d:
    """Create a convolution with weight normalisation."""
    return cast(nn.Conv2d, weight_norm(nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias)))


class Block(nn.Module):
    """Mixed causal and non-causal convolution of three slices (figure 1A).

    Parameters
    ----------
    c_in, c_out
        Number of input and of output channels.
    kernel
        Height and width of the causal convolutions.
    stride
        Stride of the outer and the merge convolution.
    causal_left
        Whether columns are padded on the left only, as in the horizontal stack; the vertical stack
        pads both sides.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int], stride: int = 1, *, causal_left: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = _causal_padding(kernel, causal_left=causal_left)
        self.outer = conv(c_in, c_out, (3, 3), stride, padding=1)
        self.pair = conv(2 * c_in, c_out, kernel)
        self.merge = conv(2 * c_out, c_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: ``(3 N, c_in, H, W) -> (3 N, c_out, H / stride, W / stride)``."""
        above, below, target = depths(x)
        upper, lower = torch.cat((above, target), dim=1), torch.cat((target, below), dim=1)
        pairs = self.pair(F.pad(torch.cat((upper, lower)), self.padding))
        merged = self.merge(F.pad(torch.cat(tuple(pairs.unflatten(0, (2, -1))), 1), self.padding))
        return torch.cat((self.outer(torch.cat((above, below))), merged))


class TargetBlock(nn.Module):
    """Causal convolution of the target alone, as far-reaching as the two of a `Block`.

    It has no bias, which is part of what the encoder's features add. Parameters as for `Block`.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int], stride: int = 1, *, causal_left: bool
    ) -> None:
        super().__init__()
        whole = 2 * kernel[0] - 1, 2 * kernel[1] - 1
        self.stride = stride
        self.padding = _causal_padding(whole, causal_left=causal_left)
        self.conv = conv(c_in, c_out, whole, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: ``(N, c_in, H, W) -> (N, c_out, H / stride, W / stride)``."""
        return cast(Tensor, self.conv(F.pad(x, self.padding)))


AnyBlock = Block | TargetBlock


def _causal_padding(kernel: tuple[int, int], *, causal_left: bool) -> tuple[int, int, int, int]:
    """Padding on the left, on the right, above and below."""
    height, width = kernel
    left, right = (width - 1, 0) if causal_left else ((width - 1) // 2, (width - 1) // 2)
    return left, right, height - 1, 0


class GatedLayer(nn.Module):
    """Gated residual layer with an optional shortcut of ``shortcut`` channels."""

    def __init__(
        self,
        block: type[AnyBlock],
        channels: int,
        kernel: tuple[int, int],
        *,
        causal_left: bool,
        shortcut: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = block(2 * channels, channels, kernel, causal_left=causal_left)
        bias = block is Block
        self.shortcut = conv(2 * shortcut, channels, (1, 1), bias=bias) if shortcut else None
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.second = block(2 * channels, 2 * channels, kernel, causal_left=causal_left)

    def forward(self, x: Tensor, a: Tensor | None, shares: Iterator[Tensor | float]) -> Tensor:
        """Apply the layer to features ``(N, C, H, W)``, or of all depths, ``(3 N, C, H, W)``.

        ``a`` is the shortcut's input. Both blocks' outputs are added to the next of the shares.
        """
        hidden = self.first(concat_elu(x)) + next(shares)
        if self.shortcut is not None and a is not None:
            hidden = hidden + self.shortcut(concat_elu(a))
        outputs = self.second(self.dropout(concat_elu(hidden))) + next(shares)
        value: Tensor
        gate: Tensor
        value, gate = outputs.chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)


class Upsample(nn.Module):
    """Transposed convolution of stride 2, applied to each entry of the batch separately."""

    def __init__(self, channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.crop = kernel[1] - 2
        self.conv = cast(
            nn.ConvTranspose2d,
            weight_norm(nn.ConvTranspose2d(channels, channels, kernel, stride=2), dim=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upsample: ``(N, C, H, W) -> (N, C, 2 H, 2 W)``."""
        return cast(Tensor, self.conv(x)[..., self.crop :])


def shift_down(x: Tensor) -> Tensor:
    """Shift down by one row, so that a pixel sees only the rows above it."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    """Shift right by one column, so that a pixel sees only the columns to its left."""
    return F.pad(x, (1, 0, 0, 0))[..., :-1]
