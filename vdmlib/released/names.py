"""What the released files call each tensor: of networks, of what no sampler needs, of the schedule (chapter 8).

No name is listed that can be made: a network is built, without memory for its weights, and what its parameters are
called here is rewritten into what they are called there.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_instance
from ..configuration import UNet3DConfig
from ..unet3d import UNet3D, UNetBlock
from .releases import Networks, Release

# For every parameter of a network, under its name here: its name and its shape in a released file. Shapes differ where
# the released code writes a linear layer as a convolution with a kernel of one.
Names = dict[str, tuple[str, tuple[int, ...]]]

UNET, AUTOENCODER, TEXT, IMAGE, RESAMPLER = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.model.",
    "embedder.model.",
    "image_proj_model.",
)
# Buffers of the released sampler. The schedule here is computed, so they are allowed and left aside.
SCHEDULE = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "scale_arr",
}  # fmt: skip

_BLOCKS = {"encoder": "input_blocks", "middle": "middle_block", "decoder": "output_blocks"}
_SINGLE_LAYERS = {"encoder 0": "input_blocks.0.0", "init_attention": "init_attn.0", "out": "out.2"}
# From names inside a module here to names inside the same module there, tried in this order.
# "temopral" is how the released code spells it.
_IN_THE_UNET = (
    (r"\btemporal\.norms\.(\d)", lambda m: f"temopral_conv.conv{int(m[1]) + 1}.0"),
    (
        r"\btemporal\.convolutions\.(\d)",
        lambda m: f"temopral_conv.conv{int(m[1]) + 1}.{3 if int(m[1]) else 2}",
    ),
    (r"\bnorm_in\b", "in_layers.0"),
    (r"\bconv_in\b", "in_layers.2"),
    (r"\bembedding_projection\b", "emb_layers.1"),
    (r"\bnorm_out\b", "out_layers.0"),
    (r"\bconv_out\b", "out_layers.3"),
    (r"\bskip\b", "skip_connection"),
    (r"\bproject_(in|out)\b", r"proj_\1"),
    (r"\bblocks\b", "transformer_blocks"),
    (r"\bself_attention\b", "attn1"),
    (r"\bcross_attention\b", "attn2"),
    (r"\bnorm_self\b", "norm1"),
    (r"\bnorm_cross\b", "norm2"),
    (r"\bnorm_feed_forward\b", "norm3"),
    (r"\bfeed_forward\.widen\b", "ff.net.0.proj"),
    (r"\bfeed_forward\.narrow\b", "ff.net.2"),
    (r"\bto_out\b", "to_out.0"),
    (r"\bto_(k|v)_image\b", r"to_\1_ip"),
    (r"\bimage_gate\b", "alpha"),
    (r"\brelative_(k|v)\w+\.table\b", r"relative_position_\1.embeddings_table"),
    (r"^layer\b", "op"),
    (r"^convolution\b", "conv"),
)
_IN_THE_AUTOENCODER = (  # From the names in diffusers.
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
_IN_THE_RESAMPLER = (
    (r"^attentions\.(\d+)\.", r"layers.\1.0."),
    (r"^feed_forwards\.(\d+)\.", r"layers.\1.1."),
    (r"\bnorm_image\b", "norm1"),
    (r"\bnorm_queries\b", "norm2"),
    (r"^queries$", "latents"),
    (r"\bproject_", "proj_"),
)


def _renamed(name: str, rules: tuple[tuple[str, str | Callable[[re.Match], str]], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def released_name(name: str) -> str:
    """The name of a parameter inside one of the released U-Net's modules, from its name inside ours.

    >>> released_name("blocks.0.self_attention.to_q.weight")
    'transformer_blocks.0.attn1.to_q.weight'
    """
    check_instance("name", name, str, "'norm.weight'")
    return _renamed(name, _IN_THE_UNET)


def resampler_name(name: str) -> str:
    """The released name of a parameter of :class:`vdmlib.Resampler`.

    >>> resampler_name("attentions.0.norm_image.weight")
    'layers.0.0.norm1.weight'
    """
    return _renamed(name, _IN_THE_RESAMPLER)


def released_names(config: UNet3DConfig) -> Names:
    """For every parameter of ``UNet3D(config)``: its name and its shape in the released checkpoint."""
    with torch.device("meta"):
        return unet_names(UNet3D(config))


def unet_names(net: UNet3D) -> Names:
    """:func:`released_names` of a network that is there already."""
    ours = {module: name for name, module in net.named_modules()}
    parents = {"embedding.timestep_mlp": "time_embed", "embedding.fps_mlp": "fps_embedding", "norm_out": "out.0"}
    for label, block in net.named_blocks().items():
        if isinstance(block, UNetBlock):
            kind, _, number = label.partition(" ")
            theirs = f"{_BLOCKS[kind]}.{number}".removesuffix(".")
            parents |= {f"{ours[block]}.{layer}": f"{theirs}.{position}" for position, layer in enumerate(block)}
        else:
            parents[ours[block]] = _SINGLE_LAYERS[label]

    names = {}
    for name, parameter in net.named_parameters():
        parent = next(p for p in parents if name.startswith(p + "."))
        inside = name.removeprefix(parent + ".")
        names[name] = (f"{parents[parent]}.{released_name(inside)}", _released_shape(name, parameter, net.config))
    return names


def _released_shape(name: str, parameter: Tensor, config: UNet3DConfig) -> tuple[int, ...]:
    shape = tuple(parameter.shape)
    if not re.search(r"transformer\.project_(in|out)\.weight$", name):
        return shape
    if "spatial_transformer" in name:
        return shape if config.linear_projections else (*shape, 1, 1)
    # The initial temporal transformer always has convolutions there.
    return shape if config.linear_projections and not name.startswith("encoder_blocks.0.") else (*shape, 1)


def autoencoder_names(vae: Any) -> Names:
    """For every parameter of the autoencoder: its released name and shape.

    The released code counts the decoder's levels from the finest, and its attention is made of 1 × 1 convolutions.
    """
    names = {}
    for ours, parameter in vae.named_parameters():
        theirs = re.sub(r"\.up_blocks\.(\d+)\.", lambda m: f".up.{len(vae.decoder.up_blocks) - 1 - int(m[1])}.", ours)
        theirs = _renamed(theirs, _IN_THE_AUTOENCODER)
        convolution = ".mid.attn_1." in theirs and parameter.ndim == 2
        names[ours] = (theirs, (*parameter.shape, 1, 1) if convolution else tuple(parameter.shape))
    return names


def checkpoint_names(networks: Networks) -> dict[str, Names]:
    """For each network and each of its parameters: the name in the released file, in full, and the shape there."""

    def own(network: nn.Module, rename: Callable[[str], str] = str) -> Names:
        return {name: (rename(name), tuple(parameter.shape)) for name, parameter in network.named_parameters()}

    inside = {
        "unet": (UNET, unet_names(networks.unet)),
        "autoencoder": (AUTOENCODER, autoencoder_names(networks.autoencoder)),
        "text_encoder": (TEXT, own(networks.text_encoder)),
    }
    if networks.image_encoder is not None and networks.resampler is not None:
        inside["image_encoder"] = (IMAGE + "visual.", own(networks.image_encoder))
        inside["resampler"] = (RESAMPLER, own(networks.resampler, resampler_name))
    return {
        network: {ours: (prefix + theirs, shape) for ours, (theirs, shape) in names.items()}
        for network, (prefix, names) in inside.items()
    }


def unused_names(release: Release) -> dict[str, tuple[int, ...]]:
    """What else a released file holds of CLIP and no sampler needs: projections, a last block, half a text encoder."""
    text, channels = release.text_encoder, release.text_encoder.channels
    last, width = f"{TEXT}transformer.resblocks.{text.layers - 1}.", 4 * channels
    unused = {
        f"{TEXT}text_projection": (channels, channels),
        f"{TEXT}logit_scale": (),
        f"{last}attn.in_proj_weight": (3 * channels, channels),
        f"{last}attn.in_proj_bias": (3 * channels,),
        f"{last}attn.out_proj.weight": (channels, channels),
        f"{last}mlp.c_fc.weight": (width, channels),
        f"{last}mlp.c_fc.bias": (width,),
        f"{last}mlp.c_proj.weight": (channels, width),
    }
    vectors = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.out_proj.bias", "mlp.c_proj.bias")
    unused |= {last + name: (channels,) for name in vectors}
    if release.image_encoder is not None:
        image = release.image_encoder
        unused |= {
            f"{IMAGE}positional_embedding": (text.tokens, channels),
            f"{IMAGE}text_projection": (channels, image.embedding_channels),
            f"{IMAGE}logit_scale": (),
            f"{IMAGE}token_embedding.weight": (text.vocabulary, channels),
            f"{IMAGE}ln_final.weight": (channels,),
            f"{IMAGE}ln_final.bias": (channels,),
            f"{IMAGE}visual.ln_post.weight": (image.channels,),
            f"{IMAGE}visual.ln_post.bias": (image.channels,),
            f"{IMAGE}visual.proj": (image.channels, image.embedding_channels),
        }
    return unused
