"""Make a video from the command line (chapter 10).

The shipped small model, offline and in seconds on a laptop; it knows captions such as these:

    python -m vdmlib.sample "a red 7 moving left quickly"
    python -m vdmlib.sample "a blue 3 moving up slowly" --fps 16 --output three.mp4

A released model, which needs pip install 'vdmlib[pipeline]' and a GPU:

    python -m vdmlib.sample "a sailing boat at sunset" --checkpoint VideoCrafter/VideoCrafter2
    python -m vdmlib.sample "horses" --kind i2v --image horse.png --checkpoint VideoCrafter/Image2Video-512
"""

import argparse
import time
from pathlib import Path

import torch
from einops import repeat
from torch import Tensor

from .devices import DTYPES, choose_device
from .media import check_number, read_images, require, save_video
from .released.memory import MemoryOptions
from .released.pipeline import VideoCrafterPipeline

EXAMPLE = "a red 7 moving left quickly"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vdmlib.sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", nargs="?", help=f'what to show (default, for the small model: "{EXAMPLE}")')
    parser.add_argument("--checkpoint", help="file, folder or Hugging Face name (default: the shipped small model)")
    parser.add_argument("--kind", default="t2v", choices=["t2v", "i2v"], help="from text alone, or from a picture")
    parser.add_argument("--image", type=Path, help="the picture, for i2v")
    parser.add_argument("--output", type=Path, help="a .mp4 or .gif file (default: video.gif, or .mp4 of a checkpoint)")
    parser.add_argument(
        "--show-fps", type=float, help="frames per second of the file (default: 8, or the small model's)"
    )
    parser.add_argument("--device", help="cpu or cuda (default: the GPU, if there is one)")
    sampling = parser.add_argument_group("sampling (defaults: the model's)")
    sampling.add_argument("--fps", type=float, help="frames per second the model is told")
    sampling.add_argument("--steps", type=int)
    sampling.add_argument("--guidance-scale", type=float)
    sampling.add_argument("--eta", type=float, help="0 for no noise put back in, 1 for as much as DDPM")
    sampling.add_argument("--seed", type=int, default=0)
    released = parser.add_argument_group("of a checkpoint only")
    released.add_argument("--negative-prompt", default="", help="what guidance leads away from")
    released.add_argument("--frames", type=int)
    released.add_argument("--height", type=int, help="in pixels, a multiple of 64")
    released.add_argument("--width", type=int, help="in pixels, a multiple of 64")
    released.add_argument("--dtype", choices=list(DTYPES), help="default: float16 on a GPU, float32 on a CPU")
    released.add_argument("--compile", action="store_true", help="translate the U-Net with torch.compile first")
    released.add_argument("--guidance-in-turn", action="store_true", help="both halves of the guidance by themselves")
    released.add_argument("--decode-frames", type=int, default=4, help="frames the autoencoder decodes at once")
    released.add_argument("--sliced-attention", action="store_true", help="attention over fewer tokens at a time")
    released.add_argument("--offload", choices=["networks", "blocks"], help="weights wait on the CPU")
    parser.set_defaults(_released=[(action.option_strings[0], action.dest) for action in released._group_actions])
    return parser


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def sample_checkpoint(options: argparse.Namespace) -> tuple[Tensor, int | float]:
    """A video of a released model, (1, f, 3, h, w) in 0 ... 1, and the frames per second to show it at."""
    if options.prompt is None:
        raise ValueError("A released model needs a prompt: say in quotes what to show.")
    memory = MemoryOptions(
        not options.guidance_in_turn, options.decode_frames, options.sliced_attention, options.offload
    )
    pipe = VideoCrafterPipeline.from_checkpoint(
        options.checkpoint, options.kind, dtype=options.dtype, device=options.device, memory=memory
    )
    if options.compile:
        pipe.compile()
    given = _given(options, "fps", "steps", "guidance_scale", "eta", "seed", "frames", "height", "width")
    video = pipe(options.prompt, image=options.image, negative_prompt=options.negative_prompt, **given)
    return video, options.show_fps or 8


def sample_small(options: argparse.Namespace) -> tuple[Tensor, int | float]:
    """A video of the shipped small model, enlarged to be seen; and the frames per second that it was told."""
    from . import small
    from .small import data  # Not needed for a checkpoint.

    defaults = vars(parser().parse_args([]))
    if strange := [flag for flag, name in options._released if getattr(options, name) != defaults[name]]:
        raise ValueError(f"The small model does not know {', '.join(strange)}: pass --checkpoint too, or leave it out.")
    device, fps = choose_device(options.device), data.FRAME_RATES[0] if options.fps is None else options.fps
    check_number("fps", fps, 0.1, 1000)
    model = small.load_pretrained(options.kind)
    model.video_model.to(device), model.autoencoder.to(device)
    first_frame = None
    if options.kind == "i2v":
        if options.image is None:
            raise ValueError("The model of kind i2v starts from a picture: pass --image.")
        picture = torch.nn.functional.interpolate(read_images(options.image), (data.SIZE, data.SIZE), mode="area")
        first_frame = picture * 2 - 1
    elif options.image is not None:
        raise ValueError("An image was given, but the model of kind t2v does not look at any: pass --kind i2v.")
    given = _given(options, "steps", "guidance_scale", "eta", "seed")
    caption = EXAMPLE if options.prompt is None else options.prompt
    video = model.generate([caption], fps, first_frame, progress=True, **given)
    enlarge = max(1, 256 // data.SIZE)
    video = repeat((video.cpu() + 1) / 2, "b f c h w -> b f c (h h2) (w w2)", h2=enlarge, w2=enlarge)
    return video, options.show_fps or fps


def _check_output(output: Path, show_fps: float | None) -> None:
    # Before any work: nobody wants to lose a video to a misspelt file name.
    if output.suffix.lower() not in (".mp4", ".gif") or not output.parent.is_dir():
        raise ValueError(f"{output} cannot be written: give a .mp4 or .gif file in a folder that exists.")
    if show_fps is not None:
        check_number("show-fps", show_fps, 0.1, 240)
    for package in ("PIL.Image",) if output.suffix.lower() == ".gif" else ("imageio.v2", "imageio_ffmpeg"):
        require(package)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ``--help`` tells the options."""
    command = parser()
    options = command.parse_args(arguments)
    start = time.perf_counter()
    output = options.output or Path("video.mp4" if options.checkpoint else "video.gif")
    try:
        _check_output(output, options.show_fps)
        video, show_fps = (sample_checkpoint if options.checkpoint else sample_small)(options)
        save_video(video, output, fps=show_fps)
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, torch.cuda.OutOfMemoryError) as error:
        command.exit(1, f"{error}\n")
    print(f"{output}: {video.shape[1]} frames in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
