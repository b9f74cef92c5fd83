"""The 2D U-Net: a contracting path, an expansive path, and skip connections between them (chapter 2)."""

from itertools import pairwise

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_noise_level, check_number, check_pictures, check_widths

GROUPS = 8


class ConvBlock(nn.Sequential):
    """Two 3 × 3 convolutions, each followed by GroupNorm and SiLU. (b, c_in, h, w) → (b, c_out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
        )


class HalveResolution(nn.Conv2d):
    """A 3 × 3 convolution that moves in steps of two pixels. (b, c, h, w) → (b, c, h/2, w/2)."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, stride=2, padding=1)


class DoubleResolution(nn.Sequential):
    """Every pixel becomes four; a 3 × 3 convolution smooths them. (b, c_in, h, w) → (b, c_out, 2h, 2w)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )


class UNet2D(nn.Module):
    """A U-Net that denoises pictures: Ronneberger et al. (2015), in the order of VideoCrafter's 3D U-Net.

    The noise level comes in as one more channel with the same number at every pixel. That is enough for small
    pictures; chapter 4 replaces it by embeddings that reach every block.

    Args:
        in_channels, out_channels: of the picture, without the channel of the noise level.
        widths: channels of each level, multiples of 8; every level after the first halves the picture.
        skip_connections: ``False`` leaves the concatenations out, to see what they are for.

    Example::

        net = UNet2D(widths=(16, 32, 64, 128))
        clean = net(noisy, noise_level)        # (b, 1, h, w), (b,) → (b, 1, h, w)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        skip_connections: bool = True,
    ):
        super().__init__()
        check_widths(widths, GROUPS)
        check_number("in_channels", in_channels, 1, whole=True)
        check_number("out_channels", out_channels, 1, whole=True)
        self.in_channels = in_channels
        self.widths = tuple(widths)
        self.skip_connections = skip_connections

        self.encoder_blocks = nn.ModuleList([nn.Sequential(ConvBlock(in_channels + 1, widths[0]))])
        for above, below in pairwise(widths):
            self.encoder_blocks.append(nn.Sequential(HalveResolution(above), ConvBlock(above, below)))
        self.middle = ConvBlock(widths[-1], widths[-1])
        self.decoder_blocks = nn.ModuleList()
        paths = 2 if skip_connections else 1
        for below, above in pairwise(reversed(widths)):
            self.decoder_blocks.append(nn.Sequential(ConvBlock(paths * below, below), DoubleResolution(below, above)))
        self.decoder_blocks.append(nn.Sequential(ConvBlock(paths * widths[0], widths[0])))
        self.out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c_in h w"], noise_level: Float[Tensor, " b"]) -> Float[Tensor, "b c_out h w"]:
        """Predict the clean picture, or the noise, whatever the network was trained to predict.

        Args:
            x: noisy pictures; height and width divisible by 2 to the number of levels less one.
            noise_level: how strong the noise is in each picture, for instance its standard deviation.

        Raises:
            ValueError: for wrong channels, sides that cannot be halved, or a noise level too few.
        """
        check_pictures(x, self.in_channels, halvings=len(self.widths) - 1)
        check_noise_level(noise_level, x)
        hidden = torch.cat([x, repeat(noise_level, "b -> b 1 h w", h=x.shape[2], w=x.shape[3])], dim=1)
        skips = []
        for block in self.encoder_blocks:
            hidden = block(hidden)  # From level to level half as high and wide.
            skips.append(hidden)
        hidden = self.middle(hidden)
        for block in self.decoder_blocks:
            skip = skips.pop()  # As high and wide as ``hidden``.
            hidden = block(torch.cat([hidden, skip], dim=1) if self.skip_connections else hidden)
        return self.out(hidden)

    def named_blocks(self) -> dict[str, nn.Module]:
        """Every block, in the order in which it runs: "encoder 0", ..., "middle", "decoder 0", ..., "out"."""
        blocks = {f"encoder {i}": block for i, block in enumerate(self.encoder_blocks)}
        blocks |= {"middle": self.middle}
        blocks |= {f"decoder {i}": block for i, block in enumerate(self.decoder_blocks)}
        return blocks | {"out": self.out}
