"""Does a clip show what its caption says? Measurements that need no opinion (chapter 10).

Direction, speed and colour are computed in closed form from where the bright pixels are and what colour they have; only
the digit needs a small trained classifier. Every result is worth as much as its floor (an untrained model, or chance)
and its ceiling (real held-out clips): print them side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..autoencoder import Autoencoder
from ..checks import (
    check_alike,
    check_callable,
    check_choice,
    check_clips,
    check_clouds,
    check_finite,
    check_instance,
    check_instances,
    check_levels,
    check_moving,
    check_number,
    check_one_each,
    check_pixels,
    check_rough_pixels,
    check_row,
    check_tensor,
    shown,
)
from ..diffusion import NoiseSchedule
from . import data
from .weights import WEIGHTS, load_weights

GLYPH_SIZE = 28  # pixels of an aligned glyph
GLYPH_VIEW = 40  # pixels of the frame that it shows

PIXELS_PER_FRAME = tuple(sorted({round(s / f, 6) for s in data.SPEEDS.values() for f in data.FRAME_RATES}))


def ink(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f h w"]:
    """How much brighter than the background each pixel is in its brightest colour, 0 to 1; faint stains count as 0."""
    check_clips("video", video)
    check_rough_pixels("video", video)
    background = torch.tensor(data.BACKGROUND, device=video.device)
    brightness = ((video + 1) / 2 - rearrange(background, "c -> c 1 1")).amax(dim=2)
    return (brightness - 0.15).clamp(min=0) / 0.75


def track(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f 2"]:
    """Centre of mass (x, y) of the ink in each frame, in pixels from the upper left; the middle where there is none."""
    mass = ink(video) + 1e-6
    h, w = mass.shape[-2:]
    x = torch.arange(w, dtype=mass.dtype, device=mass.device)
    y = torch.arange(h, dtype=mass.dtype, device=mass.device)
    total = mass.sum(dim=(2, 3))
    return torch.stack([(mass.sum(dim=2) * x).sum(-1) / total, (mass.sum(dim=3) * y).sum(-1) / total], dim=-1)


def velocity(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b 2"]:
    """Pixels per frame to the right and downwards: the slope of a straight line through the track."""
    check_moving(video)
    centres = track(video)
    steps = torch.arange(centres.shape[1], dtype=centres.dtype, device=centres.device)
    steps = steps - steps.mean()
    return (centres * steps[:, None]).sum(dim=1) / steps.square().sum()


def mean_colour(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b 3"]:
    """Colour of the ink, averaged over the clip, 0 to 1."""
    check_clips("video", video)
    mass = ink(video)[:, :, None] + 1e-6
    return ((video + 1) / 2 * mass).sum(dim=(1, 3, 4)) / mass.sum(dim=(1, 3, 4))


def aligned_glyphs(video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b*f 1 28 28"]:
    """The digit of every frame in grey, its centre of mass moved to the middle: all that is left is its shape."""
    mass = rearrange(ink(video), "b f h w -> (b f) 1 h w")
    centre = rearrange(track(video), "b f xy -> (b f) 1 1 xy")
    h, w = mass.shape[-2:]
    line = (torch.arange(GLYPH_SIZE, device=mass.device) - (GLYPH_SIZE - 1) / 2) * GLYPH_VIEW / GLYPH_SIZE
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1) + centre
    grid = grid / torch.tensor([(w - 1) / 2, (h - 1) / 2], device=mass.device) - 1
    return F.grid_sample(mass, grid, align_corners=True)


class DigitClassifier(nn.Sequential):
    """A small convolutional network on aligned glyphs. Its last layer but one gives the features for distances."""

    FEATURES = 32

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 16, self.FEATURES),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(self.FEATURES, 10),
        )

    def features(self, glyphs: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b 32"]:
        for layer in list(self)[:-2]:
            glyphs = layer(glyphs)
        return glyphs


def load_classifier(folder: str | Path = WEIGHTS) -> DigitClassifier:
    """The shipped digit classifier."""
    classifier = DigitClassifier()
    load_weights("judge", classifier, folder)
    return classifier


def predict_digits(classifier: DigitClassifier, video: Float[Tensor, "b f 3 h w"]) -> Int[Tensor, " b"]:
    """The digit of each clip, from the mean of the frames' log-probabilities."""
    logits = _on_glyphs(classifier, video).log_softmax(dim=-1)
    return rearrange(logits, "(b f) k -> b f k", b=len(video)).mean(dim=1).argmax(dim=-1)


def _on_glyphs(classifier: DigitClassifier, video: Float[Tensor, "b f 3 h w"], layer: str = "__call__") -> Tensor:
    """What the classifier, in its own dtype, makes of every frame's glyph."""
    check_instance("classifier", classifier, DigitClassifier, "load_classifier()")
    check_clips("video", video)
    check_finite("video", video)
    weight = next(classifier.parameters())
    return getattr(classifier, layer)(aligned_glyphs(video).to(weight.dtype))


def nearest_speed(pixels_per_frame: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Which of the possible speeds in pixels per frame it is, on a logarithmic scale."""
    check_row("pixels_per_frame", pixels_per_frame)
    possible = torch.tensor(PIXELS_PER_FRAME, device=pixels_per_frame.device).log()
    return (pixels_per_frame.clamp(min=1e-3).log()[:, None] - possible).abs().argmin(dim=1)


def read_clip(video: Float[Tensor, "b f 3 h w"]) -> list[tuple[str, str, float]]:
    """Direction, colour and pixels per frame of each clip, in closed form."""
    motion, colours = velocity(video), mean_colour(video)
    compass = torch.tensor(list(data.DIRECTIONS.values()), dtype=motion.dtype, device=video.device)
    directions = (motion @ compass.T).argmax(dim=1).tolist()
    palette = torch.tensor(list(data.COLOURS.values()), dtype=colours.dtype, device=video.device)
    # Which colour, not how bright.
    hues = F.normalize(colours, dim=1) @ F.normalize(palette, dim=1).T
    return [
        (list(data.DIRECTIONS)[d], list(data.COLOURS)[c], speed)
        for d, c, speed in zip(directions, hues.argmax(dim=1).tolist(), motion.norm(dim=1).tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Verdict:
    """Shares of clips between 0 and 1, and distances.

    Attributes:
        digit, direction, speed, colour: right; speed means pixels per frame nearest to the prompt's speed / fps.
        everything: all four at once.
        same_digit: the classifier sees the same digit in the first and the last frame.
        glyph_similarity: mean correlation of the aligned first and last glyph.
        frechet: Fréchet distance to real held-out clips in the judge's features.
        clips: how many were judged.
    """

    digit: float
    direction: float
    speed: float
    colour: float
    everything: float
    same_digit: float
    glyph_similarity: float
    frechet: float
    clips: int


def right_answers(
    classifier: DigitClassifier, video: Float[Tensor, "b f 3 h w"], prompts: Sequence[data.Prompt]
) -> dict[str, Bool[Tensor, " b"]]:
    """For each clip, whether digit, direction, speed and colour are what the prompt says."""
    check_clips("video", video)
    check_instances("prompts", prompts, data.Prompt, 'Prompt(7, "red")')
    check_one_each("prompts", prompts, len(video), "clips")
    digits = predict_digits(classifier, video).tolist()
    seen = read_clip(video)
    wanted = nearest_speed(torch.tensor([p.pixels_per_frame for p in prompts]))
    speeds = nearest_speed(torch.tensor([speed for _, _, speed in seen]))
    return {
        "digit": torch.tensor([d == p.digit for d, p in zip(digits, prompts, strict=True)]),
        "direction": torch.tensor([s[0] == p.direction for s, p in zip(seen, prompts, strict=True)]),
        "speed": speeds == wanted,
        "colour": torch.tensor([s[1] == p.colour for s, p in zip(seen, prompts, strict=True)]),
    }


def correlation(a: Float[Tensor, " b *pixels"], b: Float[Tensor, " b *pixels"]) -> Float[Tensor, " b"]:
    """Pearson's correlation of each pair of pictures."""
    check_alike("a", a, "b", b)
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (a, b))
    return F.cosine_similarity(a, b, dim=1, eps=1e-6)


def ends(video: Float[Tensor, "b f 3 h w"]) -> tuple[Float[Tensor, "b 1 28 28"], Float[Tensor, "b 1 28 28"]]:
    """Aligned glyphs of the first and the last frame."""
    check_clips("video", video)
    return aligned_glyphs(video[:, :1]), aligned_glyphs(video[:, -1:])


def features(classifier: DigitClassifier, video: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b d"]:
    """What the judge sees in a clip: the classifier's features (mean over frames), colour, velocity."""
    shape = rearrange(_on_glyphs(classifier, video, "features"), "(b f) d -> b f d", b=len(video)).mean(dim=1)
    colour = mean_colour(video)
    return torch.cat([shape.to(colour), colour, velocity(video)], dim=1)


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of two clouds, each taken as a normal distribution (Heusel et al. 2017).

    Each feature is first divided by its standard deviation in ``a``, the real clips.
    """
    check_clouds(a, b)
    scale = a.std(dim=0).clamp(min=1e-3)
    # In double precision, which not every device has.
    a, b = (a / scale).cpu().double(), (b / scale).cpu().double()
    covariance_a, covariance_b = a.T.cov(), b.T.cov()
    # tr √(AB) is the sum of the roots of AB's eigenvalues, which are those of √A B √A and so not negative.
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross)


@torch.no_grad()
def judge(
    classifier: DigitClassifier,
    video: Float[Tensor, "b f 3 h w"],
    prompts: Sequence[data.Prompt],
    real: Float[Tensor, "n f 3 h w"],
) -> Verdict:
    """All of the judge's numbers for clips and the prompts they were made from, compared with real clips."""
    for name, clips in (("video", video), ("real", real)):
        check_clips(name, clips)
        check_pixels(name, clips)
    right = right_answers(classifier, video, prompts)
    first, last = ends(video)
    start, end = (predict_digits(classifier, frame) for frame in (video[:, :1], video[:, -1:]))
    return Verdict(
        **{name: float(answers.float().mean()) for name, answers in right.items()},
        everything=float(torch.stack(list(right.values())).all(dim=0).float().mean()),
        same_digit=float((start == end).float().mean()),
        glyph_similarity=float(correlation(first, last).mean()),
        frechet=frechet_distance(features(classifier, real), features(classifier, video)),
        clips=len(prompts),
    )


def verdict_table(verdicts: Mapping[str, Verdict]) -> str:
    """Verdicts as a Markdown table, one row each."""
    check_instance("verdicts", verdicts, Mapping, '{"t2v": judge(...)}')
    check_instances("verdicts", list(verdicts.values()), Verdict, "judge(...)")
    names = [
        "digit",
        "direction",
        "speed",
        "colour",
        "everything",
        "same_digit",
        "glyph_similarity",
        "frechet",
    ]
    lines = ["| | " + " | ".join(n.replace("_", " ") for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, verdict in verdicts.items():
        numbers = [f"{getattr(verdict, n):.1f}" if n == "frechet" else f"{getattr(verdict, n):.2f}" for n in names]
        lines.append(f"| {title} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


# What a denoiser uses, long before its samples show it


def wrong_prompts(prompts: Sequence[data.Prompt], condition: str) -> list[data.Prompt]:
    """The same prompts with one condition made wrong: the next digit, colour, direction, speed or frame rate."""
    choices = {
        "digit": list(range(10)),
        "colour": list(data.COLOURS),
        "direction": list(data.DIRECTIONS),
        "speed": list(data.SPEEDS),
        "fps": list(data.FRAME_RATES),
    }
    check_choice("condition", condition, choices)
    check_instances("prompts", prompts, data.Prompt, 'Prompt(7, "red", "left", "slowly")')
    known = choices[condition]
    for prompt in prompts:
        if (value := getattr(prompt, condition)) not in known:
            raise ValueError(
                f"A prompt's {condition} is {shown(value)}, but what comes after it is known only for "
                f"{', '.join(map(str, known))}: use one of these."
            )

    def after(value):
        return known[(known.index(value) + 1) % len(known)]

    return [replace(p, **{condition: after(getattr(p, condition))}) for p in prompts]


@torch.no_grad()
def wrong_condition_losses(
    predict: Callable[..., Tensor],
    autoencoder: Autoencoder,
    schedule: NoiseSchedule,
    clips: data.Clips,
    timesteps: Sequence[int] = (500, 700, 900),
    seed: int = 0,
) -> dict[str, dict[int, float]]:
    """Held-out loss with everything right, and with one condition made wrong: {condition: {timestep: loss}}.

    A condition that the network ignores costs nothing when it is wrong. "frames" shuffles the frames of the clips
    themselves: a network that ignores time would not notice. "caption" leaves all words out.

    Args:
        predict: called as ``predict(noisy, timesteps, tokens, fps, first_frame)``, such as a
            :class:`VideoModel`; where that takes no frame, with ``None`` for it.
        timesteps: the noise levels to ask at.
        seed: of the noise, which is the same for all conditions.
    """
    check_instance("clips", clips, data.Clips, 'MovingDigits("test").batch(range(8))')
    check_callable("predict", predict, "a VideoModel")
    check_instance("autoencoder", autoencoder, nn.Module, "load_autoencoder()")
    check_instance("schedule", schedule, NoiseSchedule, "small_schedule()")
    levels = check_levels(timesteps, len(schedule), "timesteps")
    seed = check_number("seed", seed, 0, 2**63 - 1, whole=True)
    # On the device and in the type of the autoencoder, wherever the clips were made.
    like = next(autoencoder.parameters(), clips.video)
    latents = autoencoder.encode(clips.video.to(like))
    given = latents[:, 0] if getattr(predict, "takes_frame", True) else None
    order = torch.tensor([3, 6, 1, 4, 7, 0, 5, 2]) if latents.shape[1] == 8 else torch.arange(latents.shape[1]).flip(0)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(like)

    def losses(prompts, latents, empty=False) -> dict[int, float]:
        tokens = data.tokenize([p.caption for p in prompts]).to(like.device) * (not empty)
        fps = torch.tensor([float(p.fps) for p in prompts]).to(like)
        row = {}
        for level in levels:
            t = torch.full((len(latents),), level, device=like.device)
            predicted = predict(schedule.add_noise(latents, noise, t), t, tokens, fps, given)
            target = schedule.target(latents, noise, t)
            check_alike("What is predicted", predicted, "the target", target)
            row[level] = float((predicted - target).square().mean())
        return row

    table = {"correct": losses(clips.prompts, latents)}
    for condition in ("digit", "colour", "direction", "speed", "fps"):
        table[condition] = losses(wrong_prompts(clips.prompts, condition), latents)
    table["caption"] = losses(clips.prompts, latents, empty=True)
    table["frames"] = losses(clips.prompts, latents[:, order])
    return table


# Image to video


@torch.no_grad()
def kept_handwriting(video: Float[Tensor, "b f 3 h w"], first_frame: Float[Tensor, "b 3 h w"]) -> dict[str, float]:
    """Similarity of every frame's aligned glyph to the given first frame's, and to another clip's first frame."""
    check_clips("video", video)
    check_tensor("first_frame", first_frame)
    check_clips("first_frame[:, None]", first_frame[:, None])
    check_one_each("first_frame", first_frame, len(video), "clips")
    f = video.shape[1]
    glyphs, given = aligned_glyphs(video), aligned_glyphs(first_frame[:, None])
    right = correlation(glyphs, repeat(given, "b ... -> (b f) ...", f=f))
    wrong = correlation(glyphs, repeat(given.roll(1, 0), "b ... -> (b f) ...", f=f))
    return {"given": float(right.mean()), "another": float(wrong.mean())}
