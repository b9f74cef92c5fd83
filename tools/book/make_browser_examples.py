"""Let the shipped small model make what the page "In your browser" shows before a button is pressed.

A clip for each of its two panels, from the sentence and the settings that stand there at first: noisy latents and
decoded guesses at some of the steps, and what the judge reads. drawing.png is the page's own: "Draw it for me", then
"the drawing" below the clip. Writes t2v.json, i2v.json and their pictures to book/_static/demo/examples.
"""

import argparse
import json
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from vdmlib.media import read_pictures
from vdmlib.sampling import draw_noise, noise_streams
from vdmlib.small import data, judge, load_pretrained

FOLDER = Path(__file__).resolve().parents[2] / "book/_static/demo/examples"
CAPTION, SEED, STEPS, FPS = "a red 7 moving left quickly", 0, 25, 10
SHOWN = (0, 1, 2, 4, 8, 12, 18, 24)  # most happens early
GAIN = 0.4  # of latents, so that their colours can be told apart; as in demo.js


def judged(video: Tensor) -> dict:
    """What the judge reads in a clip, as the page keeps it."""
    classifier = judge.load_classifier()
    return {
        "digit": int(judge.predict_digits(classifier, video)),
        "digits": classifier(judge.aligned_glyphs(video)).argmax(dim=1).tolist(),
        "colour": [round(value, 4) for value in judge.mean_colour(video)[0].tolist()],
        "velocity": [round(value, 4) for value in judge.velocity(video)[0].tolist()],
    }


@torch.no_grad()
def example(kind: str) -> tuple[Tensor, Tensor, dict]:
    """Noisy latents (moments, frames, 3, 8, 8) and guesses (moments, frames, 3, 64, 64), the last of them the clip; and
    what to say about them."""
    pipeline = load_pretrained(kind)
    drawing = read_pictures(Image.open(FOLDER / "drawing.png"))[0] if kind == "i2v" else None
    steps = []
    clip = pipeline.generate([CAPTION], FPS, drawing, seed=SEED, steps=STEPS, callback=steps.append)
    begin = draw_noise(tuple(steps[0].x.shape), noise_streams(SEED, 1), steps[0].x)
    given = [begin, *[step.x for step in steps]]  # to the network at each step; the last are the clip's latents
    guesses = [*[pipeline.autoencoder.decode(steps[i].x0).clamp(-1, 1) for i in SHOWN], clip]
    about = {
        "caption": CAPTION, "seed": SEED, "steps": STEPS, "fps": FPS, "guidance": pipeline.card["guidance_scale"],
        "moments": [{"step": i + 1, "timestep": steps[i].timestep} for i in SHOWN] + [{"final": True}],
    }  # fmt: skip
    for moment, guess in zip(about["moments"], guesses, strict=True):
        moment["judged"] = judged(guess)
    if drawing is not None:
        about["drawn"] = judged(drawing.repeat(1, data.FRAMES, 1, 1, 1))["digit"]
    noisy = torch.cat([given[i] for i in [*SHOWN, STEPS]])[:, :, :3]
    return (GAIN * noisy).clamp(-1, 1), torch.cat(guesses), about


def sheet(pictures: Tensor) -> Image.Image:
    """A row for each moment, a column for each frame."""
    rows = rearrange(pictures, "moments frames c h w -> (moments h) (frames w) c")
    return Image.fromarray(((rows + 1) * 127.5).round().byte().numpy())


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for kind in ("t2v", "i2v"):
        noisy, guesses, about = example(kind)
        sheet(noisy).save(FOLDER / f"{kind}-noisy.webp", lossless=True, quality=100, method=6)
        sheet(guesses).save(FOLDER / f"{kind}-guesses.webp", quality=85, method=6)
        (FOLDER / f"{kind}.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    print(f"{sum(path.stat().st_size for path in FOLDER.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
