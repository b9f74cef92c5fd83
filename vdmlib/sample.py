"""Make a video from the command line.

The shipped small model, offline and in seconds on a laptop:

    python -m vdmlib.sample "a seven moves right"

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

from .memory import MemoryOptions
from .pipeline import DTYPES, VideoCrafterPipeline, choose_device, read_images, save_video


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vdmlib.sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", help="what to show")
    parser.add_argument("--checkpoint", help="file, folder or Hugging Face name (default: the shipped small model)")
    parser.add_argument("--kind", default="t2v", choices=["t2v", "i2v"], help="from text alone, or from a picture")
    parser.add_argument("--image", type=Path, help="the picture, for i2v")
    parser.add_argument("--output", type=Path, help="a .mp4 or .gif file (default: video.gif, or .mp4 of a checkpoint)")
    parser.add_argument("--show-fps", type=float, default=8, help="frames per second of the file")
    parser.add_argument("--device", help="cpu or cuda (default: the GPU, if there is one)")
    sampling = parser.add_argument_group("sampling (defaults: the model's)")
    sampling.add_argument("--fps", type=float, help="frames per second the model is told")
    sampling.add_argument("--steps", type=int)
    sampling.add_argument("--guidance-scale", type=float)
    sampling.add_argument("--eta", type=float)
    sampling.add_argument("--seed", type=int, default=0)
    released = parser.add_argument_group("of a checkpoint")
    released.add_argument("--negative-prompt", default="")
    released.add_argument("--frames", type=int)
    released.add_argument("--height", type=int)
    released.add_argument("--width", type=int)
    released.add_argument("--dtype", choices=list(DTYPES), help="default: float16 on a GPU, float32 on a CPU")
    released.add_argument("--compile", action="store_true", help="translate the U-Net with torch.compile first")
    memory = parser.add_argument_group("less memory, for a checkpoint")
    memory.add_argument("--guidance-in-turn", action="store_true", help="both halves of the guidance by themselves")
    memory.add_argument("--decode-frames", type=int, default=4, help="frames the autoencoder decodes at once")
    memory.add_argument("--sliced-attention", action="store_true", help="attention over fewer tokens at a time")
    memory.add_argument("--offload", choices=["parts", "blocks"], help="weights wait on the CPU")
    return parser


def sample_checkpoint(options: argparse.Namespace) -> Tensor:
    """A video of a released model, (1, f, 3, h, w) in 0 ... 1."""
    memory = MemoryOptions(
        not options.guidance_in_turn, options.decode_frames, options.sliced_attention, options.offload
    )
    pipe = VideoCrafterPipeline.from_checkpoint(
        options.checkpoint, options.kind, dtype=options.dtype, device=options.device, memory=memory
    )
    if options.compile:
        pipe.compile()
    names = ("fps", "steps", "guidance_scale", "eta", "seed", "frames", "height", "width")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return pipe(options.prompt, image=options.image, negative_prompt=options.negative_prompt, **given)


def sample_small(options: argparse.Namespace) -> Tensor:
    """A video of the shipped small model, (1, f, 3, h, w) in 0 ... 1, enlarged to be seen."""
    from . import data, small_model  # They load the small model's data packages.

    device = choose_device(options.device)
    model = small_model.load_video_model(options.kind).to(device)
    first_frame = None
    if options.kind == "i2v":
        if options.image is None:
            raise ValueError("The model of kind i2v starts from a picture: pass --image.")
        picture = torch.nn.functional.interpolate(read_images(options.image), (data.SIZE, data.SIZE), mode="area")
        first_frame = picture * 2 - 1
    given = {k: getattr(options, k) for k in ("steps", "guidance_scale", "eta") if getattr(options, k) is not None}
    video = small_model.generate(
        model,
        small_model.load_autoencoder().to(device),
        data.tokenize([options.prompt]),
        torch.tensor([options.fps or options.show_fps]),
        first_frame=first_frame,
        seed=options.seed,
        progress=True,
        **given,
    )
    enlarge = max(1, 256 // data.SIZE)
    return repeat((video.cpu() + 1) / 2, "b f c h w -> b f c (h h2) (w w2)", h2=enlarge, w2=enlarge)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ``--help`` tells the options."""
    command = parser()
    options = command.parse_args(arguments)
    start = time.perf_counter()
    output = options.output or Path("video.mp4" if options.checkpoint else "video.gif")
    try:
        if output.suffix not in (".mp4", ".gif") or not output.parent.is_dir():
            raise ValueError(f"{output} cannot be written: give a .mp4 or .gif file in a folder that exists.")
        video = (sample_checkpoint if options.checkpoint else sample_small)(options)
        save_video(video, output, fps=options.show_fps)
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, torch.cuda.OutOfMemoryError) as error:
        command.exit(1, f"{error}\n")
    print(f"{output}: {video.shape[1]} frames in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
