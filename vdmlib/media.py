"""Pictures in, videos out: reading what a caller passes, writing what a model made (chapter 10)."""

import math
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def require(name: str) -> ModuleType:
    """Import a package of the ``pipeline`` extra, or say in one sentence what to install."""
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # A torchvision of another build raises RuntimeError.
        raise ImportError(
            f"Sampling from a released checkpoint needs the package {name.split('.')[0]}, which cannot be imported "
            f"({error}): pip install 'vdmlib[pipeline]'."
        ) from error


def read_images(image: Any) -> Float[Tensor, "b 3 h w"]:
    """A path, a PIL picture, bytes (h, w, 3) or a tensor (3, h, w) or (b, 3, h, w), as a tensor in 0 ... 1."""
    pillow = require("PIL.Image")
    if isinstance(image, str | os.PathLike):
        image = _open_picture(Path(image).expanduser(), pillow)
    if isinstance(image, pillow.Image):
        image = np.array(image.convert("RGB"))
    if hasattr(image, "__array__") and not isinstance(image, Tensor):
        image = np.array(image)  # A copy, since the channels of an array may run backwards and a tensor's may not.
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"image is an array {image.shape} of {image.dtype}: pass bytes, (h, w, 3).")
        image = rearrange(torch.from_numpy(image), "h w c -> c h w") / 255
    if not isinstance(image, Tensor):
        raise TypeError(f"image is a {type(image).__name__}: pass a path, a PIL picture, bytes (h, w, 3) or a tensor.")
    if image.ndim == 3:
        image = rearrange(image, "c h w -> 1 c h w")
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape) < 1 or min(image.shape[2:]) < 2:
        raise ValueError(f"image has shape {tuple(image.shape)}: pass (3, h, w) or (b, 3, h, w) with 2 pixels or more.")
    if not image.is_floating_point() or not image.isfinite().all() or image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"image is {str(image.dtype).removeprefix('torch.')} from {image.min():.3g} to {image.max():.3g}: pass "
            f"fractions in 0 ... 1."
        )
    return image.detach().float().cpu()


def _open_picture(path: Path, pillow):
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture {path}: correct the path.")
    try:
        with pillow.open(path) as picture:
            return require("PIL.ImageOps").exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is no picture that can be read: save it as PNG or JPEG. ({error})") from None


def save_video(frames: Float[Tensor, "*b f 3 h w"], path: str | Path, fps: int | float = 8) -> Path:
    """Write one video, pixels in 0 ... 1, as ``.mp4`` (H.264) or as a looping ``.gif``; returns the path."""
    path = Path(path).expanduser()
    if not isinstance(frames, Tensor):
        raise TypeError(f"frames is a {type(frames).__name__}: pass a tensor, (frames, 3, height, width) in 0 ... 1.")
    if frames.ndim == 5 and len(frames) == 1:
        frames = rearrange(frames, "1 f c h w -> f c h w")
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise ValueError(
            f"frames has shape {tuple(frames.shape)}, but one video is (frames, 3, height, width): pick it with [i]."
        )
    check_number("fps", fps, 0.1, 240)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}: create it first, or write somewhere else.")
    pixels = (frames.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = rearrange(pixels, "f c h w -> f h w c").numpy()
    if path.suffix.lower() == ".gif":
        pillow = require("PIL.Image")
        first, *others = (pillow.fromarray(frame) for frame in pixels)
        first.save(path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    elif path.suffix.lower() == ".mp4":
        require("imageio_ffmpeg")
        writer = require("imageio.v2")
        if pixels.shape[1] % 2 or pixels.shape[2] % 2:
            raise ValueError(
                f"Frames of {pixels.shape[1]} × {pixels.shape[2]} cannot be written as mp4: use even sides."
            )
        writer.mimwrite(path, pixels, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2, quality=8)
    else:
        raise ValueError(f"{path.name} ends in {path.suffix!r}: use .mp4 or .gif.")
    return path


def check_number(name: str, value: Any, least: int | float, most: int | float, whole: bool = False) -> None:
    """Refuse what is not a number in this range, in one sentence that names it."""
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} is {value!r:.60}: use {kind} from {least} to {most}.")
