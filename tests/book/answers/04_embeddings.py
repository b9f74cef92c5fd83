"""Wrong and unusual right answers to the exercises of chapter 4."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from answers import right, wrong


def _rotated(features, shift, max_period, exponent=None):
    n = features.shape[-1] // 2
    cos, sin, rest = features[..., :n], features[..., n : 2 * n], features[..., 2 * n :]
    angle = shift * max_period ** (-torch.arange(n, dtype=torch.double) / (exponent or n))
    c, s = angle.cos(), angle.sin()
    return torch.cat([c * cos - s * sin, s * cos + c * sin, rest], dim=-1)


@wrong("ex-embeddings-shift", "ignores an argument", fails="another P")
def shift_waves(features, shift, max_period=10000):
    return _rotated(features, shift, 10000)


@wrong("ex-embeddings-shift", "hard-codes the example", fails="1 and 37 later")
def shift_waves(features, shift, max_period=10000):
    return _rotated(features, 100, max_period)


@wrong("ex-embeddings-shift", "has the classic bug", "rotates the other way round", fails="100 later")
def shift_waves(features, shift, max_period=10000):
    return _rotated(features, -shift, max_period)


@wrong("ex-embeddings-shift", "has the classic bug", "n - 1 in the exponent", fails="100 later")
def shift_waves(features, shift, max_period=10000):
    return _rotated(features, shift, max_period, features.shape[-1] // 2 - 1)


@wrong("ex-embeddings-shift", "has the right shape and nothing else", fails="100 later")
def shift_waves(features, shift, max_period=10000):
    return features.clone()


@right("ex-embeddings-shift", "as complex numbers")
def shift_waves(features, shift, max_period=10000):
    n = features.shape[-1] // 2
    turned = torch.complex(features[..., :n].contiguous(), features[..., n : 2 * n].contiguous())
    angle = shift * max_period ** (-torch.arange(n, dtype=torch.double) / n)
    turned = turned * torch.polar(torch.ones(n, dtype=torch.double), angle)
    return torch.cat([turned.real, turned.imag, features[..., 2 * n :]], dim=-1)


@right("ex-embeddings-shift", "reads the angles off and adds to them")
def shift_waves(features, shift, max_period=10000):
    n = features.shape[-1] // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(n).double() / n)
    angle = torch.atan2(features[..., n : 2 * n], features[..., :n]) + shift * frequencies
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=-1), (0, features.shape[-1] - 2 * n))


@wrong("ex-embeddings-rates", "ignores an argument", fails="speed: slow motion and time lapse")
def rates_of(source_fps, stride, frames, playback):
    return source_fps / stride, (frames - 1) * stride / source_fps, 1.0


@wrong("ex-embeddings-rates", "hard-codes the example", fails="every frame, played as filmed")
def rates_of(source_fps, stride, frames, playback):
    return 8.0, 1.875, 1.0


@wrong(
    "ex-embeddings-rates", "has the classic bug", "counts frames, not the steps between them", fails="every third of 24"
)
def rates_of(source_fps, stride, frames, playback):
    return source_fps / stride, frames * stride / source_fps, playback * stride / source_fps


@wrong("ex-embeddings-rates", "has the classic bug", "the speed upside down", fails="speed: slow motion and time lapse")
def rates_of(source_fps, stride, frames, playback):
    return source_fps / stride, (frames - 1) * stride / source_fps, source_fps / stride / playback


@wrong(
    "ex-embeddings-rates",
    "has the classic bug",
    "rounds the rate down, as the released data loader does",
    fails="told: divided by the stride",
)
def rates_of(source_fps, stride, frames, playback):
    told = source_fps // stride
    return told, (frames - 1) * stride / source_fps, playback * stride / source_fps


@wrong("ex-embeddings-rates", "has the right shape and nothing else", fails="every third of 24")
def rates_of(source_fps, stride, frames, playback):
    return 0.0, 0.0, 0.0


@right("ex-embeddings-rates", "in fractions")
def rates_of(source_fps, stride, frames, playback):
    told = Fraction(source_fps, stride)
    return told, (frames - 1) / told, playback / told


@right("ex-embeddings-rates", "as a tensor, by way of times")
def rates_of(source_fps, stride, frames, playback):
    times = torch.arange(frames, dtype=torch.double) * stride / source_fps
    return torch.tensor([source_fps / stride, times[-1], playback * stride / source_fps], dtype=torch.double)


@wrong("ex-embeddings-repeats", "ignores an argument", fails="two labels, three and one")
def repeats_loss(pictures, texts, scale, labels):
    alike, diagonal = scale * pictures @ texts.T, torch.arange(len(pictures))
    return (F.cross_entropy(alike, diagonal) + F.cross_entropy(alike.T, diagonal)) / 2


@wrong("ex-embeddings-repeats", "hard-codes the example", fails="all labels differ: the old loss")
def repeats_loss(pictures, texts, scale, labels):
    alike, kinds = scale * pictures @ texts.T, torch.tensor([0, 1, 0, 2, 0, 1])[: len(pictures)]
    target = (kinds[:, None] == kinds).to(alike)
    target = target / target.sum(dim=1, keepdim=True)
    return (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2


@wrong(
    "ex-embeddings-repeats",
    "has the classic bug",
    "the target is not spread but repeated",
    fails="two labels, three and one",
)
def repeats_loss(pictures, texts, scale, labels):
    alike = scale * pictures @ texts.T
    target = (labels[:, None] == labels).to(alike)
    return (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2


@wrong("ex-embeddings-repeats", "has the classic bug", "rows only", fails="pictures and texts may change places")
def repeats_loss(pictures, texts, scale, labels):
    alike = scale * pictures @ texts.T
    target = (labels[:, None] == labels).to(alike)
    return F.cross_entropy(alike, target / target.sum(dim=1, keepdim=True))


@wrong(
    "ex-embeddings-repeats",
    "has the classic bug",
    "the log of the sum instead of the mean of the logs",
    fails="two labels, three and one",
)
def repeats_loss(pictures, texts, scale, labels):
    alike, same = scale * pictures @ texts.T, labels[:, None] == labels
    losses = [-(x.softmax(dim=1) * same).sum(dim=1).log().mean() for x in (alike, alike.T)]
    return sum(losses) / 2


@wrong("ex-embeddings-repeats", "has the right shape and nothing else", fails="all labels differ: the old loss")
def repeats_loss(pictures, texts, scale, labels):
    return 0 * (pictures * texts).sum()


@right("ex-embeddings-repeats", "row by row")
def repeats_loss(pictures, texts, scale, labels):
    total = 0.0
    for a, b in ((pictures, texts), (texts, pictures)):
        for i in range(len(a)):
            logs = (scale * (b @ a[i])).log_softmax(dim=0)
            total = total - logs[labels == labels[i]].mean()
    return total / (2 * len(pictures))


@right("ex-embeddings-repeats", "with the products' logarithms and a mask")
def repeats_loss(pictures, texts, scale, labels):
    same = torch.eq(labels.unsqueeze(0), labels.unsqueeze(1)).double()
    same = same / same.sum(0)
    alike = (pictures * scale) @ texts.mT
    both = alike.log_softmax(1) + alike.log_softmax(0)
    return -(same * both).sum() / (2 * len(labels))
