"""How good a way of sampling is: the open part of assignment 3, judged (chapters 10 and 11)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from ..checks import check_callable, check_number
from ..small import Pipeline, load_classifier, load_pretrained
from ..small.data import Prompt, all_prompts
from ..small.judge import DigitClassifier, right_answers
from ..unet3d import UNet3D

PASSES = 16  # of a clip through the denoiser; guidance takes two in each step


class Score(NamedTuple):
    """How many clips show all that their captions say.

    Attributes:
        share: of the clips; error: of this share.
        clips: how many were judged.
        wrong: what the judge asks → the numbers of the clips that fail in it, from 0, in the order of the prompts.
    """

    share: float
    error: float
    clips: int
    wrong: dict[str, list[int]]


MakeClips = Callable[[Pipeline, Sequence[Prompt], int], Tensor]


def leaderboard(make_clips: MakeClips, clips: int = 40, seed: int = 0) -> Score:
    """Judge a way of sampling from the shipped text-to-video model, on combinations that it was not trained on.

    There are 80 such prompts, drawn with replacement: 40 clips with seed 0 have 34 different ones. Clips of one prompt
    are more alike than others, so the error is a little too small.

    Args:
        make_clips: (pipeline, prompts, seed) → a clip for each prompt, in −1 … 1.
        clips: how many prompts are drawn.
        seed: of the prompts and of the noise. Students have 0 and what others they like; their teacher measures the
            number of the grade with one that they do not know.

    Raises:
        ValueError: more than :data:`PASSES` passes through the denoiser for a clip, or fewer than one; not a clip for
            each prompt; or the judge is asked while clips are made.
        TypeError: what comes is no tensor.
    """
    answers = judged(make_clips, clips, seed)
    wrong = {asked: (~right).nonzero().flatten().tolist() for asked, right in answers.items()}
    return Score(*share_with_error(all_right(answers)), clips, wrong)


def judged(make_clips: MakeClips, clips: int, seed: int) -> dict[str, Tensor]:
    """The same, clip by clip: what the judge asks → which clips are right in it, ``(clips,)``."""
    check_callable("make_clips", make_clips, "make_clips(pipeline, prompts, seed)")
    check_number("clips", clips, 1, 1000, whole=True)
    unseen, generator = all_prompts("unseen"), torch.Generator().manual_seed(seed)
    prompts = [unseen[number] for number in torch.randint(len(unseen), (clips,), generator=generator).tolist()]
    pipeline, passes, asked = load_pretrained("t2v"), [], []

    def count(net: nn.Module, given: Any, out: Tensor) -> None:
        if isinstance(net, UNet3D):  # any, so that a copy of the network counts, too
            passes.append(len(out))
        elif isinstance(net, DigitClassifier):
            asked.append(len(out))

    hook = register_module_forward_hook(count)
    try:
        video = make_clips(pipeline, prompts, seed)
    finally:
        hook.remove()
    check_clips_made(video, clips, sum(passes), sum(asked))
    return dict(right_answers(load_classifier(), video, prompts))


def check_clips_made(video: Any, clips: int, passes: int, asked: int) -> None:
    """A clip for each prompt, made within the budget, and not chosen by the judge."""
    if not isinstance(video, Tensor):
        raise TypeError(f"{type(video).__name__} came, but a tensor with a clip for each prompt is needed: return it.")
    if len(video) != clips:
        raise ValueError(f"{len(video)} clips came for {clips} prompts: make one for each, in their order.")
    if passes > PASSES * clips:
        raise ValueError(f"{passes / clips:.0f} passes for a clip, but {PASSES} are allowed: take fewer steps.")
    if passes < clips:
        raise ValueError(f"{passes} passes for {clips} clips: send each through the denoiser once at least.")
    if asked:
        raise ValueError("The judge's classifier was asked while clips were made: let it judge what you return, once.")


def all_right(answers: Mapping[str, Tensor]) -> Tensor:
    """Which clips are right in all that is asked."""
    return torch.stack([*answers.values()]).all(dim=0)


def share_with_error(right: Tensor) -> tuple[float, float]:
    """The share of what is right and its standard error; 3 / n where all of n are right, or none."""
    share, n = float(right.double().mean()), right.numel()
    return share, 3 / n if share in (0.0, 1.0) else math.sqrt(share * (1 - share) / n)
