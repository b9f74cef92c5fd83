"""The ResNet block of the U-Net and the layers that halve and double the picture (chapter 5)."""

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_channels, check_choice, check_number, check_probability, check_temporal_convolution
from .temporal import TemporalConvBlock, per_frame, zero_module


class Downsample(nn.Module):
    """Halve height and width of every frame, with a stride-2 convolution or by averaging 2 × 2 pixels."""

    def __init__(self, channels: int, convolution: bool = True):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if convolution else nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f c h2 w2"]:
        return per_frame(self.layer, x)


class Upsample(nn.Module):
    """Double height and width of every frame: each pixel is repeated 2 × 2, then, by default, convolved."""

    def __init__(self, channels: int, convolution: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1) if convolution else nn.Identity()

    def forward(self, x: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f c h2 w2"]:
        frames = rearrange(x, "b f c h w -> (b f) c h w")
        frames = self.convolution(F.interpolate(frames, scale_factor=2, mode="nearest"))
        return rearrange(frames, "(b f) c h w -> b f c h w", b=x.shape[0])


class ResBlock(nn.Module):
    """Two convolutions over space with the embedding added along channels between them, then one block over time.

    Norm, SiLU, convolution; add the embedding; norm, SiLU, dropout, convolution (zero when fresh); add the input;
    temporal convolution. Norms look at one frame at a time. Follows ``ResBlock`` in
    ``lvdm/modules/networks/openaimodel3d.py``.

    Args:
        in_channels, out_channels: multiples of 32; where they differ, the input passes a 1 × 1 convolution.
        embedding_channels: length of the timestep/FPS embedding.
        temporal_convolution: append a :class:`TemporalConvBlock`; ``"spatial"`` for one that also spans pixels.
        scale_shift_norm: the embedding scales and shifts the second norm instead of being added (FiLM).
        resample: halve ("down") or double ("up") the picture, without parameters, before the first convolution.
        dropout, temporal_dropout: before the second convolution, and in the temporal ones, in training.
    """

    def __init__(
        self,
        in_channels: int,
        embedding_channels: int,
        out_channels: int | None = None,
        temporal_convolution: bool | Literal["spatial"] = False,
        scale_shift_norm: bool = False,
        resample: Literal["down", "up"] | None = None,
        dropout: float = 0.0,
        temporal_dropout: float = 0.1,
    ):
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_channels("in_channels", in_channels)
        check_channels("out_channels", out_channels)
        check_number("embedding_channels", embedding_channels, 1, whole=True)
        check_temporal_convolution(temporal_convolution)
        check_probability("dropout", dropout)
        check_probability("temporal_dropout", temporal_dropout)
        self.scale_shift_norm = scale_shift_norm
        self.norm_in = nn.GroupNorm(32, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding_projection = nn.Linear(embedding_channels, out_channels * (2 if scale_shift_norm else 1))
        self.norm_out = nn.GroupNorm(32, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero_module(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if out_channels == in_channels else nn.Conv2d(in_channels, out_channels, 1)
        layers = {"down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2), None: nn.Identity()}
        check_choice("resample", resample, layers)
        self.resample = layers[resample]
        self.temporal: nn.Module = nn.Identity()
        if temporal_convolution:
            spatial = temporal_convolution == "spatial"
            self.temporal = TemporalConvBlock(out_channels, temporal_dropout, spatial)

    def forward(
        self, x: Float[Tensor, "b f c_in h w"], embedding: Float[Tensor, "b f e"]
    ) -> Float[Tensor, "b f c_out h2 w2"]:
        frames = rearrange(x, "b f c h w -> (b f) c h w")
        hidden = self.conv_in(self.resample(F.silu(self.norm_in(frames))))  # (b f, c_out, h2, w2)
        added = rearrange(self.embedding_projection(F.silu(embedding)), "b f c -> (b f) c 1 1")
        if self.scale_shift_norm:
            scale, shift = added.chunk(2, dim=1)
            hidden = self.norm_out(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm_out(hidden + added)
        hidden = self.conv_out(self.dropout(F.silu(hidden)))
        frames = self.skip(self.resample(frames)) + hidden
        return self.temporal(rearrange(frames, "(b f) c h w -> b f c h w", b=x.shape[0]))
