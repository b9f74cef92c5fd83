"""Tiny networks, one for every option of ``UNet3DConfig``, with nothing left at zero, and inputs to them."""

import dataclasses

import torch
from torch import Tensor, nn

from vdmlib import UNet3D, UNet3DConfig

# 64 and 128 channels: with 32, GroupNorm would have one channel a group and cancel the embedding.
BASE = UNet3DConfig(
    model_channels=64,
    channel_multipliers=(1, 2),
    res_blocks=1,
    attention_factors=(1, 2),
    head_channels=16,
    context_channels=24,
    temporal_length=4,
    text_tokens=5,
)

_IMAGE = dict(image_attention=True)
_CROSS = dict(temporal_cross_attention=True)
OPTIONS = {
    "videocrafter2": {},
    "videocrafter1_t2v_512": dict(temporal_convolution=False, relative_positions=True, use_fps=False),
    "videocrafter1_t2v_1024": dict(temporal_convolution=False, relative_positions=True),
    "videocrafter1_i2v": _IMAGE,
    "dynamicrafter_512": dict(in_channels=8, image_tokens_per_frame=2, **_IMAGE),
    "dynamicrafter_256": dict(in_channels=8, image_tokens_per_frame=2, image_scale="learned", **_IMAGE),
    "temporal_cross_attention": _CROSS,
    "temporal_cross_attention_with_distances": dict(relative_positions=True, **_CROSS),
    "temporal_image_attention": dict(temporal_image_attention=True, **_CROSS, **_IMAGE),
    "text_alone_over_time": dict(image_tokens_per_frame=2, **_CROSS, **_IMAGE),
    "text_alone_over_time_with_distances": dict(relative_positions=True, **_CROSS, **_IMAGE),
    "text_and_image_in_one_softmax_over_time": dict(temporal_image_attention="joint", **_CROSS, **_IMAGE),
    "spatial_temporal_convolution": dict(temporal_convolution="spatial"),
    "causal_attention": dict(causal_attention=True),
    "causal_attention_with_distances": dict(causal_attention=True, relative_positions=True),
    "no_initial_temporal_attention": dict(initial_temporal_attention=False),
    "no_temporal_attention": dict(temporal_attention=False),
    "no_context": dict(context_channels=None),
    "depth_2": dict(spatial_depth=2, temporal_depth=2),
    "scale_shift_norm": dict(scale_shift_norm=True),
    "resample_in_res_blocks": dict(resample_in_res_blocks=True),
    "resample_in_res_blocks_scale_shift_norm": dict(resample_in_res_blocks=True, scale_shift_norm=True),
    "resample_without_convolution": dict(convolutional_resampling=False),
    "number_of_heads": dict(head_channels=None, heads=4),
    "convolutional_projections": dict(linear_projections=False),
    "dropout": dict(dropout=0.1),
    "temporal_dropout": dict(temporal_dropout=0.2),
    "activation_checkpointing": dict(activation_checkpointing=True),
    "other_sizes": dict(
        out_channels=3,
        model_channels=32,
        channel_multipliers=(2, 1, 3),
        res_blocks=2,
        attention_factors=(2,),
        temporal_length=2,
        relative_positions=True,
        text_tokens=7,
        default_fps=8,
    ),
}


def tiny_config(option: str = "videocrafter2", **changes) -> UNet3DConfig:
    return dataclasses.replace(BASE, **{**OPTIONS[option], **changes})


def tiny_network(config: UNet3DConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> UNet3D:
    """In evaluation mode. What a fresh network has at zero is drawn at random, so that every part counts.

    In float64 it has the same weights, and what holds exactly can be tested on any processor.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = UNet3D(config)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval().to(dtype)


def tiny_inputs(
    config: UNet3DConfig, batch: int = 2, frames: int = 3, seed: int = 1, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Arguments of ``UNet3D.forward``, by name; the same numbers in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator).to(dtype)  # noqa: E731, short enough for one line
    side = 2 ** (config.levels - 1)
    tokens = config.text_tokens + 2 * frames * config.image_attention
    given = {
        "x": draw(batch, frames, config.in_channels, 4 * side, 2 * side),
        "timesteps": torch.randint(0, 1000, (batch,), generator=generator),
        "fps": torch.randint(1, 31, (batch,), generator=generator),
    }
    if config.context_channels is not None:
        given["context"] = draw(batch, tokens, config.context_channels)
    return given


def modules(net: nn.Module, kind: type) -> dict[str, nn.Module]:
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}
