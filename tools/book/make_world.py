"""Let the shipped small model make the clips of the page "What moves?", and write them with what the judge says.

Every clip starts from the noise of one seed and draws the noise of its steps from it, so that two clips differ in
nothing but what was asked for; steps and eta are those of the model's card. The clip of a sentence is the clip of
`python -m vdmlib.sample "a red 7 moving left quickly" --fps 10 --guidance-scale 3 --seed 0`.

Of every one of the `--things`, a digit and its colour, there are clips in all motions with guidance 3; of the
`--closer` ones also with other guidance and, quickly at 10 frames per second, by networks that lack one of the
`--parts`. The page offers what is there.

Writes book/_static/world/clips.js, a script, since a page that is opened from a folder may load nothing else. A clip
takes about a second of one core, half of it with guidance 1, which asks the network once in each step instead of twice.
What is made is kept in build/world.jsonl, clip by clip, and not made again, so a run that was stopped goes on;
`--seconds` lets it stop by itself. Run it with `--fresh` after a change to the model, the judge or the sampler.
"""

import argparse
import base64
import contextlib
import io
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from vdmlib.attention import TemporalTransformer
from vdmlib.sampling import draw_noise, sample_ddim
from vdmlib.small import data, judge, load_classifier, load_pretrained, small_schedule
from vdmlib.small.model import Pipeline
from vdmlib.temporal import TemporalConvBlock

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "book/_static/world/clips.js"
KEPT = ROOT / "build/world.jsonl"
QUALITY = 80  # of the WebP pictures
PARTS = ("temporal attention", "temporal convolution", "text in time", "order of frames")
CLOSER = ("7 red", "2 red", "4 red")  # the page begins with 7; guidance is what 4 needs most, and the page says so
THINGS = (*(f"{digit} red" for digit in range(10)), *(f"7 {colour}" for colour in data.COLOURS if colour != "red"))


@contextlib.contextmanager
def without(unet: nn.Module, part: str, seed: int) -> Iterator[None]:
    """Take a part out of the network; it is back at the end of the block.

    Attention over time then adds nothing, to the frames ("temporal attention") or to the text ("text in time"), and a
    temporal convolution passes on what it is given. Without the order of frames, every call sees them in another order,
    drawn from the seed; what it says of each frame is put back to its place.
    """
    hooks = []
    for module in unet.modules():
        if isinstance(module, TemporalTransformer) and part in ("temporal attention", "text in time"):
            kind = "self_attention" if part == "temporal attention" else "cross_attention"
            layers = [getattr(block, kind) for block in module.blocks]
            hooks += [layer.register_forward_hook(lambda _, given, out: 0 * out) for layer in layers]
        if isinstance(module, TemporalConvBlock) and part == "temporal convolution":
            hooks.append(module.register_forward_hook(lambda _, given, out: given[0]))
    if part == "order of frames":
        generator, orders = torch.Generator().manual_seed(seed), []

        def shuffle(module, given):
            orders.append(torch.randperm(given[0].shape[1], generator=generator))
            return given[0][:, orders[-1]], *given[1:]

        hooks.append(unet.register_forward_pre_hook(shuffle))
        hooks.append(unet.register_forward_hook(lambda _, given, out: out[:, orders[-1].argsort()]))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def generate(
    pipeline: Pipeline, prompts: Sequence[data.Prompt], guidance: float, part: str, seed: int
) -> Float[Tensor, "b f 3 64 64"]:
    """A clip for each prompt, all from the same noise, as :meth:`Pipeline.generate` makes each of them alone."""
    model, autoencoder = pipeline.video_model, pipeline.autoencoder
    tokens = data.tokenize([prompt.caption for prompt in prompts])
    side, streams = data.SIZE // autoencoder.factor, [torch.Generator().manual_seed(seed) for _ in prompts]
    with without(model.unet, part, seed):
        latents = sample_ddim(
            model.denoiser(),
            small_schedule(),
            draw_noise((len(prompts), data.FRAMES, autoencoder.latent_channels, side, side), streams),
            context=model.context(tokens),
            uncond_context=model.context(torch.zeros_like(tokens)),
            guidance_scale=guidance,
            fps=torch.tensor([float(prompt.fps) for prompt in prompts]),
            steps=pipeline.card["sampling_steps"],
            eta=pipeline.card["eta"],
            generator=streams,
            progress=False,
        )
    return autoencoder.decode(latents).clamp(-1, 1)


def sprite(clip: Float[Tensor, "f 3 h w"]) -> bytes:
    """The frames of a clip side by side, as one WebP picture."""
    pixels = ((rearrange(clip, "f c h w -> h (f w) c") + 1) * 127.5).round().byte()
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "webp", quality=QUALITY, method=6)
    return file.getvalue()


def key_of(prompt: data.Prompt, guidance: float, part: str) -> str:
    """The name of a clip in the file, as the page puts it together from what is chosen."""
    words = (prompt.digit, prompt.colour, prompt.direction, prompt.speed, prompt.fps, f"{guidance:g}", part)
    return " ".join(map(str, words)).strip()


def entry(
    classifier: judge.DigitClassifier, video: Float[Tensor, "b f 3 h w"], prompts: Sequence[data.Prompt]
) -> Iterator[dict[str, Any]]:
    """For each clip what the page shows of it: the judge's reading, what is right, the track, the pictures."""
    right = judge.right_answers(classifier, video, prompts)
    digits, readings, tracks = judge.predict_digits(classifier, video), judge.read_clip(video), judge.track(video)
    for i, (direction, colour, speed) in enumerate(readings):
        yield {
            "seen": [int(digits[i]), colour, direction, round(speed, 3)],
            "right": {name: bool(answers[i]) for name, answers in right.items()},
            "track": [[round(value, 2) for value in centre] for centre in tracks[i].tolist()],
            "webp": base64.b64encode(sprite(video[i])).decode(),
        }


def jobs(options: argparse.Namespace, usual: float = 3.0) -> list[tuple[list[data.Prompt], float, str]]:
    """What is to be made, in batches: all that there is of the closer ones first, then the others."""
    motions = list(itertools.product(options.directions, options.speeds, options.fps))

    def moving(thing: str, motions: Iterable[tuple[str, str, int]]) -> list[data.Prompt]:
        digit, colour = thing.split()
        return [data.Prompt(int(digit), colour, *motion) for motion in motions]

    batches = []
    for thing in options.closer:
        batches += [(moving(thing, motions), guidance, "") for guidance in options.guidance]
        quick = moving(thing, [(direction, "quickly", 10) for direction in options.directions])
        batches += [(quick, usual, part) for part in options.parts]
    return batches + [(moving(thing, motions), usual, "") for thing in options.things if thing not in options.closer]


def write(path: Path, clips: dict[str, Any], options: argparse.Namespace, card: Any) -> None:
    """The script: what can be chosen, how the clips were made, and the clips."""
    digits, colours = zip(*(thing.split() for thing in [*options.closer, *options.things]), strict=True)
    choices = {"digits": sorted(set(digits)), "colours": [colour for colour in data.COLOURS if colour in colours]}
    names = ("directions", "speeds", "fps", "guidance", "parts")
    head = {
        "choices": choices | {name: getattr(options, name) for name in names},
        "speeds": data.SPEEDS,
        "made": {"seed": options.seed, "steps": card["sampling_steps"], "eta": card["eta"]},
        "heldOut": [f"{p.digit} {p.colour} {p.direction}" for p in data.all_prompts("unseen")[:: len(data.SPEEDS) * 2]],
    }
    lines = [f"{json.dumps(key)}:{json.dumps(clip, separators=(',', ':'))}" for key, clip in clips.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(lines)
    path.write_text(f"window.world={json.dumps(head)};\nworld.clips={{\n{body}\n}};\n", encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lists = {
        "things": (list(THINGS), None),
        "closer": (list(CLOSER), None),
        "directions": (list(data.DIRECTIONS), list(data.DIRECTIONS)),
        "speeds": (list(data.SPEEDS), list(data.SPEEDS)),
        "fps": (list(data.FRAME_RATES), None),
        "guidance": ([1.0, 3.0, 7.0], None),
        "parts": (list(PARTS), PARTS),
    }
    for name, (usual, known) in lists.items():
        shown = " ".join(f'"{value}"' if " " in str(value) else f"{value:g}" if name == "guidance" else str(value)
                         for value in usual)  # fmt: skip
        command.add_argument(
            f"--{name}", nargs="*", type=type(usual[0]), default=usual, choices=known, metavar="VALUE",
            help=f"default: {shown}",
        )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    command.add_argument("--output", type=Path, default=OUTPUT, help="the script to write")
    command.add_argument("--kept", type=Path, default=KEPT, help="where clips are kept while they are made")
    command.add_argument("--fresh", action="store_true", help="make all clips again")
    command.add_argument("--seconds", type=float, default=float("inf"), help="stop after about as many; run it again")
    return command


def spent(start: float) -> str:
    return f"{time.monotonic() - start:.0f} s, {time.process_time():.0f} of them the processor's"


def main() -> None:
    options = parser().parse_args()
    start = time.monotonic()
    pipeline, classifier = load_pretrained("t2v"), load_classifier()
    options.kept.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        options.kept.unlink(missing_ok=True)
    lines = options.kept.read_text(encoding="utf-8").splitlines() if options.kept.exists() else []
    kept = dict(json.loads(line) for line in lines)
    clips, made = {}, 0
    for prompts, guidance, part in jobs(options):
        keys = [key_of(prompt, guidance, part) for prompt in prompts]
        names = [f"{key} seed {options.seed}" for key in keys]
        if not all(name in kept for name in names):
            if time.monotonic() - start > options.seconds:
                print(f"{made} clips made in {spent(start)}, not all: run the same command again.")
                return
            video = generate(pipeline, prompts, guidance, part, options.seed)
            kept |= dict(zip(names, entry(classifier, video, prompts), strict=True))
            made += len(prompts)
            with options.kept.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([name, kept[name]]) + "\n" for name in names)
        clips |= {key: kept[name] for key, name in zip(keys, names, strict=True)}
    write(options.output, clips, options, pipeline.card)
    size = options.output.stat().st_size / 1e6
    print(f"{made} clips made in {spent(start)}; {options.output.name} has {len(clips)} in {size:.2f} MB.")


if __name__ == "__main__":
    main()
