"""Timestep and FPS embeddings, and how they are fused (chapter 4).

A diffusion network is one network for all noise levels and all frame rates, so it has to be told both.
Each number becomes a vector of sines and cosines, passes a small MLP, and the two results are added.
"""

import math

import torch
from einops import repeat
from jaxtyping import Float, Num
from torch import Tensor, nn

from .checks import check_counts, check_number, missing_rate


def sinusoidal_embedding(
    values: Num[Tensor, "*batch"], channels: int, max_period: float | int = 10000
) -> Float[Tensor, "*batch {channels}"]:
    """Write numbers as cosines and sines of geometrically spaced frequencies ("Attention Is All You Need", 3.5).

    The first half of the channels holds the cosines, the second half the sines; an odd last channel is zero.
    This is the order of VideoCrafter (``lvdm/models/utils_diffusion.py``); many other codes put sines first.

    Args:
        values: timesteps or frames per second; fractions are fine.
        channels: length of the embedding.
        max_period: the slowest cosine repeats after ``2π · max_period``.
    """
    check_counts("values", values)
    channels = check_number("channels", channels, 2, whole=True)
    max_period = check_number("max_period", max_period, 1)
    half = channels // 2
    # In this order of operations: at timestep 999 even the last bit of a frequency shows in the angle.
    exponents = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / half
    frequencies = torch.exp(exponents)
    angles = values[..., None].float() * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return nn.functional.pad(embedding, (0, channels - 2 * half))


class EmbeddingMLP(nn.Sequential):
    """Two linear layers with a SiLU between: from ``channels`` sines and cosines to ``embedding_channels``."""

    def __init__(self, channels: int, embedding_channels: int):
        super().__init__(
            nn.Linear(channels, embedding_channels),
            nn.SiLU(),
            nn.Linear(embedding_channels, embedding_channels),
        )


class TimestepFPSEmbedding(nn.Module):
    """The vector that tells every ResNet block the noise level and, optionally, the frame rate.

    Both numbers go through their own MLP and are added. Follows ``UNetModel.forward`` in
    ``lvdm/modules/networks/openaimodel3d.py`` (``time_embed``, ``fps_embedding``).

    Args:
        channels: length of the sinusoidal embedding (the U-Net's ``model_channels``).
        embedding_channels: length of the result (four times as much in VideoCrafter).
        use_fps: whether the frame rate is embedded too; without it ``fps`` is ignored.
    """

    def __init__(self, channels: int, embedding_channels: int, use_fps: bool = True):
        super().__init__()
        self.channels = channels
        self.timestep_mlp = EmbeddingMLP(channels, embedding_channels)
        self.fps_mlp = EmbeddingMLP(channels, embedding_channels) if use_fps else None

    def forward(
        self, timesteps: Num[Tensor, "b f"], fps: Num[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b f embedding"]:
        """One embedding a frame. ``timesteps`` may be a view expanded along the frames."""
        dtype = next(self.timestep_mlp.parameters()).dtype
        # Frames that share a timestep share its embedding: computed once, then expanded.
        shared = timesteps.stride(1) == 0 or timesteps.shape[1] == 1
        steps = timesteps[:, :1] if shared else timesteps
        embedding = self.timestep_mlp(sinusoidal_embedding(steps, self.channels).to(dtype))
        if self.fps_mlp is not None:
            if fps is None:
                raise missing_rate()
            embedding = embedding + self.fps_mlp(sinusoidal_embedding(fps, self.channels).to(dtype))[:, None]
        return repeat(embedding, "b 1 e -> b f e", f=timesteps.shape[1]) if shared else embedding
