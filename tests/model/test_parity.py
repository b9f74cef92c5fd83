"""The library against golden numbers of the released code, case by case."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from einops import rearrange
from golden_numbers import EXACT, FOLDER, MARGIN, ROUNDING, cases, relative_error
from released_classes import run_block, run_unet, unet
from torch import Tensor

import vdmlib
from vdmlib import NoiseSchedule, sinusoidal_embedding
from vdmlib.sampling import ddim_steps

LEFT_OUT = {
    (
        "blocks",
        "TemporalTransformer/context_differs_per_frame_quirk",
    ): "records an indexing slip of the released "
    "code: a pixel asks the context of an unrelated frame; no U-Net of the family can reach it",
    ("unet_options", "features_adapter"): "features of a T2I-Adapter, which no released model ships",
    (
        "ddim",
        "latents_to_pixels",
    ): "compared in tests/released/test_encoders.py, as are all of autoencoder and clip",
    ("schedule", "beta/sqrt"): "a schedule that no released configuration uses",
    ("schedule", "ddim_timesteps/quad"): "a spacing that no released script uses",
    ("timestep_embedding", "repeat_only"): "a switch that the released U-Net never sets",
}


def covered(group: str, prefix: str = ""):
    chosen = [c for c in cases(group, prefix) if (group, c.name) not in LEFT_OUT]
    return [pytest.param(c, id=c.name) for c in chosen]


def test_every_case_is_compared_or_left_out():
    marks = [mark for test in globals().values() for mark in getattr(test, "pytestmark", ())]
    golden = [mark.args[1] for mark in marks if mark.name == "parametrize" and mark.args[0] == "golden"]
    compared = {(param.values[0].group, param.values[0].name) for params in golden for param in params}
    groups = {path.stem for path in FOLDER.glob("*.npz")} - {"autoencoder", "clip"}
    assert compared | LEFT_OUT.keys() == {(group, case.name) for group in groups for case in cases(group)}
    assert not compared & LEFT_OUT.keys()


@pytest.mark.parametrize("golden", covered("unet_variants")[:1] + covered("blocks", "ResBlock")[:1])
def test_recipe_makes_the_recorded_weights(golden):
    digest = hashlib.sha256()
    for name, value in sorted(golden.weights().items()):
        digest.update(name.encode() + b"\0" + value.numpy().tobytes())
    assert digest.hexdigest() == golden.meta["sd_sha256"]


@pytest.mark.parametrize("golden", covered("blocks") + covered("resampler"))
def test_block(golden, float64):
    assert golden.error(run_block(golden)) < MARGIN


UNETS = [g for group in ("unet_variants", "unet_options", "unet_i2v", "unet_micro_inline") for g in covered(group)]


@pytest.mark.parametrize("golden", UNETS)
def test_unet_in_float64(golden, float64):
    with torch.no_grad():
        assert golden.error(run_unet(unet(golden), golden)) < MARGIN


@pytest.mark.parametrize("golden", UNETS)
def test_unet(golden):
    with torch.no_grad():
        assert golden.error(run_unet(unet(golden), golden)) < MARGIN


@pytest.mark.parametrize("golden", covered("unet_trace"))
def test_unet_block_by_block(golden, float64):
    net, seen = unet(golden), {}
    named = {
        "input_blocks.0": net.encoder_blocks[0].convolution,
        "init_attn": net.encoder_blocks[0].temporal_transformer,
        "middle_block": net.middle,
        **{f"input_blocks.{i}": block for i, block in enumerate(net.encoder_blocks) if i},
        **{f"output_blocks.{i}": block for i, block in enumerate(net.decoder_blocks)},
    }
    for name, module in named.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.clone()))
    net.embedding.timestep_mlp.register_forward_hook(
        lambda _, __, out: seen.__setitem__("time_embed", rearrange(out, "b 1 e -> b e").clone())
    )
    with torch.no_grad():
        seen["y"] = run_unet(net, golden)
    for name, expected in golden.outputs().items():
        result = seen[name]
        if result.ndim == 5 and name != "y":
            result = rearrange(result, "b f c h w -> (b f) c h w")
        if expected.ndim == 1:
            flat = result.flatten()
            summary = torch.stack([result.mean(), result.std()])
            result = torch.cat([summary, flat[:: flat.numel() // 64][:64]])
        assert golden.error(result, name) < MARGIN, name


@pytest.mark.parametrize("golden", covered("timestep_embedding"))
def test_sinusoidal_embedding(golden):
    config = golden.meta["config"]
    result = sinusoidal_embedding(golden.inputs()["timesteps"], config["dim"], config.get("max_period", 10000.0))
    assert golden.error(result) < MARGIN


def schedule_of(kind: str) -> NoiseSchedule:
    return {"t2v": NoiseSchedule.videocrafter2, "t2v_1024_v1": NoiseSchedule.videocrafter1_t2v_1024}[kind]()


@pytest.mark.parametrize("golden", covered("schedule", "buffers/"))
def test_schedule(golden):
    schedule = schedule_of(golden.name.removeprefix("buffers/"))
    again = NoiseSchedule.from_videocrafter(golden.meta["config"])
    for ours in (schedule, again):
        assert golden.error(ours.betas, "betas") < MARGIN
        assert golden.error(ours.alphas_cumprod, "alphas_cumprod") < MARGIN
        assert golden.error(ours.scale, "scale_arr", golden.outputs()["scale_arr"][:1000]) < MARGIN


@pytest.mark.parametrize("golden", covered("schedule", "q/"))
def test_add_noise(golden):
    x, schedule = golden.inputs(), schedule_of(golden.name.removeprefix("q/"))
    result = schedule.add_noise(x["x0"], x["noise"], x["t"])
    assert golden.error(result, "q_sample") < MARGIN


@pytest.mark.parametrize("golden", covered("schedule", "ddim/"))
def test_ddim_tables(golden):
    config, expected = golden.meta["config"], golden.outputs()
    schedule = schedule_of(config["kind"])
    levels = schedule.ddim_timesteps(config["S"])  # For 30 steps these are 31 levels, as in the released sampler.
    assert levels == expected["timesteps"].tolist()
    steps = ddim_steps(schedule, levels, config["eta"])[::-1]
    assert [step.timestep for step in steps] == levels
    if len(levels) == config["S"]:
        assert ddim_steps(schedule, config["S"], config["eta"])[::-1] == steps
    for ours, theirs in (
        ("alpha", "alphas"),
        ("alpha_prev", "alphas_prev"),
        ("scale_prev", "scale_arr_prev"),
        ("scale", "scale_arr"),
        ("sigma", "sigmas"),
    ):
        np.testing.assert_allclose(
            [getattr(step, ours) for step in steps], expected[theirs], rtol=0, atol=MARGIN * ROUNDING
        )


@pytest.mark.parametrize("golden", covered("schedule", "beta/"))
def test_betas(golden):
    config = golden.meta["config"]
    make = {
        "linear": NoiseSchedule.scaled_linear,
        "sqrt_linear": NoiseSchedule.linear,
        "cosine": lambda steps, *_: NoiseSchedule.cosine(steps, config["cosine_s"]),
    }[config["schedule"]]
    betas = make(config["n_timestep"], config["linear_start"], config["linear_end"]).betas
    assert golden.error(betas) < MARGIN


@pytest.mark.parametrize("golden", covered("ddim"))
@pytest.mark.parametrize("one_batch", [True, False], ids=["one_batch", "two_calls"])
def test_ddim_trajectory(golden, one_batch):
    x, expected, meta = golden.inputs(), golden.outputs(), golden.meta
    states, clean, steps = [], [], []
    to_ours = "b c t h w -> b t c h w"

    def record(step):
        states.append(step.x)
        clean.append(step.x0)
        steps.append(step.timestep)

    net = unet(golden)
    noises = x.get("noises")
    result = vdmlib.sample_ddim(
        net,
        NoiseSchedule.from_videocrafter(meta["diffusion"]),
        rearrange(x["x_T"], to_ours),
        context=x["context"],
        uncond_context=x.get("uncond"),
        guidance_scale=meta["cfg"],
        fps=x.get("fps"),
        steps=meta["S"],
        eta=meta["eta"],
        step_noise=None if noises is None else rearrange(noises, f"s {to_ours.replace('-> ', '-> s ')}"),
        progress=False,
        callback=record,
        guidance_in_one_batch=one_batch,
    )
    assert golden.error(result, "x", rearrange(expected["x"], to_ours)) < MARGIN
    assert sorted(steps) == expected["timesteps"].tolist()
    for ours, theirs in ((states, expected["x_inter"][1:]), (clean, expected["pred_x0"])):
        for state, recorded in zip(ours, theirs, strict=True):
            assert golden.error(state, "x", rearrange(recorded, to_ours)) < MARGIN
    if "eps_at_t501" in expected:
        with torch.no_grad():
            eps = net(rearrange(x["x_T"], to_ours), torch.tensor([501]), context=x["context"], fps=x["fps"])
        assert golden.error(eps, "eps_at_t501", rearrange(expected["eps_at_t501"], to_ours)) < MARGIN


def in_double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


@pytest.mark.parametrize("golden", covered("unet_variants")[:3] + covered("unet_i2v")[:1])
def test_timesteps_per_frame(golden):
    """(b, f) equals (b,) where all frames share the timestep, and differs in the frame that does not."""
    net, x = unet(golden).double(), in_double(golden.inputs())
    video = rearrange(x["x"], "b c t h w -> b t c h w")
    per_frame = x["timesteps"][:, None].repeat(1, video.shape[1])
    run = lambda t: net(video, t, context=x["context"], fps=x["fps"])  # noqa: E731, short enough for one line
    with torch.no_grad():
        shared = run(x["timesteps"])
        assert relative_error(run(per_frame), shared) < EXACT
        per_frame[0, 2] = (per_frame[0, 2] + 400) % 1000
        other = run(per_frame)
    assert relative_error(other[0, 2], shared[0, 2]) > 1e-2
    assert relative_error(other[1], shared[1]) < EXACT


def test_activation_checkpointing_changes_nothing():
    golden = cases("unet_variants")[0]
    net, x = unet(golden).double(), in_double(golden.inputs())
    video = rearrange(x["x"], "b c t h w -> b t c h w")
    gradients = []
    for on in (False, True):
        net.config = dataclasses.replace(net.config, activation_checkpointing=on)
        net.zero_grad()
        net(video, x["timesteps"], context=x["context"], fps=x["fps"]).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert relative_error(checkpointed, plain) < EXACT
