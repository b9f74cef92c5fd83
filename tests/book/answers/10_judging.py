"""Wrong and right answers to the exercises of chapter 10."""

import math

import torch
from answers import right, wrong

from vdmlib.small import judge


@wrong(
    "ex-judging-paired",
    "ignores an argument",
    "the pairs: as if the clips had been different ones",
    fails="hard and easy clips cancel",
)
def paired(first, second):
    error = math.sqrt((first.var() + second.var()) / len(first))
    return second.mean() - first.mean(), error


@wrong("ex-judging-paired", "ignores an argument", "the first network", fails="always the same difference: no error")
def paired(first, second):
    return second.mean(), second.std() / math.sqrt(len(second))


@wrong("ex-judging-paired", "hard-codes the example", fails="always the same difference: no error")
def paired(first, second):
    return torch.tensor(2.0), torch.tensor(1.0)


@wrong(
    "ex-judging-paired",
    "has the classic bug",
    "the spread of one difference instead of the error of their mean",
    fails="by hand: differences 1 and 3, 2 ± 1",
)
def paired(first, second):
    change = second - first
    return change.mean(), change.std()


@wrong(
    "ex-judging-paired",
    "has the classic bug",
    "divides by n instead of its root",
    fails="by hand: differences 1 and 3, 2 ± 1",
)
def paired(first, second):
    change = second - first
    return change.mean(), change.std() / len(change)


@wrong(
    "ex-judging-paired",
    "has the classic bug",
    "the standard deviation with n",
    fails="by hand: differences 1 and 3, 2 ± 1",
)
def paired(first, second):
    change = second - first
    return change.mean(), change.std(correction=0) / math.sqrt(len(change))


@wrong("ex-judging-paired", "has the classic bug", "the wrong way round", fails="a lower second loss is negative")
def paired(first, second):
    change = first - second
    return change.mean(), change.std() / math.sqrt(len(change))


@wrong("ex-judging-paired", "has the right shape and nothing else", fails="by hand: differences 1 and 3, 2 ± 1")
def paired(first, second):
    return torch.zeros(()), torch.ones(())


@right("ex-judging-paired", "from sums of squares")
def paired(first, second):
    change, n = (second - first).tolist(), len(first)
    mean = sum(change) / n
    return mean, math.sqrt(max(sum((d - mean) ** 2 for d in change), 0) / (n - 1) / n)


@right("ex-judging-paired", "from variances and the covariance")
def paired(first, second):
    table = torch.stack([first, second]).cov()
    variance = table[0, 0] + table[1, 1] - 2 * table[0, 1]
    return second.mean() - first.mean(), (variance.clamp(min=0) / len(first)).sqrt()


@wrong("ex-judging-wobble", "ignores an argument", "the number of frames", fails="shorter clips have their own middle")
def wobble(video):
    centres = judge.track(video)
    frames = torch.arange(video.shape[1]) - 3.5
    line = centres.mean(dim=1, keepdim=True) + judge.velocity(video)[:, None] * frames[:, None]
    return (centres - line).norm(dim=-1).amax(dim=1)


@wrong("ex-judging-wobble", "hard-codes the example", "only sideways", fails="shuffled frames wobble")
def wobble(video):
    centres = judge.track(video)
    frames = torch.arange(video.shape[1]) - (video.shape[1] - 1) / 2
    line = centres.mean(dim=1, keepdim=True) + judge.velocity(video)[:, None] * frames[:, None]
    return (centres - line)[..., 0].abs().amax(dim=1)


@wrong(
    "ex-judging-wobble",
    "has the classic bug",
    "the sum of both coordinates instead of the distance",
    fails="6 aside and 8 down is 10 off",
)
def wobble(video):
    centres = judge.track(video)
    frames = torch.arange(video.shape[1]) - (video.shape[1] - 1) / 2
    line = centres.mean(dim=1, keepdim=True) + judge.velocity(video)[:, None] * frames[:, None]
    return (centres - line).abs().sum(dim=-1).amax(dim=1)


@wrong(
    "ex-judging-wobble",
    "has the classic bug",
    "a line from the first frame on",
    fails="a frame that jumps by 8 pixels is seen",
)
def wobble(video):
    centres = judge.track(video)
    line = centres[:, :1] + judge.velocity(video)[:, None] * torch.arange(video.shape[1])[:, None]
    return (centres - line).norm(dim=-1).amax(dim=1)


@wrong("ex-judging-wobble", "has the right shape and nothing else", fails="real clips move in straight lines")
def wobble(video):
    return judge.velocity(video).norm(dim=-1)


@right("ex-judging-wobble", "a least-squares solver instead of the judge's slope")
def wobble(video):
    centres = judge.track(video)
    frames = torch.arange(video.shape[1], dtype=centres.dtype)
    design = torch.stack([frames, torch.ones_like(frames)], dim=1)
    fitted = design @ torch.linalg.pinv(design) @ centres
    return (centres - fitted).square().sum(dim=-1).sqrt().max(dim=1).values


@right("ex-judging-wobble", "clip by clip")
def wobble(video):
    found = []
    for clip in video:
        track = judge.track(clip[None])[0]
        slope = judge.velocity(clip[None])[0]
        middle, centre = (len(track) - 1) / 2, track.mean(dim=0)
        found.append(max(float((p - centre - slope * (i - middle)).norm()) for i, p in enumerate(track)))
    return torch.tensor(found)
