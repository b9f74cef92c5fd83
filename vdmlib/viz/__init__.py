"""The drawings of the book: one visual language for every figure.

One meaning for each colour, from the palette of Okabe and Ito, which people who see few colours can tell
apart: ``COLOURS``. What a colour says is also said by a word, a place or a mark. Tensors are boxes labelled
with their shape. The encoder goes down on the left, the decoder up on the right.

Light and dark pages: every figure is an opaque, light card (``CARD``) with dark ink. It is the same on both, so
that a colour, or a shade in a heat map, means the same on both. Pictures of data are grey, zero is black.

Widths are in inches of a page that is 7 wide; text of 10 points or more can still be read on a phone.

Matplotlib, Pillow and the widgets are needed for this module only, so ``import vdmlib`` does not import it.
"""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colors
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ..shapes import BlockRow, dimension_table, shape_table
from ..unet2d import UNet2D
from ..unet3d import UNet3D, UNet3DConfig

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
_FAINT = "#C9CED4"

SEQUENTIAL = colors.LinearSegmentedColormap.from_list("influence", ["#FFFFFF", "#BFDDEE", COLOURS["space"], "#002B45"])
_DIVERGING = colors.LinearSegmentedColormap.from_list(
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
            "axes.prop_cycle": plt.cycler(color=list(COLOURS.values())),
        }
    )  # fmt: skip


# The U-Net --------------------------------------------------------------------------------------------------

# For each layer: its colour, its name in the legend, and the parts of the book that light it up.
_LAYERS = {
    "Conv2d": ("neutral", "convolution, ResNet block", ("convolution",)),
    "ConvBlock": ("space", "two convolutions", ("convolution",)),
    "ResBlock": ("neutral", "convolution, ResNet block", ("convolution", "resnet")),
    "SpatialTransformer": ("space", "spatial transformer", ("attention", "spatial")),
    "TemporalTransformer": ("time", "temporal transformer", ("attention", "temporal")),
}
_HALVES, _DOUBLES = ("v", "halves the picture"), ("^", "doubles the picture")
_RESAMPLING = {"Downsample": _HALVES, "HalveResolution": _HALVES}
_RESAMPLING |= {"Upsample": _DOUBLES, "DoubleResolution": _DOUBLES}
# What a dot on a layer says: the layer it is on, where on it, its legend, and the parts that light it up.
_DOTS = {
    "embedding": ("ResBlock", 0.5, "takes timestep and fps", ("embeddings", "conditioning")),
    "text": ("SpatialTransformer", 0.3, "takes text", ("text", "conditioning")),
    "image": ("SpatialTransformer", 0.7, "takes an image", ("image", "conditioning")),
}
_STRUCTURE = ("encoder", "middle", "decoder", "skips", "resampling", "input", "output")
PARTS = sorted({part for *_, parts in (*_LAYERS.values(), *_DOTS.values()) for part in parts} | {*_STRUCTURE})


def unet_map(
    net: Any = None, highlight: str | Sequence[str] | None = None, ax=None, size: tuple[int, int] | None = None
):
    """Draw a U-Net from a real network: every block, its layers, the skip connections, and the shapes.

    Args:
        net: a :class:`UNet3DConfig` (left out: VideoCrafter2's), a :class:`UNet3D`, a :class:`UNet2D` (for
            16 × 16 pictures), or the rows of a dimension table.
        highlight: the part or parts to light up, from ``vdmlib.viz.PARTS``; the rest is shown faintly.
            "encoder", "middle" and "decoder" mean the path: convolutions, ResNet blocks and changes of
            resolution, without the transformers. ``None`` lights everything.
        ax: matplotlib axes to draw on; a figure is made if there are none.
        size: height and width of the input, for a 3D U-Net; left out: 5 × 8 places on the smallest map.

    Returns:
        The matplotlib figure, which a cell shows that ends in it.
    """
    rows, config = _rows_of(net, size)
    wanted = {highlight} if isinstance(highlight, str) else None if highlight is None else set(highlight)
    if wanted is not None and not wanted <= set(PARTS):
        raise ValueError(f"Unknown part {sorted(wanted - set(PARTS))}: choose from {', '.join(PARTS)}.")
    paint = _Painter(wanted)

    encoder = [[row] for row in rows if row.part == "encoder"]
    encoder[0] += [row for row in rows if row.part == "init_attention"]
    decoder = [[row] for row in rows if row.part == "decoder"]
    sizes = sorted({block[-1].output_shape[-1] for block in encoder}, reverse=True)
    level = [sizes.index(block[-1].output_shape[-1]) for block in encoder]
    heights = -np.arange(len(encoder), dtype=float) - 0.55 * np.array(level)
    depth = heights[-1] - 1.6
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 0.36 * -depth + 1.5))

    # The paths draw nearer to each other on the way down.
    narrowing = np.linspace(1.0, 0.62, len(sizes))
    edge, cell = 5.0 * narrowing, 0.78 * narrowing
    inner = {}
    for side, blocks in ((-1, encoder), (1, decoder[::-1])):
        x = [side * (edge[n] - 1.5 * cell[n]) for n in level]
        ax.plot([*x, x[-1], 0], [*heights, depth, depth], color=_FAINT, lw=1.4, zorder=1)
        for i, block in enumerate(blocks):
            half = paint.block(ax, x[i], heights[i], cell[level[i]], block, config)
            inner[side, i] = x[i] - side * (half + 0.14)
            if any(layer in _RESAMPLING for row in block for layer in row.layers):
                between = 0.45 if half else 0.0
                paint.triangle(ax, x[i] + between * (x[i - 1] - x[i]), heights[i] + between * 1.55, block[0])
            place = {"ha": "right" if side < 0 else "left", "va": "center"}
            number = block[0].name.split()[-1]
            ax.text(x[i] + side * (half + 0.2), heights[i], number, **place, fontsize=8, color=MUTED)
    paint.block(ax, 0, depth, cell[-1], [row for row in rows if row.part == "middle"], config)

    for i, height in enumerate(heights):
        if decoder[len(encoder) - 1 - i][0].skip_channels:
            paint.arrow(ax, (inner[-1, i], height), (inner[1, i], height), "skip", ("skips",))
    centred = {"ha": "center", "va": "center"}
    for n in range(len(sizes)):
        members = [i for i, where in enumerate(level) if where == n]
        shape = " × ".join(map(str, encoder[members[-1]][-1].output_shape[-3:]))
        box = {"facecolor": CARD, "edgecolor": "none", "pad": 2.5}
        ax.text(0, heights[members].mean(), shape, **centred, fontsize=9.5, bbox=box, zorder=5)
    _ends(ax, paint, rows, edge[0] - 1.5 * cell[0])
    paint.legend(ax, depth - 1.2)
    ax.set_xlim(-5.6, 5.6)
    ax.set_ylim(paint.lowest - 0.35, 1.75)
    ax.axis("off")
    return _shown_once(ax.figure)


def _rows_of(net, size) -> tuple[list[BlockRow], UNet3DConfig | None]:
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
    return list(net), None


def _ends(ax, paint: "_Painter", rows: list[BlockRow], x) -> None:
    first, last = rows[0].input_shape, rows[-1].output_shape
    paint.arrow(ax, (-x, 1.0), (-x, 0.42), "neutral", ("input", "encoder"))
    paint.arrow(ax, (x, 0.42), (x, 1.0), "neutral", ("output", "decoder"))
    for where, text in ((-x, str(tuple(first))), (x, str(tuple(last)))):
        ax.text(where, 1.32, text, ha="center", va="center", fontsize=9.5)
    axes = "(b, f, c, h, w)" if len(first) == 5 else "(b, c, h, w)"
    ax.text(0, 1.32, f"shapes: {axes}", ha="center", va="center", fontsize=9.5, color=MUTED)
    ax.text(0, 0.62, "c × h × w on each level:", ha="center", va="center", fontsize=8.5, color=MUTED)


class _Painter:
    """Draws in full colour what is lit, faintly what is not, and remembers what the legend must explain."""

    def __init__(self, wanted: set[str] | None):
        self.wanted = wanted
        self.seen: dict[str, tuple[str, str, bool]] = {}
        self.lowest = 0.0

    def lit(self, parts: Sequence[str]) -> bool:
        return self.wanted is None or bool(self.wanted & set(parts))

    def colour(self, name: str, parts: Sequence[str]) -> str:
        return COLOURS[name] if self.lit(parts) else _mix(COLOURS[name], 0.16)

    def note(self, mark: str, name: str, label: str, parts: Sequence[str]) -> None:
        lit = self.lit(parts) or (label in self.seen and self.seen[label][2])
        self.seen[label] = (mark, name, lit)

    def block(self, ax, x, y, width, rows: Sequence[BlockRow], config):
        """A row of cells around x, one for each layer; returns half its width. Triangles come separately."""
        path = rows[0].part
        cells = [layer for row in rows for layer in row.layers if layer in _LAYERS]
        left = x - width * len(cells) / 2
        for layer in cells:
            name, label, parts = _LAYERS[layer]
            parts = parts if "attention" in parts else (*parts, path)
            ax.add_patch(_box(left + 0.03, y - 0.33, width - 0.06, 0.66, self.colour(name, parts), 0.09))
            self.note("cell", name, label, parts)
            if layer == "ResBlock" and config is not None and config.temporal_convolution:
                stripe = ("temporal",)
                face = self.colour("time", stripe)
                ax.add_patch(_box(left + 0.03, y - 0.33, width - 0.06, 0.2, face, 0.06))
                self.note("stripe", "time", "temporal convolution", stripe)
            if config is not None:
                self.dots(ax, left, y, width, layer, config)
            left += width
        return width * len(cells) / 2

    def dots(self, ax, left, y, width, layer: str, config: UNet3DConfig) -> None:
        text = config.context_channels is not None
        has = {"embedding": True, "text": text, "image": config.image_attention}
        for name, (where, place, label, parts) in _DOTS.items():
            if layer == where and has[name] and self.lit(parts):
                at = (left + width * place, y + 0.11)
                ax.scatter(*at, s=30, color=COLOURS[name], edgecolor=CARD, lw=0.9, zorder=5)
                self.note("dot", name, label, parts)

    def triangle(self, ax, x, y, block: BlockRow) -> None:
        way, label = next(_RESAMPLING[layer] for layer in block.layers if layer in _RESAMPLING)
        parts = (block.part, "resampling")
        ax.scatter(x, y, s=62, marker=way, color=self.colour("neutral", parts), edgecolor=CARD, lw=0.8, zorder=4)
        self.note(way, "neutral", label, parts)

    def arrow(self, ax, start, end, name: str, parts: Sequence[str]) -> None:
        _arrow(ax, start, end, self.colour(name, parts))
        if name == "skip":
            self.note("line", name, "skip connection", parts)

    def legend(self, ax, top) -> None:
        columns = (-5.3, -1.2, 2.45)
        order = ["cell", "stripe", "line", "v", "^", "dot"]
        entries = sorted(self.seen.items(), key=lambda entry: order.index(entry[1][0]))
        for i, (label, (mark, name, lit)) in enumerate(entries):
            x, y = columns[i % 3], top - 0.82 * (i // 3)
            colour = COLOURS[name] if lit else _mix(COLOURS[name], 0.16)
            if mark in ("cell", "stripe"):
                height = 0.5 if mark == "cell" else 0.2
                ax.add_patch(_box(x - 0.19, y - height / 2, 0.38, height, colour, 0.06))
            elif mark == "line":
                ax.plot([x - 0.2, x + 0.2], [y, y], color=colour, lw=2.4)
            else:
                ax.scatter(x, y, s=44, marker={"dot": "o"}.get(mark, mark), color=colour)
            ax.text(x + 0.34, y, label, va="center", fontsize=9, color=INK if lit else MUTED)
            self.lowest = y


def _mix(colour: str, strength: float) -> str:
    """A colour thinned with the colour of the card."""
    full, card = np.array(colors.to_rgb(colour)), np.array(colors.to_rgb(CARD))
    return colors.to_hex(strength * full + (1 - strength) * card)


def _box(x, y, width, height, face: str, rounding, **options):
    options = {"boxstyle": f"round,pad=0,rounding_size={rounding}", "lw": 0, "zorder": 3, **options}
    return FancyBboxPatch((x, y), width, height, facecolor=face, **options)


def _arrow(ax, start, end, colour: str, **options) -> None:
    options = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 2.0, "zorder": 2, **options}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, shrinkA=0, shrinkB=0, **options))


# Tensors ----------------------------------------------------------------------------------------------------


def tensor_box(ax, x, y, shape: Sequence[int], colour: str = "space", label: str = "") -> None:
    """Draw a tensor as a box around (x, y), as high as its height and as wide as its channels, shape below it.

    ``shape`` ends in c, h, w. Both sides are logarithmic, since channels and pixels range over hundreds.
    """
    channels, height = shape[-3], shape[-2]
    w, h = 0.16 + 0.11 * np.log2(channels), 0.25 + 0.24 * np.log2(height)
    face = {"edgecolor": CARD, "lw": 1.2}
    ax.add_patch(_box(x - w / 2, y - h / 2, w, h, COLOURS.get(colour, colour), 0.05, **face))
    ax.text(x, y - h / 2 - 0.14, f"({', '.join(map(str, shape))})", ha="center", va="top", fontsize=9.5)
    if label:
        ax.text(x, y + h / 2 + 0.14, label, ha="center", va="bottom", fontsize=10, color=MUTED)


def tensor_row(tensors: Sequence[tuple[str, Any]], steps: Sequence[str] = (), colour: str = "space"):
    """Draw tensors in a row, each a (label, tensor or shape); ``steps`` says what happens between them."""
    shapes = [tuple(getattr(tensor, "shape", tensor)) for _, tensor in tensors]
    figure, ax = plt.subplots(figsize=(7, 2.1))
    pitch = 2.2
    for i, ((label, _), shape) in enumerate(zip(tensors, shapes, strict=True)):
        tensor_box(ax, pitch * i, 0, shape, colour, label)
        if i:
            _arrow(ax, (pitch * (i - 1) + 0.75, 0), (pitch * i - 0.75, 0), COLOURS["neutral"])
            if steps:
                ax.text(pitch * (i - 0.5), 0.16, steps[i - 1], ha="center", va="bottom", fontsize=9.5)
    ax.set_xlim(-1.0, pitch * (len(shapes) - 1) + 1.0)
    ax.set_ylim(-1.25, 1.1)
    ax.axis("off")
    return _shown_once(figure)


# Values and pictures ----------------------------------------------------------------------------------------


def heatmap(
    maps, titles: Sequence[str] = (), signed: bool = False, numbers: str = "", mark=None, columns: int = 4,
    limit: float | None = None, bar: str = "", size: float = 7.0,
):  # fmt: skip
    """Draw matrices as heat maps beside each other, on one scale.

    Args:
        maps: (n, h, w), or a list of (h, w) of any sizes: how much each place moved.
        titles: one for each.
        signed: blue for positive and vermillion for negative, instead of white to dark blue.
        numbers: write the value into each square, in this format, for instance "g" or ".2f".
        mark: (row, column) of a place to frame in every map, or a list of such pairs (or ``None``), one each.
        limit: the largest value of the scale; by default that of the maps.
        bar: what the scale shows; no scale is drawn if it is empty.
        size: width in inches.
    """
    maps = [np.asarray(torch.as_tensor(m).detach()) for m in maps]
    limit = limit if limit is not None else max(float(np.abs(m).max()) for m in maps) or 1.0
    columns = min(columns, len(maps))
    lines = -(-len(maps) // columns)
    side = size / columns
    heading = 0.25 * (1 + titles[0].count("\n")) if titles else 0.0
    figure, axes = plt.subplots(
        lines, columns, figsize=(size, (side + heading) * lines), squeeze=False, layout="constrained"
    )
    marks = mark if isinstance(mark, list) else [mark] * len(maps)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i >= len(maps):
            continue
        shades = _DIVERGING if signed else SEQUENTIAL
        image = ax.imshow(maps[i], cmap=shades, vmin=-limit if signed else 0, vmax=limit)
        frame = {"fill": False, "edgecolor": _FAINT, "lw": 1}
        ax.add_patch(Rectangle((-0.5, -0.5), *maps[i].shape[::-1], **frame))
        ax.set_title(titles[i] if titles else "")
        if marks[i] is not None:
            row, column = marks[i]
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame | {"edgecolor": INK, "lw": 1.6}))
        for (row, column), value in np.ndenumerate(maps[i]) if numbers else ():
            ink = CARD if abs(value) > 0.55 * limit else INK
            ax.text(column, row, format(float(value), numbers), ha="center", va="center", color=ink)
    if bar:
        figure.colorbar(image, ax=axes, label=bar, shrink=0.8, aspect=24, pad=0.02)
    return _shown_once(figure)


def labelled_heatmap(values, rows: Sequence[str], columns: Sequence[str], numbers: str = ".2f", bar: str = ""):
    """Draw one matrix as a table in colours: a name for each row and column, the value in each square."""
    values = torch.as_tensor(values).detach().numpy()
    limit = float(np.abs(values).max()) or 1.0
    size = (min(7, 2.2 + 0.85 * len(columns)), 0.8 + 0.5 * len(rows))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = CARD if value > 0.55 * limit else INK
        ax.text(column, row, format(float(value), numbers), ha="center", va="center", color=ink)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if bar:
        figure.colorbar(image, ax=ax, label=bar)
    return _shown_once(figure)


def image_grid(
    images, titles: Sequence[str] = (), rows: Sequence[str] = (), columns: int = 10, limits=(-1.0, 1.0),
    size: float = 7.0,
):  # fmt: skip
    """Draw pictures beside each other.

    Args:
        images: (n, h, w) or (n, c, h, w), with one channel or three.
        titles: above the pictures, as many as there are.
        rows: a name for each row.
        columns: pictures in a row.
        limits: what is black and what is white.
        size: width in inches.
    """
    images = torch.as_tensor(images).detach()
    images = images.movedim(1, -1).squeeze(-1) if images.ndim == 4 else images
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    pitch = (size - bool(rows)) / columns * images.shape[1] / images.shape[2]
    figure, axes = plt.subplots(
        lines, columns, figsize=(size, pitch * lines + 0.3 * bool(titles)), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(images):
            picture = ((images[i] - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)
            ax.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(titles[i] if i < len(titles) else "", fontsize=10)
    for ax, name in zip(axes[:, 0], rows, strict=False):
        ax.text(-0.08, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=10.5)
    return _shown_once(figure)


def picture_map(decks, arrows=(), size=(7.0, 4.6), pixel: float = 0.02):
    """Draw what goes where in a whole model: decks of pictures, all to one scale, and arrows between them.

    Args:
        decks: (x, y, pictures, above, below) for each: where its middle is, in inches; (n, h, w) or (n, 3, h, w)
            from -1 to 1, drawn like cards on a pile, the first on top; what to write above it and below it.
        arrows: (start, end, label, colour) for each: two points in inches, what to write beside the middle of the
            arrow, above a level one and to the right of an upright one, and the name of its colour.
        size: of the figure, in inches.
        pixel: how wide a pixel is drawn, in inches.
    """
    figure, ax = plt.subplots(figsize=size)
    ax.set_position((0, 0, 1, 1))
    for x, y, pictures, above, below in decks:
        pictures = torch.as_tensor(pictures).detach()
        pictures = pictures.movedim(1, -1) if pictures.ndim == 4 else pictures
        half_width, half_height = pixel * pictures.shape[2] / 2, pixel * pictures.shape[1] / 2
        for i in reversed(range(len(pictures))):
            left, bottom = x - half_width + 0.07 * i, y - half_height + 0.07 * i
            box = (left, left + 2 * half_width, bottom, bottom + 2 * half_height)
            card = ((pictures[i].clamp(-1, 1) + 1) / 2).numpy()
            options = {"vmin": 0, "vmax": 1, "interpolation": "nearest", "zorder": 10 - i}
            ax.imshow(card, extent=box, cmap="gray", **options)
            edge = {"fill": False, "edgecolor": CARD, "lw": 1.2, "zorder": 10 - i}
            ax.add_patch(Rectangle((box[0], box[2]), 2 * half_width, 2 * half_height, **edge))
        rise = 0.07 * (len(pictures) - 1)
        ax.text(x + rise / 2, y + half_height + rise + 0.1, above, ha="center", va="bottom", fontsize=10.5)
        ax.text(x, y - half_height - 0.1, below, ha="center", va="top", fontsize=9.5, color=MUTED)
    for start, end, label, colour in arrows:
        _arrow(ax, start, end, COLOURS[colour])
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        level = start[1] == end[1]
        place = {"ha": "center", "va": "bottom"} if level else {"ha": "left", "va": "center"}
        ax.text(x + 0.1 * (not level), y + 0.09 * level, label, fontsize=9.5, **place)
    ax.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="equal")
    ax.axis("off")
    return _shown_once(figure)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]):
    """A table for the page: the first column names the row, numbers get thousands separators."""
    from html import escape

    from IPython.display import HTML

    def cell(tag: str, value: Any) -> str:
        return f"<{tag}>{escape(f'{value:,}' if isinstance(value, int) else str(value))}</{tag}>"

    lines = ["".join(cell("th", name) for name in header)]
    lines += [cell("th", first) + "".join(cell("td", value) for value in rest) for first, *rest in rows]
    head, *body = (f"<tr>{line}</tr>" for line in lines)
    return HTML(f'<table class="dataframe"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>')


def _shown_once(figure):
    """A closed figure is shown by the cell that ends in it, and not a second time by matplotlib."""
    plt.close(figure)
    return figure


def _png(picture) -> bytes:
    if isinstance(picture, bytes):
        return picture
    buffer = io.BytesIO()
    if isinstance(picture, plt.Figure):
        picture.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    else:
        plt.imsave(buffer, np.asarray(picture), format="png", cmap="gray", vmin=-1, vmax=1)
    return buffer.getvalue()


def image_slider(pictures: Sequence[Any], labels: Sequence[str], description: str):
    """A slider that changes the picture, with no kernel behind it: in the page, in Jupyter, and on Colab.

    Args:
        pictures: figures, PNG bytes, or (h, w) arrays from -1 to 1.
        labels: what the slider says at each picture.
        description: what the slider moves along.
    """
    import ipywidgets

    slider = ipywidgets.SelectionSlider(
        options=[(label, i) for i, label in enumerate(labels)], description=description,
        style={"description_width": "initial"}, layout={"width": "100%", "max_width": "560px"},
    )  # fmt: skip
    size = {"max_width": "100%"}
    images = [ipywidgets.Image(value=_png(picture), format="png", layout=size) for picture in pictures]
    if hasattr(ipywidgets, "Stack"):
        shown = ipywidgets.Stack(images, selected_index=0)
    else:  # ipywidgets 7, as on Colab
        shown = ipywidgets.Tab(images, selected_index=0)
        for i, label in enumerate(labels):
            shown.set_title(i, label)
    link = ipywidgets.jslink((slider, "index"), (shown, "selected_index"))
    box = ipywidgets.VBox([slider, shown])
    box.link = link  # the link lives as long as the box
    return box


def animate(frames, milliseconds: int = 120, scale: int = 1, poster: int | None = -1, hold: int = 1500):
    """A GIF of frames, the same bytes every time.

    Args:
        frames: (n, h, w) from -1 to 1, (n, h, w, 3) of bytes, or figures.
        milliseconds: how long each frame stays; the last stays for ``hold``.
        scale: each pixel becomes so many on a side.
        poster: this frame comes first as well, so that a page that does not move shows something worth seeing.
    """
    from IPython.display import Image

    return Image(data=gif_bytes(frames, milliseconds, scale, poster, hold), format="gif")


def gif_bytes(frames, milliseconds: int = 120, scale: int = 1, poster: int | None = -1, hold: int = 1500) -> bytes:
    """The bytes of :func:`animate`, to be written to a file."""
    from PIL import Image

    pictures = [_frame(frame) for frame in frames]
    pictures = [p.resize((p.width * scale, p.height * scale), Image.Resampling.NEAREST) for p in pictures]
    times = [milliseconds] * (len(pictures) - 1) + [hold]
    if poster is not None:
        pictures, times = [pictures[poster], *pictures], [hold, *times]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=False
    )
    return buffer.getvalue()


def _frame(frame):
    from PIL import Image

    if isinstance(frame, plt.Figure):
        picture = Image.open(io.BytesIO(_png(frame))).convert("RGB")
    else:
        frame = np.asarray(torch.as_tensor(frame).detach())
        if frame.dtype != np.uint8:
            frame = ((frame.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
        picture = Image.fromarray(frame)
    if picture.mode == "RGB":
        return picture.quantize(128, dither=Image.Dither.NONE)
    return picture.point(lambda grey: round(grey / 255 * 31) * 255 // 31)  # 32 greys: half the bytes
