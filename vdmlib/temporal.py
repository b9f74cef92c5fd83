"""The temporal axis: convolution over frames, and networks for pictures made into networks for videos (chapter 3).

Every video here is ``b f c h w``: batch, frames, channels, height, width. For a layer that looks at one frame at a
time the frames are folded into the batch; for a layer over time they come out again.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_inflatable, check_instance

Layer = TypeVar("Layer", bound=nn.Module)


def channels_last(x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f c h w"]:
    """The same tensor, laid out in memory as ``b f h w c``.

    The channels of a pixel then lie side by side, so that each change between ``(b f) c h w`` for convolutions over
    space, ``b c f h w`` for convolutions over time and ``(b f) (h w) c`` for attention is a view which the next layer
    takes as it is, and convolutions are faster as well.
    """
    return rearrange(rearrange(x, "b f c h w -> b f h w c").contiguous(), "b f h w c -> b f c h w")


def per_frame(layer: Callable[[Tensor], Tensor], x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f c2 h2 w2"]:
    """Apply a layer for pictures to every frame: frames fold into the batch and unfold again."""
    return rearrange(layer(rearrange(x, "b f c h w -> (b f) c h w")), "(b f) c h w -> b f c h w", b=x.shape[0])


def per_video(layer: Callable[[Tensor], Tensor], x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f2 c2 h2 w2"]:
    """Apply a layer that expects channels before frames, such as ``nn.Conv3d``, to every video."""
    return rearrange(layer(rearrange(x, "b f c h w -> b c f h w")), "b c f h w -> b f c h w")


def inflate_conv2d(convolution: nn.Conv2d, frames: int = 3) -> nn.Conv3d:
    """A ``Conv3d`` of ``frames`` × k × k that does to every frame what the ``Conv2d`` does.

    Only the middle time step of the kernel is non-zero, so a pretrained picture network starts as the same network
    on videos, and learns to look at neighbouring frames from there (Girdhar et al. 2018). Carreira & Zisserman (2017)
    repeat the kernel over time and divide it by its length, which gives the same on still videos only.
    """
    check_inflatable(convolution, frames)

    def with_time(over_time: int, over_space: Sequence[int]) -> tuple[int, int, int]:
        height, width = over_space
        return over_time, height, width

    padding = convolution.padding  # Two numbers, "same", or "valid": none.
    if not isinstance(padding, str):
        padding = with_time(frames // 2, padding)
    elif padding == "valid":
        padding = with_time(frames // 2, (0, 0))
    inflated = nn.Conv3d(
        convolution.in_channels,
        convolution.out_channels,
        with_time(frames, convolution.kernel_size),
        stride=with_time(1, convolution.stride),
        padding=padding,
        dilation=with_time(1, convolution.dilation),
        groups=convolution.groups,
        bias=convolution.bias is not None,
        padding_mode=convolution.padding_mode,
    ).to(convolution.weight)
    with torch.no_grad():
        inflated.weight.zero_()
        inflated.weight[:, :, frames // 2] = convolution.weight
        if convolution.bias is not None and inflated.bias is not None:
            inflated.bias.copy_(convolution.bias)
    return inflated


def zero_module(layer: Layer) -> Layer:
    """The layer with all its parameters set to zero: at the end of a residual branch, a fresh block changes nothing."""
    check_instance("layer", layer, nn.Module, "nn.Linear(4, 4)")
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class TimeConv(nn.Conv3d):
    """A convolution over time, by default 3 × 1 × 1: three frames, one pixel. Keeps frames, height and width."""

    def __init__(self, channels: int, kernel_size: tuple[int, int, int] = (3, 1, 1)):
        super().__init__(channels, channels, kernel_size, padding="same")

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        if self.kernel_size[1:] != (1, 1):
            return super().forward(x)
        # A kernel that never looks sideways may find the pixels in one row: a picture of f × (h w), for which
        # processors have the faster convolution (on one core three times as fast, forward and backward).
        weight = rearrange(self.weight, "out c t 1 1 -> out c t 1")
        rows = rearrange(x, "b c f h w -> b c f (h w)")
        rows = nn.functional.conv2d(rows, weight, self.bias, padding="same")
        return rearrange(rows, "b c f (h w) -> b c f h w", h=x.shape[3])


class TemporalConvBlock(nn.Module):
    """Four convolutions over time with a residual connection; the identity when fresh, as the last one starts at zero.

    In VideoCrafter2 this is the only place where the order of the frames is visible. Each convolution is preceded by
    GroupNorm over *all* frames of a video and SiLU. Follows ``TemporalConvBlock`` in
    ``lvdm/modules/networks/openaimodel3d.py``, which has it from ModelScope.

    Args:
        channels: in and out; a multiple of 32.
        dropout: before the last three convolutions, in training.
        spatial: let the first two kernels also span 3 × 3 pixels (``tempspatial_aware``).
    """

    def __init__(self, channels: int, dropout: float = 0.0, spatial: bool = False):
        super().__init__()
        kernels = [(3, 3, 3) if spatial and i < 2 else (3, 1, 1) for i in range(4)]
        self.norms = nn.ModuleList(nn.GroupNorm(32, channels) for _ in kernels)
        self.convolutions = nn.ModuleList(TimeConv(channels, kernel) for kernel in kernels)
        self.dropout = nn.Dropout(dropout)
        zero_module(self.convolutions[-1])

    def forward(self, x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f c h w"]:
        hidden = rearrange(x, "b f c h w -> b c f h w")
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            hidden = nn.functional.silu(norm(hidden))
            hidden = convolution(self.dropout(hidden) if i else hidden)
        return x + rearrange(hidden, "b c f h w -> b f c h w")
