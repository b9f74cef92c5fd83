"""What an answer looks like: a small picture for some exercises of the student's notebooks, drawn from the solution.

It shows what the function makes and not how. It stands in the text itself, as Colab shows no attachments.
"""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exercise_cells import exercises, names_of, needed_of
from PIL import Image

from vdmlib import NoiseSchedule

# 0 white, 1 grey; 2 time, 3 embeddings; from 4 four shades of space.
PALETTE = ("#ffffff", "#b0b0b0", "#e69f00", "#d55e00", "#003d66", "#0072b2", "#66b2e0", "#cfe6f5")
CELL = 16  # pixels of a square
DATA = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class Figure:
    """A picture for an exercise: numbers of :data:`PALETTE`, drawn with the names of its solution and chapter."""

    draw: Callable[[dict[str, Any]], np.ndarray]
    caption: str
    needs: tuple[str, ...] = ()


def squares(numbers: torch.Tensor) -> np.ndarray:
    """A number of the palette for each square, with a grey grid around the squares."""
    large = np.kron(numbers.numpy(), np.ones((CELL, CELL), int))
    large[::CELL], large[:, ::CELL] = 1, 1
    return np.pad(large, ((0, 1), (0, 1)), constant_values=1)


def _signals(names: dict[str, Any]) -> np.ndarray:
    before = NoiseSchedule.videocrafter2()
    picture = np.zeros((121, 241), int)
    picture[-1], picture[:, 0] = 1, 1
    for schedule, colour in ((before, 1), (names["without_rest"](before), 3)):
        signal = schedule.alphas_cumprod.double().sqrt().numpy()
        levels = np.linspace(0, len(signal) - 1, 960).round().astype(int)
        rows, columns = (119 - 118 * signal[levels]).round().astype(int), np.arange(960) // 4
        picture[rows, 1 + columns] = picture[rows + 1, 1 + columns] = colour
    return picture


def _folded(names: dict[str, Any]) -> np.ndarray:
    colours = torch.tensor([4, 5, 6, 7]).reshape(2, 2)
    channels = names["fold"](colours.repeat(2, 2)[None, None].float())[0].int()
    gap = np.zeros((4 * CELL + 1, CELL), int)
    parts = [squares(colours.repeat(2, 2))]
    for channel in channels:
        small = squares(channel)
        parts += [gap, np.pad(small, ((0, 2 * CELL), (0, 0)))]
    return np.concatenate(parts, axis=1)


def _causal(names: dict[str, Any]) -> np.ndarray:
    torch.manual_seed(0)
    layer, (x, other) = names["CausalConvolution"](4).double(), torch.randn(2, 1, 6, 4, 2, 2).double()
    return squares(2 * (names["frame_influence"](layer, x, other) > 0).int())


def _window(names: dict[str, Any]) -> np.ndarray:
    alike = torch.zeros(1, 8, 4)
    return squares(2 * (names["window_attention"](alike, alike, torch.eye(8)[None], 2)[0] > 0).int())


def _levels(names: dict[str, Any]) -> np.ndarray:
    picture = np.zeros((20, 502), int)
    picture[15] = 1
    for level in names["trailing"](10, 1000):
        picture[3:16, int(level) // 2 : int(level) // 2 + 2] = 3
    return picture


FIGURES = {
    "ex-ldm-zero": Figure(
        _signals,
        "How much signal is left, from the first level to the last: VideoCrafter2's schedule (grey) and what becomes "
        "of it (red), which ends at 0.",
    ),
    "ex-unet2d-shuffle": Figure(
        _folded, "A picture of 4 × 4 pixels, shaded by their place in their square, and the four channels of `fold`."
    ),
    "ex-temporal-causal": Figure(
        _causal,
        "The influence map: a square in row $i$, column $j$ is orange if frame $i$ moves when frame $j$ is exchanged.",
        ("frame_influence",),
    ),
    "ex-attention-window": Figure(
        _window, "Eight tokens, a reach of 2: a square in row $i$, column $j$ is orange if token $i$ hears token $j$."
    ),
    "ex-gpu-levels": Figure(_levels, "Ten of a thousand levels, from the first on the left to the last on the right."),
}


def markdown(path: Path, label: str) -> str:
    """The picture of an exercise as Markdown, with what is on it; empty where there is none."""
    if label not in FIGURES:
        return ""
    figure = FIGURES[label]
    [exercise] = [one for one in exercises(path) if one.label == label]
    names: dict[str, Any] = {"__name__": label}
    wanted = names_of(exercise.stub)[0] | set(figure.needs)
    for source in needed_of([*exercise.above, exercise.solution], wanted):
        exec(compile(source, label, "exec"), names)
    picture = Image.fromarray(figure.draw(names).astype(np.uint8), "P")
    picture.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in PALETTE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    alt = re.sub(r"[$`]", "", figure.caption)
    return f"![{alt}](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})\n\n*{figure.caption}*"


def as_seen(text: str) -> str:
    """A text with its pictures' pixels in place of their bytes, which depend on who compressed them."""

    def pixels(found: re.Match) -> str:
        with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
            return f"{picture.size} {picture.convert('RGB').tobytes().hex()}"

    return DATA.sub(pixels, text)
