"""Weights of the released models: their names, and loading them without executing or copying (chapter 8)."""

import pickle
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..unet3d import UNet3D, UNet3DConfig

UNET_PREFIX = "model.diffusion_model."

# From the names inside a module here to the names inside the same module there, tried in this order.
# "temopral" is how the released code spells it.
_RENAMES = (
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


class CheckpointError(ValueError):
    """A file or state dict that cannot become this network; the message says what is wrong and what to do."""


def released_name(name: str) -> str:
    """The name of a parameter inside one of the released modules, from its name inside ours.

    >>> released_name("blocks.0.self_attention.to_q.weight")
    'transformer_blocks.0.attn1.to_q.weight'
    """
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def released_names(config: UNet3DConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For every parameter of ``UNet3D(config)``: its name and its shape in the released checkpoint.

    Shapes differ where the released code writes a linear layer as a convolution with a kernel of one.
    """
    net = _without_memory(config)
    parents = {
        "embedding.timestep_mlp": "time_embed",
        "embedding.fps_mlp": "fps_embedding",
        "encoder_blocks.0.convolution": "input_blocks.0.0",
        "encoder_blocks.0.temporal_transformer": "init_attn.0",
        "norm_out": "out.0",
        "conv_out": "out.2",
    }
    blocks = {f"encoder_blocks.{i}": (f"input_blocks.{i}", b) for i, b in enumerate(net.encoder_blocks) if i}
    blocks["middle"] = ("middle_block", net.middle)
    blocks |= {f"decoder_blocks.{i}": (f"output_blocks.{i}", b) for i, b in enumerate(net.decoder_blocks)}
    for ours, (theirs, block) in blocks.items():
        parents |= {f"{ours}.{layer}": f"{theirs}.{position}" for position, layer in enumerate(block)}

    names = {}
    for name, parameter in net.named_parameters():
        parent = next(p for p in parents if name.startswith(p + "."))
        inside = name.removeprefix(parent + ".")
        names[name] = (f"{parents[parent]}.{released_name(inside)}", _released_shape(name, parameter, config))
    return names


def _released_shape(name: str, parameter: Tensor, config: UNet3DConfig) -> tuple[int, ...]:
    shape = tuple(parameter.shape)
    if not re.search(r"transformer\.project_(in|out)\.weight$", name):
        return shape
    if "spatial_transformer" in name:
        return shape if config.linear_projections else (*shape, 1, 1)
    # The initial temporal transformer always has convolutions there.
    return shape if config.linear_projections and not name.startswith("encoder_blocks.0.") else (*shape, 1)


def unet_from_videocrafter(
    state_dict: Mapping[str, Any],
    config: UNet3DConfig,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> UNet3D:
    """Build the network from weights under their released names; strict, in evaluation mode.

    Args:
        state_dict: original names, with or without ``model.diffusion_model.`` in front, possibly nested under
            ``state_dict`` or ``module``. Other parts of a whole checkpoint (autoencoder, CLIP) are left aside.
        config: which network this is.
        dtype, device: convert to; by default the weights stay what and where they are, and are not copied.

    Raises:
        CheckpointError: lists every missing, foreign and misshapen tensor.
    """
    _check_dtype(dtype)
    weights = _unet_weights(state_dict)
    names = released_names(config)
    _check(weights, names, config)
    net = _without_memory(config)
    converted = {
        ours: weights[names[ours][0]].reshape(parameter.shape).to(device=device, dtype=dtype)
        for ours, parameter in net.named_parameters()
    }
    net.load_state_dict(converted, assign=True)
    return net.eval()


def unet_to_videocrafter(net: UNet3D) -> dict[str, Tensor]:
    """The network's weights under their released names and shapes; the inverse of :func:`unet_from_videocrafter`."""
    parameters = dict(net.named_parameters())
    return {
        theirs: parameters[ours].detach().reshape(shape) for ours, (theirs, shape) in released_names(net.config).items()
    }


def load_unet(
    path: str | Path,
    config: UNet3DConfig,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> UNet3D:
    """Load the network from a ``.ckpt``, ``.pt`` or ``.safetensors`` file of a released model.

    The file is mapped into memory, never executed. On the CPU and without a change of dtype the weights stay in the
    mapped file and are read when first used, so do not overwrite it meanwhile. Otherwise they are converted a few at
    a time, so the peak stays close to the size of the result.
    """
    _check_dtype(dtype)
    state_dict = read_checkpoint(path)
    weights = _unet_weights(state_dict)
    if torch.device(device).type == "cpu" and all(dtype in (None, w.dtype) for w in weights.values()):
        return unet_from_videocrafter(state_dict, config)

    names = released_names(config)
    _check(weights, names, config)
    sizes = {ours: weights[theirs].nbytes for ours, (theirs, _) in names.items()}
    del state_dict, weights
    net = _without_memory(config)
    shapes = {ours: parameter.shape for ours, parameter in net.named_parameters()}
    for part in _parts(sizes, limit=max(2**24, sum(sizes.values()) // 20)):
        # Mapped anew for each part: closing the map is what gives the pages that were read back to the system.
        mapped = _unet_weights(read_checkpoint(path))
        converted = {
            ours: mapped[names[ours][0]].reshape(shapes[ours]).to(device=device, dtype=dtype, copy=True)
            for ours in part
        }
        net.load_state_dict(converted, assign=True, strict=False)
        del mapped
    return net.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a ``.safetensors``, ``.ckpt`` or ``.pt`` file, mapped into memory; code in it is never run.

    The first bytes tell which of them it is, so a ``.ckpt`` may hold either kind.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, truncated, not a checkpoint, or a pickle of anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: download the checkpoint first, or correct the path.")
    with path.open("rb") as file:
        start = file.read(16)
    is_safetensors, is_zip, is_pickle = start[8:9] == b"{", start.startswith(b"PK"), start.startswith(b"\x80")
    if not (is_safetensors or is_zip or is_pickle):
        raise CheckpointError(
            f"{path.name} is damaged or not a checkpoint (it begins with {start!r}): download it again, and the file "
            f"itself, not a web page about it."
        )
    try:
        content = _read_safetensors(path) if is_safetensors else _read_pickle(path)
    except Exception as error:  # A damaged file can make the readers fail in any way.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and (asked or is_pickle):
            raise CheckpointError(
                f"{path.name} holds Python objects other than tensors{f' ({asked[1]})' if asked else ''} and was not "
                f"opened, since such a file can run any code: get the weights from the official source, or as "
                f".safetensors."
            ) from None
        reason = (str(error).splitlines() or [""])[0].split(". ")[0] or type(error).__name__
        raise CheckpointError(
            f"{path.name} is damaged or truncated: download it again and compare its size. ({reason[:200]})"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not a dictionary of tensors: pass a checkpoint file."
        )
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def _read_pickle(path: Path):
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # Written by PyTorch before 1.6.


def _unet_weights(state_dict: Mapping) -> dict[str, Tensor]:
    """The U-Net's tensors under bare names, however the dictionary wraps them."""
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"The weights are a {type(state_dict).__name__}, but must be a dictionary from names to tensors."
        )
    for wrapper in ("state_dict", "module"):
        if isinstance(state_dict.get(wrapper), Mapping):
            state_dict = state_dict[wrapper]
    # DeepSpeed puts one prefix more in front; early DynamiCrafter files call the FPS embedding otherwise.
    weights = {
        str(name).removeprefix("_forward_module.").replace("framestride_embed", "fps_embedding"): value
        for name, value in state_dict.items()
    }
    if any(name.startswith(UNET_PREFIX) for name in weights):
        weights = {n.removeprefix(UNET_PREFIX): w for n, w in weights.items() if n.startswith(UNET_PREFIX)}
    strange = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"The state dict holds entries that are not tensors ({', '.join(strange[:5])}"
            f"{', ...' if len(strange) > 5 else ''}): pass the dictionary of weights itself."
        )
    return weights


def _check_dtype(dtype: torch.dtype | None):
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is {dtype}, but weights need a floating point type, such as torch.float16.")


def _check(weights: Mapping[str, Tensor], names: Mapping[str, tuple[str, tuple[int, ...]]], config: UNet3DConfig):
    needed = dict(names.values())
    missing = [name for name in needed if name not in weights]
    foreign = [name for name in weights if name not in needed]
    present = [name for name in needed if name in weights]
    misshapen = [name for name in present if tuple(weights[name].shape) != needed[name]]
    integers = [name for name in present if not weights[name].is_floating_point()]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {', '.join(_fold(missing, needed))}")
    if foreign:
        problems.append(f"{len(foreign)} foreign: {', '.join(_fold(foreign, weights))}")
    if misshapen:
        folded = (
            f"{label}: {tuple(weights[first].shape)} instead of {needed[first]}"
            for label, first in _fold(misshapen, needed | dict(weights)).items()
        )
        problems.append(f"{len(misshapen)} of the wrong shape: {', '.join(folded)}")
    if integers:
        problems.append(f"{len(integers)} without floating point numbers: {', '.join(_fold(integers, weights))}")
    if problems:
        advice = _advice(weights, names, config)
        raise CheckpointError(f"The weights do not fit this network; tensors {'; '.join(problems)}. {advice}")


def _advice(weights: Mapping[str, Tensor], names: Iterable[str], config: UNet3DConfig) -> str:
    if set(weights) == set(names):
        return "They have this library's own names: build UNet3D(config) and use its load_state_dict."
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in (
        "videocrafter2",
        "videocrafter1_t2v_512",
        "videocrafter1_t2v_1024",
        "videocrafter1_i2v",
        "dynamicrafter_512",
    ):
        candidate = getattr(UNet3DConfig, name)()
        width = shapes.get("out.0.weight")  # Comparing everything takes a second.
        if (
            candidate != config
            and width == (candidate.model_channels,)
            and dict(released_names(candidate).values()) == shapes
        ):
            return f"They are the weights of another network: use UNet3DConfig.{name}()."
    return "Use the configuration that these weights were trained with, or the weights of this configuration."


def _fold(names: Iterable[str], everything: Iterable[str]) -> dict[str, str]:
    """The names in short form, each with the first name that it stands for.

    ``module.*`` stands for all tensors of a module, and ``*`` for any number, where no other name of ``everything``
    fits as well.
    """
    names = set(names)
    others = {prefix for name in everything if name not in names for prefix in _prefixes(name)}

    @cache
    def fits_another(pieces: tuple[str, ...]) -> bool:
        pattern = re.compile(r"\.".join(r"\d+" if piece == "*" else re.escape(piece) for piece in pieces))
        return any(pattern.fullmatch(other) for other in others)

    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda n: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", n)]):
        module = next((prefix for prefix in _prefixes(name) if prefix not in others), name)
        pieces = tuple(module.split("."))
        for i, piece in enumerate(pieces):
            general = (*pieces[:i], "*", *pieces[i + 1 :])
            if piece.isdigit() and not fits_another(general):
                pieces = general
        groups.setdefault(".".join(pieces) + ("" if module == name else ".*"), []).append(name)
    return {
        members[0] if len(members) == 1 else f"{label} ({len(members)})": members[0]
        for label, members in groups.items()
    }


def _prefixes(name: str) -> Iterable[str]:
    return accumulate(name.split("."), "{}.{}".format)


def _without_memory(config: UNet3DConfig) -> UNet3D:
    with torch.device("meta"):
        return UNet3D(config)


def _parts(sizes: Mapping[str, int], limit: int) -> Iterable[list[str]]:
    part, size = [], 0
    for name, nbytes in sizes.items():
        if part and size + nbytes > limit:
            yield part
            part, size = [], 0
        part.append(name)
        size += nbytes
    if part:
        yield part
