"""Text, image and latent encoders of the released models, under the names their checkpoints use (chapters 1 and 4).

The released code takes its CLIP (ViT-H-14) from ``open_clip``. That package imports torchvision as soon as it is
imported, which ties it to one build of torch, and only two of its networks are needed: they are the few lines below,
with open_clip's parameter names, so that nothing has to be converted, and equal to it on golden numbers (networks,
picture preparation and token ids). ``transformers`` was the other candidate; its parameter names and buffers differ
between its own releases. The autoencoder is ``diffusers``' ``AutoencoderKL``, the tokenizer's merging is
``tokenizers``'; both are imported when first needed.
"""

import html
import re
from dataclasses import dataclass
from importlib import import_module, resources
from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from .attention import attend

LATENT_SCALE = 0.18215  # Brings the autoencoder's latents to a variance of about one.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def require(name: str) -> ModuleType:
    """Import a package of the ``pipeline`` extra, or say in one sentence what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Sampling from a released checkpoint needs the package {name.split('.')[0]}, which cannot be imported "
            f"({error}): pip install 'vdmlib[pipeline]'."
        ) from error


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes of a CLIP text encoder; the defaults are ViT-H-14's."""

    channels: int = 1024
    layers: int = 24
    heads: int = 16
    vocabulary: int = 49408
    tokens: int = 77


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of a CLIP image encoder; the defaults are ViT-H-14's. ``embedding_channels`` is CLIP's joint space."""

    channels: int = 1280
    layers: int = 32
    heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    embedding_channels: int = 1024

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2 + 1


class Tokenizer:
    """CLIP's byte-pair encoding, as ``open_clip.tokenize``: (b, tokens) ids, cut or filled with zeros.

    Text is repaired (ftfy), freed of HTML escapes, put in lower case and split at spaces and punctuation. The
    vocabulary is the 256 bytes, the same at the end of a word, one entry for each merge, and two marks.
    """

    def __init__(self, tokens: int = 77):
        library = require("tokenizers")
        self._repair = require("ftfy").fix_text
        lines = resources.files(__package__).joinpath("clip_merges.txt").read_text("utf-8").splitlines()
        merges = [tuple(line.split(" ")) for line in lines]
        letters = _byte_letters()
        marks = ["<start_of_text>", "<end_of_text>"]
        names = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *marks]
        vocabulary = {name: i for i, name in enumerate(names)}
        self.tokens, (self.start, self.end) = tokens, map(vocabulary.get, marks)
        self._merge = library.Tokenizer(library.models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
        self._merge.add_special_tokens(marks)
        words = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
        self._merge.pre_tokenizer = library.pre_tokenizers.Sequence(
            [
                library.pre_tokenizers.Split(library.Regex(words), behavior="removed", invert=True),
                library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def __call__(self, prompts: list[str]) -> Int[Tensor, "b n"]:
        ids = torch.zeros(len(prompts), self.tokens, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            text = html.unescape(html.unescape(self._repair(prompt)))
            text = re.sub(r"\s+", " ", text).strip().lower()
            inside = self._merge.encode(text).ids[: self.tokens - 2]
            row[: len(inside) + 2] = torch.tensor([self.start, *inside, self.end])
        return ids


def _byte_letters() -> list[str]:
    """One printable letter for each byte: the byte's own where there is one; those come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * channels, channels) * channels**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b n c"], causal: bool) -> Float[Tensor, "b n c"]:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(qkv, "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        return self.out_proj(rearrange(attend(q, k, v, causal), "b heads n d -> b n (heads d)"))


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(channels), _SelfAttention(channels, heads)
        self.ln_2, self.mlp = nn.LayerNorm(channels), nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Float[Tensor, "b n c"], causal: bool) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


class _Transformer(nn.Module):
    def __init__(self, channels: int, layers: int, heads: int):
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(channels, heads) for _ in range(layers))

    def forward(self, x: Float[Tensor, "b n c"], causal: bool = False) -> Float[Tensor, "b n c"]:
        for block in self.resblocks:
            x = block(x, causal)
        return x


class TextEncoder(nn.Module):
    """Token ids to the context of a prompt: CLIP's text transformer without its last block, then its final norm.

    Follows ``FrozenOpenCLIPEmbedder`` with ``layer="penultimate"`` in ``lvdm/modules/encoders/condition.py``. The
    last block is never run, so it is not built.
    """

    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.channels)
        self.positional_embedding = nn.Parameter(torch.randn(config.tokens, config.channels) * 0.01)
        self.transformer = _Transformer(config.channels, config.layers - 1, config.heads)
        self.ln_final = nn.LayerNorm(config.channels)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        return self.ln_final(self.transformer(self.token_embedding(ids) + self.positional_embedding, causal=True))


class ImageEncoder(nn.Module):
    """A picture to all tokens of CLIP's image transformer, class token first, without final norm and projection.

    Follows ``FrozenOpenCLIPImageEmbedderV2``; :func:`prepare_image` makes its input.
    """

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        scale = config.channels**-0.5
        self.conv1 = nn.Conv2d(3, config.channels, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(config.channels) * scale)
        self.positional_embedding = nn.Parameter(torch.randn(config.tokens, config.channels) * scale)
        self.ln_pre = nn.LayerNorm(config.channels)
        self.transformer = _Transformer(config.channels, config.layers, config.heads)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        patches = rearrange(self.conv1(image), "b c h w -> b (h w) c")
        tokens = torch.cat([repeat(self.class_embedding, "c -> b 1 c", b=len(image)), patches], dim=1)
        return self.transformer(self.ln_pre(tokens + self.positional_embedding))


def prepare_image(image: Float[Tensor, "b 3 h w"], size: int = 224) -> Float[Tensor, "b 3 {size} {size}"]:
    """A picture in −1 ... 1 as CLIP wants it: stretched to a square, with CLIP's mean and variance.

    Blurred first where it shrinks, then bicubic with aligned corners, as ``kornia.geometry.resize`` does it for the
    released code.
    """
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


def autoencoder(config: AutoencoderConfig) -> nn.Module:
    """``diffusers``' ``AutoencoderKL`` with fresh weights."""
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
    vae: nn.Module, video: Float[Tensor, "b f 3 h w"], noise: Float[Tensor, "b f c h2 w2"] | None = None
) -> Float[Tensor, "b f c h2 w2"]:
    """Pixels in −1 ... 1 to latents; with ``noise`` a sample of the encoder's distribution, without it the mean."""
    distribution = vae.encode(rearrange(video, "b f c h w -> (b f) c h w")).latent_dist
    latents = distribution.mean
    if noise is not None:
        latents = latents + distribution.std * rearrange(noise, "b f c h w -> (b f) c h w")
    return LATENT_SCALE * rearrange(latents, "(b f) c h w -> b f c h w", b=len(video))


def decode_latents(
    vae: nn.Module, latents: Float[Tensor, "b f c h w"], frames_at_once: int | None = None
) -> Float[Tensor, "b f 3 h2 w2"]:
    """Latents to pixels around −1 ... 1, all frames together or a few at a time: the same result in less memory."""
    frames = rearrange(latents / LATENT_SCALE, "b f c h w -> (b f) c h w")
    parts = [vae.decode(part).sample for part in frames.split(frames_at_once or len(frames))]
    return rearrange(torch.cat(parts), "(b f) c h w -> b f c h w", b=len(latents))


# From diffusers' names to the released ones, tried in this order.
_AUTOENCODER_RENAMES = (
    (r"\.down_blocks\.(\d+)\.", r".down.\1."),
    (r"\.resnets\.(\d+)\.", r".block.\1."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.mid_block\.block\.0\.", ".mid.block_1."),
    (r"\.mid_block\.block\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def autoencoder_names(vae: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For every parameter of the autoencoder: its released name and shape.

    The released code counts the decoder's levels from the finest, and its attention is made of 1 × 1 convolutions.
    """
    names = {}
    for ours, parameter in vae.named_parameters():
        theirs = re.sub(r"\.up_blocks\.(\d+)\.", lambda m: f".up.{len(vae.decoder.up_blocks) - 1 - int(m[1])}.", ours)
        for pattern, replacement in _AUTOENCODER_RENAMES:
            theirs = re.sub(pattern, replacement, theirs)
        convolution = ".mid.attn_1." in theirs and parameter.ndim == 2
        names[ours] = (theirs, (*parameter.shape, 1, 1) if convolution else tuple(parameter.shape))
    return names


def resampler_name(name: str) -> str:
    """The released name of a parameter of :class:`vdmlib.Resampler`."""
    name = re.sub(r"^attentions\.(\d+)\.", r"layers.\1.0.", name)
    name = re.sub(r"^feed_forwards\.(\d+)\.", r"layers.\1.1.", name)
    name = name.replace("norm_image", "norm1").replace("norm_queries", "norm2")
    return {"queries": "latents"}.get(name, name.replace("project_", "proj_"))
