"""Wrong and right answers to the exercises of chapter 1."""

import cmath
import math
from dataclasses import replace

import torch
from answers import right, wrong

from vdmlib import NoiseSchedule


@wrong(
    "ex-ldm-more",
    "ignores an argument",
    "starts from clean data, whatever `kept` says",
    fails="to the same level, nothing changes",
)
def add_more_noise(x, noise, kept, kept_next):
    return kept_next**0.5 * x + (1 - kept_next) ** 0.5 * noise


@wrong("ex-ldm-more", "hard-codes the example", fails="from clean data it is the forward process")
def add_more_noise(x, noise, kept, kept_next):
    return 0.75 * x + (1 - 0.75**2) ** 0.5 * noise


@wrong("ex-ldm-more", "has the classic bug", "no roots", fails="from clean data it is the forward process")
def add_more_noise(x, noise, kept, kept_next):
    return kept_next / kept * x + (1 - kept_next / kept) * noise


@wrong(
    "ex-ldm-more",
    "has the classic bug",
    "the whole noise of the later level on top",
    fails="to the same level, nothing changes",
)
def add_more_noise(x, noise, kept, kept_next):
    return (kept_next / kept) ** 0.5 * x + (1 - kept_next) ** 0.5 * noise


@wrong("ex-ldm-more", "has the right shape and nothing else", fails="from clean data it is the forward process")
def add_more_noise(x, noise, kept, kept_next):
    return x + 0 * noise


@right("ex-ldm-more", "the variance that is missing, counted instead of simplified")
def add_more_noise(x, noise, kept, kept_next):
    signal = math.sqrt(kept_next) / math.sqrt(kept)
    missing = (1 - kept_next) - signal**2 * (1 - kept)
    return signal * x + math.sqrt(max(0.0, missing)) * noise


@right("ex-ldm-more", "as a rotation, in tensors")
def add_more_noise(x, noise, kept, kept_next):
    angle = torch.acos(torch.tensor(kept_next / kept, dtype=x.dtype).sqrt().clamp(max=1))
    return angle.cos() * x + angle.sin() * noise


@wrong(
    "ex-ldm-zero",
    "ignores an argument",
    "always changes VideoCrafter's schedule",
    fails="scale and prediction are kept",
)
def without_rest(schedule):
    return stretched(NoiseSchedule.videocrafter2())


@wrong(
    "ex-ldm-zero",
    "hard-codes the example",
    "shifts by what is left in VideoCrafter's",
    fails="another schedule fits as well",
)
def without_rest(schedule):
    return stretched(schedule, last=NoiseSchedule.videocrafter2().alphas_cumprod.sqrt()[-1])


@wrong(
    "ex-ldm-zero",
    "has the classic bug",
    "stretches the variances, not the signals",
    fails="shifted and stretched, nothing else",
)
def without_rest(schedule):
    kept = schedule.alphas_cumprod
    kept = (kept - kept[-1]) * kept[0] / (kept[0] - kept[-1])
    return replace(schedule, betas=1 - torch.cat([kept[:1], kept[1:] / kept[:-1]]))


@wrong("ex-ldm-zero", "has the classic bug", "shifts without stretching", fails="the first level is as before")
def without_rest(schedule):
    signal = schedule.alphas_cumprod.sqrt()
    kept = (signal - signal[-1]) ** 2
    return replace(schedule, betas=1 - torch.cat([kept[:1], kept[1:] / kept[:-1]]))


@wrong(
    "ex-ldm-zero", "has the classic bug", "cuts the last level off to 0", fails="shifted and stretched, nothing else"
)
def without_rest(schedule):
    betas = schedule.betas.clone()
    betas[-1] = 1
    return replace(schedule, betas=betas)


@wrong("ex-ldm-zero", "has the right shape and nothing else", fails="nothing is left at the end")
def without_rest(schedule):
    return replace(schedule)


def stretched(schedule, last=None):
    signal = schedule.alphas_cumprod.sqrt()
    last = signal[-1] if last is None else last
    signal = (signal - last) * signal[0] / (signal[0] - last)
    kept = signal**2
    return replace(schedule, betas=1 - torch.cat([kept[:1], kept[1:] / kept[:-1]]))


@right("ex-ldm-zero", "β from differences of ᾱ")
def without_rest(schedule):
    signal = schedule.alphas_cumprod.sqrt()
    kept = ((signal - signal[-1]) / (signal[0] - signal[-1]) * signal[0]).square()
    before = torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    return replace(schedule, betas=(before - kept) / before)


@right("ex-ldm-zero", "level by level, in Python's own numbers")
def without_rest(schedule):
    signal = schedule.alphas_cumprod.sqrt().tolist()
    kept = [(signal[0] * (s - signal[-1]) / (signal[0] - signal[-1])) ** 2 for s in signal]
    betas = [1 - now / before for before, now in zip([1.0, *kept], kept, strict=False)]
    return replace(schedule, betas=torch.tensor(betas, dtype=torch.double))


@wrong("ex-ldm-rotation", "ignores an argument", "always goes all the way to x0", fails="no step, no change")
def rotate(x, v, angle, next_angle):
    return math.cos(angle) * x - math.sin(angle) * v


@wrong("ex-ldm-rotation", "hard-codes the example", "always the short step", fails="no step, no change")
def rotate(x, v, angle, next_angle):
    return math.cos(-0.02) * x + math.sin(-0.02) * v


@wrong("ex-ldm-rotation", "has the classic bug", "turns the other way", fails="a short step as by x0 and noise")
def rotate(x, v, angle, next_angle):
    return math.cos(angle - next_angle) * x + math.sin(angle - next_angle) * v


@wrong("ex-ldm-rotation", "has the right shape and nothing else", fails="no step, no change")
def rotate(x, v, angle, next_angle):
    return 0.5 * (x + v)


@right("ex-ldm-rotation", "through x0 and the noise")
def rotate(x, v, angle, next_angle):
    x0 = math.cos(angle) * x - math.sin(angle) * v
    eps = math.sin(angle) * x + math.cos(angle) * v
    return math.cos(next_angle) * x0 + math.sin(next_angle) * eps


@right("ex-ldm-rotation", "with complex numbers")
def rotate(x, v, angle, next_angle):
    turn = cmath.exp(1j * (angle - next_angle))
    return (torch.complex(x, v) * turn).real
