"""Weights under their released names: read, checked once, loaded without executing or copying (chapters 8 and 11)."""

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_dtype, check_instance
from ..configuration import UNet3DConfig
from ..devices import DTYPES, choose_device
from ..files import CheckpointError, CheckpointFile, opened, read_checkpoint
from ..inference import WRAPPING_COUNTERS, bare_name, unwrapped
from ..unet3d import UNet3D
from .downloads import find_checkpoint
from .names import (
    IMAGE,
    SCHEDULE,
    UNET,
    Names,
    checkpoint_names,
    released_name,
    released_names,
    unet_names,
    unused_names,
)
from .releases import RELEASES, Kind, Networks, Release, skeleton

__all__ = [
    "CheckpointError",
    "find_checkpoint",
    "load_release",
    "load_unet",
    "read_checkpoint",
    "released_name",
    "released_names",
    "unet_from_videocrafter",
    "unet_to_videocrafter",
]

# What training programs wrap a state dict into.
_WRAPPING_ENTRIES = ("state_dict", "module", "model", "model_state_dict")
# Every U-Net has it, so what stands before it stands before all names of the network.
_FIRST = "time_embed.0.weight"
_NAMED = ("videocrafter2", "videocrafter1_t2v_512", "videocrafter1_t2v_1024", "videocrafter1_i2v", "dynamicrafter_512")
_MOST_NAMES = 8  # In one list of an error message.
_LONGEST_NAME = 500  # No tensor of a network has a longer one.


# Loading


def unet_from_videocrafter(
    state_dict: Mapping[str, Any],
    config: UNet3DConfig,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
) -> UNet3D:
    """Build the network from weights under their released names; strict, in evaluation mode.

    Args:
        state_dict: original names, with whatever usual wrappers around the dictionary (``state_dict``, ``module``,
            ``model``) and in the names (``model.diffusion_model.``, ``module.``, ``_orig_mod.``, ...). Other networks
            of a whole checkpoint (autoencoder, CLIP) are left aside.
        config: which network this is.
        dtype, device: convert to; by default the weights stay what and where they are, and are not copied.

    Raises:
        CheckpointError: names what is missing, foreign and misshapen.
    """
    check_instance("config", config, UNet3DConfig, "UNet3DConfig.videocrafter2()")
    dtype = _target(dtype, device)
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"The weights are a {type(state_dict).__name__}, but must be a dictionary from names to tensors."
        )
    return _unet_from(CheckpointFile("", dict(state_dict), mapped=False), config, dtype, device)


def load_unet(
    path: str | Path,
    config: UNet3DConfig,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
) -> UNet3D:
    """:func:`unet_from_videocrafter` from a ``.ckpt``, ``.pt`` or ``.safetensors`` file, which is never executed.

    The file is mapped into memory. On the CPU and without a change of dtype the weights stay there and are read when
    first used, so do not overwrite the file meanwhile. Otherwise they are converted one after the other, and the peak
    stays close to the size of the result.

    Raises:
        FileNotFoundError, CheckpointError: in one sentence.
    """
    check_instance("config", config, UNet3DConfig, "UNet3DConfig.videocrafter2()")
    dtype = _target(dtype, device)
    with opened(path) as file:
        return _unet_from(file, config, dtype, device)


def _unet_from(
    file: CheckpointFile, config: UNet3DConfig, dtype: torch.dtype | None, device: torch.device | str
) -> UNet3D:
    weights = _of_the_unet(_unwrapped(file))
    with torch.device("meta"):
        net = UNet3D(config).eval()
    names = unet_names(net)
    if problems := _problems(weights, dict(names.values()), device):
        raise CheckpointError(
            f"{_source(file)} do not fit this network; {problems}. {_unet_advice(weights, names, config)}"
        )
    if dtype is None and len(kinds := {weights[theirs].dtype for theirs, _ in names.values()}) > 1:
        raise CheckpointError(
            f"{_source(file)} are of several types ({', '.join(sorted(map(str, kinds)))}), with which no network "
            f"computes: name one, such as dtype=torch.float32."
        )
    _fill(net, weights, names, file, dtype, device)
    return net


def unet_to_videocrafter(net: nn.Module) -> dict[str, Tensor]:
    """The network's weights under their released names and shapes; the inverse of :func:`unet_from_videocrafter`."""
    inner = unwrapped(net)
    check_instance("net", inner, UNet3D, "UNet3D(config)")
    parameters = dict(inner.named_parameters())
    return {
        theirs: parameters[ours].detach().reshape(shape)
        for ours, (theirs, shape) in unet_names(cast(UNet3D, inner)).items()
    }


def load_release(
    path: str | Path,
    kind: Kind,
    release: Release | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    verify: bool = True,
) -> tuple[Networks, Release]:
    """All networks of a released checkpoint. Every name and shape is checked before the first weight is used.

    Args:
        path: the file; never executed, see :func:`read_checkpoint`.
        kind: text to video or image to video.
        release: which model; by default the released one of this kind whose U-Net has the file's names and sizes.
        dtype, device: of the weights; ``None`` leaves them as they are.
        verify: read a ``.ckpt`` once in full to compare its checksums, which finds damage inside the weights.

    Raises:
        FileNotFoundError, CheckpointError: in one sentence; nothing is half loaded.
    """
    check_choice("kind", kind, RELEASES)
    if release is not None:
        check_instance("release", release, Release, "Release.videocrafter2()")
    dtype = _target(dtype, device)
    with opened(path, verify) as file:
        weights = _unwrapped(file)
        prefix = _prefix(weights, UNET + _FIRST)
        weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
        release = release or _recognised(weights, kind)
        networks = skeleton(release)
        names = checkpoint_names(networks)
        needed = {theirs: shape for of_network in names.values() for theirs, shape in of_network.values()}
        if problems := _problems(weights, needed, device, {*unused_names(release), *SCHEDULE}):
            raise CheckpointError(
                f"{_source(file)} do not fit this {release.kind} model; {problems}. {_release_advice(weights, release)}"
            )
        for name, network in networks.named().items():
            _fill(network, weights, names[name], file, dtype, device)
    return networks, release


def _fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    names: Names,
    file: CheckpointFile,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> None:
    """Give a network without memory its weights, one after the other, so that few are there twice at any time."""
    filled = {}
    for ours, parameter in network.named_parameters():
        weight = weights[names[ours][0]]
        filled[ours] = weight.reshape(parameter.shape).to(device=device, dtype=dtype)
        if (filled[ours].device, filled[ours].dtype) != (weight.device, weight.dtype):
            file.let_go(weight)
    network.load_state_dict(filled, assign=True)


# Wrappers


def _unwrapped(file: CheckpointFile) -> dict[str, Tensor]:
    """The tensors under the names that the networks themselves gave them, however a training program wrapped them."""
    content = file.content
    for _ in _WRAPPING_ENTRIES:  # One in the other; a damaged dictionary may even hold itself.
        content = next(
            (content[entry] for entry in _WRAPPING_ENTRIES if isinstance(content.get(entry), Mapping)), content
        )
    strange = {
        name if isinstance(name, str) else f"<{type(name).__name__}>": value
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    }
    if strange:
        inner = next((f", perhaps its entry {n!r:.60}" for n, held in strange.items() if isinstance(held, Mapping)), "")
        raise CheckpointError(
            f"{_source(file)} hold entries that are not tensors under a name ({_some(strange)}): pass the dictionary "
            f"of weights itself{inner}."
        )
    weights = {}
    for name, value in content.items():
        if len(name) > _LONGEST_NAME:
            raise CheckpointError(f"{_source(file)} hold a name of {len(name)} characters: get them from elsewhere.")
        # Early DynamiCrafter files call the FPS embedding otherwise.
        bare = bare_name(name).replace("framestride_embed", "fps_embedding")
        if bare in weights:
            raise CheckpointError(f"{_source(file)} hold two tensors for {bare}: remove one of them, such as {name}.")
        if bare not in WRAPPING_COUNTERS:
            weights[bare] = value
    return weights


def _of_the_unet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's tensors alone, under bare names."""
    prefix = UNET if any(name.startswith(UNET) for name in weights) else _prefix(weights, _FIRST)
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _prefix(names: Iterable[str], first: str) -> str:
    """What stands in front of the name ``first``, and so of all names; nothing where it is not there."""
    found = {name.removesuffix(first) for name in names if f".{name}".endswith(f".{first}")}
    return min(found, key=lambda prefix: (len(prefix), prefix), default="")


# Checks


def _target(dtype: torch.dtype | str | None, device: torch.device | str) -> torch.dtype | None:
    choose_device(device)
    return None if dtype is None else check_dtype(dtype, DTYPES | {"float64": torch.float64})


def _source(file: CheckpointFile) -> str:
    return f"The weights in {file.name}" if file.name else "The weights"


def _problems(
    weights: Mapping[str, Tensor],
    needed: Mapping[str, tuple[int, ...]],
    device: torch.device | str,
    allowed: Iterable[str] = (),
) -> str:
    """Everything that keeps these weights from being the ones that are needed, in half a sentence; empty if nothing."""
    present = [name for name in needed if name in weights]
    known = {*needed, *allowed}
    groups = {
        "missing": [name for name in needed if name not in weights],
        "foreign": [name for name in weights if name not in known],
        "of the wrong shape": [name for name in present if tuple(weights[name].shape) != needed[name]],
        "without floating point numbers": [name for name in present if not _has_numbers(weights[name], device)],
    }
    everything = {**needed, **weights}

    def listed(problem: str, names: list[str]) -> str:
        labels = _fold(names, everything)
        if problem == "of the wrong shape":
            labels = {f"{label}: {tuple(weights[n].shape)} instead of {needed[n]}": n for label, n in labels.items()}
        return f"{len(names)} {problem}: {_some(labels)}"

    found = [listed(problem, names) for problem, names in groups.items() if names]
    return "tensors " + "; ".join(found) if found else ""


def _has_numbers(weight: Tensor, device: torch.device | str) -> bool:
    is_empty = weight.is_meta and torch.device(device).type != "meta"
    return weight.is_floating_point() and weight.layout == torch.strided and not is_empty


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = (name[:200] if name.isprintable() else repr(name[:200]) for name in names[:_MOST_NAMES])
    return ", ".join(shown) + (", ..." if len(names) > _MOST_NAMES else "")


def _unet_advice(weights: Mapping[str, Tensor], names: Names, config: UNet3DConfig) -> str:
    if set(weights) == set(names):
        return "They have this library's own names: build UNet3D(config) and use its load_state_dict."
    for name in _NAMED:
        candidate = getattr(UNet3DConfig, name)()
        if candidate != config and _traits_of(candidate) == _traits(weights):
            shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
            if dict(released_names(candidate).values()) == shapes:
                return f"They are the weights of another network: use UNet3DConfig.{name}()."
    return "Use the configuration that these weights were trained with, or the weights of this configuration."


def _release_advice(weights: Mapping[str, Tensor], release: Release) -> str:
    of_image_model = any(name.startswith(IMAGE) for name in weights)
    if of_image_model != (release.kind == "i2v"):
        return f"They look like kind {'i2v' if of_image_model else 't2v'!r}, so pass that."
    return "Pass the released model.ckpt of this kind, as it was downloaded."


def _recognised(weights: Mapping[str, Tensor], kind: Kind) -> Release:
    found = _traits({n.removeprefix(UNET): weight for n, weight in weights.items() if n.startswith(UNET)})
    return next((release for release in RELEASES[kind] if _traits_of(release.unet) == found), RELEASES[kind][0])


def _traits(weights: Mapping[str, Tensor]) -> tuple:
    """What tells the released U-Nets apart, from a few names and shapes: building one to compare takes a second."""
    first = weights.get("input_blocks.0.0.weight", torch.empty(0)).shape
    words = ("temopral_conv.", "relative_position_", "fps_embedding.", "_ip.", ".alpha")
    return (*first[:2], *(any(word in name for name in weights) for word in words))


def _traits_of(config: UNet3DConfig) -> tuple:
    return (
        config.model_channels,
        config.in_channels,
        bool(config.temporal_convolution),
        config.relative_positions,
        config.use_fps,
        config.image_attention,
        config.image_attention and config.image_scale == "learned",
    )


def _fold(names: Iterable[str], everything: Iterable[str]) -> dict[str, str]:
    """The names in short form, each with the first name that it stands for.

    ``module.*`` stands for all tensors of a module, and ``*`` for any number, where no other name of ``everything``
    fits as well.
    """
    names = set(names)
    others = {prefix for name in everything if name not in names for prefix in _prefixes(name)}
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for other in others:
        alike.setdefault(_any_number(other.split(".")), []).append(other.split("."))

    def fits_another(pieces: list[str]) -> bool:
        return any(
            all(piece in ("*", same) for piece, same in zip(pieces, other, strict=True))
            for other in alike.get(_any_number(pieces), ())
        )

    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda n: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", n)]):
        module = next((prefix for prefix in _prefixes(name) if prefix not in others), name)
        pieces = module.split(".")
        for i, piece in enumerate(pieces):
            general = [*pieces[:i], "*", *pieces[i + 1 :]]
            if piece.isdecimal() and not fits_another(general):
                pieces = general
        groups.setdefault(".".join(pieces) + ("" if module == name else ".*"), []).append(name)
    return {
        members[0] if len(members) == 1 else f"{label} ({len(members)})": members[0]
        for label, members in groups.items()
    }


def _any_number(pieces: Iterable[str]) -> tuple[str, ...]:
    return tuple("*" if piece.isdecimal() else piece for piece in pieces)


def _prefixes(name: str) -> Iterable[str]:
    return accumulate(name.split("."), "{}.{}".format)
