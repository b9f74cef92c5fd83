# %% [markdown]
# By the end you have written what stands around a denoiser: the noise that it is trained on, what its answer means, the step of
# the sampler, captions that are left out so that guidance can work, a step of training, and a number with an error. Then you
# sample from the book's small model as well as you can within a budget, and say how sure you are. You have read chapters 1, 9,
# 10 and 11.
#
# `kept` is $\bar\alpha$: which share of the variance is still signal.
# %%
import math

import torch

from vdmlib.course import try_part

_ = torch.manual_seed(0)


# %% [part] add_noise
# The forward process. `kept` `(T,)` has $\bar\alpha$ for each level; `t` is a level for each video, `(b,)`, or for each frame,
# `(b, f)`.
def add_noise(x0, noise, t, kept):
    """Data and noise, mixed: b f c h w."""
    share = kept[t].reshape(*t.shape, *(1,) * (x0.ndim - t.ndim))
    return share.sqrt() * x0 + (1 - share).sqrt() * noise


# %% [part] guess_clean
# From the network's output to its guess of the clean video. `prediction` says what the output means: `"eps"`, `"v"` or `"x0"`;
# anything else is refused with a `ValueError` that says what was given. `kept` is a number from 0 to 1; at 0, in pure noise,
# `"eps"` says nothing about the video and is not tried there.
def guess_clean(x, output, kept, prediction):
    """x0 as the network sees it."""
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    if prediction == "eps":
        return (x - noise * output) / signal
    if prediction == "v":
        return signal * x - noise * output
    if prediction == "x0":
        return output
    raise ValueError(f"prediction is {prediction!r}: use 'eps', 'v' or 'x0'.")


# %% [part] ddim_step
# One step of DDIM, from the level `kept` to a level `kept_next` with as much noise or less, with $x_0$ guessed. Both are numbers;
# `kept` may be 0, pure noise; `kept_next` is above 0 and may be 1, where no noise is left. `eta` says how much of the noise is
# fresh: 0 none, 1 as much as in DDPM, where the variance of the fresh noise is
# $\frac{1-\bar\alpha_{next}}{1-\bar\alpha}\left(1-\frac{\bar\alpha}{\bar\alpha_{next}}\right)$; between them, `eta` multiplies its
# standard deviation. `fresh` is that noise, drawn with variance 1. What is left for the old noise may be nothing (from `kept` 0
# with `eta` 1), and rounding may make it a little negative.
def ddim_step(x, x0, kept, kept_next, eta, fresh):
    """x at the next level."""
    noise = (x - kept**0.5 * x0) / (1 - kept) ** 0.5
    sigma = eta * math.sqrt((1 - kept_next) / (1 - kept) * (1 - kept / kept_next))
    return kept_next**0.5 * x0 + math.sqrt(max(1 - kept_next - sigma**2, 0)) * noise + sigma * fresh


# %% [part] drop_captions
# For guidance a network has to know what it answers to nothing. Return the captions (`(b, n)` whole numbers), each made empty
# (all its tokens 0) with probability `share`: by a draw of its own, from the `generator` alone.
def drop_captions(tokens, share, generator):
    """The captions, some of them empty."""
    kept = torch.rand(len(tokens), 1, generator=generator) >= share
    return tokens * kept


# %% [part] training_step
# One step of training: `net(x)` should become `target`, in the mean of the squares. The `optimizer` (SGD, AdamW or another that
# steps without a closure) has the weights of `net`, and gradients of an earlier batch may be there when the step begins. `average`
# is a network of the same shape whose weights, all of them, follow those of `net` after the step and keep the share `decay` of
# themselves (chapter 9: averaged weights). Chapter 9's loop also sets the rate, clips the gradient and begins with a shorter
# average: none of it here. Return the loss of this batch from before the step, as a plain number (`.item()`) that keeps no graph.
def training_step(net, average, optimizer, x, target, decay):
    """The loss; net and average are moved."""
    loss = (net(x) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
    return loss.item()


# %% [part] share_with_error
# `right` `(n,)`, a tensor of truth values, is true for each clip that shows what it should. Return the share and its standard
# error, both as numbers. Where all are right or all are wrong, the formula says 0, which nobody believes: return $3/n$ there, as
# chapter 10 does. (A share is never wrong by more than 1: for a single clip an error of 1 is accepted, too.)
def share_with_error(right):
    """(share, error)."""
    n = len(right)
    share = float(right.double().mean())
    if share in (0.0, 1.0):
        return share, 3 / n
    return share, math.sqrt(share * (1 - share) / n)


# %% [markdown]
# ## The open part: as good as you can, and how sure you are
#
# `leaderboard` draws combinations of words that the book's text-to-video model has not been trained on, lets you make a clip for
# each, and counts those that show all that was asked. You may send each clip through the denoiser 16 times, and have to do it at
# least once; a step with guidance takes two, so that is eight steps instead of the usual 25. `pipeline.generate` takes `steps` (a number
# that divides 1000, or a list of levels, most noise first), `guidance_scale` and `eta`; `pipeline.video_model` and
# `pipeline.autoencoder` are yours to use in a sampler of your own; the weights stay what they are. (Training on is welcome as a
# second entry: say so.) `make_clips` may not ask the judge: whoever makes several clips and keeps the one that the judge likes
# measures the judge.
#
# The number has a limit: good settings reach it, and forty clips do not tell one of them from another. What the judge asks is
# whether a clip shows what its caption says, not whether it is sharp or looks like handwriting: look at your clips, too. The
# prompts are drawn with replacement from 80 (seed 0: 34 different ones among 40), so the error is a little too small. In the
# result, `wrong` lists, for each thing the judge asks, the numbers of the clips that fail, from 0 in the order of `prompts`;
# `made` below keeps prompts and clips to look at.
#
# Hand in, below: the function `make_clips`; a table of what you tried, each with its number and error; two paragraphs on what
# helps, what fails, and what may be chance. Your teacher lets `make_clips` make forty clips or more, with prompts and noise of a
# seed that you do not know: that is the grade's number.
# %%
from vdmlib.course.leaderboard import leaderboard

made = {}


def make_clips(pipeline, prompts, seed):
    video = pipeline.generate([p.caption for p in prompts], [p.fps for p in prompts], seed=seed, steps=8)
    made.update(prompts=prompts, video=video)
    return video


leaderboard(make_clips, clips=4)  # to begin with; forty clips say more
