"""How good a way of sampling is: the open part of assignment 3, judged (chapters 10 and 11)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_callable, check_number
from ..small import Pipeline, load_classifier, load_pretrained
from ..small.data import Prompt, all_prompts
from ..small.judge import right_answers

PASSES = 16  # of a clip through the denoiser; guidance takes two in each step


class Score(NamedTuple):
    """The share of clips that show all that their captions say, its error, and how many clips were judged."""

    share: float
    error: float
    clips: int


MakeClips = Callable[[Pipeline, Sequence[Prompt], int], Tensor]


def leaderboard(make_clips: MakeClips, clips: int = 40, seed: int = 0) -> Score:
    """Judge a way of sampling from the shipped text-to-video model, on combinations that it was not trained on.

    Args:
        make_clips: (pipeline, prompts, seed) → a clip for each prompt, in −1 … 1.
        clips: how many prompts are drawn.
        seed: of the prompts and of the noise. Students have 0; the grade is measured with another one.

    Raises:
        ValueError: more than :data:`PASSES` passes through the denoiser for a clip, or not a clip for each prompt.
    """
    return Score(*share_with_error(judged(make_clips, clips, seed)), clips)


def judged(make_clips: MakeClips, clips: int, seed: int) -> Tensor:
    """The same, clip by clip: whether each shows all that its caption says, ``(clips,)``."""
    check_callable("make_clips", make_clips, "make_clips(pipeline, prompts, seed)")
    check_number("clips", clips, 1, 1000, whole=True)
    unseen, generator = all_prompts("unseen"), torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(unseen), (clips,), generator=generator).tolist()
    prompts, pipeline, passes = [unseen[number] for number in drawn], load_pretrained("t2v"), []
    hook = pipeline.video_model.unet.register_forward_hook(lambda net, given, out: passes.append(len(out)))
    try:
        video = make_clips(pipeline, prompts, seed)
    finally:
        hook.remove()
    if len(video) != clips:
        raise ValueError(f"{len(video)} clips came for {clips} prompts: make one for each, in their order.")
    if sum(passes) > PASSES * clips:
        raise ValueError(f"{sum(passes) / clips:.0f} passes for a clip, but {PASSES} are allowed: take fewer steps.")
    return torch.stack(list(right_answers(load_classifier(), video, prompts).values())).all(dim=0)


def share_with_error(right: Tensor) -> tuple[float, float]:
    """The share of what is right and its standard error; 3 / n where all of n are right, or none."""
    share, n = float(right.double().mean()), right.numel()
    return share, 3 / n if share in (0.0, 1.0) else math.sqrt(share * (1 - share) / n)
