"""Values, pictures and tables: heat maps, grids of pictures, tensors as boxes, tables, the source of a function."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from torch import Tensor

from .. import media
from ..checks import (
    check_at_most,
    check_bool,
    check_choice,
    check_format,
    check_limits,
    check_list,
    check_marks,
    check_matrix,
    check_number,
    check_one_each,
    check_picture_list,
    check_pixels,
    check_single,
    check_sizes,
    check_texts,
    check_values,
    unfitting_source,
)
from .style import (
    CARD,
    COLOURS,
    DIVERGING,
    FAINT,
    INK,
    MUTED,
    SEQUENTIAL,
    Number,
    arrow,
    box,
    check_drawable,
    shown_once,
)

Point = tuple[Number, Number]

# Numbers ----------------------------------------------------------------------------------------------------


def as_array(values: Any) -> np.ndarray:
    """Numbers as matplotlib wants them: from tensors of any type on any device, arrays, or lists of them."""
    if isinstance(values, Tensor):
        check_values("A tensor", values)
        values = values.detach().cpu()
        # NumPy has no bfloat16 and no 8-bit floats.
        return (values.float() if values.is_floating_point() and values.dtype != torch.double else values).numpy()
    if isinstance(values, list | tuple):
        return np.array([as_array(value) for value in values])
    return np.asarray(values)


def as_pixels(pictures: Any) -> np.ndarray:
    """Pictures as bytes, the colours last: (..., h, w) or (..., h, w, 3).

    Args:
        pictures: (n, h, w), (n, 1, h, w) or (n, 3, h, w) from -1 to 1; bytes, (n, h, w) or (n, h, w, 3), stay.

    Raises:
        ValueError: for pixels outside -1 ... 1.
    """
    values = as_array(pictures)
    check_picture_list(values)
    if values.dtype == np.uint8:
        return values
    pixels = torch.from_numpy(values)
    check_pixels("picture", pixels)
    if pixels.ndim == 4:
        pixels = rearrange(pixels, "n c h w -> n h w c")
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return media.rounded(pixels).numpy()


def to_bytes(frames: Any) -> Tensor:
    """(f, 3, h, w) from -1 to 1 as the bytes of pictures, (f, h, w, 3).

    Raises:
        ValueError: for pixels outside -1 ... 1.
    """
    return torch.from_numpy(as_pixels(frames))


# Tensors ----------------------------------------------------------------------------------------------------


def tensor_row(tensors: Sequence[tuple[str, Any]], steps: Sequence[str] = (), colour: str = "space") -> Figure:
    """Draw tensors in a row, each a (label, tensor or shape); ``steps`` says what happens between them.

    A box is as high as the tensor's height and as wide as its channels; shapes end in c, h, w. Both sides are
    logarithmic, since channels and pixels range over hundreds.
    """
    check_list("tensors", tensors, needs_one=True)
    for pair in tensors:
        check_one_each("A tensor", pair, 2, "places: label, tensor or shape")
    shapes = [check_sizes(str(label), getattr(tensor, "shape", tensor)) for label, tensor in tensors]
    check_drawable(COLOURS.get(colour, colour))
    check_at_most("steps", steps, len(shapes) - 1, "arrows")
    figure, ax = plt.subplots(figsize=(7, 2.1))
    pitch = 2.2
    for i, ((label, _), shape) in enumerate(zip(tensors, shapes, strict=True)):
        _tensor_box(ax, pitch * i, shape, COLOURS.get(colour, colour), label)
        if i:
            arrow(ax, (pitch * (i - 1) + 0.75, 0), (pitch * i - 0.75, 0), COLOURS["neutral"])
            if steps:
                ax.text(pitch * (i - 0.5), 0.16, steps[i - 1], ha="center", va="bottom", fontsize=9.5)
    ax.set_xlim(-1.0, pitch * (len(shapes) - 1) + 1.0)
    ax.set_ylim(-1.25, 1.1)
    ax.axis("off")
    return shown_once(figure)


def _tensor_box(ax: Axes, x: Number, shape: Sequence[int], colour: str, label: str) -> None:
    w, h = 0.16 + 0.11 * np.log2(shape[-3]), 0.25 + 0.24 * np.log2(shape[-2])
    ax.add_patch(box(x - w / 2, -h / 2, w, h, colour, 0.05, edgecolor=CARD, lw=1.2))
    ax.text(x, -h / 2 - 0.14, f"({', '.join(map(str, shape))})", ha="center", va="top", fontsize=9.5)
    if label:
        ax.text(x, h / 2 + 0.14, label, ha="center", va="bottom", fontsize=10, color=MUTED)


# Heat maps --------------------------------------------------------------------------------------------------


def heatmap(
    maps: Any,
    titles: Sequence[str] = (),
    signed: bool = False,
    numbers: str = "",
    mark: tuple[int, int] | list[tuple[int, int] | None] | None = None,
    columns: int = 4,
    limit: Number | None = None,
    bar: str = "",
) -> Figure:
    """Draw matrices as heat maps beside each other, on one scale.

    Args:
        maps: (n, h, w), or a list of (h, w) of any sizes: how much each place moved.
        titles: one for each.
        signed: blue for positive and vermillion for negative, instead of white to dark blue.
        numbers: write the value into each square, in this format, for instance "g" or ".2f".
        mark: (row, column) of a place to frame in every map, or a list of such pairs (or ``None``), one each.
        columns: maps in a row.
        limit: the largest value of the scale; by default that of the maps.
        bar: what the scale shows; no scale is drawn if it is empty.
    """
    check_list("maps", maps, needs_one=True)
    check_format(numbers)
    check_bool("signed", signed)
    maps = [_matrix("maps", values) for values in maps]
    marks = check_marks(mark, maps)
    columns = check_number("columns", columns, 1, whole=True)
    check_texts("titles", titles)
    if len(titles):
        check_one_each("titles", titles, len(maps), "maps")
    limit = None if limit is None else check_number("limit", limit, 0)
    limit = limit if limit is not None else max(float(np.abs(values).max()) for values in maps) or 1.0
    columns = min(columns, len(maps))
    lines = -(-len(maps) // columns)
    width = min(7.0, 3.0 * columns)
    heading = 0.25 * (1 + titles[0].count("\n")) if titles else 0.0
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(width, (width / columns + heading) * lines),
        squeeze=False,
        layout="constrained",
    )
    scale = {"cmap": DIVERGING if signed else SEQUENTIAL, "vmin": -limit if signed else 0, "vmax": limit}
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, values) in enumerate(zip(axes.flat, maps, strict=False)):
        image = ax.imshow(values, **scale)
        frame = {"fill": False, "edgecolor": FAINT, "lw": 1}
        ax.add_patch(Rectangle((-0.5, -0.5), *values.shape[::-1], **frame))
        ax.set_title(titles[i] if titles else "")
        if (marked := marks[i]) is not None:
            row, column = marked
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame | {"edgecolor": INK, "lw": 1.6}))
        if numbers:
            _write(ax, values, numbers, limit)
    if bar:
        figure.colorbar(image, ax=axes, label=bar, shrink=0.8, aspect=24, pad=0.02)
    return shown_once(figure)


def labelled_heatmap(
    values: Any, rows: Sequence[str], columns: Sequence[str], numbers: str = ".2f", bar: str = ""
) -> Figure:
    """Draw one matrix as a table in colours: a name for each row and column, the value in each square."""
    values = _matrix("values", values)
    check_format(numbers)
    check_one_each("rows", rows, values.shape[0], "rows of the matrix")
    check_one_each("columns", columns, values.shape[1], "columns of the matrix")
    limit = float(np.abs(values).max()) or 1.0
    size = (min(7, 2.2 + 0.85 * len(columns)), 0.8 + 0.5 * len(rows))
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=limit, aspect="auto")
    _write(ax, values, numbers, limit)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if bar:
        figure.colorbar(image, ax=ax, label=bar)
    return shown_once(figure)


def _matrix(name: str, values: Any) -> np.ndarray:
    values = as_array(values)
    check_matrix(name, values)
    return values.astype(np.float64)


def _write(ax: Axes, values: np.ndarray, numbers: str, limit: Number) -> None:
    for (row, column), value in np.ndenumerate(values):
        ink = CARD if abs(value) > 0.55 * limit else INK
        ax.text(column, row, format(float(value), numbers), ha="center", va="center", color=ink)


# Pictures ---------------------------------------------------------------------------------------------------


def image_grid(
    images: Any,
    titles: Sequence[str] = (),
    rows: Sequence[str] = (),
    columns: int = 10,
    limits: tuple[Number, Number] | None = None,
    size: Number = 7.0,
) -> Figure:
    """Draw pictures beside each other.

    Args:
        images: (n, h, w) or (n, c, h, w), with one channel or three, from -1 to 1.
        titles: above the pictures, as many as there are.
        rows: a name for each row.
        columns: pictures in a row.
        limits: what is black and what is white, where pixels go beyond -1 and 1, as under noise.
        size: width in inches.

    Raises:
        ValueError: for pixels outside -1 ... 1 where no ``limits`` are given.
    """
    values = as_array(images)
    if limits is not None:
        limits = check_limits(limits)
        values = (2 * (values.astype(np.float64) - limits[0]) / (limits[1] - limits[0]) - 1).clip(-1, 1)
    pictures = as_pixels(values)
    columns, size = check_number("columns", columns, 1, whole=True), check_number("size", size, 1, 100)
    check_at_most("titles", titles, len(pictures), "pictures")
    columns = min(columns, len(pictures))
    lines = -(-len(pictures) // columns)
    check_at_most("rows", rows, lines, "rows")
    pitch = (size - bool(rows)) / columns * pictures.shape[1] / pictures.shape[2]
    close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure, axes = plt.subplots(
        lines, columns, figsize=(size, pitch * lines + 0.3 * bool(titles)), squeeze=False, layout=close
    )
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(pictures):
            ax.imshow(pictures[i], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_title(titles[i] if i < len(titles) else "", fontsize=10)
    for ax, name in zip(axes[:, 0], rows, strict=False):
        ax.text(-0.08, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=10.5)
    return shown_once(figure)


def picture_map(
    decks: Sequence[tuple[Number, Number, Any, str, str]],
    arrows: Sequence[tuple[Point, Point, str, str]] = (),
    size: Point = (7.0, 4.6),
    pixel: Number = 0.02,
) -> Figure:
    """Draw what goes where in a whole model: decks of pictures, all to one scale, and arrows between them.

    Args:
        decks: (x, y, pictures, above, below) for each: where its middle is, in inches; (n, h, w) or (n, 3, h, w)
            from -1 to 1, drawn like cards on a pile, the first on top; what to write above it and below it.
        arrows: (start, end, label, colour) for each: two points in inches, what to write beside the middle of the
            arrow, above a level one and to the right of an upright one, and the name of its colour.
        size: of the figure, in inches.
        pixel: how wide a pixel is drawn, in inches.

    Raises:
        ValueError: for pixels outside -1 ... 1.
    """
    check_list("decks", decks)
    for deck in decks:
        check_one_each("A deck", deck, 5, "places: x, y, pictures, above, below")
    for one in arrows:
        check_one_each("An arrow", one, 4, "places: start, end, label, colour")
        check_choice("colour", one[3], COLOURS)
    piles = [as_pixels(pictures) for _, _, pictures, _, _ in decks]
    figure, ax = plt.subplots(figsize=size)
    ax.set_position((0, 0, 1, 1))
    for (x, y, _, above, below), cards in zip(decks, piles, strict=True):
        half_width, half_height = pixel * cards.shape[2] / 2, pixel * cards.shape[1] / 2
        for i in reversed(range(len(cards))):
            left, bottom = x - half_width + 0.07 * i, y - half_height + 0.07 * i
            extent = (left, left + 2 * half_width, bottom, bottom + 2 * half_height)
            options = {"vmin": 0, "vmax": 255, "interpolation": "nearest", "zorder": 10 - i}
            ax.imshow(cards[i], extent=extent, cmap="gray", **options)
            edge = {"fill": False, "edgecolor": CARD, "lw": 1.2, "zorder": 10 - i}
            ax.add_patch(Rectangle((left, bottom), 2 * half_width, 2 * half_height, **edge))
        rise = 0.07 * (len(cards) - 1)
        ax.text(x + rise / 2, y + half_height + rise + 0.1, above, ha="center", va="bottom", fontsize=10.5)
        ax.text(x, y - half_height - 0.1, below, ha="center", va="top", fontsize=9.5, color=MUTED)
    for start, end, label, colour in arrows:
        arrow(ax, start, end, COLOURS[colour])
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        level = start[1] == end[1]
        place: dict[str, Any] = {"ha": "center", "va": "bottom"} if level else {"ha": "left", "va": "center"}
        ax.text(x + 0.1 * (not level), y + 0.09 * level, label, fontsize=9.5, **place)
    ax.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="equal")
    ax.axis("off")
    return shown_once(figure)


# Tables and source ------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]):
    """A table for the page: the first column names the row, whole numbers get thousands separators."""
    from IPython.display import HTML

    def cell(tag: str, value: Any) -> str:
        if isinstance(value, Tensor | np.ndarray | np.generic):
            value = check_single("A cell", as_array(value)).item()
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        return f"<{tag}>{escape(text)}</{tag}>"

    check_list("header", header)
    check_list("rows", rows)
    for row in rows:
        check_one_each("A row", row, len(header), "columns")
    lines = ["".join(cell("th", name) for name in header)]
    lines += [cell("th", first) + "".join(cell("td", value) for value in rest) for first, *rest in rows]
    head, *body = (f"<tr>{line}</tr>" for line in lines)
    return HTML(f'<table class="dataframe"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>')


def source(*things: Any, docstrings: bool = True) -> None:
    """Show the source of functions, methods or classes on the page, highlighted, one below the other.

    Args:
        things: what to show.
        docstrings: ``False`` leaves them out, where the page has said what they say.
    """
    from IPython.display import Markdown, display

    blocks = [textwrap.dedent(_source_of(thing)).rstrip() for thing in things]
    if not docstrings:
        blocks = [_without_docstrings(block) for block in blocks]
    display(Markdown("```python\n" + "\n\n\n".join(blocks) + "\n```"))


def _source_of(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (TypeError, OSError):
        raise unfitting_source(thing) from None


def _without_docstrings(block: str) -> str:
    lines: list[str | None] = list(block.splitlines())
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            after = docstring.end_lineno or docstring.lineno  # The line below it, counted from 0.
            if after < len(lines) and lines[after] == "":
                after += 1
            lines[docstring.lineno - 1 : after] = [None] * (after - docstring.lineno + 1)
    return "\n".join(line for line in lines if line is not None)
