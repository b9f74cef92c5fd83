"""Assignment 2, attention for video, text and picture: its parts and their properties (chapters 4, 6 and 7)."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import Inputs, same
from .parts import Assignment, Part, Properties


def _waved(values: Tensor, channels: int, max_period: float) -> Tensor:
    half = channels // 2
    angles = values.double()[..., None] * max_period ** (-torch.arange(half, dtype=torch.double) / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, channels - 2 * half))


_PYTORCHS = r"scaled_dot_product_attention|MultiheadAttention"  # attention that is for comparing


def _waves(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    values, table = 999 * inputs.normal(5).abs().clamp(max=1), 20 * inputs.normal(2, 3).abs()
    channels = 2 * inputs.between(3, 6)

    def agrees(values: Tensor, channels: int, max_period: float = 10000.0) -> bool:
        return same(answer(values, channels, max_period), _waved(values, channels, max_period), atol=1e-3)

    def apart() -> bool:
        near = answer(torch.tensor([0.0, 1.0, 2.0, 998.0]).double(), 32, 10000.0)
        alike = [float((near[0] * other).sum()) for other in near[1:]]
        return alike[0] > alike[1] > alike[2]

    return {
        "at 0 all cosines are 1 and all sines 0": lambda: agrees(torch.zeros(2), channels),
        "the first pair turns by 1 for each step": lambda: same(
            answer(values, channels, 10000.0)[..., [0, channels // 2]],
            torch.stack([values.cos(), values.sin()], dim=-1),
            atol=1e-3,
        ),
        "the others turn ever more slowly": lambda: agrees(values, channels),
        "another slowest period": lambda: agrees(values, channels, 100.0),
        "an odd last channel is zero": lambda: agrees(values, channels + 1),
        "values of any shape": lambda: agrees(table, channels),
        "the nearer in time, the more alike": apart,
    }


def _waves_hidden(answer: Any, seed: int) -> Properties:
    whole = torch.tensor([0, 24, 981])
    return {
        "whole numbers": lambda: same(answer(whole, 8, 10000.0), _waved(whole, 8, 10000.0), atol=1e-3),
        "a single number": lambda: same(answer(whole[1], 8, 10000.0), _waved(whole[1], 8, 10000.0), atol=1e-3),
        "numbers below zero": lambda: same(answer(-whole, 8, 10000.0), _waved(-whole, 8, 10000.0), atol=1e-3),
    }


def _attended(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(dim=-1) @ v


def _attend(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    n, m, d = inputs.between(3, 4), inputs.between(5, 6), 4
    q, k, v = inputs.normal(2, n, d), inputs.normal(2, m, d), inputs.normal(2, m, 3)
    allowed = torch.ones(n, m, dtype=torch.bool).tril(1)

    def alike() -> bool:
        found = answer(q, k[:, :1].expand(-1, m, -1), v)
        return same(found, v.mean(dim=1, keepdim=True).expand(-1, n, -1))

    def sees() -> bool:
        """The first query hears two keys; the others would be the loudest by far."""
        loud, changed = k.clone(), v.clone()
        loud[:, 2:] = 1000 * q[:, :1]
        changed[:, 2:] += 100.0
        return same(answer(q, loud, v, allowed)[:, :1], answer(q, loud, changed, allowed)[:, :1])

    def order() -> bool:
        swap = torch.arange(m - 1, -1, -1)
        return same(answer(q, k[:, swap], v[:, swap]), answer(q, k, v))

    return {
        "keys that are all alike give the mean of the values": alike,
        "scores are divided by √d": lambda: same(answer(q, k, v), _attended(q, k, v)),
        "the order of keys and values does not matter": order,
        "what is not allowed is not heard": sees,
        "and the rest sums to one": lambda: same(answer(q, k, v, allowed), _attended(q, k, v, allowed)),
        "large scores are no trouble": lambda: same(answer(1000 * q, k, v), _attended(1000 * q, k, v)),
    }


def _attend_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    q, k, v = inputs.normal(1, 2, 3, 8), inputs.normal(1, 2, 4, 8), inputs.normal(1, 2, 4, 8)
    allowed = torch.tensor([[True, False, True, False], [False, True, True, False], [False, False, False, True]])
    return {
        "axes for heads may stand before": lambda: same(answer(q, k, v), _attended(q, k, v)),
        "and what is not allowed is not heard there": lambda: same(
            answer(q, k, v, allowed), _attended(q, k, v, allowed)
        ),
    }


def _headed(x: Tensor, context: Tensor, weights: tuple[Tensor, ...], heads: int) -> Tensor:
    def split(tokens: Tensor) -> Tensor:
        b, n, c = tokens.shape
        return tokens.reshape(b, n, heads, c // heads).transpose(1, 2)

    to_q, to_k, to_v, to_out = weights
    out = _attended(split(x @ to_q.T), split(context @ to_k.T), split(context @ to_v.T))
    return out.transpose(1, 2).flatten(2) @ to_out.T


def _multi_head(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    heads = 2 * inputs.between(1, 2)
    x, context = inputs.normal(2, 3, 8), inputs.normal(2, 5, 6)
    weights = inputs.normal(8, 8), inputs.normal(8, 6), inputs.normal(8, 6), inputs.normal(8, 8)
    own = inputs.normal(8, 8), inputs.normal(8, 8), inputs.normal(8, 8), inputs.normal(8, 8)

    def agrees(x: Tensor, context: Tensor, weights: tuple[Tensor, ...], heads: int) -> bool:
        return same(answer(x, context, *weights, heads), _headed(x, context, weights, heads))

    def listens() -> bool:
        """One token of context, so nothing is chosen: every row of x gets the same."""
        found = answer(x, context[:, :1], *weights, heads)
        return same(found, (context[:, :1] @ weights[2].T @ weights[3].T).expand(-1, 3, -1))

    return {
        "a single token of context is what everybody hears": listens,
        "one head": lambda: agrees(x, context, weights, 1),
        "several heads, each with its own share of the channels": lambda: agrees(x, context, weights, heads),
        "self-attention: x is its own context": lambda: agrees(x, x, own, heads),
    }


def _multi_head_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x, weights = inputs.normal(1, 4, 6), tuple(inputs.normal(6, 6) for _ in range(4))
    return {"three heads": lambda: same(answer(x, x, *weights, 3), _headed(x, x, weights, 3))}


def _mixed(tokens: Tensor) -> Tensor:
    """A layer in which the tokens of a row hear each other, and their order matters."""
    return tokens + tokens.cumsum(dim=1) * tokens.mean(dim=(1, 2), keepdim=True)


def _of_pixels(x: Tensor) -> Tensor:
    """The mixed pixels of every frame."""
    wanted = torch.stack([_mixed(video.flatten(2).transpose(1, 2)).transpose(1, 2) for video in x])
    return wanted.reshape(x.shape)


def _of_frames(x: Tensor) -> Tensor:
    """The mixed frames of every pixel."""
    out = torch.empty_like(x)
    for i, j in itertools.product(*map(range, x.shape[-2:])):
        out[..., i, j] = _mixed(x[..., i, j])
    return out


def _over_pixels(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x = inputs.normal(2, inputs.between(3, 4), 5, 2, 3)

    def rows() -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        answer(lambda tokens: seen.append(tuple(tokens.shape)) or tokens, x)
        return seen

    b, f, c, h, w = x.shape
    return {
        "one row for each frame, one token for each pixel": lambda: rows() == [(b * f, h * w, c)],
        "what goes in comes out in its place": lambda: same(answer(lambda tokens: tokens, x), x),
        "pixels in reading order, frames apart": lambda: same(answer(_mixed, x), _of_pixels(x)),
    }


def _over_frames(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x = inputs.normal(2, inputs.between(3, 4), 5, 2, 3)
    b, f, c, h, w = x.shape

    def rows() -> list[tuple[int, ...]]:
        seen: list[tuple[int, ...]] = []
        answer(lambda tokens: seen.append(tuple(tokens.shape)) or tokens, x)
        return seen

    def alone() -> bool:
        other = x.clone()
        other[0, :, :, 0, 0] += 1.0
        moved = (answer(_mixed, other) - answer(_mixed, x)).abs().amax(dim=(1, 2))  # b h w
        return int((moved > 1e-9).sum()) == 1

    return {
        "one row for each pixel, one token for each frame": lambda: rows() == [(b * h * w, f, c)],
        "what goes in comes out in its place": lambda: same(answer(lambda tokens: tokens, x), x),
        "frames in their order": lambda: same(answer(_mixed, x), _of_frames(x)),
        "pixels and videos do not hear each other": alone,
    }


def _hidden_sizes(wanted: Callable[[Tensor], Tensor]) -> Callable[[Any, int], Properties]:
    def properties(answer: Any, seed: int) -> Properties:
        inputs = Inputs(seed + 50)
        single, long = inputs.normal(1, 1, 4, 3, 2), inputs.normal(3, 7, 2, 2, 2)
        return {
            "one frame of one video": lambda: same(answer(_mixed, single), wanted(single)),
            "more frames than pixels": lambda: same(answer(_mixed, long), wanted(long)),
        }

    return properties


def _dual(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    q = inputs.normal(2, 4, 6)
    words = inputs.between(4, 5)
    text = inputs.normal(2, words, 6), inputs.normal(2, words, 3)
    image = inputs.normal(2, 3, 6), inputs.normal(2, 3, 3)
    heard, seen = _attended(q, *text), _attended(q, *image)

    def silenced() -> bool:
        louder = image[0], image[1] + 100.0
        return same(answer(q, *text, *image, 0.0), answer(q, *text, *louder, 0.0))

    def doubled() -> bool:
        once, twice = answer(q, *text, *image, 1.0), answer(q, *text, *image, 2.0)
        return same(twice - once, seen)

    return {
        "at a scale of 0 it is the text's attention": lambda: same(answer(q, *text, *image, 0.0), heard),
        "and no picture is heard": silenced,
        "at a scale of 1 both are added, each with its own softmax": lambda: same(
            answer(q, *text, *image, 1.0), heard + seen
        ),
        "a scale of 2 adds the picture twice and takes nothing from the text": doubled,
    }


def _dual_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    q, k, v = inputs.normal(1, 3, 4), inputs.normal(1, 7, 4), inputs.normal(1, 7, 4)
    one = inputs.normal(1, 1, 4)
    return {
        "a single image token": lambda: same(answer(q, k, v, one, one, 0.5), _attended(q, k, v) + 0.5 * one),
        "a negative scale": lambda: same(answer(q, k, v, one, one, -1.0), _attended(q, k, v) - one),
    }


def _two_guidances(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    empty, image, both = inputs.normal(2, 3, 4, 2, 2), inputs.normal(2, 3, 4, 2, 2), inputs.normal(2, 3, 4, 2, 2)

    def guided(text_scale: float, image_scale: float) -> Tensor:
        return answer(empty, image, both, text_scale, image_scale)

    return {
        "with both scales 0 nothing is heard": lambda: same(guided(0.0, 0.0), empty),
        "with both scales 1 it is the answer to both": lambda: same(guided(1.0, 1.0), both),
        "an image scale of 1 alone: the answer to the picture": lambda: same(guided(0.0, 1.0), image),
        "the text scale exaggerates what the words add to the picture": lambda: same(
            guided(7.5, 1.0) - guided(1.0, 1.0), 6.5 * (both - image)
        ),
        "the image scale exaggerates what the picture adds to nothing": lambda: same(
            guided(1.0, 3.0) - guided(1.0, 1.0), 2.0 * (image - empty)
        ),
    }


def _guidances_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    empty, image, both = (inputs.normal(1, 2, 1, 1, 1) for _ in range(3))
    return {
        "both at once": lambda: same(
            answer(empty, image, both, 2.5, 1.75), empty + 1.75 * (image - empty) + 2.5 * (both - image)
        ),
        "a picture that says nothing leaves guidance by the text": lambda: same(
            answer(empty, empty, both, 4.0, 9.0), empty + 4.0 * (both - empty)
        ),
    }


ASSIGNMENT = Assignment(
    2,
    "Attention for video, text and picture",
    (4, 6, 7),
    (
        Part(
            "waves",
            15,
            40,
            _waves,
            _waves_hidden,
            {
                "at 0 all cosines are 1 and all sines 0": ("cosines stand in the first half, sines in the second."),
                "the first pair turns by 1 for each step": (
                    "the first frequency is 1: which power of max_period is that? And angles are in radians."
                ),
                "the others turn ever more slowly": (
                    "frequency i is max_period to the power -i / half, for i = 0 ... half - 1."
                ),
                "another slowest period": "max_period is an argument.",
                "an odd last channel is zero": (
                    "with an odd number of channels half is rounded down, and one channel is left over."
                ),
                "values of any shape": "an axis is added at the end; whatever stands before it stays.",
                "the nearer in time, the more alike": (
                    "compare the products of the features of 0, 1, 2 and 998: fast and slow waves have to "
                    "stand side by side."
                ),
                "whole numbers": ("timesteps come as integers: turn them into floats before they are multiplied."),
                "numbers below zero": "a wave goes on to the left of 0; nothing is cut off.",
                "a single number": (
                    "a tensor without axes gets one: the channels. `...` in an index takes any number of axes."
                ),
            },
        ),
        Part(
            "attend",
            15,
            40,
            _attend,
            _attend_hidden,
            {
                "keys that are all alike give the mean of the values": (
                    "the weights of one query sum to one over the keys: over which axis goes your softmax?"
                ),
                "scores are divided by √d": (
                    "by the root of the channels of a query, not by that of the number of keys."
                ),
                "the order of keys and values does not matter": (
                    "keys and values belong together in pairs; no query may count places."
                ),
                "what is not allowed is not heard": (
                    "`allowed` is true where a query may look. What must a score be for its weight to be zero, "
                    "however large the others are?"
                ),
                "and the rest sums to one": "forbid before the softmax, not after it.",
                "large scores are no trouble": (
                    "the exponential of a large number overflows. Softmax does not change if one number is "
                    "taken from all scores of a row."
                ),
                "axes for heads may stand before": ("count the axes from the end: -2 are tokens, -1 channels."),
                "and what is not allowed is not heard there": "`allowed` holds for all rows and heads alike.",
            },
            without=_PYTORCHS,
        ),
        Part(
            "multi_head",
            20,
            60,
            _multi_head,
            _multi_head_hidden,
            {
                "a single token of context is what everybody hears": (
                    "keys and values come from the context, queries from x; and the last matrix comes last."
                ),
                "one head": "a linear layer is x times the transposed matrix.",
                "several heads, each with its own share of the channels": (
                    "head 0 has the first channels, head 1 the next ones. Each has a softmax of its own, and "
                    "divides by the root of its own channels."
                ),
                "self-attention: x is its own context": "with x for both nothing else may change.",
                "three heads": ("the number of heads is an argument; a head's width follows from it."),
            },
            without=_PYTORCHS,
        ),
        Part(
            "over_pixels",
            10,
            25,
            _over_pixels,
            _hidden_sizes(_of_pixels),
            {
                "one row for each frame, one token for each pixel": (
                    "the layer takes (rows, tokens, channels), and all frames at once."
                ),
                "what goes in comes out in its place": "bring the axes back in the opposite order.",
                "pixels in reading order, frames apart": (
                    "a token for each pixel, row by row; no frame in the row of another."
                ),
                "one frame of one video": ("axes of length 1 stay: no `squeeze`, and sizes from x itself."),
                "more frames than pixels": "number the places of x, and look where the numbers go.",
            },
        ),
        Part(
            "over_frames",
            15,
            35,
            _over_frames,
            _hidden_sizes(_of_frames),
            {
                "one row for each pixel, one token for each frame": (
                    "who looks at whom over time? The same pixel in all frames."
                ),
                "what goes in comes out in its place": "bring the axes back in the opposite order.",
                "frames in their order": "frame 0 is the first token of its row.",
                "pixels and videos do not hear each other": (
                    "change one pixel of one video: only its own row may move."
                ),
                "one frame of one video": ("axes of length 1 stay: no `squeeze`, and sizes from x itself."),
                "more frames than pixels": "number the places of x, and look where the numbers go.",
            },
        ),
        Part(
            "dual",
            15,
            40,
            _dual,
            _dual_hidden,
            {
                "at a scale of 0 it is the text's attention": ("what is left of the formula without the picture?"),
                "and no picture is heard": "at 0 the image tokens must not even stand among the keys.",
                "at a scale of 1 both are added, each with its own softmax": (
                    "two softmaxes and a sum, not one softmax over all tokens and no mean."
                ),
                "a scale of 2 adds the picture twice and takes nothing from the text": (
                    "the scale multiplies the answer of the image, not its scores or keys, and the text has "
                    "no 1 - scale."
                ),
                "a single image token": ("one token gets all the weight of its softmax, whatever the scores are."),
                "a negative scale": ("the scale multiplies what was heard, not the scores, and may have any sign."),
            },
            without=_PYTORCHS,
        ),
        Part(
            "two_guidances",
            10,
            30,
            _two_guidances,
            _guidances_hidden,
            {
                "with both scales 0 nothing is heard": "start from the answer to nothing.",
                "with both scales 1 it is the answer to both": (
                    "the two steps, from nothing to the picture and from there to both, add up to the whole way."
                ),
                "an image scale of 1 alone: the answer to the picture": (
                    "which difference does the image scale multiply?"
                ),
                "the text scale exaggerates what the words add to the picture": (
                    "the words are added last: compared with which answer?"
                ),
                "the image scale exaggerates what the picture adds to nothing": (
                    "the picture is added first: compared with which answer?"
                ),
                "both at once": "two differences, each with its own scale, on top of the answer to nothing.",
                "a picture that says nothing leaves guidance by the text": (
                    "where the answer to the picture is the answer to nothing, which of your terms are left?"
                ),
            },
        ),
    ),
)
