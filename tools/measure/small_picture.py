"""What of a given picture is in the clips, over the scale of the image branch and over what the words say.

    python tools/measure/small_picture.py i2v_attention --weights runs/weights

The captions are whole, or their words for digit and colour are hidden, or say another digit and another colour.
Likeness is the correlation of the clips' aligned glyphs with the given one, with another hand's of the same digit, and
with another digit's. The floors are text to video, which sees no picture, and a real clip in another hand. Clips,
handwriting and noise are the same in all rows; ± is one standard error.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from einops import repeat
from jaxtyping import Float
from small_evaluate import BATCH, draw_prompts
from torch import Tensor

from vdmlib import small
from vdmlib.attention import DualCrossAttention
from vdmlib.small import data, judge
from vdmlib.small.weights import WEIGHTS, card_text, write_whole

WORDS = ("whole", "hidden", "other")  # what is left of the words for digit and colour


def set_image_scale(model: torch.nn.Module, scale: float):
    """Weigh the image branch of every dual cross-attention by this number."""
    for layer in model.modules():
        if isinstance(layer, DualCrossAttention):
            layer.image_scale = scale


def caption(prompt: data.Prompt, words: str) -> str:
    """The caption of a clip that goes on from this prompt's picture."""
    if words == "other":
        return other(prompt).caption
    hidden = f"a {data.PADDING} {data.PADDING} moving {prompt.direction} {prompt.speed}"
    return hidden if words == "hidden" else prompt.caption


def other(prompt: data.Prompt) -> data.Prompt:
    """The same motion of another digit in another colour."""
    colours = list(data.COLOURS)
    colour = colours[(colours.index(prompt.colour) + 2) % len(colours)]
    return replace(prompt, digit=(prompt.digit + 3) % 10, colour=colour)


def share(answers: Tensor) -> list[float]:
    """Mean and standard error."""
    answers = answers.float()
    return [float(answers.mean()), float(answers.std() / len(answers) ** 0.5)]


class Trial:
    """Pictures of held-out handwriting, the clips that go on from them, and what is measured in these."""

    def __init__(self, clips: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.seed, self.prompts = seed, draw_prompts("all", clips, seed)
        self.classifier = small.load_classifier()
        hands = [data.draw_glyphs(self.prompts, "test", generator) for _ in range(2)]
        strangers = data.draw_glyphs([other(prompt) for prompt in self.prompts], "test", generator)
        self.given, self.another_hand, another_digit = (
            data.clips_of(self.prompts, glyphs).video for glyphs in (*hands, strangers)
        )
        views = {"given": self.given, "another hand": self.another_hand, "another digit": another_digit}
        self.glyphs = {name: judge.aligned_glyphs(video[:, :1]) for name, video in views.items()}

    def sample(self, model: small.Pipeline, words: str, **settings) -> Float[Tensor, "b f 3 h w"]:
        """The clips of a model for all pictures, a few at a time."""
        videos = []
        for start in range(0, len(self.prompts), BATCH):
            some = self.prompts[start : start + BATCH]
            given = self.given[start : start + BATCH, 0] if model.video_model.takes_frame else None
            captions, fps = [caption(prompt, words) for prompt in some], [prompt.fps for prompt in some]
            videos.append(model.generate(captions, fps, given, seed=self.seed + 1000 + start, **settings))
        return torch.cat(videos)

    @torch.no_grad()
    def measure(self, video: Float[Tensor, "b f 3 h w"]) -> dict[str, list[float]]:
        """Mean and standard error of everything that the table shows."""
        seen, f = judge.aligned_glyphs(video), video.shape[1]
        by_picture = judge.right_answers(self.classifier, video, self.prompts)
        by_words = judge.right_answers(self.classifier, video, [other(prompt) for prompt in self.prompts])
        alike = {
            name: judge.correlation(seen, repeat(glyphs, "b ... -> (b f) ...", f=f)).reshape(-1, f).mean(dim=1)
            for name, glyphs in self.glyphs.items()
        }
        first, last = (self.classifier(glyphs).argmax(1) for glyphs in judge.ends(video))
        return {
            **{f"like {name}": share(values) for name, values in alike.items()},
            "given − another hand": share(alike["given"] - alike["another hand"]),
            **{name: share(answers) for name, answers in by_picture.items()},
            "digit of other words": share(by_words["digit"]),
            "colour of other words": share(by_words["colour"]),
            "same digit": share(first == last),
        }


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, row in rows.items():
        lines.append(f"| {title} | " + " | ".join("{:.2f} ± {:.2f}".format(*row[name]) for name in names) + " |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["i2v", "i2v_attention"], help="which model")
    parser.add_argument("--weights", default=str(WEIGHTS), help="folder of weights and cards")
    parser.add_argument("--clips", type=int, default=100, help="clips for each row of the table")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.0, 0.5, 1.0, 1.5], help="of the image branch")
    parser.add_argument("--words", choices=WORDS, nargs="+", default=list(WORDS), help="what the captions say")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the card's)")
    parser.add_argument("--steps", type=int, default=10, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=5, help="of prompts, handwriting and noise")
    parser.add_argument("--dry-run", action="store_true", help="print, but do not change the card")
    return parser


def main(arguments: Sequence[str] | None = None):
    options = parser().parse_args(arguments)
    trial, model = Trial(options.clips, options.seed), small.load_pretrained(options.name, options.weights)
    card = small.read_card(options.name, options.weights)
    guidance = card.get("guidance_scale", 3.0) if options.guidance is None else options.guidance
    settings = {"guidance_scale": guidance, "steps": options.steps}
    rows = {
        "real, in the given hand": trial.measure(trial.given),
        "real, in another hand": trial.measure(trial.another_hand),
        "text to video": trial.measure(trial.sample(small.load_pretrained("t2v"), "whole", **settings)),
    }
    print(table(rows), flush=True)
    for words in options.words:
        for scale in options.scales:
            set_image_scale(model.video_model, scale)
            rows[title := f"{words} words, scale {scale:g}"] = trial.measure(trial.sample(model, words, **settings))
            print(table({title: rows[title]}).splitlines()[-1], flush=True)
    found = {"clips": options.clips, "seed": options.seed, **settings, "rows": rows}
    if options.dry_run:
        print(json.dumps(found))
    else:
        card["picture"] = found
        write_whole({Path(options.weights) / f"{options.name}.json": card_text(card).encode()})


if __name__ == "__main__":
    main()
