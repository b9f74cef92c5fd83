"""A small convolutional autoencoder: the "latent" in latent diffusion (chapter 1).

One 64 × 64 frame in three colours becomes 8 × 8 latents of eight channels, a 24th of the numbers. Frames are encoded
and decoded one by one, as in VideoCrafter. Where the autoencoder of Stable Diffusion is trained with a penalty that
keeps its latents near a normal distribution, here BatchNorm without parameters makes every latent channel zero on
average and one in variance, and a little noise on the latents, in training, makes the decoder forgiving.
"""

from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .checks import (
    check_alike,
    check_clips,
    check_halvings,
    check_latents,
    check_number,
    check_rough_pixels,
    check_tensor,
    check_widths,
)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.layers(x)


class Autoencoder(nn.Module):
    """Encoder and decoder of videos in [−1, 1]; each of three levels halves the picture.

    Args:
        latent_channels: of the latents.
        channels: of each level, from the largest picture to the smallest.
        latent_noise: standard deviation of the noise on the latents in training.
    """

    def __init__(self, latent_channels: int = 8, channels: tuple[int, ...] = (16, 32, 96), latent_noise: float = 0.1):
        super().__init__()
        check_widths(channels, 8, "channels")
        check_number("latent_channels", latent_channels, 1, whole=True)
        check_number("latent_noise", latent_noise, 0)
        self.latent_channels, self.latent_noise = latent_channels, latent_noise
        self.factor = 2 ** len(channels)
        encoder: list[nn.Module] = [nn.Conv2d(3, channels[0], 4, stride=2, padding=1)]
        for before, after in pairwise(channels):
            encoder += [nn.SiLU(), nn.Conv2d(before, after, 4, stride=2, padding=1)]
        encoder += [ResidualBlock(channels[-1]), nn.Conv2d(channels[-1], latent_channels, 1)]
        self.encoder = nn.Sequential(*encoder)
        self.latent_norm = nn.BatchNorm2d(latent_channels, affine=False, momentum=0.02)

        decoder: list[nn.Module] = [nn.Conv2d(latent_channels, channels[-1], 3, padding=1)]
        decoder += [ResidualBlock(channels[-1]), ResidualBlock(channels[-1])]
        for i, (before, after) in enumerate(pairwise((*reversed(channels), 3))):
            decoder.append(nn.SiLU())
            if i > 0:
                decoder.append(ResidualBlock(before))
            # Each pixel becomes 2 × 2 pixels: four sets of channels, then spread out.
            decoder += [nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(*decoder)

    def encode(self, video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f c h2 w2"]:
        """Frames in [−1, 1] to latents of mean zero and variance one, an eighth as high and wide."""
        check_clips("video", video)
        check_tensor("video", video, next(self.parameters()).dtype)
        check_halvings("frames", video.shape[-2:], self.factor.bit_length() - 1)
        check_rough_pixels("video", video)
        latents = self.latent_norm(self.encoder(rearrange(video, "b f c h w -> (b f) c h w")))
        return rearrange(latents, "(b f) c h w -> b f c h w", b=video.shape[0])

    def decode(self, latents: Float[Tensor, "b f c h w"]) -> Float[Tensor, "b f 3 h2 w2"]:
        """Latents to frames. Not clipped: clamp to [−1, 1] to show them."""
        check_latents("latents", latents, self.latent_channels, 0, next(self.parameters()).dtype)
        frames = self.decoder(rearrange(latents, "b f c h w -> (b f) c h w"))
        return rearrange(frames, "(b f) c h w -> b f c h w", b=latents.shape[0])

    def forward(self, video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f 3 h w"]:
        """There and back; in training with noise on the latents."""
        latents = self.encode(video)
        if self.training:
            latents = latents + self.latent_noise * torch.randn_like(latents)
        return self.decode(latents)


def psnr(video: Float[Tensor, "*video"], other: Float[Tensor, "*video"]) -> float:
    """Peak signal-to-noise ratio in decibels, for values in [−1, 1]."""
    check_alike("video", video, "other", other)
    return (10 * torch.log10(4 / (video - other).square().mean())).item()
