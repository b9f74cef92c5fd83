"""The map of a U-Net, drawn from a real network: its blocks, layers, skip connections and shapes."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..checks import check_instances, check_rows
from ..shapes import BlockRow, dimension_table, shape_table
from ..unet2d import UNet2D
from ..unet3d import UNet3D, UNet3DConfig
from .style import CARD, COLOURS, FAINT, INK, MUTED, Number, arrow, box, mix, shown_once

# For each layer: its colour, its name in the legend, and the words that light it up.
_LAYERS = {
    "Conv2d": ("neutral", "convolution, ResNet block", ("convolution",)),
    "ConvBlock": ("space", "two convolutions", ("convolution",)),
    "ResBlock": ("neutral", "convolution, ResNet block", ("convolution", "resnet")),
    "ResBlockDown": ("neutral", "convolution, ResNet block", ("convolution", "resnet")),
    "ResBlockUp": ("neutral", "convolution, ResNet block", ("convolution", "resnet")),
    "SpatialTransformer": ("space", "spatial transformer", ("attention", "spatial")),
    "TemporalTransformer": ("time", "temporal transformer", ("attention", "temporal")),
}
_HALVES, _DOUBLES = ("v", "halves the picture"), ("^", "doubles the picture")
_RESAMPLING = {"Downsample": _HALVES, "HalveResolution": _HALVES, "ResBlockDown": _HALVES}
_RESAMPLING |= {"Upsample": _DOUBLES, "DoubleResolution": _DOUBLES, "ResBlockUp": _DOUBLES}
# What a dot on a layer says: where on it, its legend, and the words that light it up.
_DOTS = {
    "embedding": (0.5, "takes timestep", ("embeddings", "conditioning")),
    "text": (0.3, "takes text", ("text", "conditioning")),
    "image": (0.7, "takes an image", ("image", "conditioning")),
}
_STRUCTURE = ("encoder", "middle", "decoder", "skips", "resampling", "input", "output")
HIGHLIGHTS = sorted({word for *_, words in (*_LAYERS.values(), *_DOTS.values()) for word in words} | {*_STRUCTURE})


def unet_map(
    net: Any = None,
    highlight: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    size: tuple[int, int] | None = None,
) -> Figure:
    """Draw a U-Net from a real network: every block, its layers, the skip connections, and the shapes.

    Args:
        net: a :class:`UNet3DConfig` (left out: VideoCrafter2's), a :class:`UNet3D`, a :class:`UNet2D` (for
            16 × 16 pictures), or the rows of a dimension table, which do not say what a layer takes in.
        highlight: what to light up, one or more of ``vdmlib.viz.HIGHLIGHTS``; the rest is shown faintly.
            "encoder", "middle" and "decoder" mean the path: convolutions, ResNet blocks and changes of
            resolution, without the transformers. ``None`` lights everything.
        ax: matplotlib axes to draw on; a figure is made if there are none.
        size: height and width of the input, for a 3D U-Net; left out: 5 × 8 places on the smallest map.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    wanted = _wanted(highlight)
    rows, config = _rows_of(net, size)
    encoder = [[row] for row in rows if row.part == "encoder"]
    encoder[0] += [row for row in rows if row.part == "init_attention"]
    decoder = [[row] for row in reversed(rows) if row.part == "decoder"]  # beside the encoder: the last one on top
    sizes = sorted({block[-1].output_shape[-1] for block in encoder}, reverse=True)
    level = [sizes.index(block[-1].output_shape[-1]) for block in encoder]
    heights = -np.arange(len(encoder), dtype=float) - 0.55 * np.array(level)
    depth = heights[-1] - 1.6
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 0.36 * -depth + 1.5))

    paint = _Painter(ax, wanted, config)
    narrowing = np.linspace(1.0, 0.62, len(sizes))[level]  # The paths draw nearer to each other on the way down.
    cell, x = 0.78 * narrowing, (5.0 - 1.5 * 0.78) * narrowing
    down = paint.path(encoder, -x, heights, depth, cell)
    up = paint.path(decoder, x, heights, depth, cell)
    paint.block(0, depth, cell[-1], [row for row in rows if row.part == "middle"])
    for i, height in enumerate(heights):
        if decoder[i][0].skip_channels:
            paint.arrow((down[i], height), (up[i], height), "skip", ("skips",))
    for n in range(len(sizes)):
        members = [i for i, where in enumerate(level) if where == n]
        paint.shape(heights[members].mean(), encoder[members[-1]][-1].output_shape)
    paint.ends(rows[0].input_shape, rows[-1].output_shape, x[0])
    paint.legend(depth - 1.2)
    return shown_once(ax.figure.figure)  # The whole figure, where the axes are those of a part.


def _wanted(highlight: str | Sequence[str] | None) -> set[str] | None:
    wanted = {highlight} if isinstance(highlight, str) else None if highlight is None else set(highlight)
    if wanted is not None and not wanted <= set(HIGHLIGHTS):
        raise ValueError(f"Unknown highlight {sorted(wanted - set(HIGHLIGHTS))}: choose from {', '.join(HIGHLIGHTS)}.")
    return wanted


def _rows_of(net: Any, size: tuple[int, int] | None) -> tuple[list[BlockRow], UNet3DConfig | None]:
    if net is None:
        net = UNet3DConfig.videocrafter2()
    if isinstance(net, UNet3D):
        net = net.config
    if isinstance(net, UNet3DConfig):
        multiple = 2 ** (net.levels - 1)
        height, width = size or (5 * multiple, 8 * multiple)
        return dimension_table(net, net.temporal_length, height, width), net
    if isinstance(net, UNet2D):
        return shape_table(net, 16, 16), None
    check_instances("net", net, BlockRow, "dimension_table(config) has, or a network", needs_one=True)
    check_rows(net)
    return net, None


def _layers(row: BlockRow) -> list[str]:
    """The layers of a block; a ResNet block that changes the resolution itself is called one."""
    before, after = row.input_shape[-1], row.output_shape[-1]
    if before == after or any(layer in _RESAMPLING for layer in row.layers):
        return list(row.layers)
    return [*row.layers[:-1], "ResBlockDown" if after < before else "ResBlockUp"]


def _takes(config: UNet3DConfig, layer: str) -> set[str]:
    """What comes into a layer from outside: the embedding, text, an image."""
    if layer.startswith("ResBlock"):
        return {"embedding"}
    spatial = layer == "SpatialTransformer"
    if not spatial and not (layer == "TemporalTransformer" and config.temporal_cross_attention):
        return set()
    has_image = config.image_attention if spatial else bool(config.temporal_image_attention)
    has = {"text": config.context_channels is not None, "image": has_image}
    return {name for name, there in has.items() if there}


class _Painter:
    """Draws in full colour what is lit, faintly what is not, and remembers what the legend must explain."""

    def __init__(self, ax: Axes, wanted: set[str] | None, config: UNet3DConfig | None):
        self.ax, self.wanted, self.config = ax, wanted, config
        self.seen: dict[str, tuple[str, str, bool]] = {}

    def lit(self, words: Sequence[str]) -> bool:
        return self.wanted is None or bool(self.wanted & set(words))

    def colour(self, name: str, words: Sequence[str]) -> str:
        return COLOURS[name] if self.lit(words) else mix(COLOURS[name], 0.16)

    def note(self, mark: str, name: str, label: str, words: Sequence[str]) -> None:
        lit = self.lit(words) or (label in self.seen and self.seen[label][2])
        self.seen[label] = (mark, name, lit)

    def path(self, blocks, x, heights, depth, cell) -> list[Number]:
        """Encoder or decoder, from top to bottom; returns how far each block reaches to the inside."""
        self.ax.plot([*x, x[-1], 0], [*heights, depth, depth], color=FAINT, lw=1.4, zorder=1)
        inner, side = [], np.sign(x[0])
        for i, block in enumerate(blocks):
            half = self.block(x[i], heights[i], cell[i], block)
            inner.append(x[i] - side * (half + 0.14))
            if any(layer in _RESAMPLING for row in block for layer in _layers(row)):
                between = 0.45 if half else 0.0
                self.triangle(x[i] + between * (x[i - 1] - x[i]), heights[i] + between * 1.55, block[0])
            number = block[0].name.split()[-1]
            place: dict[str, Any] = {"ha": "right" if side < 0 else "left", "va": "center"}
            self.ax.text(x[i] + side * (half + 0.2), heights[i], number, **place, fontsize=8, color=MUTED)
        return inner

    def block(self, x: Number, y: Number, width: Number, rows: Sequence[BlockRow]) -> Number:
        """A row of cells around x, one for each layer; returns half its width. Triangles come separately."""
        layers = [layer for row in rows for layer in _layers(row) if layer in _LAYERS]
        for i, layer in enumerate(layers):
            self.cell(x + width * (i - len(layers) / 2), y, width, layer, rows[0].part)
        return width * len(layers) / 2

    def cell(self, left: Number, y: Number, width: Number, layer: str, path: str) -> None:
        name, label, words = _LAYERS[layer]
        words = words if "attention" in words else (*words, path)
        self.ax.add_patch(box(left + 0.03, y - 0.33, width - 0.06, 0.66, self.colour(name, words), 0.09))
        self.note("cell", name, label, words)
        if self.config is None:
            return
        if layer == "ResBlock" and self.config.temporal_convolution:
            face = self.colour("time", ("temporal",))
            self.ax.add_patch(box(left + 0.03, y - 0.33, width - 0.06, 0.2, face, 0.06))
            self.note("stripe", "time", "temporal convolution", ("temporal",))
        for name, (place, label, words) in _DOTS.items():
            label += " and fps" if name == "embedding" and self.config.use_fps else ""
            if name in _takes(self.config, layer) and self.lit(words):
                at = (left + width * place, y + 0.11)
                self.ax.scatter(*at, s=30, color=COLOURS[name], edgecolor=CARD, lw=0.9, zorder=5)
                self.note("dot", name, label, words)

    def triangle(self, x: Number, y: Number, block: BlockRow) -> None:
        way, label = next(_RESAMPLING[layer] for layer in _layers(block) if layer in _RESAMPLING)
        words = (block.part, "resampling")
        self.ax.scatter(x, y, s=62, marker=way, color=self.colour("neutral", words), edgecolor=CARD, lw=0.8, zorder=4)
        self.note(way, "neutral", label, words)

    def arrow(self, start, end, name: str, words: Sequence[str]) -> None:
        arrow(self.ax, start, end, self.colour(name, words))
        if name == "skip":
            self.note("line", name, "skip connection", words)

    def shape(self, y: Number, shape: Sequence[int]) -> None:
        card = {"facecolor": CARD, "edgecolor": "none", "pad": 2.5}
        text = " × ".join(map(str, shape[-3:]))
        self.ax.text(0, y, text, ha="center", va="center", fontsize=9.5, bbox=card, zorder=5)

    def ends(self, first: Sequence[int], last: Sequence[int], x: Number) -> None:
        """What goes in and what comes out, with arrows."""
        self.arrow((-x, 1.0), (-x, 0.42), "neutral", ("input", "encoder"))
        self.arrow((x, 0.42), (x, 1.0), "neutral", ("output", "decoder"))
        axes = "(b, f, c, h, w)" if len(first) == 5 else "(b, c, h, w)"
        middle: dict[str, Any] = {"ha": "center", "va": "center"}
        self.ax.text(-x, 1.32, str(tuple(first)), **middle, fontsize=9.5)
        self.ax.text(x, 1.32, str(tuple(last)), **middle, fontsize=9.5)
        self.ax.text(0, 1.32, f"shapes: {axes}", **middle, fontsize=9.5, color=MUTED)
        self.ax.text(0, 0.62, "c × h × w on each level:", **middle, fontsize=8.5, color=MUTED)

    def legend(self, top: Number) -> None:
        """Below the map, what was drawn means; sets the limits of the axes."""
        columns, y = (-5.3, -1.2, 2.45), top
        order = ["cell", "stripe", "line", "v", "^", "dot"]
        entries = sorted(self.seen.items(), key=lambda entry: order.index(entry[1][0]))
        for i, (label, (mark, name, lit)) in enumerate(entries):
            x, y = columns[i % 3], top - 0.82 * (i // 3)
            colour = COLOURS[name] if lit else mix(COLOURS[name], 0.16)
            if mark in ("cell", "stripe"):
                height = 0.5 if mark == "cell" else 0.2
                self.ax.add_patch(box(x - 0.19, y - height / 2, 0.38, height, colour, 0.06))
            elif mark == "line":
                self.ax.plot([x - 0.2, x + 0.2], [y, y], color=colour, lw=2.4)
            else:
                self.ax.scatter(x, y, s=44, marker={"dot": "o"}.get(mark, mark), color=colour)
            self.ax.text(x + 0.34, y, label, va="center", fontsize=9, color=INK if lit else MUTED)
        self.ax.set(xlim=(-5.6, 5.6), ylim=(y - 0.35, 1.75))
        self.ax.axis("off")
