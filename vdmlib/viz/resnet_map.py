"""The ResNet block, drawn layer by layer from a real one (chapter 5)."""

import copy

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import nn

from ..checks import check_instance, check_number
from ..resnet import ResBlock
from ..shapes import block_rows
from .style import CARD, COLOURS, INK, MUTED, arrow, box, mix, shown_once

_COLUMN, _SIDE, _BYPASS = 3.55, 1.05, 6.15  # where the branch, the embedding and the residual connection run
_PITCH, _HEIGHT = 0.66, 0.42


def resnet_map(block: ResBlock, frames: int = 16, height: int = 40, width: int = 64):
    """Draw a ResNet block from the real one: every layer, the shapes between them, what starts at zero.

    Args:
        block: a fresh block, on any device; it is not changed.
        frames, height, width: of the video that goes in.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    check_instance("block", block, ResBlock, "ResBlock(64, 256)")
    for name, size in (("frames", frames), ("height", height), ("width", width)):
        check_number(name, size, 1, whole=True)
    shapes = _shapes(block, frames, height, width)
    film = block.scale_shift_norm
    into, out = shapes["norm_in"], shapes["conv_out"]
    steps: list[tuple[str, str, bool, tuple[int, ...] | None]] = [
        ("GroupNorm, frame by frame", "neutral", False, None),
        ("SiLU", "neutral", False, None),
        (f"convolution 3 × 3, {into[2]} → {out[2]}", "space", False, shapes["conv_in"]),
        ("× and +" if film else "+", "embedding", False, None),
        ("GroupNorm, frame by frame", "neutral", False, None),
        ("SiLU", "neutral", False, None),
        (f"convolution 3 × 3, {out[2]} → {out[2]}", "space", _is_zero(block.conv_out), out),
        ("+", "neutral", False, None),
    ]
    if film:  # the norm comes before the embedding
        steps[3], steps[4] = steps[4], steps[3]
    if not isinstance(block.resample, nn.Identity):
        steps.insert(2, (_resampling(block), "space", False, shapes["resample"]))
    if not isinstance(block.temporal, nn.Identity):
        last = [p for p in block.temporal.parameters() if p.ndim > 1][-1]
        steps.append(("4 × (norm, SiLU, 3 frames)", "time", not last.any(), shapes["temporal"]))

    figure, ax = plt.subplots(figsize=(7, _PITCH * (len(steps) + 1.6)))
    heights = [-_PITCH * (i + 1) for i in range(len(steps))]
    plus = [i for i, step in enumerate(steps) if "+" in step[0]]
    bottom = heights[-1] - _PITCH
    arrow(ax, (_COLUMN, -0.1), (_COLUMN, bottom + 0.1), COLOURS["neutral"], lw=1.6)
    for (words, colour, zero, shape), y in zip(steps, heights, strict=True):
        _layer(ax, _COLUMN, y, words, colour, zero)
        if shape is not None:
            ax.text(_COLUMN + 0.12, y - _PITCH / 2, str(shape), ha="left", va="center", fontsize=9, color=MUTED)
    for y, name, shape in ((0, "x", into), (bottom, "out", (shapes.get("temporal") or out))):
        ax.text(_COLUMN, y, f"{name}: {shape}", ha="center", va="center", fontsize=10.5)

    _embedding(ax, shapes, heights[plus[0]], film)
    joins = heights[plus[-1]]
    grey = COLOURS["neutral"]
    ax.plot([_COLUMN + 1.35, _BYPASS, _BYPASS], [0, 0, joins], color=grey, lw=1.6, zorder=1)
    arrow(ax, (_BYPASS, joins), (_COLUMN + 0.24, joins), grey, lw=1.6)
    middle = (heights[0] + joins) / 2
    words = _bypass(block)
    _layer(ax, _BYPASS, middle, words, "neutral" if words == "as it is" else "space", False, 1.08)
    under = {"facecolor": CARD, "edgecolor": "none", "pad": 2}
    style = {"ha": "center", "va": "top", "fontsize": 9, "color": MUTED, "bbox": under, "zorder": 2}
    ax.text(_BYPASS, middle - 0.3, "residual\nconnection", **style)
    ax.set(xlim=(-0.15, 6.9), ylim=(bottom - 0.25, 0.3))
    ax.axis("off")
    return shown_once(figure)


def _shapes(block: ResBlock, frames: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """What leaves every layer, as b f c h w, found by running a copy on the meta device."""
    twin = copy.deepcopy(block).to("meta").eval()
    embedding = torch.empty(1, frames, block.embedding_projection.in_features, device="meta")
    video = torch.empty(1, frames, block.norm_in.num_channels, height, width, device="meta")
    rows = block_rows(dict(twin.named_children()), lambda: twin(video, embedding))
    # Layers over space see all frames as one batch; what resamples is called twice, first in the branch.
    shapes = {
        row.name: (1, frames, *row.output_shape[1:]) if len(row.output_shape) == 4 else row.output_shape
        for row in reversed(rows)
    }
    return shapes | {"embedding": tuple(embedding.shape)}


def _is_zero(layer: nn.Module) -> bool:
    return not any(p.any() for p in layer.parameters())


def _resampling(block: ResBlock) -> str:
    return "halve: mean of 2 × 2" if isinstance(block.resample, nn.AvgPool2d) else "double: each 2 × 2"


def _bypass(block: ResBlock) -> str:
    """What happens to the input on the residual connection."""
    words = [] if isinstance(block.resample, nn.Identity) else [_resampling(block).split(":")[0]]
    words += [] if isinstance(block.skip, nn.Identity) else ["1 × 1"]
    return ", ".join(words) or "as it is"


def _layer(ax: Axes, x: float, y: float, words: str, colour: str, zero: bool, width: float = 2.9) -> None:
    """A box with a word in it; a small round one for a sum; a frame of dashes for a layer that starts at zero."""
    if "+" in words:
        width = 0.42 if words == "+" else 0.95
    dark = colour in ("space", "embedding")
    face = COLOURS[colour] if colour != "neutral" else mix(COLOURS["neutral"], 0.3)
    rounding = 0.2 if "+" in words else 0.07
    edge = {"edgecolor": INK, "lw": 1.6, "linestyle": (0, (3, 2))} if zero else {}
    ax.add_patch(box(x - width / 2, y - _HEIGHT / 2, width, _HEIGHT, face, rounding, **edge))
    style = {"ha": "center", "va": "center", "color": CARD if dark else INK, "zorder": 5}
    ax.text(x, y, words, fontsize=10 if words != "+" else 13, **style)
    if zero:
        ax.text(x - width / 2 - 0.1, y, "starts\nat zero", ha="right", va="center", fontsize=9, color=INK)


def _embedding(ax: Axes, shapes: dict[str, tuple[int, ...]], y: float, film: bool) -> None:
    """The way of the embedding into the branch."""
    colour = COLOURS["embedding"]
    top = y + 2 * _PITCH
    ax.text(_SIDE, top, f"embedding:\n{shapes['embedding']}", ha="center", va="center", fontsize=10)
    arrow(ax, (_SIDE, top - 0.25), (_SIDE, y + _PITCH + _HEIGHT / 2), colour, lw=1.6)
    arrow(ax, (_SIDE, y + _PITCH), (_SIDE, y + _HEIGHT / 2), colour, lw=1.6)
    _layer(ax, _SIDE, y + _PITCH, "SiLU", "embedding", False, 1.5)
    _layer(ax, _SIDE, y, "linear", "embedding", False, 1.5)
    arrow(ax, (_SIDE + 0.75, y), (_COLUMN - (0.48 if film else 0.22), y), colour, lw=1.6)
    words = f"{shapes['embedding_projection'][-1]} numbers a frame"
    ax.text(_SIDE, y - 0.3, words, ha="center", va="top", fontsize=9, color=MUTED)
