"""Dual cross-attention, drawn from a real layer: who asks, who answers, and where the answers are added (chapter 7)."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..attention import DualCrossAttention
from ..checks import check_instance, check_number
from .style import CARD, COLOURS, INK, MUTED, arrow, box, mix, shown_once

_TEXT, _PIXELS, _IMAGE = 1.2, 3.45, 5.7  # the columns


def dual_map(layer: DualCrossAttention, pixels: int, image_tokens: int) -> Figure:
    """Draw a dual cross-attention from the real one: queries in the middle, text on the left, image on the right.

    Args:
        layer: on any device; it is not changed.
        pixels: so many queries.
        image_tokens: behind the text tokens in the context.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    check_instance("layer", layer, DualCrossAttention, "DualCrossAttention(320)")
    check_number("pixels", pixels, 1, whole=True)
    check_number("image_tokens", image_tokens, 1, whole=True)
    figure, ax = plt.subplots(figsize=(7, 4.9))
    context, inner = layer.to_k.in_features, layer.to_q.out_features
    columns = {"text": _TEXT, "image": _IMAGE}
    heads = {
        "text": f"text: {layer.text_tokens} × {context}",
        "image": f"image: {image_tokens} × {context}",
    }
    _word(ax, _PIXELS, 4.5, f"pixels: {pixels} × {layer.to_q.in_features}")
    _box(ax, _PIXELS, 3.7, "to_q", "neutral", 1.2)
    arrow(ax, (_PIXELS, 4.35), (_PIXELS, 3.95), COLOURS["neutral"], lw=1.6)
    for name, x in columns.items():
        new = name == "image"
        side = 1 if new else -1
        _word(ax, x, 4.5, heads[name])
        arrow(ax, (x, 4.35), (x, 3.95), COLOURS[name], lw=1.6)
        _box(ax, x, 3.7, "to_k_image, to_v_image" if new else "to_k, to_v", name, 2.5)
        arrow(ax, (x, 3.45), (x, 2.75), COLOURS[name], lw=1.6)
        ax.text(
            x + 0.1 * side, 3.1, "keys, values", ha="left" if new else "right", va="center", fontsize=10, color=MUTED
        )
        _box(ax, x, 2.5, "softmax(q kᵀ / √d) v", name, 2.3)
        arrow(ax, (_PIXELS + 0.3 * side, 3.45), (x - 1.15 * side, 2.55), COLOURS["neutral"], lw=1.6)
        arrow(ax, (x, 2.25), (_PIXELS + 0.25 * side, 1.3), COLOURS[name], lw=1.6)
    ax.text(_PIXELS, 2.85, "the same\nqueries", ha="center", va="center", fontsize=10, color=MUTED)
    ax.text(_IMAGE - 0.75, 1.6, "× scale", ha="left", va="center", fontsize=10)
    _box(ax, _PIXELS, 1.25, "+", "neutral", 0.5)
    arrow(ax, (_PIXELS, 1.0), (_PIXELS, 0.65), COLOURS["neutral"], lw=1.6)
    _box(ax, _PIXELS, 0.4, f"to_out: {inner} → {layer.to_out.out_features}", "neutral", 2.0)
    ax.set(xlim=(-0.1, 7.0), ylim=(0, 4.8))
    ax.axis("off")
    return shown_once(figure)


def _word(ax: Axes, x: float, y: float, words: str) -> None:
    ax.text(x, y, words, ha="center", va="center", fontsize=10)


def _box(ax: Axes, x: float, y: float, words: str, colour: str, width: float) -> None:
    dark = colour == "text"
    face = COLOURS[colour] if colour != "neutral" else mix(COLOURS["neutral"], 0.3)
    ax.add_patch(box(x - width / 2, y - 0.25, width, 0.5, face, 0.07))
    ax.text(x, y, words, ha="center", va="center", fontsize=10, color=CARD if dark else INK, zorder=5)
