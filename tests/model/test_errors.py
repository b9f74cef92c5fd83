"""Bad input is answered by one clear sentence and an exception of the right type.

In the tests every signature's shapes are checked before the library can speak for itself, so here these checks are off,
as users have it.
"""

import dataclasses
from functools import cache

import jaxtyping
import pytest
import torch
from tiny_networks import tiny_config, tiny_inputs
from torch import nn

import vdmlib


@cache
def network(option: str = "videocrafter2") -> nn.Module:
    return vdmlib.UNet3D(tiny_config(option)).eval()


def forward(option: str = "videocrafter2", **changed):
    return lambda _: network(option)(**(tiny_inputs(tiny_config(option)) | changed))


def config(**changed):
    return lambda vdmlib: vdmlib.UNet3DConfig(**changed)


RELEASED = dict(
    in_channels=4,
    out_channels=4,
    model_channels=64,
    num_res_blocks=1,
    attention_resolutions=[2, 1],
    channel_mult=[1, 2],
    num_head_channels=16,
    context_dim=24,
)


def released(without: tuple[str, ...] = (), **changed):
    params = {name: value for name, value in (RELEASED | changed).items() if name not in without}
    return lambda vdmlib: vdmlib.UNet3DConfig.from_videocrafter(params)


def add_noise(x0=(2, 3, 4, 8, 8), noise=(2, 3, 4, 8, 8), t=(1, 2)):
    tensors = [torch.zeros(given) if isinstance(given, tuple) else given for given in (x0, noise)]
    t = torch.tensor(t) if isinstance(t, tuple) else t
    return lambda vdmlib: vdmlib.NoiseSchedule.videocrafter2().add_noise(*tensors, t)


def schedule(make, *arguments, **named):
    return lambda vdmlib: getattr(vdmlib.NoiseSchedule, make)(*arguments, **named)


def released_schedule(**params):
    return schedule("from_videocrafter", params)


def timesteps(steps, levels=1000):
    return lambda vdmlib: vdmlib.NoiseSchedule.linear(levels).ddim_timesteps(steps)


def sample(option: str = "videocrafter2", noise=(2, 3, 4, 8, 4), **changed):
    given = dict(context=tiny_inputs(tiny_config(option))["context"], steps=5, fps=8, progress=False)
    start = torch.zeros(noise)
    return lambda vdmlib: vdmlib.sample_ddim(
        network(option), vdmlib.NoiseSchedule.videocrafter2(), start, **(given | changed)
    )


def inflate(layer: nn.Module, frames: int = 3):
    return lambda vdmlib: vdmlib.temporal.inflate_conv2d(layer, frames)


def load(weights, **named):
    return lambda vdmlib: vdmlib.checkpoints.unet_from_videocrafter(weights, network().config, **named)


TOKENS = torch.zeros(2, 5, 24)
GUIDED = dict(guidance_scale=5.0, uncond_context=TOKENS)
STEPS = "use one of 1, 2, 4, 5, 8, 10, 20, 25, 40, 50,"

# What is done, which exception it ends in, and what its sentence must name: the given and the needed.
BAD = {
    "x_without_batch": (forward(x=torch.zeros(3, 4, 8, 4)), ValueError, "x has shape (3, 4, 8, 4)", "frames, 4"),
    "x_with_channels_first": (forward(x=torch.zeros(2, 4, 3, 8, 4)), ValueError, "(2, 4, 3, 8, 4)", "the frames"),
    "x_without_the_given_frame": (
        forward("dynamicrafter_512", x=torch.zeros(2, 3, 4, 8, 4)), ValueError, "(2, 3, 4, 8, 4)", "frames, 8",
    ),
    "x_of_odd_height": (forward(x=torch.zeros(2, 3, 4, 7, 4)), ValueError, "7 × 4", "multiples of 2"),
    "x_of_odd_width": (forward(x=torch.zeros(2, 3, 4, 8, 5)), ValueError, "8 × 5", "multiples of 2"),
    "x_not_halved_often_enough": (
        forward("other_sizes", x=torch.zeros(2, 3, 4, 8, 6)), ValueError, "8 × 6", "halved 2 times", "multiples of 4",
    ),
    "x_without_frames": (forward(x=torch.zeros(2, 0, 4, 8, 4)), ValueError, "(2, 0, 4, 8, 4)", "empty"),
    "x_without_videos": (forward(x=torch.zeros(0, 3, 4, 8, 4)), ValueError, "(0, 3, 4, 8, 4)", "empty"),
    "x_of_integers": (forward(x=torch.zeros(2, 3, 4, 8, 4).long()), TypeError, "torch.int64", "torch.float32"),
    "x_in_half_precision": (forward(x=torch.zeros(2, 3, 4, 8, 4).half()), TypeError, "torch.float16", "torch.float32"),
    "x_sparse": (forward(x=torch.zeros(2, 3, 4, 8, 4).to_sparse()), TypeError, "x is sparse", ".to_dense()"),
    "timesteps_of_a_mask": (forward(timesteps=torch.tensor([True, False])), TypeError, "timesteps is torch.bool"),
    "fps_of_a_mask": (forward(fps=torch.tensor([True, False])), TypeError, "fps is torch.bool"),
    "x_no_tensor": (forward(x=[[0.0]]), TypeError, "x is of type list", "must be a tensor"),
    "timesteps_a_number": (forward(timesteps=500), TypeError, "timesteps is of type int", "must be a tensor"),
    "timesteps_left_out": (forward(timesteps=None), TypeError, "timesteps is of type NoneType", "tensor"),
    "timesteps_without_axis": (forward(timesteps=torch.tensor(5)), ValueError, "shape ()", "(2,)", "(2, 3)"),
    "timesteps_too_many": (forward(timesteps=torch.zeros(3)), ValueError, "shape (3,)", "(2,)", "(2, 3)"),
    "timesteps_for_other_frames": (forward(timesteps=torch.zeros(2, 4)), ValueError, "(2, 4)", "(2, 3)"),
    "context_missing": (forward(context=None), ValueError, "context is missing", "(batch, tokens, 24)"),
    "context_of_other_width": (forward(context=torch.zeros(2, 5, 32)), ValueError, "(2, 5, 32)", "(2, tokens, 24)"),
    "context_of_other_batch": (forward(context=torch.zeros(1, 5, 24)), ValueError, "(1, 5, 24)", "(2, tokens, 24)"),
    "context_without_batch": (forward(context=torch.zeros(5, 24)), ValueError, "(5, 24)", "(2, tokens, 24)"),
    "context_without_tokens": (forward(context=torch.zeros(2, 0, 24)), ValueError, "(2, 0, 24)", "(2, tokens, 24)"),
    "context_a_prompt": (forward(context="a cat"), TypeError, "context is of type str", "tensor"),
    "context_in_half_precision": (forward(context=TOKENS.half()), TypeError, "torch.float16", "torch.float32"),
    "context_for_a_network_without": (forward("no_context", context=TOKENS), ValueError, "has none", "leave it out"),
    "context_without_image_tokens": (
        forward("videocrafter1_i2v", context=TOKENS), ValueError, "has 5 tokens", "image tokens after them",
    ),
    "cache_of_other_batch": (
        lambda vdmlib: forward(context=network().prepare_context(TOKENS[:1]))(vdmlib),
        ValueError, "(1, 5, 24)", "(2, tokens, 24)",
    ),
    "prepared_context_of_other_width": (
        lambda _: network().prepare_context(torch.zeros(2, 5, 32)), ValueError, "(2, 5, 32)", "24",
    ),
    "prepared_context_missing": (lambda _: network().prepare_context(None), ValueError, "context is missing"),
    "fps_too_many": (forward(fps=torch.ones(3)), ValueError, "fps has shape (3,)", "(2,)"),
    "fps_with_axis_too_many": (forward(fps=torch.ones(2, 1)), ValueError, "fps has shape (2, 1)", "(2,)"),
    "fps_in_words": (forward(fps="8"), ValueError, "fps is '8'", "from 0.1 to 1000"),
    "fps_of_zero": (forward(fps=0), ValueError, "fps is 0", "from 0.1 to 1000"),
    "fps_not_a_number": (forward(fps=float("nan")), ValueError, "fps is nan", "from 0.1 to 1000"),
    "table_of_odd_size": (
        lambda vdmlib: vdmlib.dimension_table(network().config, 3, 7, 8), ValueError, "7 × 8", "multiples of 2",
    ),
    # Configuration
    "channels_no_multiple_of_32": (config(model_channels=48), ValueError, "model_channels is 48", "multiple of 32"),
    "no_channels": (config(model_channels=0), ValueError, "model_channels is 0", "from 1"),
    "fractional_channels": (config(in_channels=4.5), ValueError, "in_channels is 4.5", "whole number"),
    "no_levels": (config(channel_multipliers=()), ValueError, "channel_multipliers is ()", "each level"),
    "level_without_channels": (config(channel_multipliers=(1, 0)), ValueError, "(1, 0)", "at least 1"),
    "no_blocks": (config(res_blocks=0), ValueError, "res_blocks is 0", "from 1"),
    "no_depth": (config(spatial_depth=0), ValueError, "spatial_depth is 0", "from 1"),
    "no_text_tokens": (config(text_tokens=0), ValueError, "text_tokens is 0", "from 1"),
    "heads_given_twice": (config(heads=4), ValueError, "head_channels is 64 and heads is 4", "set one"),
    "heads_not_given": (config(head_channels=None), ValueError, "head_channels is None", "set one"),
    "heads_too_wide": (config(model_channels=32), ValueError, "32 channels", "heads of 64 channels"),
    "heads_that_do_not_divide": (config(head_channels=None, heads=7), ValueError, "320 channels", "7 heads"),
    "attention_at_no_level": (config(attention_factors=(3,)), ValueError, "attention_factors is (3,)", "1, 2, 4"),
    "misspelt_convolution": (config(temporal_convolution="spacial"), ValueError, "'spacial'", "'spatial'"),
    "misspelt_scale": (config(image_attention=True, image_scale="lerned"), ValueError, "'lerned'", "'learned'"),
    "dropout_of_everything": (config(dropout=1.0), ValueError, "dropout is 1.0", "below 1"),
    "dropout_in_words": (config(temporal_dropout="0.1"), ValueError, "temporal_dropout is '0.1'", "below 1"),
    "channels_yes": (config(in_channels=True), ValueError, "in_channels is True", "whole number"),
    "levels_in_a_list": (config(channel_multipliers=[1, 2]), ValueError, "channel_multipliers is [1, 2]", "tuple"),
    "attention_levels_in_words": (config(attention_factors="124"), ValueError, "attention_factors is '124'", "tuple"),
    "frame_rate_for_a_switch": (config(use_fps=24), ValueError, "use_fps is 24", "True or False"),
    "default_frame_rate_of_zero": (config(default_fps=0), ValueError, "default_fps is 0", "from 1"),
    "image_attention_to_nothing": (config(image_attention=True, context_channels=None), ValueError, "None", "width"),
    "cross_attention_to_nothing": (
        config(temporal_cross_attention=True, context_channels=None), ValueError, "context_channels is None",
    ),
    "temporal_image_attention_alone": (
        config(temporal_image_attention=True), ValueError, "needs image_attention and temporal_cross_attention",
    ),
    "dual_attention_with_distances": (
        config(
            image_attention=True, temporal_cross_attention=True, temporal_image_attention=True, relative_positions=True
        ),
        ValueError, "temporal_image_attention and relative_positions", "leave one out",
    ),
    "temporal_image_attention_in_other_words": (
        config(image_attention=True, temporal_cross_attention=True, temporal_image_attention="one softmax"),
        ValueError, "temporal_image_attention is 'one softmax'", "True, False or 'joint'",
    ),
    "released_parameter_missing": (released(without=("in_channels",)), ValueError, "'in_channels'", "pass unet_config"),
    "released_parameter_unknown": (released(use_magic=True), ValueError, "use_magic"),
    "released_unet_switch_in_words": (
        released(use_linear="yes"), ValueError, "linear_projections is 'yes'", "True or False",
    ),
    "released_heads_missing": (released(without=("num_head_channels",)), ValueError, "heads is -1"),
    "released_convolutions_in_3d": (released(dims=3), ValueError, "dims is 3", "dims=2"),
    "released_parameters_no_mapping": (
        lambda vdmlib: vdmlib.UNet3DConfig.from_videocrafter(["in_channels"]), TypeError, "list", "unet_config.params",
    ),
    # Schedule
    "schedule_of_no_levels": (
        lambda vdmlib: vdmlib.NoiseSchedule(torch.zeros(0), torch.zeros(0)), ValueError, "shape (0,)", "each level",
    ),
    "schedule_of_less_than_nothing": (schedule("linear", -5), ValueError, "steps is -5", "a whole number from 1"),
    "schedule_of_too_many_levels": (schedule("linear", 10**400), ValueError, "steps is 1000", "from 1 to 1000000"),
    "scale_over_too_many_levels": (
        lambda _: vdmlib.NoiseSchedule.linear().with_scale(0.7, steps=10**9), ValueError,
        "steps is 1000000000", "1000000",
    ),
    "schedule_of_complex_numbers": (
        lambda vdmlib: vdmlib.NoiseSchedule(torch.zeros(2) + 0j, torch.ones(2)), TypeError, "complex64", "real numbers",
    ),
    "schedule_of_no_numbers": (
        lambda vdmlib: vdmlib.NoiseSchedule(torch.zeros(2, device="meta"), torch.ones(2)), TypeError,
        "meta", "hold real",
    ),
    "schedule_of_one_level_stretched": (
        lambda vdmlib: vdmlib.NoiseSchedule.linear(1).with_zero_terminal_snr(), ValueError,
        "nothing to stretch", "falls",
    ),
    "schedule_without_noise_stretched": (
        lambda vdmlib: vdmlib.NoiseSchedule.linear(10, 0.0, 0.0).with_zero_terminal_snr(), ValueError, "ᾱ is 1", "two",
    ),
    "schedule_of_half_a_level": (schedule("cosine", 2.5), ValueError, "steps is 2.5", "a whole number from 1"),
    "schedule_of_two_lengths": (
        lambda vdmlib: vdmlib.NoiseSchedule(torch.zeros(5), torch.ones(4)), ValueError, "(5,)", "(4,)",
    ),
    "schedule_above_one": (
        lambda vdmlib: vdmlib.NoiseSchedule(torch.tensor([0.1, 1.5]), torch.ones(2)),
        ValueError, "0.1 to 1.5", "between 0 and 1",
    ),
    "schedule_that_ends_above_one": (schedule("linear", 10, 0.1, 1.5), ValueError, "end is 1.5", "from 0 to 1"),
    "schedule_that_starts_below_zero": (schedule("scaled_linear", 10, -0.1), ValueError, "start is -0.1", "from 0"),
    "schedule_of_nan": (schedule("linear", 10, float("nan")), ValueError, "start is nan", "from 0 to 1"),
    "schedule_with_an_offset_in_words": (schedule("cosine", 10, "small"), ValueError, "offset is 'small'", "a number"),
    "schedule_of_a_list": (
        lambda vdmlib: vdmlib.NoiseSchedule([0.1], torch.ones(1)), TypeError, "betas is of type list", "tensor",
    ),
    "schedule_of_no_signal": (
        lambda vdmlib: vdmlib.NoiseSchedule.linear(5).with_scale(0.0, steps=2),
        ValueError, "scale runs from 0", "above 0",
    ),
    "scale_in_words": (lambda _: vdmlib.NoiseSchedule.linear().with_scale("half"), ValueError, "last is 'half'"),
    "scale_over_no_levels": (
        lambda _: vdmlib.NoiseSchedule.linear().with_scale(0.7, steps=0), ValueError, "steps is 0", "from 1",
    ),
    "released_schedule_of_unknown_kind": (released_schedule(beta_schedule="sqrt"), ValueError, "'sqrt'", "linear"),
    "released_schedule_no_mapping": (
        schedule("from_videocrafter", ["linear"]), TypeError, "list", "model.params of a YAML file",
    ),
    "released_schedule_of_a_whole_file": (released_schedule(model={}), ValueError, "model", "pass model.params"),
    "released_schedule_of_another_code": (
        released_schedule(prediction_type="v_prediction", timestep_spacing="trailing"),
        ValueError, "Unknown settings prediction_type, timestep_spacing",
    ),
    "released_schedule_with_given_betas": (released_schedule(given_betas=[0.1]), ValueError, "given_betas"),
    "released_schedule_in_words": (released_schedule(linear_start="1e-4"), ValueError, "linear_start is '1e-4'"),
    "released_schedule_of_half_a_level": (released_schedule(timesteps=10.5), ValueError, "timesteps is 10.5"),
    "released_switch_in_words": (released_schedule(use_scale="yes"), ValueError, "use_scale is 'yes'", "True or False"),
    "released_prediction_unknown": (
        released_schedule(parameterization="mu"), ValueError, "parameterization is 'mu'", "eps, x0, v",
    ),
    "released_scale_twice": (
        released_schedule(use_scale=True, use_dynamic_rescale=True), ValueError, "both on", "leave one out",
    ),
    "prediction_unknown": (
        lambda vdmlib: dataclasses.replace(vdmlib.NoiseSchedule.cosine(), prediction="epsilon"),
        ValueError, "'epsilon'", "eps, v, x0",
    ),
    "level_beyond_the_last": (add_noise(t=(1, 1000)), ValueError, "1 to 1000", "0 ... 999"),
    "level_below_zero": (add_noise(t=(-1, 5)), ValueError, "-1 to 5", "0 ... 999"),
    "levels_too_few": (add_noise(t=(1,)), ValueError, "t has shape (1,)", "each video or frame"),
    "levels_for_other_frames": (add_noise(t=torch.zeros(2, 4).long()), ValueError, "(2, 4)", "(2, 3, 4, 8, 8)"),
    "level_a_number": (add_noise(t=5), TypeError, "t is of type int", "tensor of whole numbers"),
    "levels_with_fractions": (add_noise(t=(1.5, 2.5)), TypeError, "torch.float32", "whole numbers"),
    "noise_of_other_shape": (add_noise(noise=(2, 1, 4, 8, 8)), ValueError, "(2, 3, 4, 8, 8)", "(2, 1, 4, 8, 8)"),
    "data_of_8_bits": (
        add_noise(x0=torch.zeros(2, 3, 4, 8, 8).to(torch.float8_e4m3fn)), TypeError, "float8_e4m3fn", ".float()",
    ),
    "data_of_integers": (add_noise(x0=torch.zeros(2, 3, 4, 8, 8).int()), TypeError, "torch.int32", ".float()"),
    "no_steps": (timesteps(0), ValueError, "steps is 0", STEPS),
    "more_steps_than_levels": (timesteps(2000), ValueError, "steps is 2000", "1000 levels", STEPS),
    "steps_beyond_the_last_level": (timesteps(3), ValueError, "steps is 3", "level 1000", STEPS),
    "steps_at_every_level": (timesteps(1000), ValueError, "steps is 1000", STEPS),
    "steps_as_a_fraction": (timesteps(10.0), ValueError, "steps is 10.0", STEPS),
    "steps_of_another_schedule": (
        timesteps(50, levels=60), ValueError, "level 60", "5, 6, 10, 12, 15, 20, 30, or a list of levels.",
    ),
    "a_schedule_of_one_level": (timesteps(1, levels=1), ValueError, "steps is 1", "longer schedule"),
    # Sampling
    "guidance_without_unconditional": (sample(guidance_scale=5.0), ValueError, "5.0", "uncond_context is missing"),
    "guidance_without_context": (sample(context=None, **GUIDED), ValueError, "None", "(2, 5, 24)"),
    "guidance_of_two_lengths": (
        sample(guidance_scale=5.0, uncond_context=torch.zeros(2, 6, 24)), ValueError, "(2, 5, 24)", "(2, 6, 24)",
    ),
    "guidance_not_finite": (sample(**GUIDED | {"guidance_scale": float("inf")}), ValueError, "inf", "finite"),
    "sample_with_context_of_other_batch": (
        sample(noise=(1, 3, 4, 8, 4), **GUIDED), ValueError, "(2, 5, 24)", "(1, 3, 4, 8, 4)",
    ),
    "sample_with_fps_of_other_batch": (sample(fps=torch.ones(3), **GUIDED), ValueError, "(3,)", "(2,)"),
    "sample_with_given_frames_of_other_batch": (
        # Twice the batch, as the network sees it: must not be mistaken for both halves of the guidance.
        sample(
            "dynamicrafter_512",
            concat=torch.zeros(4, 3, 4, 8, 4),
            guidance_scale=5.0,
            uncond_context=torch.zeros(2, 11, 24),
        ),
        ValueError, "(4, 3, 4, 8, 4)", "(2, 3, 4, 8, 4)",
    ),
    "sample_with_one_given_frame": (
        sample("dynamicrafter_512", concat=torch.zeros(2, 1, 4, 8, 4)), ValueError, "(2, 1, 4, 8, 4)", "only channels",
    ),
    "sample_without_given_frames": (sample("dynamicrafter_512"), ValueError, "(2, 3, 4, 8, 4)", "frames, 8"),
    "eta_above_one": (sample(eta=1.5), ValueError, "eta is 1.5", "from 0 to 1"),
    "eta_not_a_number": (sample(eta=float("nan")), ValueError, "eta is nan", "from 0 to 1"),
    "steps_that_become_more": (sample(steps=7), ValueError, "steps is 7", "become 8", STEPS),
    "levels_beyond_the_last": (sample(steps=[999, 1000]), ValueError, "from 999 to 1000", "0 ... 999"),
    "levels_below_zero": (sample(steps=range(1, -3, -1)), ValueError, "from -2 to 1", "0 ... 999"),
    "listed_levels_with_fractions": (sample(steps=[999.0, 1.0]), ValueError, "[999.0, 1.0]", "whole numbers"),
    "levels_of_a_mask": (
        sample(steps=torch.tensor([True, False])), ValueError,
        "tensor([ True, False])", "whole numbers",
    ),
    "half_a_step_in_a_tensor": (sample(steps=torch.tensor(0.5)), ValueError, "tensor(0.5000)", "whole numbers"),
    "fps_of_which_one_is_below_zero": (
        sample(fps=torch.tensor([8.0, -1.0]), **GUIDED), ValueError, "fps is -1.0", "from 0.1 to 1000",
    ),
    "noise_like_whole_numbers": (
        lambda vdmlib: vdmlib.sampling.draw_noise((2, 3), like=torch.zeros(1).long()), TypeError,
        "torch.int64", ".float()",
    ),
    "levels_as_truth_values": (sample(steps=[True, False]), ValueError, "[True, False]", "whole numbers"),
    "levels_up_and_down": (sample(steps=[1, 900, 500]), ValueError, "[1, 900, 500]", "all rising or all falling"),
    "levels_given_twice": (sample(steps=[900, 500, 500]), ValueError, "[900, 500, 500]", "each level once"),
    "no_listed_levels": (sample(steps=[]), ValueError, "steps is []", "a list of levels"),
    "levels_in_words": (sample(steps="fifty"), ValueError, "steps is 'fifty'", "a list of levels"),
    "steps_left_out": (sample(steps=None), ValueError, "steps is None", "a list of levels"),
    "noise_without_frames_axis": (sample(noise=(2, 4, 8, 4)), ValueError, "(2, 4, 8, 4)", "(batch, frames, channels"),
    "noise_of_integers": (
        lambda vdmlib: vdmlib.sample_ddim(
            network(), vdmlib.NoiseSchedule.linear(), torch.zeros(2, 3, 4, 8, 4).int(), TOKENS, progress=False
        ),
        ValueError, "torch.int32", "floating point",
    ),
    "sample_with_a_prompt": (sample(context="a cat"), TypeError, "context is of type str", "must be a tensor"),
    "sample_with_an_array": (sample(concat=[0.0]), TypeError, "concat is of type list", "must be a tensor"),
    "guidance_beyond_all_numbers": (sample(guidance_scale=10**400), ValueError, "guidance_scale is 1000", "finite"),
    "guidance_in_words": (sample(guidance_scale="7"), ValueError, "guidance_scale is '7'", "finite number"),
    "eta_in_words": (sample(eta="1"), ValueError, "eta is '1'", "from 0 to 1"),
    "streams_for_other_videos": (
        sample(eta=1.0, generator=[torch.Generator()]), ValueError, "1 generators", "2 videos",
    ),
    "streams_in_words": (sample(eta=1.0, generator="lucky"), TypeError, "generator is 'lucky'", "torch.Generator"),
    "streams_of_numbers": (sample(generator=[1, 2]), TypeError, "generator is 1", "one for each video"),
    "streams_for_no_video": (lambda vdmlib: vdmlib.sampling.noise_streams(1, 0), ValueError, "videos is 0", "from 1"),
    "noise_of_no_shape": (lambda vdmlib: vdmlib.sampling.draw_noise(5), ValueError, "shape is 5", "(videos, frames"),
    "noise_for_no_video": (lambda vdmlib: vdmlib.sampling.draw_noise((0, 3)), ValueError, "shape is (0, 3)", "from 1"),
    "eta_an_array_of_several_lines": (sample(eta=torch.zeros(2, 2)), ValueError, "eta is tensor([[0., 0.], [0., 0.]])"),
    "stream_below_zero": (lambda vdmlib: vdmlib.sampling.noise_streams(-1, 2), ValueError, "seed is -1", "from 0"),
    "noise_predicted_where_there_is_no_signal": (
        lambda vdmlib: vdmlib.sampling.ddim_steps(
            vdmlib.NoiseSchedule.scaled_linear().with_zero_terminal_snr(), range(999, 0, -20)
        ),
        ValueError, "Level 999 holds no signal", "predicts v",
    ),
    "data_predicted_where_there_is_no_noise": (
        lambda vdmlib: vdmlib.sampling.ddim_steps(
            dataclasses.replace(vdmlib.NoiseSchedule.linear(10, 0.0, 0.1), prediction="x0"), [0, 5]
        ),
        ValueError, "Level 0 holds no noise", "predicts v",
    ),
    "step_noise_of_other_length": (
        sample(eta=1.0, step_noise=torch.zeros(4, 2, 3, 4, 8, 4)),
        ValueError, "(4, 2, 3, 4, 8, 4)", "(5, 2, 3, 4, 8, 4)",
    ),
    # Other parts
    "rows_of_no_blocks": (
        lambda vdmlib: vdmlib.shapes.block_rows([], print), TypeError, "blocks is []", "named_blocks()",
    ),
    "rows_of_no_run": (
        lambda vdmlib: vdmlib.shapes.block_rows({}, None), TypeError, "run is None", "lambda: net(x, timesteps)",
    ),
    "pictures_in_a_list": (
        lambda vdmlib: vdmlib.unet2d.UNet2D()([[0.0]], torch.ones(1)), TypeError,
        "x is of type list",
    ),
    "noise_level_a_number": (
        lambda vdmlib: vdmlib.unet2d.UNet2D()(torch.zeros(1, 1, 8, 8), 0.5), TypeError, "noise_level is of type float",
    ),
    "latents_of_four_axes": (
        lambda vdmlib: vdmlib.autoencoder.Autoencoder().decode(torch.zeros(2, 8, 4, 4)), ValueError,
        "latents has shape (2, 8, 4, 4)", "frames, 8, height",
    ),
    "clips_in_another_type": (
        lambda vdmlib: vdmlib.autoencoder.Autoencoder().encode(torch.zeros(1, 1, 3, 8, 8).double()), TypeError,
        "video is torch.float64", "the weights are torch.float32",
    ),
    "autoencoder_of_odd_channels": (
        lambda vdmlib: vdmlib.autoencoder.Autoencoder(channels=(7,)), ValueError, "channels is (7,)", "8 groups",
    ),
    "psnr_of_bytes": (
        lambda vdmlib: vdmlib.autoencoder.psnr(torch.zeros(3).byte(), torch.zeros(3).byte()), TypeError, "torch.uint8",
    ),
    "weights_of_several_types": (
        lambda vdmlib: load({n: w.half() if w.ndim > 1 else w for n, w in
                             vdmlib.checkpoints.unet_to_videocrafter(network()).items()})(vdmlib),
        ValueError, "several types (torch.float16, torch.float32)", "dtype=torch.float32",
    ),
    "released_names_of_something_else": (
        lambda vdmlib: vdmlib.checkpoints.unet_to_videocrafter({}), TypeError, "net is {}", "UNet3D(config)",
    ),
    "released_channels_a_number": (released(channel_mult=4), TypeError, "channel_mult is 4", "list of whole numbers"),
    "released_levels_in_words": (released(attention_resolutions="421"), TypeError, "'421'", "list of whole numbers"),
    "inflated_by_an_even_number": (inflate(nn.Conv2d(4, 4, 3), 4), ValueError, "4 frames", "odd"),
    "inflated_by_less_than_nothing": (inflate(nn.Conv2d(4, 4, 3), -1), ValueError, "-1 frames", "odd"),
    "inflated_linear_layer": (inflate(nn.Linear(4, 4)), TypeError, "Linear", "Conv2d"),
    "inflated_transposed_convolution": (inflate(nn.ConvTranspose2d(4, 4, 3)), TypeError, "ConvTranspose2d", "Conv2d"),
    "embedding_without_fps": (
        lambda vdmlib: vdmlib.TimestepFPSEmbedding(8, 8)(torch.zeros(1, 2)), ValueError, "fps is None", "(b,)",
    ),
    "dual_attention_without_image_tokens": (
        lambda vdmlib: vdmlib.DualCrossAttention(8, 8)(torch.zeros(1, 2, 8), torch.zeros(1, 77, 8)),
        ValueError, "has 77 tokens", "image tokens after them",
    ),
    "weights_no_dictionary": (load([torch.zeros(1)]), ValueError, "list", "dictionary"),
    "weights_in_words": (load({}, dtype="half"), ValueError, "dtype is 'half'", "float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_answered_by_one_sentence(name):
    call, kind, *named = BAD[name]
    with pytest.raises(kind) as error:
        call(vdmlib)
    message = str(error.value)
    assert type(error.value).__module__ in ("builtins", "vdmlib.files")
    for fragment in named:
        assert fragment in message
    assert message.endswith(".") and "\n" not in message and len(message) < 300


def test_half_precision_data_are_welcome_under_autocast():
    """There PyTorch converts what the layers are given."""
    inputs = tiny_inputs(network().config)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network()(**inputs | {"x": inputs["x"].bfloat16()}).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: vdmlib.ResBlock(32, 8)(torch.zeros(2, 32, 4, 4), torch.zeros(2, 8)),
        lambda: vdmlib.ResBlock(32, 8)(torch.zeros(1, 2, 32, 4, 4), torch.zeros(1, 3, 8)),
        lambda: vdmlib.SpatialTransformer(32, 1, 8)(torch.zeros(1, 2, 32, 4, 4).long()),
        lambda: vdmlib.NoiseSchedule.linear().add_noise(torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor([1, 2])),
        lambda: vdmlib.sampling.DDIMStep("999", 0.1, 0.2, 0.0, 1.0, 1.0),
    ],
)
def test_shapes_are_checked_in_the_other_tests(wrong):
    with pytest.raises(jaxtyping.TypeCheckError):
        wrong()


def test_a_result_of_the_wrong_shape_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cos", lambda self: torch.cos(self[..., :-1]))
    with pytest.raises(jaxtyping.TypeCheckError):
        vdmlib.sinusoidal_embedding(torch.tensor([1.0]), 8)
