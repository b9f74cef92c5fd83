"""What each block of a U-Net holds and what it costs, as bars (chapter 8)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..checks import check_instance, check_one_each
from .style import CARD, COLOURS, FAINT, MUTED, mix, shown_once

Counts = Mapping[str, Mapping[str, int]]

# For each kind of layer: colour, and hatch, so that the two that are over time differ without colours, too.
_KINDS = {
    "ResNet, space": (mix(COLOURS["neutral"], 0.8), ""),
    "temporal convolution": (mix(COLOURS["time"], 0.45), "////"),
    "spatial transformer": (COLOURS["space"], ""),
    "temporal transformer": (COLOURS["time"], ""),
    "halving, doubling": (mix(COLOURS["neutral"], 0.3), "...."),
}


def budget_bars(parameters: Counts, operations: Counts, unit: tuple[str, str]) -> Figure:
    """Draw two counts of every block side by side, one bar for a block, cut into kinds of layers.

    Args:
        parameters, operations: {block: {kind: number}}, the blocks in the order in which they run.
        unit: what stands below the two axes.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.

    Raises:
        ValueError: for a kind that has no colour.
    """
    for name, counts in (("parameters", parameters), ("operations", operations)):
        check_instance(name, counts, Mapping, '{"encoder 0": {"spatial transformer": 5}}')
    check_one_each("unit", unit, 2, "axes")
    unknown = {kind for counts in (parameters, operations) for block in counts.values() for kind in block}
    unknown -= set(_KINDS)
    if unknown:
        raise ValueError(f"Unknown kinds {sorted(unknown)}: use {', '.join(_KINDS)}.")
    height = 0.235 * len(parameters) + 1.3
    figure, axes = plt.subplots(1, 2, figsize=(7, height), layout="constrained", sharey=True)
    for ax, counts, label in zip(axes, (parameters, operations), unit, strict=True):
        _bars(ax, counts)
        ax.set_xlabel(label)
    axes[0].set_yticks(range(len(parameters)), parameters, fontsize=9.5)
    axes[0].set_ylim(len(parameters) - 0.4, -0.6)
    used = [kind for kind in _KINDS if any(kind in block for block in (*parameters.values(), *operations.values()))]
    handles = [Patch(facecolor=_KINDS[k][0], hatch=_KINDS[k][1], edgecolor=CARD, label=k) for k in used]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, handlelength=1.6, columnspacing=1.2)
    return shown_once(figure)


def _bars(ax: Axes, counts: Counts) -> None:
    total = sum(sum(block.values()) for block in counts.values())
    for row, block in enumerate(counts.values()):
        left = 0
        for kind in _KINDS:
            if number := block.get(kind, 0):
                face, hatch = _KINDS[kind]
                ax.barh(row, number, left=left, height=0.76, color=face, hatch=hatch, edgecolor=CARD, lw=0.6)
                left += number
        if left >= 0.005 * total:
            ax.text(left, row, f"  {left / total:.0%}", va="center", fontsize=9, color=MUTED)
    ax.grid(axis="x", color=FAINT, lw=0.6)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.14)
