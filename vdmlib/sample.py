"""Make a video from the command line (chapters 1 and 11).

The shipped small model, offline and in seconds on a laptop; it knows captions such as these:

    python -m vdmlib.sample "a red 7 moving left quickly"
    python -m vdmlib.sample "a blue 3 moving up slowly" --fps 16 --output three.gif

A released model, which needs pip install 'vdmlib[pipeline]' and a GPU:

    python -m vdmlib.sample "a sailing boat at sunset" --checkpoint VideoCrafter/VideoCrafter2
    python -m vdmlib.sample "horses" --kind i2v --image horse.png --checkpoint VideoCrafter/Image2Video-512
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from . import small
from .checks import check_first_frames, check_number
from .devices import DTYPES, choose_device
from .media import centre_square, check_output, read_pictures, save_somewhere, save_video
from .released.memory import MemoryOptions
from .released.pipeline import SamplingSettings, VideoCrafterPipeline
from .released.releases import RELEASES
from .small import data

EXAMPLE = "a red 7 moving left quickly"
SAMPLING = {"fps", "steps", "guidance_scale", "eta", "seed"}
VIDEO = {"frames", "height", "width"}
MEMORY = {"guidance_in_turn", "decode_frames", "sliced_attention", "offload"}
OF_A_CHECKPOINT = VIDEO | MEMORY | {"negative_prompt", "dtype", "compile"}


def parser() -> argparse.ArgumentParser:
    """The options; what is not given is left out of the result, since the defaults are the model's."""
    command = argparse.ArgumentParser(
        prog="python -m vdmlib.sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("prompt", nargs="?", help=f'what to show (default, for the small model: "{EXAMPLE}")')
    command.add_argument("--checkpoint", help="file, folder or Hugging Face name (default: the shipped small model)")
    command.add_argument(
        "--kind",
        choices=small.weights.VIDEO_MODELS,
        help="from text alone (default), or from a picture, in i2v_attention (small) through attention alone",
    )
    command.add_argument(
        "--image",
        type=Path,
        help="the picture, for i2v; the small model takes its middle square, CLIP in a checkpoint sees it stretched",
    )
    command.add_argument(
        "--output", type=Path, help="a .mp4 or .gif file (default: video.gif, or .mp4 of a checkpoint)"
    )
    command.add_argument("--show-fps", type=float, help="frames per second of the file (default: 8, or --fps)")
    command.add_argument("--device", help="cpu or cuda, which are tested (default: cuda, if there is one)")
    sampling = command.add_argument_group("sampling (defaults: the model's)")
    sampling.add_argument("--fps", type=float, help="frames per second the model is told")
    sampling.add_argument("--steps", type=int)
    sampling.add_argument("--guidance-scale", type=float)
    sampling.add_argument("--eta", type=float, help="0 for no noise put back in, 1 for as much as DDPM")
    sampling.add_argument("--seed", type=int, help="default: 0")
    released = command.add_argument_group("of a checkpoint only")
    released.add_argument("--negative-prompt", help="what guidance leads away from")
    released.add_argument("--frames", type=int)
    released.add_argument("--height", type=int, help="in pixels, a multiple of 64")
    released.add_argument("--width", type=int, help="in pixels, a multiple of 64")
    released.add_argument("--dtype", choices=list(DTYPES), help="default: float16 on a GPU, float32 on a CPU")
    released.add_argument("--compile", action="store_true", help="translate the U-Net with torch.compile first")
    released.add_argument("--guidance-in-turn", action="store_true", help="both halves of the guidance by themselves")
    released.add_argument("--decode-frames", type=int, help="frames the autoencoder decodes at once (default: 4)")
    released.add_argument("--sliced-attention", action="store_true", help="attention over fewer tokens at a time")
    released.add_argument("--offload", choices=["networks", "blocks"], help="weights wait on the CPU")
    return command


def sample_checkpoint(given: dict[str, Any]) -> Float[Tensor, "1 f 3 h w"]:
    """A video of a released model in −1 ... 1; everything that can be wrong is found before gigabytes are read."""
    kind = given.get("kind", "t2v")
    if "prompt" not in given:
        raise ValueError("A released model needs a prompt: say in quotes what to show.")
    if kind not in RELEASES:
        raise ValueError(
            f"A checkpoint is of kind {' or '.join(RELEASES)}: {kind} is a small model, without --checkpoint."
        )
    settings: dict[str, Any] = {"seed": 0} | _among(SAMPLING | VIDEO, given)
    SamplingSettings.of(RELEASES[kind][0], **settings)
    pictures = _pictures(given, kind)
    memory = _among(MEMORY, given)
    memory = MemoryOptions(guidance_in_one_batch=not memory.pop("guidance_in_turn", False), **memory)
    pipe = VideoCrafterPipeline.from_checkpoint(
        given["checkpoint"], kind, dtype=given.get("dtype"), device=given.get("device"), memory=memory
    )
    if "compile" in given:
        pipe.compile()
    if pictures is not None and (size := pictures[0].shape[1:])[0] != size[1]:
        print(f"The picture is {size[0]} × {size[1]}: the model sees it stretched to a square.", file=sys.stderr)
    return pipe(given["prompt"], image=pictures, **settings, **_among({"negative_prompt"}, given))


def sample_small(given: dict[str, Any]) -> Float[Tensor, "1 f 3 h w"]:
    """A video of the shipped small model in −1 ... 1, enlarged to be seen."""
    if strange := [f"--{name.replace('_', '-')}" for name in given if name in OF_A_CHECKPOINT]:
        raise ValueError(f"The small model does not know {', '.join(strange)}: pass --checkpoint too, or leave it out.")
    kind, device = given.get("kind", "t2v"), choose_device(given.get("device"))
    pictures = _pictures(given, kind)
    model = small.load_pretrained(kind)
    model.video_model.to(device)
    model.autoencoder.to(device)
    first_frame = None if pictures is None else _small_square(pictures[0], data.SIZE)
    settings: dict[str, Any] = {"seed": 0} | _among(SAMPLING, given)
    video = model.generate([given.get("prompt", EXAMPLE)], first_frame=first_frame, progress=True, **settings)
    enlarge = max(1, 256 // data.SIZE)
    return repeat(video.cpu(), "b f c h w -> b f c (h h2) (w w2)", h2=enlarge, w2=enlarge)


def _pictures(given: dict[str, Any], kind: str) -> list[Float[Tensor, "3 _ _"]] | None:
    check_first_frames(1 if "image" in given else None, 1, wanted=kind != "t2v")
    return read_pictures(given["image"]) if "image" in given else None


def _small_square(picture: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "1 3 {size} {size}"]:
    square = centre_square(picture)
    if square.shape != picture.shape:
        (h, w), side = picture.shape[1:], square.shape[-1]
        print(f"The picture is {h} × {w}: its middle {side} × {side} is used.", file=sys.stderr)
    return torch.nn.functional.interpolate(square[None], (size, size), mode="area")


def _among(names: set[str], given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _write(video: Float[Tensor, "1 f 3 h w"], output: Path, fps: int | float) -> None:
    try:
        save_video(video, output, fps)
    except Exception as error:
        kept = save_somewhere(video, output, fps)
        raise OSError(f"{output} could not be written: the video is kept in {kept}. ({error})") from error


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ``--help`` tells the options."""
    command = parser()
    given = vars(command.parse_args(arguments))
    start = time.perf_counter()
    released = "checkpoint" in given
    output = given.get("output", Path("video.mp4" if released else "video.gif"))
    show_fps = given.get("show_fps", 8 if released else given.get("fps", data.FRAME_RATES[0]))
    try:
        output = check_output(output)
        check_number("show-fps" if "show_fps" in given else "fps", show_fps, 0.1, 240)
        video = (sample_checkpoint if released else sample_small)(given)
        _write(video, output, show_fps)
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, torch.cuda.OutOfMemoryError) as error:
        command.exit(1, f"{error}\n")
    print(f"{output}: {video.shape[1]} frames in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
