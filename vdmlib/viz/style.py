"""Colours, type and the small parts of every drawing: the book's one visual language."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ..checks import check_instance, check_number, check_one_each, unknown_colour

Number = int | float  # a place or a size in a drawing

COLOURS = {
    "space": "#0072B2",
    "time": "#E69F00",
    "text": "#009E73",
    "image": "#CC79A7",
    "embedding": "#D55E00",
    "skip": "#56B4E9",
    "neutral": "#7B838C",
}
CARD = "#F8F9FA"
INK = "#24282D"
MUTED = "#5F6770"
FAINT = "#C9CED4"

SEQUENTIAL = colors.LinearSegmentedColormap.from_list("influence", ["#FFFFFF", "#BFDDEE", COLOURS["space"], "#002B45"])
DIVERGING = colors.LinearSegmentedColormap.from_list(
    "signed", ["#7A3300", COLOURS["embedding"], "#FFFFFF", COLOURS["space"], "#003A5C"]
)


def use_style() -> None:
    """Set matplotlib up for the book: card, ink, type, and the order of colours in plots."""
    plt.rcParams.update(
        {
            "figure.facecolor": CARD, "savefig.facecolor": CARD, "axes.facecolor": CARD,
            "figure.dpi": 144, "savefig.dpi": 144, "savefig.bbox": "tight", "savefig.pad_inches": 0.18,
            "font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 11.5, "axes.labelsize": 11,
            "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10, "legend.frameon": False,
            "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
            "axes.edgecolor": "#B4BAC1", "axes.spines.top": False, "axes.spines.right": False,
            "grid.color": "#DDE1E5", "lines.linewidth": 2.2, "image.cmap": "gray",
            "axes.prop_cycle": cycler(color=list(COLOURS.values())),
        }
    )  # fmt: skip


def check_drawable(colour: Any) -> None:
    """A colour that matplotlib knows."""
    if not colors.is_color_like(colour):
        raise unknown_colour(colour)


def mix(colour: str, strength: float) -> str:
    """A colour thinned with the colour of the card."""
    check_drawable(colour)
    strength = check_number("strength", strength, 0, 1)
    full, card = np.array(colors.to_rgb(colour)), np.array(colors.to_rgb(CARD))
    red, green, blue = strength * full + (1 - strength) * card
    return colors.to_hex((red, green, blue))


def box(
    x: Number, y: Number, width: Number, height: Number, face: str, rounding: Number, **options: Any
) -> FancyBboxPatch:
    """A box with round corners, its lower left corner at (x, y), to be added to the axes."""
    check_drawable(face)
    for name, value in (("x", x), ("y", y), ("width", width), ("height", height), ("rounding", rounding)):
        check_number(name, value)
    options = {"boxstyle": f"round,pad=0,rounding_size={rounding}", "lw": 0, "zorder": 3, **options}
    return FancyBboxPatch((x, y), width, height, facecolor=face, **options)


def arrow(ax: Axes, start: tuple[Number, Number], end: tuple[Number, Number], colour: str, **options: Any) -> None:
    """Draw an arrow; ``options`` are matplotlib's."""
    check_instance("ax", ax, Axes, "plt.gca()")
    check_drawable(colour)
    for name, point in (("start", start), ("end", end)):
        check_one_each(name, point, 2, "axes")
        for value in point:
            check_number(name, value)
    options = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 2.0, "zorder": 2, **options}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, shrinkA=0, shrinkB=0, **options))


def shown_once(figure: Figure) -> Figure:
    """Close a figure: the cell that ends in it shows it, and matplotlib does not show it a second time."""
    check_instance("figure", figure, Figure, "plt.figure()")
    plt.close(figure)
    return figure
