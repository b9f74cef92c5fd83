"""Pictures in, videos out, and packages that only some need (chapter 11).

Pixels are in −1 ... 1 wherever they enter or leave this library: −1 is black, 1 is white.
"""

import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor

from .checks import (
    BYTES,
    check_number,
    check_path,
    check_pixels,
    check_rough_pixels,
    check_tensor,
    shown,
    shown_path,
    unfitting_pixels,
)

FORMS = (
    "a path, a PIL picture, the bytes of a file, an array of bytes (h, w, 3), a tensor (3, h, w), or a list of these"
)

MOST_PIXELS = {".mp4": 16384, ".gif": 65535}  # On a side: what H.264's encoder takes, and what GIF counts to.


def require(
    name: str, purpose: str = "Sampling from a released checkpoint", extra: str | None = "pipeline"
) -> ModuleType:
    """Import a package that not everybody has, or say in one sentence what it is for and how to install it.

    Args:
        name: the module, such as ``PIL.Image``.
        purpose: what the caller is about to do, the start of the sentence.
        extra: the extra of ``vdmlib`` that brings the package along; ``None`` where it comes with ``vdmlib`` itself.

    Raises:
        ImportError: also where the package is there but broken, such as a torchvision of another build.
    """
    try:
        return import_module(name)
    except Exception as error:  # A broken installation raises RuntimeError, OSError, AttributeError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        what = "vdmlib" if extra is None else f"vdmlib[{extra}]"
        raise ImportError(
            f"{purpose} needs the package {name.split('.')[0]}, which cannot be imported ({reason}): pip install "
            f"'{what}'."
        ) from error


# Pictures in


def read_images(image: Any) -> Float[Tensor, "b 3 h w"]:
    """One or several pictures of one size, in −1 ... 1; forms and errors as in :func:`read_pictures`."""
    pictures = read_pictures(image)
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        shown = ", ".join(f"{h} × {w}" for h, w in sorted(sizes)[:4])
        raise ValueError(f"image holds pictures of {shown}, but needs one size: resize them first.")
    return torch.stack(pictures)


def read_pictures(image: Any) -> list[Float[Tensor, "3 _ _"]]:
    """Pictures of any size, in −1 ... 1, float32 on the CPU; the same picture is the same tensor in every form.

    Args:
        image: a path; a ``PIL`` picture of any mode, turned upright as a path's is; the bytes of a picture file; an
            array (h, w, 3) of bytes, or of 16 bits, also without colours, with transparency, or of several pictures;
            a tensor (3, h, w) or (b, 3, h, w), also of one channel, in −1 ... 1 or of bytes; or a list of these.
            Transparency is left out, as in ``picture.convert("RGB")``; of an animation one picture is taken, and it
            is said which.

    Raises:
        TypeError, ValueError, FileNotFoundError: in one sentence.
    """
    several = list(image) if isinstance(image, list | tuple) else [image]
    if not several:
        raise ValueError(f"image is an empty list: pass {FORMS}.")
    return [picture for one in several for picture in _pictures(one)]


def _pictures(image: Any) -> list[Float[Tensor, "3 _ _"]]:
    if not isinstance(image, Tensor):
        image = _decoded(image)
    check_tensor("image", image)
    if image.ndim == 3:
        image = rearrange(image, "c h w -> 1 c h w")
    if image.ndim != 4 or image.shape[1] not in (1, 3) or not len(image) or min(image.shape[2:]) < 2:
        raise ValueError(f"image has shape {tuple(image.shape)}: pass (3, h, w) or (b, 3, h, w) with 2 pixels or more.")
    if image.dtype == torch.uint8:
        image = image / 127.5 - 1
    check_pixels("image", image)
    image = image.detach().float().cpu()
    return list(image if image.shape[1] == 3 else repeat(image, "b 1 h w -> b three h w", three=3))


def _decoded(image: Any) -> Tensor:
    """A picture in a form that others made, as a tensor (b, c, h, w) of bytes or in −1 ... 1."""
    pillow = require("PIL.Image", "Reading a picture", None)
    if isinstance(image, str | os.PathLike):
        path = check_path("image", image)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no picture {shown_path(path)}: correct the path.")
        image = _from_pillow(path, shown_path(path.name), pillow)
    elif isinstance(image, bytes | bytearray):
        image = _from_pillow(io.BytesIO(image), "image", pillow)
    elif isinstance(image, pillow.Image):
        image = _from_pillow(image, "image", pillow)
    if not hasattr(image, "__array__"):
        raise TypeError(f"image is a {type(image).__name__}: pass {FORMS}.")
    array = np.array(image)  # A copy, since the channels of an array may run backwards and a tensor's may not.
    full = {"uint8": 255, "uint16": 65535, "bool": 1}.get(array.dtype.name)
    grey = array.ndim == 2
    if full is None or array.ndim not in (2, 3, 4) or not (grey or array.shape[-1] in (1, 2, 3, 4)):
        raise ValueError(f"image is an array {array.shape} of {array.dtype}: pass bytes, (h, w, 3).")
    values = torch.from_numpy(array.astype(np.float32)) / (full / 2) - 1
    values = values[..., None] if grey else values[..., : 1 if values.shape[-1] < 3 else 3]
    return rearrange(values, "... h w c -> ... c h w")


def _from_pillow(source: Any, name: str, pillow: ModuleType) -> np.ndarray:
    """The pixels of a picture or a file: bytes (h, w, 3), or 16 bits (h, w); as it is to be seen, whatever its mode."""
    operations = require("PIL.ImageOps", "Reading a picture", None)
    try:
        if isinstance(source, Path):
            source = io.BytesIO(source.read_bytes())  # Pillow would keep a damaged file open.
        picture = source if isinstance(source, pillow.Image) else pillow.open(source)
        # Of phones' photos (MPO) the others are for depth and brightness.
        if (frames := getattr(picture, "n_frames", 1)) > 1 and picture.format != "MPO":
            warnings.warn(f"{name} has {frames} pictures: number {picture.tell() + 1} is taken.", stacklevel=5)
        picture = operations.exif_transpose(picture)  # A camera may say only beside the pixels how they lie.
        if picture.mode.startswith("I"):  # Whole numbers: of 16 bits, whatever their mode could hold.
            values = np.array(picture)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"its numbers run from {values.min()} to {values.max()}, more than 16 bits")
            return values.astype(np.uint16)
        if picture.mode == "F":
            raise ValueError("its numbers are fractions, and nobody says what is white")
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")
        return np.array(picture.convert("RGB"))
    except (OSError, EOFError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(f"{name} is no picture that can be read: save it as PNG or JPEG. ({reason})") from None


def centre_square(picture: Float[Tensor, "... h w"]) -> Float[Tensor, "... side side"]:
    """The largest square in the middle of a picture."""
    check_tensor("picture", picture)
    if picture.ndim < 2:
        raise ValueError(f"picture has shape {tuple(picture.shape)}, but needs a height and a width: pass (..., h, w).")
    h, w = picture.shape[-2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return picture[..., top : top + side, left : left + side]


# Videos out


def to_bytes(pixels: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Pixels in −1 ... 1 as bytes, rounded to the nearest; what a decoder left a little beyond is cut off."""
    check_tensor("pixels", pixels)
    if not pixels.is_floating_point():
        raise unfitting_pixels("pixels", f"is {pixels.dtype}", BYTES)
    if pixels.numel():
        check_rough_pixels("pixels", pixels)
    return rounded(pixels)


def rounded(pixels: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """:func:`to_bytes` for pixels that are already checked."""
    return ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def save_video(frames: Float[Tensor, "*b f 3 h w"], path: str | Path, fps: int | float = 8) -> Path:
    """Write one video, pixels in −1 ... 1, as ``.mp4`` (H.264) or as a looping ``.gif``; returns the path.

    A file that is there already stays as it is until the new one is whole. Browsers show a GIF at most at 50 frames
    per second.

    Raises:
        TypeError, ValueError, OSError, ImportError: in one sentence.
    """
    path = check_output(path)
    if not isinstance(frames, Tensor):
        raise TypeError(f"frames is a {type(frames).__name__}: pass a tensor, (frames, 3, height, width) in -1 ... 1.")
    if frames.ndim == 5 and len(frames) == 1:
        frames = rearrange(frames, "1 f c h w -> f c h w")
    if frames.ndim != 4 or frames.shape[1] != 3 or not frames.numel():
        raise ValueError(
            f"frames has shape {tuple(frames.shape)}, but one video is (frames, 3, height, width): pick it with [i]."
        )
    fps = check_number("fps", fps, 0.1, 240)
    check_pixels("frames", frames)
    if max(frames.shape[-2:]) > (most := MOST_PIXELS[path.suffix.lower()]):
        raise ValueError(
            f"Frames of {frames.shape[2]} × {frames.shape[3]} are too large for a {path.suffix} file, which has room "
            f"for {most} pixels a side: scale them down."
        )
    pixels = rearrange(rounded(frames), "f c h w -> f h w c").numpy()
    with replacing(path) as scratch:
        if path.suffix.lower() == ".gif":
            # In hundredths of a second, as GIF counts, and as long in all as the frames are together.
            ends = [round(100 * (i + 1) / fps) for i in range(len(pixels))]
            times = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
            pillow = require("PIL.Image", "Writing a GIF", None)
            write_gif([pillow.fromarray(frame) for frame in pixels], scratch, times)
        else:
            _write_mp4(pixels, scratch, fps)
    return path


def write_gif(pictures: Sequence[Any], target: Any, milliseconds: int | Sequence[int]) -> None:
    """``PIL`` pictures as a GIF that loops for ever: the same bytes every time, to a path or an open file."""
    first, *others = pictures
    times = milliseconds if isinstance(milliseconds, int) else list(milliseconds)
    first.save(target, format="GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=False)


def _write_mp4(pixels: np.ndarray, path: Path, fps: int | float) -> None:
    ffmpeg, writer = (require(name, "Writing an mp4") for name in ("imageio_ffmpeg", "imageio.v2"))
    if pixels.shape[1] % 2 or pixels.shape[2] % 2:
        raise ValueError(f"Frames of {pixels.shape[1]} × {pixels.shape[2]} cannot be written as mp4: use even sides.")
    try:
        writer.mimwrite(path, pixels, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=2, quality=8)
        written, _ = ffmpeg.count_frames_and_secs(path)  # ffmpeg is another program: whether all went well, it shows.
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise OSError(f"ffmpeg could not write the video: see whether the disk is full. ({reason})") from error
    if written < len(pixels):
        raise OSError(f"ffmpeg wrote {written} of {len(pixels)} frames: see whether the disk is full.")


def check_output(path: str | Path) -> Path:
    """The path of a video that can be written there: nobody wants to lose a video to a misspelt name.

    Raises:
        ValueError, OSError: for another ending, a folder that is not there, a folder in place of a file, or a place
            where nothing may be written; ImportError for a package that is missing.
    """
    path = check_path("path", path)
    name = shown_path(path)
    if os.path.isdir(path):  # Unlike path.is_dir(), also of names that no file can have.
        raise IsADirectoryError(f"{name} is a folder: name a file in it, such as {shown_path(path / 'video.gif')}.")
    if path.suffix.lower() not in MOST_PIXELS:
        raise ValueError(f"{shown_path(path.name)} ends in {shown(path.suffix)}: use .mp4 or .gif.")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(
            f"There is no folder {shown_path(path.parent)}: create it first, or write somewhere else."
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(f"{name} is there and is no file, such as a pipe or a device: choose another name.")
    if path.suffix.lower() == ".gif":
        require("PIL.Image", "Writing a GIF", None)
    else:
        require("imageio.v2", "Writing an mp4")
        require("imageio_ffmpeg", "Writing an mp4")
    try:
        with replacing(path, keep=True) as scratch:
            scratch.touch()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("the file is read-only")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PermissionError(f"{name} cannot be written: choose another file or folder. ({reason})") from error
    return path


@contextmanager
def replacing(path: Path, keep: bool = False) -> Iterator[Path]:
    """A new file beside ``path`` that takes its place once it is whole: whatever fails before, the old one stays.

    ``keep`` leaves the old one in any case, to try whether a file can be written there.
    """
    path = Path(os.path.realpath(path))
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield scratch
        if not keep:
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def save_somewhere(frames: Float[Tensor, "*b f 3 h w"], path: str | Path, fps: int | float = 8) -> Path:
    """A video that could not be written to ``path``, in a new folder for temporary files; returns where.

    Where the format is the reason, too, the frames are kept as ``.safetensors``, in −1 ... 1 under the name "frames".
    """
    folder = Path(tempfile.mkdtemp(prefix="vdmlib-"))
    try:
        return save_video(frames, folder / Path(path).name, fps)
    except Exception:
        kept = folder / f"{Path(path).stem}.safetensors"
        save_file({"frames": frames.detach().cpu().contiguous()}, kept)
        return kept
