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
# anything else is refused with a `ValueError` that says what was given. `kept` is a number from 0 to 1.
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
# One step of DDIM, from the level `kept` to the level `kept_next` above it, with $x_0$ guessed. `eta` says how much of the noise
# is fresh: 0 none, 1 as much as in DDPM, where the variance of the fresh noise is
# $\frac{1-\bar\alpha_{next}}{1-\bar\alpha}\left(1-\frac{\bar\alpha}{\bar\alpha_{next}}\right)$. `fresh` is that noise, of variance 1.
def ddim_step(x, x0, kept, kept_next, eta, fresh):
    """x at the next level."""
    noise = (x - kept**0.5 * x0) / (1 - kept) ** 0.5
    sigma = eta * math.sqrt((1 - kept_next) / (1 - kept) * (1 - kept / kept_next))
    return kept_next**0.5 * x0 + math.sqrt(1 - kept_next - sigma**2) * noise + sigma * fresh


# %% [part] drop_captions
# For guidance a network has to know what it answers to nothing. Return the captions `(b, n)` with a `share` of them empty (all
# their tokens 0), drawn anew for each with the `generator`.
def drop_captions(tokens, share, generator):
    """The captions, some of them empty."""
    kept = torch.rand(len(tokens), 1, generator=generator) >= share
    return tokens * kept


# %% [part] training_step
# One step of training: `net(x)` should become `target`, in the mean of the squares. The `optimizer` has the weights of `net`;
# `average` is a network of the same shape whose weights follow those of `net`, keeping the share `decay` of themselves in each
# step (chapter 9: averaged weights). Return the loss of this batch, as a number.
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
# `right` `(n,)` is true for each clip that shows what it should. Return the share and its standard error, both as numbers. Where
# all are right or all are wrong, the formula says 0, which nobody believes: return $3/n$ there, as chapter 10 does.
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
# each, and counts those that show all that was asked. You may send each clip through the denoiser 16 times; a step with guidance
# takes two, so that is eight steps instead of the usual 25. `pipeline.generate` takes `steps`, `guidance_scale` and `eta`; `pipeline.video_model` and `pipeline.autoencoder` are
# yours to use in a sampler of your own; the weights stay what they are. (Training on is welcome as a second entry: say so.)
#
# Hand in, below: the function `make_clips`; a table of what you tried, each with its number and error; two paragraphs on what
# helps, what fails, and what may be chance. The grade's number is measured with prompts and noise of another seed.
# %%
from vdmlib.course.leaderboard import leaderboard


def make_clips(pipeline, prompts, seed):
    return pipeline.generate([p.caption for p in prompts], [p.fps for p in prompts], seed=seed, steps=8)


leaderboard(make_clips, clips=4)  # to begin with; forty clips say more
