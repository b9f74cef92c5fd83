"""Text, image and latent encoders of the released models, under the names their checkpoints use (chapters 1, 4 and 11).

CLIP's networks and tokenizer are ``open_clip``'s, as in the released code, the autoencoder is ``diffusers``'
``AutoencoderKL``. Both packages are heavy and imported when first needed. Here is what lies between them and a
checkpoint: which layers are used, and under which names they are stored.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..checks import check_encoder, check_instance, check_number, check_picture_batch
from ..media import require

LATENT_SCALE = 0.18215  # Brings the autoencoder's latents to a variance of about one.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes of a CLIP text encoder; the defaults are ViT-H-14's."""

    channels: int = 1024
    layers: int = 24
    heads: int = 16
    vocabulary: int = 49408
    tokens: int = 77

    def __post_init__(self):
        check_encoder(vars(self))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of a CLIP image encoder; the defaults are ViT-H-14's. ``embedding_channels`` is CLIP's joint space."""

    channels: int = 1280
    layers: int = 32
    heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    embedding_channels: int = 1024

    def __post_init__(self):
        check_encoder(vars(self))

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2 + 1


def tokenizer(config: TextEncoderConfig) -> Callable[[list[str]], Int[Tensor, "b n"]]:
    """CLIP's byte-pair encoding: a list of strings to token ids, filled with zeros or cut to the model's length.

    What is returned warns of what it cuts off, in the words of the prompt.
    """
    check_instance("config", config, TextEncoderConfig, "TextEncoderConfig()")
    encoding = require("open_clip").SimpleTokenizer(context_length=config.tokens)
    seen = config.tokens - 2  # Two of them say where the prompt starts and ends.

    def tokenize(texts: list[str]) -> Int[Tensor, "b n"]:
        for ids in map(encoding.encode, texts):
            if len(ids) > seen:
                warnings.warn(
                    f"The model sees {seen} tokens of a prompt, but this one has {len(ids)}: it does not see "
                    f"{encoding.decode(ids[seen:]).strip()!r}.",
                    stacklevel=2,
                )
        return encoding(texts)

    return tokenize


def text_encoder(config: TextEncoderConfig) -> nn.Module:
    """CLIP's text transformer with fresh weights, without its last block, which the released models never use.

    Follows ``FrozenOpenCLIPEmbedder`` with ``layer="penultimate"`` in ``lvdm/modules/encoders/condition.py``.
    """
    check_instance("config", config, TextEncoderConfig, "TextEncoderConfig()")
    encoder = require("open_clip").transformer.TextTransformer(
        config.tokens,
        config.vocabulary,
        config.channels,
        config.heads,
        config.layers - 1,
        output_dim=None,
        output_tokens=True,
    )
    with torch.device("cpu"):  # No checkpoint holds the mask: it must have its numbers even where weights have none.
        encoder.attn_mask = encoder.build_causal_mask()
    return encoder


def encode_text(encoder: nn.Module, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Token ids to the context of a prompt: all tokens after the final norm."""
    _pooled, tokens = encoder(ids)
    return tokens


def image_encoder(config: ImageEncoderConfig) -> nn.Module:
    """CLIP's image transformer with fresh weights, without the final norm and the projection after it.

    Follows ``FrozenOpenCLIPImageEmbedderV2``: called on a picture of :func:`prepare_image`, it gives all tokens,
    (b, n, c), class token first.
    """
    check_instance("config", config, ImageEncoderConfig, "ImageEncoderConfig()")
    encoder = require("open_clip").transformer.VisionTransformer(
        config.image_size,
        config.patch_size,
        config.channels,
        config.layers,
        config.heads,
        mlp_ratio=4.0,
        pool_type="none",
    )
    encoder.ln_post, encoder.proj = nn.Identity(), None
    return encoder


def prepare_image(image: Float[Tensor, "b 3 h w"], size: int = 224) -> Float[Tensor, "b 3 {size} {size}"]:
    """A picture in −1 ... 1 as CLIP wants it: stretched to a square, with CLIP's mean and variance.

    Blurred first where it shrinks, then bicubic with aligned corners, as ``kornia.geometry.resize`` does it for the
    released code.
    """
    check_picture_batch("image", image)
    check_number("size", size, 1, whole=True)
    return seen_by_clip(image, size)


def seen_by_clip(image: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 {size} {size}"]:
    """:func:`prepare_image` for pictures that are already checked."""
    shrink = [side / size for side in image.shape[-2:]]
    if max(shrink) > 1:
        image = _blur(image, [max((factor - 1) / 2, 0.001) for factor in shrink])
    image = F.interpolate(image, (size, size), mode="bicubic", align_corners=True)
    mean, std = (rearrange(image.new_tensor(values), "c -> c 1 1") for values in (CLIP_MEAN, CLIP_STD))
    return ((image + 1) / 2 - mean) / std


def _blur(image: Float[Tensor, "b c h w"], sigmas: list[float]) -> Float[Tensor, "b c h w"]:
    kernels = []
    for sigma in sigmas:
        radius = max(int(4 * sigma), 3) // 2
        weights = torch.exp(-(torch.arange(-radius, radius + 1, device=image.device) ** 2) / (2 * sigma**2))
        kernels.append((weights / weights.sum()).to(image.dtype))
    vertical, horizontal = kernels
    edges = [len(horizontal) // 2] * 2 + [len(vertical) // 2] * 2
    image = rearrange(F.pad(image, edges, mode="reflect"), "b c h w -> (b c) 1 h w")
    image = F.conv2d(image, rearrange(vertical, "k -> 1 1 k 1"))
    image = F.conv2d(image, rearrange(horizontal, "k -> 1 1 1 k"))
    return rearrange(image, "(b c) 1 h w -> b c h w", c=3)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder; the defaults are those of Stable Diffusion and VideoCrafter."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    res_blocks: int = 2
    latent_channels: int = 4

    @property
    def downsampling(self) -> int:
        """Pixels for each latent, in height and in width."""
        return 2 ** (len(self.channels) - 1)


def build_vae(config: AutoencoderConfig) -> Any:
    """``diffusers``' ``AutoencoderKL`` with fresh weights."""
    check_instance("config", config, AutoencoderConfig, "AutoencoderConfig()")
    levels = len(config.channels)
    return require("diffusers").AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.res_blocks,
        latent_channels=config.latent_channels,
        scaling_factor=LATENT_SCALE,
    )


def encode_pixels(
    vae: Any, video: Float[Tensor, "b f 3 h w"], noise: Float[Tensor, "b f c h2 w2"] | None = None
) -> Float[Tensor, "b f c h2 w2"]:
    """Pixels in −1 ... 1 to latents; with ``noise`` a sample of the encoder's distribution, without it the mean."""
    distribution = vae.encode(rearrange(video, "b f c h w -> (b f) c h w")).latent_dist
    latents = distribution.mean
    if noise is not None:
        latents = latents + distribution.std * rearrange(noise, "b f c h w -> (b f) c h w")
    return LATENT_SCALE * rearrange(latents, "(b f) c h w -> b f c h w", b=len(video))


def decode_latents(
    vae: Any, latents: Float[Tensor, "b f c h w"], frames_at_once: int | None = None
) -> Float[Tensor, "b f 3 h2 w2"]:
    """Latents to pixels around −1 ... 1, all frames together or a few at a time: the same result in less memory."""
    frames = rearrange(latents / LATENT_SCALE, "b f c h w -> (b f) c h w")
    chunks = [vae.decode(chunk).sample for chunk in frames.split(frames_at_once or len(frames))]
    return rearrange(torch.cat(chunks), "(b f) c h w -> b f c h w", b=len(latents))
