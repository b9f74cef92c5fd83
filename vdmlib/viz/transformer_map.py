"""Spatial and temporal transformers, drawn from real ones, and which pixels they put into one row (chapter 6)."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..attention import SpatialTransformer, TemporalTransformer, TransformerBlock
from ..checks import check_choice, check_instances, check_list, check_one_each, check_place
from .pictures import as_array
from .style import CARD, COLOURS, FAINT, INK, MUTED, arrow, box, mix, shown_once

_PITCH, _HEIGHT, _WIDTH, _COLUMN = 0.6, 0.4, 2.3, 3.5  # inches: from step to step, a box, from column to column


def transformer_map(
    transformers: Sequence[SpatialTransformer | TemporalTransformer],
    titles: Sequence[str],
    frames: int = 16,
    height: int = 40,
    width: int = 64,
    text_tokens: int = 77,
):
    """Draw transformers beside each other from the real ones: every layer, the rows of tokens, what starts at zero.

    Args:
        transformers: fresh ones, on any device, each with one transformer block.
        titles: one for each.
        frames, height, width: of the video that goes in.
        text_tokens: of a context, if one is asked.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    kinds = (SpatialTransformer, TemporalTransformer)
    check_instances("transformers", transformers, kinds, "SpatialTransformer(64, 4, 16)", needs_one=True)
    check_one_each("titles", titles, len(transformers), "transformers")
    steps = [_steps(transformer, frames, height * width, text_tokens) for transformer in transformers]
    bottom = -_PITCH * (len(steps[0]) + 1)
    figure, ax = plt.subplots(figsize=(7, -bottom + 1.0))
    for number, (transformer, title, layers) in enumerate(zip(transformers, titles, steps, strict=True)):
        x = _COLUMN * (number + 0.5)
        shape = (1, frames, transformer.norm.num_channels, height, width)
        ax.text(x, 0.38, title, ha="center", va="center", fontsize=11.5, weight="bold")
        ax.text(x, 0, f"x: {shape}", ha="center", va="center", fontsize=10)
        arrow(ax, (x, -0.15), (x, bottom + 0.15), COLOURS["neutral"], lw=1.5)
        ax.text(x, bottom, f"out: {shape}", ha="center", va="center", fontsize=10)
        _column(ax, x, layers)
    ax.set(xlim=(0, _COLUMN * len(transformers)), ylim=(bottom - 0.2, 0.6))
    ax.axis("off")
    return shown_once(figure)


def _steps(transformer: SpatialTransformer | TemporalTransformer, frames: int, pixels: int, text_tokens: int) -> list:
    """(words, colour, starts at zero, note) of each step; "+" ends a residual connection."""
    over_space = isinstance(transformer, SpatialTransformer)
    colour, rows = ("space", (frames, pixels)) if over_space else ("time", (pixels, frames))
    [block] = [module for module in transformer.modules() if isinstance(module, TransformerBlock)]
    asks = transformer.uses_context
    zero = not any(parameter.any() for parameter in transformer.project_out.parameters())
    return [
        (f"GroupNorm, {'each frame' if over_space else 'all frames'}", "neutral", False, ""),
        ("linear", "neutral", False, f"{(*rows, transformer.project_in.out_features)}"),
        (f"self-attention, {'pixels' if over_space else 'frames'}", colour, False, ""),
        ("+", "neutral", False, ""),
        _second(block, colour, text_tokens) if asks else ("self-attention, again", colour, False, ""),
        ("+", "neutral", False, ""),
        ("feed-forward, GEGLU", "neutral", False, ""),
        ("+", "neutral", False, ""),
        ("linear", "neutral", zero, ""),
        ("+", "neutral", False, ""),
    ]


def _second(block: TransformerBlock, colour: str, text_tokens: int) -> tuple:
    return "cross-attention", colour, False, f"text {(text_tokens, block.cross_attention.to_k.in_features)}"


def _column(ax: Axes, x: float, layers: list) -> None:
    grey = COLOURS["neutral"]
    heights = [-_PITCH * (i + 1) for i in range(len(layers))]
    for i, ((words, colour, zero, note), y) in enumerate(zip(layers, heights, strict=True)):
        _step(ax, x, y, words, colour, zero)
        if note.startswith("text"):
            _text(ax, x, y, note)
        elif note:
            ax.text(x + 0.1, y - _PITCH / 2, note, ha="left", va="center", fontsize=9, color=MUTED)
        if words == "+":
            whole = i == len(layers) - 1
            side = -1.45 if whole else -1.28
            start = 0 if whole else heights[i - 1] + _PITCH / 2
            begin = x - 1.15 if whole else x  # Left of the words that say what goes in.
            ax.plot([begin, x + side, x + side], [start, start, y], color=grey, lw=1.3, zorder=1)
            arrow(ax, (x + side, y), (x - 0.19, y), grey, lw=1.3)


def _step(ax: Axes, x: float, y: float, words: str, colour: str, zero: bool) -> None:
    """A box with words in it; a small round one for a sum; a frame of dashes for a layer that starts at zero."""
    width = 0.36 if words == "+" else _WIDTH
    face = mix(COLOURS["neutral"], 0.3) if colour == "neutral" else COLOURS[colour]
    edge = {"edgecolor": INK, "lw": 1.6, "linestyle": (0, (3, 2))} if zero else {}
    ax.add_patch(box(x - width / 2, y - _HEIGHT / 2, width, _HEIGHT, face, 0.18 if words == "+" else 0.07, **edge))
    words += ", zero at first" if zero else ""
    ink = CARD if colour == "space" else INK
    ax.text(x, y, words, ha="center", va="center", fontsize=12 if words == "+" else 10, color=ink, zorder=5)


def _text(ax: Axes, x: float, y: float, note: str) -> None:
    """The tokens that are asked, beside the layer that asks them."""
    edge = x + _WIDTH / 2
    arrow(ax, (edge + 0.3, y), (edge, y), COLOURS["text"], lw=2)
    ax.plot([edge + 0.3] * 2, [y, y + _PITCH - 0.14], color=COLOURS["text"], lw=2, solid_capstyle="round")
    ax.text(edge + 0.48, y + _PITCH, note, ha="right", va="center", fontsize=9.5, color=INK)


def row_map(rows: Sequence[Any], titles: Sequence[str], colours: Sequence[str], mark: tuple[int, int, int]):
    """Draw videos pixel by pixel, each with the number of the row of tokens that it is in.

    Args:
        rows: (f, h, w) whole numbers for each layout.
        titles: one for each.
        colours: the name of a colour for each; it fills the pixels that share a row with the marked one.
        mark: (frame, row, column) of a pixel.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    check_list("rows", rows, needs_one=True)
    layouts = [as_array(numbers) for numbers in rows]
    for numbers in layouts:
        check_place("mark", mark, numbers.shape)
    for name, given in (("titles", titles), ("colours", colours)):
        check_one_each(name, given, len(layouts), "layouts")
    for colour in colours:
        check_choice("colour", colour, COLOURS)
    f, h, w = layouts[0].shape
    figure, axes = plt.subplots(len(layouts), 1, figsize=(7, (0.42 * h + 0.5) * len(layouts)), layout="constrained")
    for ax, numbers, title, colour in zip(np.atleast_1d(axes), layouts, titles, colours, strict=True):
        for place, number in np.ndenumerate(numbers):
            frame, row, column = place
            corner = (frame * (w + 0.8) + column, h - 1 - row)
            together = number == numbers[mark]
            face = COLOURS[colour] if together else CARD
            ax.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor=FAINT, lw=1, zorder=2))
            if place == mark:
                ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, lw=2.2, zorder=4))
            ink = CARD if together and colour == "space" else INK
            middle = (corner[0] + 0.5, corner[1] + 0.5)
            ax.text(*middle, str(int(number)), ha="center", va="center", fontsize=10, color=ink, zorder=5)
        for frame in range(f):
            ax.text(frame * (w + 0.8) + w / 2, -0.3, f"frame {frame}", ha="center", va="top", fontsize=9, color=MUTED)
        ax.set_title(title, fontsize=11)
        ax.set(xlim=(-0.1, f * (w + 0.8) - 0.7), ylim=(-0.9, h + 0.1), aspect="equal")
        ax.axis("off")
    return shown_once(figure)
