"""The small model's weights and cards: written whole or not at all, read back only if the hash is right (chapter 9).

A *card* is the ``.json`` file beside a ``.safetensors`` file: hash, command, settings, log and the judge's numbers.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..autoencoder import Autoencoder
from ..checks import check_choice, check_instance, check_path, shown, shown_path
from ..configuration import UNet3DConfig
from ..files import refuse_doubled_names
from ..inference import WRAPPING_COUNTERS, bare_name, unwrapped
from .model import Pipeline, VideoModel

WEIGHTS = Path(__file__).parent / "shipped"
VIDEO_MODELS = ("t2v", "i2v", "i2v_attention")


def write_whole(files: Mapping[Path, bytes]):
    """Write files beside their places and move them there when all are complete: until then the old ones stay.

    Raises:
        OSError: in one sentence, if there is no room or the folder cannot be written; the old files are as they were.
    """
    partial = {path: path.with_name(f"{path.name}.partial") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial[path].write_bytes(content)
        for path in files:
            partial[path].replace(path)
    except OSError as error:
        for path in partial.values():
            with contextlib.suppress(OSError):
                path.unlink()
        raise OSError(
            f"{' and '.join(map(str, files))} cannot be written ({error.strerror or error}), and what was there is as "
            f"before: make room, or choose another folder."
        ) from error


def has_piece(name: str, pieces: Sequence[str] | None) -> bool:
    """Whether a weight's name contains one of these pieces; ``None`` stands for every name."""
    return pieces is None or any(piece in name for piece in pieces)


def save_weights(path: str | Path, model: nn.Module, card: Mapping[str, Any], pieces: Sequence[str] | None = None):
    """Half-precision weights as ``.safetensors`` and, beside them, a ``.json`` card with their hash.

    ``pieces`` saves only the weights whose names contain one of them. Either both files are new, or both are as before.
    """
    check_instance("model", model, nn.Module, "VideoModel(small_unet())")
    check_instance("card", card, Mapping, '{"command": "..."}')
    path, model = check_path("path", path), unwrapped(model)
    weights = {name: value for name, value in model.state_dict().items() if has_piece(name, pieces)}
    weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    # Copied, since a file holds each weight by itself, also one that two layers share.
    content = safetensors.torch.save(
        {name: value.cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    )
    # Of a card that was read from another file, everything but that one's hash.
    text = card_text({"sha256": ""} | dict(card) | {"sha256": sha256(content)})
    write_whole({path: content, path.with_suffix(".json"): text.encode()})


def card_text(card: Mapping[str, Any]) -> str:
    """A card as it stands in its file."""
    try:
        return json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"The card cannot be written ({error}): use numbers, texts, lists and mappings only.") from None


def read_card(name: str, folder: str | Path = WEIGHTS) -> dict[str, Any]:
    """What is known about shipped weights: hash, command, configuration, log, the judge's numbers."""
    path = check_path("folder", folder) / f"{name}.json"
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There are no weights called {shown(name)} in {shown_path(folder)}: train them with python -m "
            f"vdmlib.train {name:.60}."
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict):
            raise ValueError(f"it holds a {type(card).__name__}")
        return card
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{shown_path(path)} is no card that can be read ({error}): fetch or write it again."
        ) from None


def weights_path(name: str | Path, folder: str | Path = WEIGHTS) -> Path:
    """The file that is meant: a path that ends in ``.safetensors``, or the name of weights in the folder."""
    path = check_path("name", name)
    path = path if path.suffix else check_path("folder", folder) / f"{path}.safetensors"
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There are no weights {shown_path(path)}: train them first, or correct the name.")
    return path


def sha256(content: bytes) -> str:
    """The hash of a file's content, as cards have it."""
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, expected_hash: str | None = None) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file; with a hash, only if it is the file's."""
    content = path.read_bytes()  # Once, so that what is checked is what is used.
    if expected_hash is not None and (found := sha256(content)) != expected_hash:
        raise ValueError(
            f"{shown_path(path)} has the hash {found}, but the card says {expected_hash}: fetch the file again."
        )
    try:
        weights = safetensors.torch.load(content)
        refuse_doubled_names(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return weights
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{shown_path(path)} is no .safetensors file ({error}): fetch or write it again.") from None


def load_weights(name: str, model: nn.Module, folder: str | Path = WEIGHTS):
    """Fill a network with the weights of this name, checked against their card; then it is frozen, for evaluation."""
    card, path = read_card(name, folder), weights_path(name, folder)
    weights = {k: v.float() if v.is_floating_point() else v for k, v in read_weights(path, card["sha256"]).items()}
    if card.get("config", {}).get("trained_parts") is not None:
        # The file holds what was trained; all else is as in the weights that the training started from.
        base = weights_path(card["config"]["init_from"], folder)
        copy_weights(model, read_weights(base, card["init_from_sha256"]), base)
        weights = model.state_dict() | weights
    _check_names(path, weights, model)
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)


def _check_names(path: Path, weights: Mapping[str, Tensor], model: nn.Module) -> None:
    own = model.state_dict()
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise ValueError(
            f"{shown_path(path)} does not fit this network in {len(wrong)} weights, such as {shown_path(wrong[0])}: "
            f"pass the network that it was saved from."
        )


def load_autoencoder(folder: str | Path = WEIGHTS) -> Autoencoder:
    """The shipped autoencoder."""
    autoencoder = Autoencoder()
    load_weights("autoencoder", autoencoder, folder)
    return autoencoder


def load_video_model(name: str = "t2v", folder: str | Path = WEIGHTS) -> VideoModel:
    """The shipped text encoder and denoiser; ``name`` is "t2v", "i2v" or "i2v_attention"."""
    check_choice("name", name, VIDEO_MODELS)
    config = read_card(name, folder)["config"]
    unet: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config["unet"].items()
    }
    try:
        model = VideoModel(UNet3DConfig(**unet), config["text_layers"], config.get("image_tokens", 16))
    except TypeError as error:  # A setting that has another name by now.
        raise ValueError(f"The card of {name} in {folder} is of another version ({error}): train it again.") from None
    load_weights(name, model, folder)
    return model


def load_pretrained(name: str = "t2v", folder: str | Path = WEIGHTS) -> Pipeline:
    """The shipped small model, ready to sample; ``name`` is "t2v", "i2v" or "i2v_attention"."""
    return Pipeline(load_video_model(name, folder), load_autoencoder(folder), read_card(name, folder))


def start_from(model: nn.Module, path: str | Path):
    """Copy every weight that the file has under the same name; a wider first convolution gets zeros for what is new.

    ``path`` is a ``.safetensors`` file, or the name of shipped weights; what a wrapped network was saved as is
    understood. Warns of weights that only one of the two has, those for a picture excepted: text to video has none.
    """
    check_instance("model", model, nn.Module, "VideoModel(small_unet())")
    path = weights_path(path)
    copy_weights(model, read_weights(path), path)


def copy_weights(model: nn.Module, given: Mapping[str, Tensor], path: Path):
    """:func:`start_from`, for weights that are already read; ``path`` is where they come from."""
    given = {bare_name(name): value for name, value in given.items() if name not in WRAPPING_COUNTERS}
    every = unwrapped(model).state_dict()
    own = {name: value for name, value in every.items() if name in given}
    if not own:
        raise ValueError(f"{path} has none of this model's weights: start from weights of the same kind of model.")
    for name, value in own.items():
        if not _fits(given[name], value):
            raise ValueError(
                f"{name} is {tuple(given[name].shape)} in {path}, but {tuple(value.shape)} in this model: start from "
                f"weights of the same width."
            )
    unused, fresh = [n for n in given if n not in own], [n for n in every if n not in own and "image" not in n]
    if unused or fresh:
        warnings.warn(
            f"{len(unused)} weights in {shown_path(path)} are not in this model, and {len(fresh)} of the model, which "
            f"stay as they are, not in the file (such as {shown_path((unused + fresh)[0])}): see whether the two "
            f"belong together.",
            stacklevel=3,
        )
    for name, value in own.items():
        value.zero_()
        value[tuple(slice(size) for size in given[name].shape)] = given[name].to(value)


def _fits(given: Tensor, own: Tensor) -> bool:
    # A convolution may have more inputs here than in the file.
    wider = given.ndim == own.ndim > 1 and given.shape[1] < own.shape[1]
    return given.shape == (own[:, : given.shape[1]] if wider else own).shape
