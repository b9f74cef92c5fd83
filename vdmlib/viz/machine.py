"""What a computation asks of a machine: memory over time, and the roofline (chapter 11)."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..checks import check_instance, check_number, check_pair, check_timeline
from .style import CARD, COLOURS, FAINT, INK, MUTED, Number, mix, shown_once

# What computes, and in which colour: feed-forward layers look along no axis, and what nobody names is other work.
_LAYERS = {
    "": ("other work", mix(COLOURS["neutral"], 0.45)),
    "attention over space": ("attention over space", COLOURS["space"]),
    "attention over time": ("attention over time", COLOURS["time"]),
    "attention to text": ("attention to text", COLOURS["text"]),
    "feed-forward": ("feed-forward", INK),
}


def memory_over_time(
    live: Sequence[Number],
    waiting: Sequence[Number],
    blocks: Sequence[str],
    mark: Sequence[tuple[int, str]] = (),
    layers: Sequence[str] = (),
    weights: Mapping[str, Number] | None = None,
) -> Figure:
    """Draw how many bytes are in use after each operation, and which of them only wait.

    Args:
        live: bytes in use after each operation. waiting: those of them that wait, such as skip connections.
        blocks: to which part each operation belongs; shades tell one part from the next, and the first of a group
            of parts, as in "encoder 0", "encoder 1", names it below.
        mark: (operation, what to write there).
        layers: which layer computes, as :class:`vdmlib.released.timeline.Operation` names it; each has its colour.
        weights: {name: bytes} of what lies there all the time; a strip below shows it and the peak, to scale.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.

    Raises:
        ValueError, TypeError: if the lists do not have one length, or hold something else.
    """
    check_timeline(live, waiting, blocks, mark, layers)
    heights = [5, 1] if weights else [1]
    if unknown := set(layers) - set(_LAYERS):
        raise ValueError(f"layers has {sorted(unknown)}: use {', '.join(map(repr, _LAYERS))}.")
    figure, axes = plt.subplots(
        len(heights), figsize=(7, 4.4 if weights else 3.4), layout="constrained", height_ratios=heights, squeeze=False
    )
    ax = axes[0, 0]
    x, high = range(len(live)), max(live) / 1e9
    changes = [i for i in x if blocks[i] and blocks[i] != next((b for b in reversed(blocks[:i]) if b), "")]
    for n, (start, end) in enumerate(zip(changes, [*changes[1:], len(x)], strict=True)):
        if n % 2:
            ax.axvspan(start, end, color=mix(FAINT, 0.35), lw=0, zorder=0)
    _fill_layers(ax, np.array(live) / 1e9, np.array(layers or [""] * len(live)))
    ax.fill_between(x, np.array(waiting) / 1e9, color=COLOURS["skip"], step="post", lw=0, label="waiting")
    groups: dict[str, list[int]] = {}
    for i, block in enumerate(blocks):
        if block:
            groups.setdefault(block.split()[0], []).append(i)
    for name, members in groups.items():
        if len(members) > 0.03 * len(x):
            ax.text((members[0] + members[-1]) / 2, -0.05 * high, name, ha="center", va="top", fontsize=10)
    for i, text in mark:
        place = {"xytext": (0.62 * i, 1.12 * high), "ha": "center", "fontsize": 10}
        ax.annotate(text, (i, live[i] / 1e9), **place, arrowprops={"arrowstyle": "-", "color": INK, "lw": 1})
    ax.set(xlim=(0, len(x)), ylim=(0, 1.25 * high), ylabel="GB beside the weights", xticks=[])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    if weights:
        _strip(axes[1, 0], {**weights, "peak": max(live)})
    return shown_once(figure)


def _fill_layers(ax: Axes, live: np.ndarray, layers: np.ndarray) -> None:
    """The area under the curve, in one colour for each kind of layer that is in it."""
    for layer, (label, colour) in _LAYERS.items():
        here = layers == layer
        if here.any():
            ax.fill_between(range(len(live)), np.where(here, live, 0), color=colour, step="post", lw=0, label=label)


def _strip(ax: Axes, parts: Mapping[str, Number]) -> None:
    left = 0.0
    for name, size in parts.items():
        colour = mix(COLOURS["neutral"], 0.6) if name == "peak" else mix(COLOURS["neutral"], 0.3)
        ax.barh(0, size / 1e9, left=left, color=colour, edgecolor=CARD)
        ax.text(left + size / 2e9, 0, f"{name} {size / 1e9:.2f}", ha="center", va="center", fontsize=10)
        left += size / 1e9
    ax.set(xlim=(0, left), yticks=[], xlabel="GB, to scale")
    ax.spines["left"].set_visible(False)


def roofline(
    cards: Mapping[str, tuple[Number, Number]],
    work: Mapping[str, tuple[Number, Number]],
    measured: Mapping[str, tuple[Number, Number]] | None = None,
) -> Figure:
    """Draw the roofs of some cards, and how much computing each kind of work does for a byte.

    Args:
        cards: {name: (operations a second, bytes a second)} at most, as the data sheet has it.
        work: {name: (operations, bytes)}.
        measured: {name: (operations for a byte, operations a second)} of whole runs, drawn as points.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    for name, given in (("cards", cards), ("work", work), ("measured", measured or {})):
        check_instance(name, given, Mapping, '{"name": (1e12, 1e9)}')
    check_number("The number of cards", len(cards), 1, 4, whole=True)
    for name, pair in (*cards.items(), *work.items(), *(measured or {}).items()):
        check_pair(name, pair)
    figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    x, styles = np.geomspace(1, 4000, 400), ["-", (0, (5, 2)), (0, (1, 1)), (0, (5, 2, 1, 2))]
    shades = ["neutral", "space", "time", "text"]
    for (name, (peak, speed)), style, shade in zip(cards.items(), styles, shades, strict=False):
        ax.plot(x, np.minimum(peak, speed * x) / 1e12, color=COLOURS[shade], linestyle=style)
        ax.text(4200, peak / 1e12, name, va="center", fontsize=10, color=INK)
        ax.plot(peak / speed, peak / 1e12, "o", color=COLOURS[shade], markersize=5)
    for n, (name, (operations, moved)) in enumerate(sorted(work.items(), key=lambda item: item[1][0] / item[1][1])):
        ax.axvline(operations / moved, color=MUTED, lw=1)
        box = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1}  # other lines end beside the name
        at, place = (operations / moved, 0.13 * 1.75**n), (5, 0)
        ax.annotate(name, at, place, textcoords="offset points", fontsize=9.5, color=INK, va="bottom", bbox=box)
    for name, (intensity, speed) in (measured or {}).items():
        ax.plot(intensity, speed / 1e12, "*", color=INK, markersize=12)
        ax.text(intensity, speed / 1e12, f"  {name}", va="center", fontsize=10)
    ax.set(xscale="log", yscale="log", xlim=(1, 4000), ylim=(0.1, 2000))
    ax.set(xlabel="operations for each byte moved", ylabel="10¹² operations a second")
    ax.grid(color=FAINT, lw=0.6)
    return shown_once(figure)
