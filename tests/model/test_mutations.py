"""Golden numbers are worth something only if they notice mistakes: each one here is made on purpose and must be seen.

A mistake is made by patching the library while a case runs. The same cases, run the same way, pass without it.
"""

import copy
import dataclasses
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from golden_numbers import MARGIN, Case, case
from released_classes import run_block, run_unet, unet
from torch import nn

import vdmlib
from vdmlib import NoiseSchedule, attention, embeddings, sampling

T2V = "unet_variants", "t2v/self=1,rel=0,causal=0,tconv=1,init=1,fps=1"
RELATIVE = "unet_variants", "t2v/self=1,rel=1,causal=0,tconv=1,init=1,fps=1"
I2V = "unet_i2v", "img16"
DDIM = "ddim", "t2v/S10_eta0_cfg12"


def run_ddim(golden: Case) -> torch.Tensor:
    x, meta = golden.inputs(), golden.meta
    result = vdmlib.sample_ddim(
        unet(golden),
        NoiseSchedule.from_videocrafter(meta["diffusion"]),
        rearrange(x["x_T"], "b c t h w -> b t c h w"),
        context=x["context"],
        uncond_context=x["uncond"],
        guidance_scale=meta["cfg"],
        fps=x["fps"],
        steps=meta["S"],
        progress=False,
    )
    return rearrange(result, "b t c h w -> b c t h w")


def times_tolerance(group: str, name: str) -> float:
    """How far from the golden numbers a case is, as a multiple of what is tolerated; one or less passes."""
    golden = case(group, name)
    with torch.no_grad():
        if group == "ddim":
            return golden.error(run_ddim(golden), "x") / MARGIN
        return golden.error(run_unet(unet(golden), golden) if group.startswith("unet") else run_block(golden)) / MARGIN


def wrap(monkeypatch, owner, name: str, changed):
    """Replace a function or method by ``changed(original, *its arguments)``."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: changed(original, *args, **kwargs))


def after_init(monkeypatch, kind: type, change):
    """Change every instance of a class right after it is made."""

    def init(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        change(self)

    wrap(monkeypatch, kind, "__init__", init)


def scores_without_scale(monkeypatch):
    def unscaled(original, q, *rest, **mask):
        return original(q * sqrt(q.shape[-1]), *rest, **mask)

    for owner, name in ((attention, "attend"), (F, "scaled_dot_product_attention")):
        wrap(monkeypatch, owner, name, unscaled)


def scores_with_distances_without_scale(monkeypatch):
    def attend_to(original, self, *args):
        self = copy.copy(self)
        self.head_channels = 1
        return original(self, *args)

    wrap(monkeypatch, attention.RelativeAttention, "attend_to", attend_to)


def geglu_gates_with_the_first_half(monkeypatch):
    def swapped(original, self, x):
        self = copy.deepcopy(self)
        for parameter in self.widen.parameters():
            parameter.data = parameter.data.roll(len(parameter) // 2, dims=0)
        return original(self, x)

    wrap(monkeypatch, attention.FeedForward, "forward", swapped)


def gelu_by_tanh(monkeypatch):
    wrap(monkeypatch, F, "gelu", lambda original, x, **_: original(x, approximate="tanh"))


def eps_of_norms(kind: type, before: float, after: float):
    def change(norm):
        norm.eps = after if norm.eps == before else norm.eps

    def mistake(monkeypatch):
        after_init(monkeypatch, kind, change)

    mistake.__name__ = f"{kind.__name__}_eps_{after}_for_{before}"
    return mistake


def distances_the_other_way_round(monkeypatch):
    wrap(
        monkeypatch,
        attention.RelativePosition,
        "forward",
        lambda original, self, queries, keys: original(self, keys, queries).transpose(0, 1),
    )


def text_and_image_in_one_softmax(monkeypatch):
    def joined(original, self, context):
        text_k, text_v, image_k, image_v = original(self, context)
        both = torch.cat([text_k, image_k], dim=2), torch.cat([text_v, image_v], dim=2)
        return *both, image_k, torch.zeros_like(image_v)

    wrap(monkeypatch, attention.DualCrossAttention, "keys_values", joined)


def last_text_token_taken_for_image(monkeypatch):
    def change(layer):
        layer.text_tokens -= 1

    after_init(monkeypatch, attention.DualCrossAttention, change)


def mask_forgotten(monkeypatch):
    wrap(monkeypatch, attention, "attend", lambda original, q, k, v, causal=False: original(q, k, v))


def norm_over_time_for_each_frame(monkeypatch):
    def forward(original, self, x):
        if x.ndim != 5:
            return original(self, x)
        frames = original(self, rearrange(x, "b c f h w -> (b f) c h w"))
        return rearrange(frames, "(b f) c h w -> b c f h w", b=x.shape[0])

    wrap(monkeypatch, nn.GroupNorm, "forward", forward)


def embedding_in_the_order_of_another_layout(monkeypatch):
    def forward(original, self, x, embedding):
        mixed = rearrange(embedding, "b f e -> (f b) e")
        return original(self, x, rearrange(mixed, "(b f) e -> b f e", b=len(embedding)))

    wrap(monkeypatch, vdmlib.ResBlock, "forward", forward)


def sines_before_cosines(monkeypatch):
    wrap(
        monkeypatch,
        embeddings,
        "sinusoidal_embedding",
        lambda original, values, channels: original(values, channels).roll(channels // 2, dims=-1),
    )


def fps_24_by_default(monkeypatch):
    wrap(
        monkeypatch,
        vdmlib.UNet3D,
        "__init__",
        lambda original, self, config: original(self, dataclasses.replace(config, default_fps=24)),
    )


def smooth_upsampling(monkeypatch):
    wrap(monkeypatch, F, "interpolate", lambda original, x, scale_factor, mode: original(x, None, 2.0, "bilinear"))


def skip_before_hidden(monkeypatch):
    def cat(original, tensors, dim=0):
        return original(tensors[::-1] if dim == 2 and tensors[0].ndim == 5 else tensors, dim)

    wrap(monkeypatch, torch, "cat", cat)


def skip_saved_before_the_initial_attention(monkeypatch):
    def change(net):
        first, last, saved = net.encoder_blocks[0], net.decoder_blocks[-1], []

        def replace_skip(_, inputs):
            hidden = rearrange(inputs[0], "b f c h w -> (b f) c h w")
            frames = torch.cat([hidden[:, : -saved[0].shape[1]], saved[0]], dim=1)
            return rearrange(frames, "(b f) c h w -> b f c h w", b=len(inputs[0])), *inputs[1:]

        first.convolution.register_forward_hook(lambda _, __, output: saved.append(output.clone()))
        last.register_forward_pre_hook(replace_skip)

    after_init(monkeypatch, vdmlib.UNet3D, change)


def ddim_a_level_late(monkeypatch):
    wrap(
        monkeypatch,
        NoiseSchedule,
        "ddim_timesteps",
        lambda original, self, steps: [t - 1 for t in original(self, steps)],
    )


def ddim_ends_at_clean_data(monkeypatch):
    def steps(original, *args):
        *others, last = original(*args)
        return [*others, dataclasses.replace(last, alpha_prev=1.0)]

    wrap(monkeypatch, sampling, "ddim_steps", steps)


def signal_not_rescaled(monkeypatch):
    wrap(monkeypatch, NoiseSchedule, "with_scale", lambda original, self, *_: self)


def clean_data_not_rescaled_back(monkeypatch):
    wrap(
        monkeypatch,
        sampling,
        "ddim_steps",
        lambda original, *args: [dataclasses.replace(s, scale=1.0) for s in original(*args)],
    )


def block(*names: str) -> list[tuple[str, str]]:
    return [("resampler" if name.startswith("Resampler") else "blocks", name) for name in names]


MISTAKES = {
    scores_without_scale: [*block("CrossAttention/self", "CrossAttention/context", "Resampler/tiny"), T2V],
    scores_with_distances_without_scale: [*block("CrossAttention/relative_length_4_table_4"), RELATIVE],
    geglu_gates_with_the_first_half: [*block("FeedForward/glu=1"), T2V],
    gelu_by_tanh: [*block("FeedForward/glu=1", "FeedForward/glu=0", "Resampler/tiny")],
    eps_of_norms(nn.GroupNorm, 1e-5, 1e-6): block("ResBlock/low_amplitude_eps", "TemporalConvBlock/low_amplitude_eps"),
    eps_of_norms(nn.GroupNorm, 1e-6, 1e-5): block(
        "SpatialTransformer/low_amplitude_eps", "TemporalTransformer/low_amplitude_eps"
    ),
    eps_of_norms(nn.LayerNorm, 1e-5, 1e-6): block(
        "BasicTransformerBlock/low_amplitude_layernorm_eps", "Resampler/low_amplitude_layernorm_eps"
    ),
    distances_the_other_way_round: [*block("RelativePosition/3x9_max4", "TemporalTransformer/self_relative"), RELATIVE],
    text_and_image_in_one_softmax: [*block("CrossAttention/text77_image16", "SpatialTransformer/image"), I2V],
    last_text_token_taken_for_image: [*block("CrossAttention/text77_image4"), I2V],
    mask_forgotten: block("CrossAttention/causal_mask", "TemporalTransformer/self_causal"),
    norm_over_time_for_each_frame: [*block("TemporalTransformer/self_linear", "TemporalConvBlock/plain"), T2V],
    embedding_in_the_order_of_another_layout: [*block("ResBlock/same"), T2V],
    sines_before_cosines: [T2V],
    fps_24_by_default: [("unet_options", "fps_default_16_when_omitted")],
    smooth_upsampling: [*block("Upsample/conv"), T2V],
    skip_before_hidden: [T2V],
    skip_saved_before_the_initial_attention: [T2V],
    ddim_a_level_late: [DDIM],
    ddim_ends_at_clean_data: [DDIM],
    signal_not_rescaled: [DDIM],
    clean_data_not_rescaled_back: [DDIM],
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_seen(mistake, monkeypatch):
    mistake(monkeypatch)
    for group, name in MISTAKES[mistake]:
        assert times_tolerance(group, name) > 5, (group, name)


@pytest.mark.parametrize("group, name", sorted({used for cases in MISTAKES.values() for used in cases}))
def test_the_same_cases_pass_without_a_mistake(group, name):
    assert times_tolerance(group, name) <= 1
