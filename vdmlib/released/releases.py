"""The released models: their sizes, the videos they were trained to make, and their networks (chapters 8 and 11)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import nn

from ..checks import check_choice, check_instance
from ..conditioning import Resampler
from ..diffusion import NoiseSchedule
from ..unet3d import UNet3D, UNet3DConfig
from .encoders import (
    AutoencoderConfig,
    ImageEncoderConfig,
    TextEncoderConfig,
    build_vae,
    image_encoder,
    text_encoder,
)

Kind = Literal["t2v", "i2v"]


@dataclass(frozen=True)
class Release:
    """One released model: its networks, its noise schedule, and the video it was trained to make.

    Attributes:
        fps: what the model is told by default, not the rate at which the result is shown.
        image_encoder, resampler: of image-to-video models only; of the latter the arguments of
            :class:`vdmlib.Resampler`, whose defaults are VideoCrafter1 I2V's.
        hub_id: where the checkpoint is published.
    """

    kind: Kind
    unet: UNet3DConfig
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule.videocrafter2, compare=False, repr=False)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    image_encoder: ImageEncoderConfig | None = None
    resampler: Mapping[str, int] | None = None
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    frames: int = 16
    height: int = 320
    width: int = 512
    fps: int = 28
    hub_id: str | None = None

    def __post_init__(self):
        check_choice("kind", self.kind, get_args(Kind))
        check_instance("unet", self.unet, UNet3DConfig, "UNet3DConfig.videocrafter2()")
        sees = self.image_encoder is not None and self.resampler is not None
        if sees != (self.kind == "i2v"):
            raise ValueError(
                f"kind is {self.kind!r}, image_encoder {self.image_encoder}, resampler {self.resampler}: give both to "
                f"image-to-video models ('i2v'), neither to others ('t2v')."
            )

    @classmethod
    def videocrafter2(cls) -> "Release":
        return cls("t2v", UNet3DConfig.videocrafter2(), hub_id="VideoCrafter/VideoCrafter2")

    @classmethod
    def videocrafter1_t2v_512(cls) -> "Release":
        schedule = NoiseSchedule.videocrafter1_t2v_512()
        hub_id = "VideoCrafter/Text2Video-512"
        return cls("t2v", UNet3DConfig.videocrafter1_t2v_512(), schedule, hub_id=hub_id)

    @classmethod
    def videocrafter1_t2v_1024(cls) -> "Release":
        schedule = NoiseSchedule.videocrafter1_t2v_1024()
        hub_id = "VideoCrafter/Text2Video-1024"
        return cls("t2v", UNet3DConfig.videocrafter1_t2v_1024(), schedule, height=576, width=1024, hub_id=hub_id)

    @classmethod
    def videocrafter1_i2v(cls) -> "Release":
        return cls(
            "i2v",
            UNet3DConfig.videocrafter1_i2v(),
            image_encoder=ImageEncoderConfig(),
            resampler={},
            fps=8,
            hub_id="VideoCrafter/Image2Video-512",
        )

    @classmethod
    def tiny(cls, kind: Kind = "t2v") -> "Release":
        """The same arrangement in a few megabytes, with the whole vocabulary: for tests, not for pictures."""
        check_choice("kind", kind, get_args(Kind))
        release = cls(
            "t2v",
            UNet3DConfig.tiny(),
            text_encoder=TextEncoderConfig(channels=24, layers=3, heads=3),
            autoencoder=AutoencoderConfig(channels=(32, 32, 32, 32), res_blocks=1),
            frames=4,
            height=64,
            width=128,
        )
        if kind == "t2v":
            return release
        return replace(
            release,
            kind="i2v",
            unet=replace(release.unet, image_attention=True),
            image_encoder=ImageEncoderConfig(20, 2, 2, image_size=28, patch_size=14, embedding_channels=24),
            resampler=dict(
                image_channels=20, context_channels=24, queries=3, channels=16, depth=2, heads=2, head_channels=8
            ),
            fps=8,
        )


# Those that a file is recognised as, by the names and sizes in it.
RELEASES: dict[str, tuple[Release, ...]] = {
    "t2v": (
        Release.videocrafter2(),
        Release.videocrafter1_t2v_512(),
        Release.videocrafter1_t2v_1024(),
        Release.tiny("t2v"),
    ),
    "i2v": (Release.videocrafter1_i2v(), Release.tiny("i2v")),
}


@dataclass
class Networks:
    """The networks of one model, in evaluation mode; the last two in image-to-video models only."""

    unet: UNet3D
    autoencoder: nn.Module
    text_encoder: nn.Module
    image_encoder: nn.Module | None = None
    resampler: Resampler | None = None

    def named(self) -> dict[str, nn.Module]:
        return {name: network for name, network in vars(self).items() if network is not None}


def build_networks(release: Release) -> Networks:
    """The networks of a release with fresh weights, on the current default device (``with torch.device(...)``)."""
    check_instance("release", release, Release, "Release.videocrafter2()")
    networks = Networks(UNet3D(release.unet), build_vae(release.autoencoder), text_encoder(release.text_encoder))
    if release.image_encoder is not None and release.resampler is not None:
        networks.image_encoder = image_encoder(release.image_encoder)
        networks.resampler = Resampler(**release.resampler)
    for network in networks.named().values():
        network.eval().requires_grad_(False)
    return networks


def skeleton(release: Release) -> Networks:
    """The networks of a release with all their shapes and no numbers: on the ``meta`` device, without memory."""
    with torch.device("meta"):
        return build_networks(release)
