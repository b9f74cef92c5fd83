"""What a caller can get wrong: one sentence for each mistake, saying what was given, what is needed and what to do."""

import math
import operator
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Numbers and names


def shown(value: Any) -> str:
    """A value as it stands in a sentence: in one line, and not longer than one reads."""
    return " ".join(repr(value).split())[:60]


def shown_path(path: Any) -> str:
    """A file's name as it stands in a sentence: in one line, its two ends where it is long."""
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 160 else f"{text[:60]}...{text[-90:]}"


def check_path(name: str, value: Any) -> Path:
    """The name of a file or folder; ``~`` stands for the home folder."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} is {shown(value)}: pass the name of a file or folder, a string or a Path.")
    return Path(os.path.expanduser(value))  # Unlike Path.expanduser also where nobody has that home.


def check_folder(folder: Any) -> Path:
    """A folder that files can be written into, found out by writing; made where there is none."""
    path = check_path("folder", folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"{shown_path(path)} cannot hold what is to be written ({reason}): name another folder."
        ) from None


def check_new_file(name: str, path: Any, suffix: str) -> Path:
    """The name of a file with this ending that can be written, in a folder that is there or can be made."""
    path = check_path(name, path)
    if path.suffix != suffix or os.path.isdir(path):
        raise ValueError(f"{name} is {shown_path(path)}: name a file that ends in {suffix}.")
    check_folder(path.parent)
    return path


def check_number(
    name: str, value: Any, least: int | float | None = None, most: int | float | None = None, whole: bool = False
) -> Any:
    """A finite number, between ``least`` and ``most`` where these are given; returned as one of Python's own.

    Others, such as NumPy's, have their own arithmetic (of 8 bits, say), and cannot be written into a file.
    """
    if _is_number(value, whole):
        plain = int(value) if isinstance(value, Integral) else float(value)
        if (least is None or plain >= least) and (most is None or plain <= most):
            return plain
    kind = "a whole number" if whole else "a number" if least is not None else "a finite number"
    bounds = [f"{word} {bound}" for word, bound in (("from", least), ("to", most)) if bound is not None]
    raise ValueError(f"{name} is {shown(value)}: use {' '.join([kind, *bounds])}.")


def as_index(value: Any) -> int:
    """A whole number of any library; ``TypeError`` for everything else, truth values among them."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise TypeError
    return operator.index(value)


_LARGEST = sys.float_info.max  # here, since the compiler of PyTorch 2.6 cannot look it up


def _is_number(value: Any, whole: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    if whole or hasattr(value, "dtype"):  # A number of NumPy's cannot be compared with a larger one than it could be.
        return whole or math.isfinite(value)
    # Not converted: a whole number may be larger than any float. That every Real has an order, its annotation hides.
    return abs(value) <= _LARGEST  # pyright: ignore[reportOperatorIssue]


def check_tensor(name: str, value: Any, dtype: torch.dtype | None = None) -> None:
    """A tensor; if a dtype is given, the weights', of that dtype, unless PyTorch converts it (autocast)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is of type {type(value).__name__}, but must be a tensor.")
    if value.layout != torch.strided:
        raise TypeError(f"{name} is sparse ({value.layout}), but must be a usual tensor: convert it with .to_dense().")
    if dtype in (None, value.dtype):
        return
    if not (value.is_floating_point() and torch.is_autocast_enabled(value.device.type)):
        raise TypeError(f"{name} is {value.dtype}, but the weights are {dtype}: convert one with .to(dtype).")


def check_choice(name: str, value: Any, choices: Iterable[str | int | None]) -> None:
    """One of a few words or numbers."""
    if value not in (known := list(choices)):
        raise ValueError(f"{name} is {shown(value)}, but must be one of {', '.join(map(str, known))}.")


def check_dtype(dtype: Any, choices: Mapping[str, torch.dtype]) -> torch.dtype:
    """One of a few dtypes, or the name of one."""
    name = str(dtype).removeprefix("torch.")
    if name not in choices:
        check_choice("dtype", dtype, choices)
    return choices[name]


def check_bool(name: str, value: Any) -> None:
    """``True`` or ``False``, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {shown(value)}: use True or False.")


def check_instance(name: str, value: Any, kind: type, example: str) -> None:
    """An object of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {shown(value)}: pass one such as {example}.")


def check_callable(name: str, value: Any, example: str) -> None:
    """A function, or what can be called like one."""
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}: pass a function such as {example}.")


def check_instances(
    name: str, values: Any, kind: type | tuple[type, ...], example: str, needs_one: bool = False
) -> None:
    """A list of objects of this class, or of one of these."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
        raise TypeError(f"{name} is {shown(values)}: pass a list of such as {example}.")
    check_list(name, values, needs_one)


def check_whole_numbers(name: str, values: Any) -> None:
    """A list of whole numbers, of whatever library."""
    if (
        isinstance(values, str)
        or not isinstance(values, Sequence)
        or not all(_is_number(v, whole=True) for v in values)
    ):
        raise TypeError(f"{name} is {shown(values)}: pass a list of whole numbers.")


def check_one_each(name: str, values: Any, number: int, what: str) -> None:
    """A list with one entry for each of so many."""
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise TypeError(f"{name} is {shown(values)}: pass a list with one for each of the {number} {what}.")
    if len(values) != number:
        raise ValueError(f"{name} has {len(values)} entries for {number} {what}: pass one for each.")


def check_list(name: str, values: Any, needs_one: bool = False) -> None:
    """Several things, one after the other."""
    if isinstance(values, str | Mapping) or not hasattr(values, "__len__"):
        raise TypeError(f"{name} is {shown(values)}: pass a list.")
    if needs_one and not len(values):
        raise ValueError(f"{name} is empty: pass a list of one or more.")


def is_real(values: Tensor) -> bool:
    """Whether they are floating point numbers to compute with; those of 8 bits are only for storing."""
    return values.is_floating_point() and values.dtype.itemsize > 1


def check_real(name: str, values: Any) -> None:
    """A tensor of floating point numbers."""
    check_tensor(name, values)
    if not is_real(values):
        raise TypeError(f"{name} is {values.dtype}, but must be floating point numbers: convert with .float().")


def check_finite(name: str, values: Tensor) -> None:
    """Neither infinite nor undefined."""
    if not torch.compiler.is_compiling() and not values.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite: see what made them.")


def check_iterable(name: str, values: Any, example: str) -> None:
    """What can be gone through one by one, and is no text."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name} is {shown(values)}: pass several, such as {example}.")


def check_alike(first: str, a: Any, second: str, b: Any) -> None:
    """Two tensors of floating point numbers, of one shape."""
    check_real(first, a)
    check_real(second, b)
    if a.shape != b.shape:
        raise ValueError(f"{first} has shape {tuple(a.shape)}, but {second} {tuple(b.shape)}: make them equal.")


def check_released_settings(
    params: Any, known: Iterable[str], needed: Iterable[str] = (), of: str = "model.params"
) -> None:
    """Settings of a released configuration: all that is needed, and nothing that would be dropped without a word."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params is of type {type(params).__name__}, but must be a mapping: pass {of} of a YAML file.")
    if missing := [name for name in needed if name not in params]:
        raise ValueError(f"The settings lack {', '.join(map(repr, missing)):.150}: pass {of} whole.")
    known = set(known)
    if unknown := [str(name) for name, value in params.items() if value is not None and name not in known]:
        raise ValueError(
            f"Unknown settings {', '.join(unknown):.150}: pass {of} of a YAML file of VideoCrafter or DynamiCrafter, "
            f"without what this library cannot follow."
        )
    if params.get("use_scale") and params.get("use_dynamic_rescale"):
        raise ValueError("use_scale and use_dynamic_rescale are both on, but rescale the same signal: leave one out.")
    if (dims := params.get("dims", 2)) != 2:
        raise ValueError(f"dims is {dims!r}, but only networks with convolutions over pictures are known: use dims=2.")


# U-Nets


def check_widths(widths: tuple[int, ...], groups: int, name: str = "widths") -> None:
    """Channels of each level that can be split into so many groups."""
    if not isinstance(widths, list | tuple) or not all(_is_number(width, whole=True) for width in widths):
        raise ValueError(f"{name} is {shown(widths)}: pass a tuple of whole numbers, the channels of each level.")
    if not widths or any(width % groups or width < groups for width in widths):
        raise ValueError(
            f"{name} is {shown(widths)}, but GroupNorm makes {groups} groups: give every level a multiple of {groups} "
            f"channels."
        )


def check_halvings(what: str, size: Sequence[int], halvings: int) -> None:
    """Height and width that can be halved so often."""
    (height, width), multiple = size, 2**halvings
    if height % multiple or width % multiple:
        raise ValueError(
            f"The {what} are {height} × {width}, but they are halved {halvings} times: make height and width "
            f"multiples of {multiple}."
        )


def check_pictures(x: Tensor, channels: int, halvings: int) -> None:
    """(batch, channels, height, width)."""
    check_tensor("x", x)
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but this network needs (batch, {channels}, height, width): pass a batch "
            f"of pictures with {channels} channel(s)."
        )
    check_halvings("pictures", x.shape[-2:], halvings)


def check_noise_level(noise_level: Tensor, x: Tensor) -> None:
    """One number for each picture."""
    check_tensor("noise_level", noise_level)
    if noise_level.shape != x.shape[:1]:
        raise ValueError(
            f"noise_level has shape {tuple(noise_level.shape)}, but x has {len(x)} pictures: pass one number for "
            f"each, shape ({len(x)},)."
        )


def check_latents(name: str, x: Any, channels: int, halvings: int, dtype: torch.dtype) -> None:
    """(batch, frames, channels, height, width)."""
    check_tensor(name, x, dtype)
    if x.ndim != 5 or x.shape[2] != channels:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, but this network needs (batch, frames, {channels}, height, width): "
            f"the frames come before the channels."
        )
    if not x.numel():
        raise ValueError(f"{name} has shape {tuple(x.shape)}, which is empty: pass at least one video of one frame.")
    check_halvings("latents", x.shape[-2:], halvings)


def check_timesteps(timesteps: Any, videos: int, frames: int) -> None:
    """One number for each video, or for each frame of each video."""
    check_counts("timesteps", timesteps)
    if timesteps.shape not in ((videos,), (videos, frames)):
        raise ValueError(
            f"timesteps has shape {tuple(timesteps.shape)}, but needs one for each video, ({videos},), or one for "
            f"each frame, ({videos}, {frames})."
        )


def check_counts(name: str, values: Any) -> None:
    """Whole or floating point numbers."""
    check_tensor(name, values)
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name} is {values.dtype}, but must be whole or floating point numbers.")


def check_rate(fps: Any) -> int | float:
    """Frames per second that a model is told."""
    return check_number("fps", fps, 0.1, 1000)


def check_fps(fps: Any, videos: int) -> None:
    """Frames per second: one number, or a tensor with one for all or for each video, whose numbers are not read."""
    if not isinstance(fps, Tensor):
        check_rate(fps)
        return
    check_counts("fps", fps)
    if fps.shape not in ((), (videos,)):
        raise unfitting_rates(fps.shape, videos)


def check_rates(fps: Any, videos: int) -> list[float]:
    """Frames per second for each video, from one number or from one for each."""
    given = fps.tolist() if hasattr(fps, "tolist") else fps
    rates = list(given) if isinstance(given, list | tuple) else [given] * videos
    for rate in rates:
        check_rate(rate)
    if len(rates) != videos:
        raise unfitting_rates((len(rates),), videos)
    return [float(rate) for rate in rates]


def unfitting_rates(shape: Sequence[int], videos: int) -> ValueError:
    """The error for too few or too many of them."""
    return ValueError(f"fps has shape {tuple(shape)}, but needs one number, or one for each video, ({videos},).")


def missing_rate() -> ValueError:
    """The error of a network that embeds the frame rate and is not told it."""
    return ValueError("This network embeds the frame rate, but fps is None: pass frames per second, (b,).")


def check_context(tokens: Any, channels: int | None, dtype: torch.dtype, videos: int | None = None) -> None:
    """(videos, tokens, channels), for a network with a context."""
    if channels is None:
        raise ValueError("A context was given, but this network has none (context_channels=None): leave it out.")
    if tokens is None:
        raise ValueError(
            f"context is missing: pass the text tokens, (batch, tokens, {channels}); for an unconditional sample, "
            f"those of the empty prompt."
        )
    check_tensor("context", tokens, dtype)
    fits = tokens.ndim == 3 and tokens.shape[1] > 0 and tokens.shape[2] == channels
    if not fits or videos not in (None, len(tokens)):
        raise ValueError(
            f"context has shape {tuple(tokens.shape)}, but this network needs ({videos or 'batch'}, tokens, "
            f"{channels}): one row of tokens for each video."
        )


def check_image_tokens(context: Tensor, text_tokens: int) -> None:
    """Image tokens after the text tokens."""
    given = context.shape[1]
    if given <= text_tokens:
        raise ValueError(
            f"context has {given} tokens, but {text_tokens} text tokens and image tokens after them are needed: "
            f"concatenate both, (batch, {text_tokens} + image tokens, channels)."
        )


def check_inflatable(layer: Any, frames: Any) -> None:
    """A convolution over pictures, and an odd number of frames for its kernel."""
    if type(layer) is not torch.nn.Conv2d:
        raise TypeError(f"The layer is a {type(layer).__name__}, but only a Conv2d can be inflated: pass one.")
    check_number("frames", frames, whole=True)
    if frames % 2 == 0 or frames < 1:
        raise ValueError(f"The kernel spans {frames} frames, but only an odd number has a middle one: use 3 or 5.")


# Configurations of the 3D U-Net


def check_temporal_convolution(value: Any) -> None:
    """``True``, ``False`` or ``"spatial"``."""
    if not isinstance(value, bool) and value != "spatial":
        raise ValueError(f"temporal_convolution is {value!r}, but must be True, False or 'spatial'.")


def check_probability(name: str, value: Any) -> None:
    """A number from 0 to below 1."""
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name} is {shown(value)}, but must be a probability below 1.")


def check_channels(name: str, channels: Any) -> None:
    """Channels that GroupNorm can split into 32 groups."""
    check_number(name, channels, 1, whole=True)
    if channels % 32:
        raise ValueError(f"{name} is {channels}, but GroupNorm makes 32 groups: choose a multiple of 32.")


def check_level_channels(model_channels: int, multipliers: Any) -> None:
    """Channels that GroupNorm can split, and a multiplier for each level."""
    check_channels("model_channels", model_channels)
    if not (_are_counts(multipliers) and multipliers):
        raise ValueError(
            f"channel_multipliers is {shown(multipliers)}, but must be a tuple with a whole number of at least 1 for "
            f"each level."
        )


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(_is_number(value, whole=True) and value > 0 for value in values)


def check_heads(head_channels: int | None, heads: int | None, widths: list[int]) -> None:
    """Either the width or the number of the heads, and one that divides the channels of every level."""
    divisor = heads if head_channels is None else head_channels
    if divisor is None or None not in (heads, head_channels):
        raise ValueError(
            f"head_channels is {head_channels} and heads is {heads}, but one decides the other: set one of them, and "
            f"the other to None."
        )
    for channels in widths:
        if channels % divisor:
            given = f"heads of {head_channels} channels" if head_channels else f"{heads} heads"
            raise ValueError(f"A level of {channels} channels cannot be split into {given}: choose a divisor.")


def check_transformer(channels: Any, heads: Any, head_channels: Any, context_channels: Any, depth: Any) -> None:
    """Sizes of a transformer among pixels or frames."""
    check_channels("channels", channels)
    sizes = {"heads": heads, "head_channels": head_channels, "depth": depth}
    for name, size in (sizes if context_channels is None else sizes | {"context_channels": context_channels}).items():
        check_number(name, size, 1, whole=True)


def check_attention_factors(factors: Any) -> None:
    """Powers of two."""
    if not (_are_counts(factors) and all(int(factor).bit_count() == 1 for factor in factors)):
        raise ValueError(
            f"attention_factors is {shown(factors)}, but the levels reduce the picture by 1, 2, 4, ...: name some of "
            f"these, in a tuple."
        )


def check_context_settings(config: Any) -> None:
    """What asks a context has one, and what asks image tokens is there."""
    if not (_is_number(config.image_scale) or config.image_scale == "learned"):
        raise ValueError(f"image_scale is {shown(config.image_scale)}, but must be a number or 'learned'.")
    over_time = config.temporal_image_attention
    if not isinstance(over_time, bool) and over_time != "joint":
        raise ValueError(f"temporal_image_attention is {shown(over_time)}, but must be True, False or 'joint'.")
    if config.context_channels is None and (config.image_attention or config.temporal_cross_attention):
        raise ValueError(
            "image_attention and temporal_cross_attention ask a context, but context_channels is None: give the width "
            "of its tokens."
        )
    if over_time and not (config.image_attention and config.temporal_cross_attention):
        raise ValueError(
            "temporal_image_attention also needs image_attention and temporal_cross_attention: set all three."
        )
    if over_time is True and config.relative_positions:
        raise ValueError(
            "temporal_image_attention and relative_positions are both set, but dual cross-attention has no positions: "
            "leave one out."
        )


def check_encoder(sizes: Mapping[str, Any]) -> None:
    """Sizes of a transformer: whole numbers, and heads that share its channels evenly."""
    for name, size in sizes.items():
        check_number(name, size, 1, whole=True)
    if sizes["channels"] % sizes["heads"]:
        raise ValueError(
            f"channels is {sizes['channels']} and heads is {sizes['heads']}, but the heads share the channels evenly: "
            f"use a multiple."
        )


# Noise schedules


MOST_LEVELS = 10**6


def check_betas(steps: Any, start: Any, end: Any) -> tuple[int, float, float]:
    """How many levels there are, and the first and the last β."""
    return check_level_count("steps", steps), check_number("start", start, 0, 1), check_number("end", end, 0, 1)


def check_level_count(name: str, levels: Any) -> int:
    """As many as a schedule may have."""
    return check_number(name, levels, 1, MOST_LEVELS, whole=True)


def check_schedule(betas: Any, scale: Any) -> None:
    """One β from 0 to 1 and one scale above 0 for each level."""
    for name, values in (("betas", betas), ("scale", scale)):
        check_tensor(name, values)
        if values.is_complex() or values.is_meta:
            raise TypeError(f"{name} is {values.dtype} on {values.device}, but must hold real numbers.")
    if betas.ndim != 1 or betas.shape != scale.shape or not len(betas):
        raise ValueError(
            f"betas has shape {tuple(betas.shape)} and scale {tuple(scale.shape)}, but both need one number for each "
            f"level, (T,)."
        )
    if not ((betas >= 0) & (betas <= 1)).all():
        raise ValueError(
            f"betas run from {float(betas.min()):g} to {float(betas.max()):g}, but must lie between 0 and 1: check "
            f"where the schedule starts and ends."
        )
    if not (scale.isfinite() & (scale > 0)).all():
        raise ValueError(
            f"scale runs from {float(scale.min()):g} to {float(scale.max()):g}, but must be above 0 and finite: what "
            f"was scaled to nothing cannot be found again."
        )


def check_falling(first: float, last: float) -> None:
    """A signal with something to stretch between its first and its last level."""
    if not first > last:
        raise ValueError(
            f"ᾱ is {first:g} at the first level and {last:g} at the last, so there is nothing to stretch down to 0: "
            f"use a schedule of two levels or more in which ᾱ falls."
        )


def check_noise(x0: Any, noise: Any) -> None:
    """Data and noise that can be mixed."""
    check_tensor("x0", x0)
    check_tensor("noise", noise)
    if x0.shape != noise.shape:
        raise ValueError(f"The data have shape {tuple(x0.shape)}, but the noise {tuple(noise.shape)}: make them equal.")


def check_levels_of_data(t: Any, data: Tensor, levels: int) -> None:
    """A level for each video, (b,), or for each frame, (b, f), and data that can be noisy."""
    if not isinstance(t, Tensor) or t.is_floating_point() or t.dtype == torch.bool:
        given = t.dtype if isinstance(t, Tensor) else f"of type {type(t).__name__}"
        raise TypeError(f"t is {given}, but must be a tensor of whole numbers, one for each video or frame.")
    if t.ndim not in (1, 2) or t.shape != data.shape[: t.ndim]:
        raise ValueError(
            f"t has shape {tuple(t.shape)}, but the data {tuple(data.shape)}: pass one t for each video or frame."
        )
    if not is_real(data):
        raise TypeError(f"The data are {data.dtype}, but noise needs floating point numbers: convert with .float().")
    if t.numel():
        low, high = (int(value) for value in t.long().aminmax())  # Not every kind of whole number can be compared.
        if not 0 <= low <= high < levels:
            raise ValueError(f"t runs from {low} to {high}, but must be in 0 ... {levels - 1}.")


# Sampling


def unfitting_steps(steps: Any, levels: int, reason: str) -> ValueError:
    """The error that names every number of steps that fits."""
    fitting = [str(number) for number in range(1, levels) if levels % number == 0]
    cure = f"use one of {', '.join(fitting)}, or a list of levels" if fitting else "use a longer schedule"
    return ValueError(f"steps is {shown(steps)}, but {reason}: {cure}.")


def check_levels(levels: Any, total: int, name: str = "steps") -> list[int]:
    """The levels a caller lists, smallest first: whole numbers of the schedule, all rising or all falling."""
    try:
        found = [as_index(level) for level in levels]
    except TypeError:
        found = []
    if not found:
        either = "a number of steps, or " if name == "steps" else ""
        raise ValueError(f"{name} is {shown(levels)}: use {either}a list of levels, whole numbers.")
    if not 0 <= min(found) <= max(found) < total:
        raise ValueError(
            f"{name} lists levels from {min(found)} to {max(found)}, but the schedule has levels 0 ... {total - 1}: "
            f"leave the others out."
        )
    rising = sorted(set(found))
    if found not in (rising, rising[::-1]):
        raise ValueError(f"{name} is {shown(found)}: list each level once, all rising or all falling.")
    return rising


def check_visible(prediction: str, level: int, alpha: float) -> None:
    """A level at which both data and noise can be told from what the network predicts."""
    if prediction == "eps" and alpha == 0:
        raise ValueError(
            f"Level {level} holds no signal (ᾱ = 0), where a predicted noise says nothing of the data: leave this "
            f"level out, or use a network that predicts v."
        )
    if prediction == "x0" and alpha == 1:
        raise ValueError(
            f"Level {level} holds no noise (ᾱ = 1), where predicted data say nothing of the noise: leave this level "
            f"out, or use a network that predicts v."
        )


def check_sampling(
    noise: Any,
    context: Tensor | None,
    uncond_context: Tensor | None,
    guidance_scale: Any,
    fps: Any,
    concat: Tensor | None,
    step_noise: Tensor | None,
    steps: int,
) -> None:
    """Conditions that fit the noise, and one another, before the first of ``steps`` steps."""
    check_tensor("noise", noise)
    given = {"context": context, "uncond_context": uncond_context, "concat": concat, "step_noise": step_noise}
    for name, value in given.items():
        if value is not None:
            check_tensor(name, value)
    if noise.ndim != 5 or not is_real(noise) or not noise.numel():
        raise ValueError(
            f"noise has shape {tuple(noise.shape)} and is {noise.dtype}, but must be floating point numbers, (batch, "
            f"frames, channels, height, width)."
        )
    check_guidance(context, uncond_context, guidance_scale)
    # The network would see both halves of the guidance as one batch, and could not name what does not fit.
    if context is not None and len(context) != len(noise):
        raise ValueError(
            f"context has shape {tuple(context.shape)}, but the noise {tuple(noise.shape)}: make the batches equal."
        )
    if fps is not None:
        check_fps(fps, len(noise))
        check_rates(fps, len(noise))
    if concat is not None and (concat.ndim != 5 or _without_channels(concat) != _without_channels(noise)):
        raise ValueError(
            f"concat has shape {tuple(concat.shape)}, but the noise {tuple(noise.shape)}: only channels may differ."
        )
    if step_noise is not None and step_noise.shape != (steps, *noise.shape):
        raise ValueError(f"step_noise has shape {tuple(step_noise.shape)}, but needs {(steps, *noise.shape)}.")


def check_guidance(context: Tensor | None, uncond_context: Tensor | None, guidance_scale: Any) -> None:
    """Two contexts to compare, where the scale asks for it."""
    check_number("guidance_scale", guidance_scale)
    if guidance_scale == 1:
        return
    if uncond_context is None:
        raise ValueError(
            f"guidance_scale is {guidance_scale}, but uncond_context is missing: pass the tokens of the empty prompt, "
            f"or use guidance_scale=1."
        )
    if context is None or context.shape != uncond_context.shape:
        given = None if context is None else tuple(context.shape)
        raise ValueError(
            f"context has shape {given} and uncond_context {tuple(uncond_context.shape)}, but guidance compares the "
            f"two: make them equally long."
        )


def check_shape(shape: Any) -> None:
    """Sizes of all axes, that of the videos first."""
    if not isinstance(shape, list | tuple) or not shape or not all(_is_number(n, whole=True) and n > 0 for n in shape):
        raise ValueError(f"shape is {shown(shape)}: pass whole numbers from 1, (videos, frames, channels, ...).")


def check_streams(generator: Any, videos: int) -> None:
    """A stream of random numbers for all videos, or one for each; ``None`` for torch's own."""
    streams = list(generator) if isinstance(generator, list | tuple) else [generator]
    for stream in streams:
        if not isinstance(stream, torch.Generator) and generator is not None:
            raise TypeError(f"generator is {shown(stream)}: pass a torch.Generator, or one for each video.")
    if isinstance(generator, list | tuple) and len(streams) != videos:
        raise ValueError(f"{len(streams)} generators were given for {videos} videos: pass one, or one for each video.")


def _without_channels(video: Tensor) -> tuple[int, ...]:
    return (*video.shape[:2], *video.shape[3:])


def check_prompts(prompts: Any, negative_prompt: Any) -> None:
    """One string for each video, and one for all of them."""
    if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"prompt is {shown(prompts)}: pass a string, or a list with one string for each video.")
    if not isinstance(negative_prompt, str):
        raise TypeError(f"negative_prompt is {shown(negative_prompt)}: pass one string for all videos.")


def check_first_frames(pictures: int | None, prompts: int, wanted: bool, name: str = "image") -> None:
    """Pictures where a model starts from one, as many as there are prompts, or one for all of them."""
    if pictures is not None and not wanted:
        raise ValueError(
            "An image was given, but this model makes videos from text alone: leave it out, or use one of kind i2v."
        )
    if pictures is None and wanted:
        raise missing_picture(name, "a picture")
    if pictures is not None and pictures not in (1, prompts):
        raise ValueError(f"{pictures} images were given for {prompts} prompts: pass one, or one for each prompt.")


def missing_picture(name: str, form: str) -> ValueError:
    """The error of a model that starts from a picture and is given none."""
    return ValueError(f"This model starts from a picture, but {name} is None: pass {form}, or one for each video.")


def check_given_latents(first_frame: Any, channels: int, captions: int | None, wanted: bool) -> None:
    """Latents of the frames to go on from, where a model takes them: one for all captions, or one for each."""
    if first_frame is None and wanted:
        raise missing_picture("first_frame", "its latents")
    if first_frame is None:
        return
    check_tensor("first_frame", first_frame)
    if wanted and (first_frame.ndim != 4 or first_frame.shape[1] != channels or not len(first_frame)):
        raise ValueError(
            f"first_frame has shape {tuple(first_frame.shape)}, but latents of given frames are (batch, {channels}, "
            f"height, width): encode the pictures first."
        )
    check_first_frames(len(first_frame), captions or len(first_frame), wanted)


def check_frames_beside(x: Tensor, first_frame: Tensor) -> None:
    """Given frames of the noisy latents' size: one for all clips, or one for each clip of a half of the guidance."""
    if len(x) % len(first_frame) or x.shape[3:] != first_frame.shape[2:]:
        raise ValueError(
            f"first_frame has shape {tuple(first_frame.shape)}, but x {tuple(x.shape)}: pass one frame, or one for "
            f"each clip, of the same height and width."
        )


def check_side(name: str, pixels: Any) -> None:
    """A side of a video that the autoencoder and the U-Net can halve three times each."""
    check_number(name, pixels, 64, 8192, whole=True)
    if pixels % 64:
        raise ValueError(f"{name} is {pixels}, but must be a multiple of 64 pixels: {64 * round(pixels / 64)} fits.")


# Pixels

GREY_LEVEL = 2 / 255  # From one byte to the next.
BYTES = "divide bytes by 127.5 and subtract 1"


def check_pixels(name: str, pixels: Tensor, beyond: float = GREY_LEVEL / 2) -> None:
    """Pixels in −1 ... 1, give or take rounding; warns of what looks like fractions in 0 ... 1."""
    check_tensor(name, pixels)
    if not pixels.is_floating_point():
        raise unfitting_pixels(name, f"is {pixels.dtype}", BYTES)
    if pixels.is_meta:
        raise unfitting_pixels(name, "is on the device meta, which holds no numbers", "bring it to the CPU or a GPU")
    low, high = (float(value) for value in pixels.detach().float().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise unfitting_pixels(name, "holds numbers that are not finite", "see what made them")
    found = f"runs from {low:.3g} to {high:.3g}"
    if low < -1 - beyond or high > 1 + beyond:
        cure = BYTES if low >= 0 and high <= 255 else "scale it, or cut it off with .clamp(-1, 1)"
        raise unfitting_pixels(name, found, cure)
    if low >= 0 and high - low > 0.5:
        warnings.warn(
            f"{name} {found}, so nothing is darker than grey, which is 0 of -1 ... 1: if these are fractions of white, "
            f"pass 2 * {name} - 1.",
            stacklevel=3,
        )


def check_rough_pixels(name: str, pixels: Tensor) -> None:
    """:func:`check_pixels` for what a decoder or noise may carry beyond −1 ... 1, and where there may be no numbers."""
    if not pixels.is_meta and not torch.compiler.is_compiling():
        check_pixels(name, pixels, beyond=1.0)


def unfitting_pixels(name: str, found: str, cure: str) -> ValueError:
    return ValueError(f"{name} {found}, but pixels are fractions in -1 ... 1: {cure}.")


# The small model and its data


def check_captions(captions: Any) -> None:
    """A list of one or more strings."""
    if isinstance(captions, str):
        raise TypeError(f"captions is the text {captions!r:.60}: put it into a list, [{captions!r:.60}].")
    if not isinstance(captions, Sequence) or not all(isinstance(caption, str) for caption in captions):
        raise TypeError(f"captions is {captions!r:.60}: pass a list with one string for each video.")
    if not captions:
        raise ValueError("captions is empty: pass a list with one string for each video.")


def check_small_pictures(name: str, pictures: Any, size: int) -> None:
    """Pictures (3, size, size) or (b, 3, size, size) in −1 ... 1."""
    check_tensor(name, pictures)
    if pictures.ndim not in (3, 4) or pictures.shape[-3:] != (3, size, size) or not len(pictures):
        raise ValueError(
            f"{name} has shape {tuple(pictures.shape)}, but this model knows pictures of {size} × {size}: pass "
            f"(3, {size}, {size}), or one for each caption; torch.nn.functional.interpolate resizes."
        )
    check_pixels(name, pictures)


def check_picture_batch(name: str, pictures: Any) -> None:
    """Pictures in colours, (b, 3, h, w)."""
    check_real(name, pictures)
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.numel():
        raise ValueError(f"{name} has shape {tuple(pictures.shape)}, but must be pictures, (batch, 3, height, width).")
    check_rough_pixels(name, pictures)


def check_clips(name: str, video: Any) -> None:
    """Clips in colours, (b, f, 3, h, w)."""
    check_tensor(name, video)
    if video.ndim != 5 or video.shape[2] != 3 or not video.numel() or not is_real(video):
        raise ValueError(
            f"{name} has shape {tuple(video.shape)} and is {video.dtype}, but clips are floating point numbers, "
            f"(batch, frames, 3, height, width): one clip is clip[None]."
        )


def check_moving(video: Any) -> None:
    """Clips whose motion can be seen: of two frames or more, with finite pixels."""
    check_clips("video", video)
    check_finite("video", video)
    if video.shape[1] < 2:
        raise ValueError(f"video has shape {tuple(video.shape)}, but one frame does not move: pass two or more.")


def check_row(name: str, values: Any) -> None:
    """One finite number for each clip."""
    check_tensor(name, values)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(values.shape)}: pass one number for each clip, (b,).")
    check_finite(name, values)


def check_clouds(a: Any, b: Any) -> None:
    """Two sets of points in a space, each of more points than that has dimensions."""
    check_real("a", a)
    check_real("b", b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"The clouds have shapes {tuple(a.shape)} and {tuple(b.shape)}: pass (points, dimensions), the dimensions "
            f"the same."
        )
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(
            f"The clouds have {len(a)} and {len(b)} points in {a.shape[1]} dimensions: use more points than dimensions."
        )
    check_finite("a", a)
    check_finite("b", b)


def check_clip_number(index: Any, length: int) -> int:
    """The number of a clip, counted from the end where it is negative."""
    try:
        number = as_index(index)
    except TypeError:
        raise TypeError(
            f"index is {shown(index)}: use a whole number, or .batch(range(8)) for several clips."
        ) from None
    if not -length <= number < length:
        raise IndexError(f"Clip {shown(number)} was asked for, but there are {length}: use 0 to {length - 1}.")
    return number % length


def check_glyphs(glyphs: Any, prompts: int) -> None:
    """A glyph of 28 × 28 pixels for each of one or more prompts."""
    check_real("glyphs", glyphs)
    if not prompts or glyphs.shape != (prompts, 28, 28):
        raise ValueError(
            f"glyphs has shape {tuple(glyphs.shape)} for {prompts} prompts: pass one or more prompts, and a glyph "
            f"(28, 28) for each."
        )
    if not ((glyphs >= 0) & (glyphs <= 1)).all():
        raise ValueError(
            f"glyphs runs from {float(glyphs.min()):.3g} to {float(glyphs.max()):.3g}, but ink goes from 0 to 1: "
            f"divide bytes by 255."
        )


# Drawings


def check_matrix(name: str, values: Any) -> None:
    """An array of numbers in rows and columns."""
    if values.dtype.kind not in "biuf" or values.ndim != 2 or not values.size:
        raise ValueError(
            f"{name} has shape {values.shape} and is {values.dtype}, but a map is a matrix of numbers, (rows, columns)."
        )


def check_picture_list(values: Any) -> None:
    """An array of pictures, grey or in colours: fractions with the colours first, or bytes with the colours last."""
    colours = values.shape[-1 if str(values.dtype) == "uint8" else 1] if values.ndim == 4 else 1
    if values.dtype.kind not in "biuf" or values.ndim not in (3, 4) or colours not in (1, 3) or not values.size:
        raise ValueError(
            f"The pictures have shape {values.shape} and are {values.dtype}: pass (n, h, w) or (n, 3, h, w) from -1 to "
            f"1, or bytes, (n, h, w) or (n, h, w, 3)."
        )


def check_at_most(name: str, values: Any, number: int, what: str) -> None:
    """A list with no more entries than there are things to write them on."""
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) > number:
        raise ValueError(f"{name} is {shown(values)}: pass a list with at most one for each of the {number} {what}.")


def check_pair(name: str, pair: Any) -> None:
    """Two numbers above 0."""
    if not _is_pair(pair) or min(pair) <= 0:
        raise ValueError(f"{name} has {shown(pair)}: pass two numbers above 0.")


def _is_pair(pair: Any) -> bool:
    return hasattr(pair, "__len__") and len(pair) == 2 and all(_is_number(number) for number in pair)


def check_limits(limits: Any) -> tuple[float, float]:
    """Two different numbers."""
    if not _is_pair(limits) or limits[0] == limits[1]:
        raise ValueError(f"limits is {shown(limits)}: pass two different numbers, what is black and what is white.")
    return float(limits[0]), float(limits[1])


def check_place(name: str, place: Any, shape: tuple[int, ...]) -> None:
    """A place in an array: a whole number for each axis."""
    inside = hasattr(place, "__len__") and len(place) == len(shape)
    if not inside or not all(_is_number(i, whole=True) and 0 <= i < size for i, size in zip(place, shape, strict=True)):
        raise ValueError(f"{name} is {shown(place)} in an array of {shape}: pass a whole number from 0 for each axis.")


def check_marks(mark: Any, maps: list[Any]) -> list[Any]:
    """For each map a place in it, (row, column), or none."""
    marks = mark if isinstance(mark, list) else [mark] * len(maps)
    check_one_each("mark", marks, len(maps), "maps")
    for place, values in zip(marks, maps, strict=True):
        inside = place is None or (
            _is_pair(place) and all(0 <= index < size for index, size in zip(place, values.shape, strict=True))
        )
        if not inside:
            raise ValueError(f"mark has {shown(place)} for a map of {values.shape}: pass (row, column), from 0.")
    return marks


def check_timeline(live: Any, waiting: Any, blocks: Any, marks: Any, layers: Any = ()) -> None:
    """Bytes and a name for each operation; marks are an operation's number and what is written there."""
    given = (("live", live), ("waiting", waiting), ("blocks", blocks), ("mark", marks), ("layers", layers))
    for name, values in given:
        check_list(name, values)
    if not 0 < len(live) == len(waiting) == len(blocks):
        raise ValueError(f"live, waiting and blocks have {len(live)}, {len(waiting)} and {len(blocks)} entries.")
    for value in (*live, *waiting):
        check_number("live or waiting", value, 0)
    check_texts("blocks", blocks)
    check_texts("layers", layers)
    if layers and len(layers) != len(live):
        raise ValueError(f"layers has {len(layers)} entries for {len(live)} operations: pass one for each.")
    for mark in marks:
        if not isinstance(mark, Sequence) or len(mark) != 2 or not isinstance(mark[1], str):
            raise TypeError(f"mark has {shown(mark)}: pass pairs of an operation's number and a text.")
        check_number("mark", mark[0], 0, len(live) - 1, whole=True)


def check_rows(rows: Sequence[Any]) -> None:
    """Rows of a table of blocks that make up a U-Net: as many up as down, and something between."""
    found = [row.part for row in rows]
    if not found.count("encoder") == found.count("decoder") > 0 or "middle" not in found:
        raise ValueError(
            f"net has rows of {found.count('encoder')} encoder, {found.count('middle')} middle and "
            f"{found.count('decoder')} decoder blocks: pass the whole table."
        )


def check_sizes(name: str, shape: Any) -> tuple[int, ...]:
    """The shape of a tensor with channels, height and width, none of them empty."""
    sizes = tuple(shape) if hasattr(shape, "__iter__") and not isinstance(shape, str) else ()
    if len(sizes) < 3 or not all(_is_number(size, whole=True) and size > 0 for size in sizes):
        raise ValueError(f"{name[:60]!r} has the shape {shown(shape)}: pass whole numbers from 1, (..., c, h, w).")
    return tuple(map(int, sizes))


def check_values(name: str, values: Tensor) -> None:
    """A tensor that holds numbers to be drawn."""
    check_tensor(name, values)
    if values.is_meta or values.is_complex():
        raise TypeError(f"{name} is {values.dtype} on {values.device}: pass real numbers on a device that holds them.")


def check_single(name: str, values: Any) -> Any:
    """An array of one number."""
    if values.size != 1:
        raise ValueError(f"{name} holds an array of shape {values.shape}: pass one number for each cell.")
    return values


def check_texts(name: str, values: Any) -> None:
    """A list of strings."""
    check_list(name, values)
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {shown(values)}: pass strings.")


def check_format(numbers: Any) -> None:
    """How numbers are to be written."""
    try:
        if not isinstance(numbers, str) or len(format(0.5, numbers)) > 20:  # More than a square has room for.
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"numbers is {shown(numbers)}: use a format of Python's, such as 'g' or '.2f'.") from None


def unknown_colour(colour: Any) -> ValueError:
    """The error for what no drawing library takes as a colour."""
    return ValueError(f"The colour is {shown(colour)}: use one of vdmlib.viz.COLOURS, or a code such as '#0072B2'.")


def unfitting_source(thing: Any) -> TypeError:
    """The error for what was not written in Python."""
    return TypeError(f"{shown(thing)} has no source to show: pass functions, methods or classes written in Python.")
