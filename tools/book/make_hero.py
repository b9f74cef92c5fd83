"""Draw the animation of the landing page: a video travels through the U-Net of VideoCrafter2.

Every stack of cards is a row of the dimension table, which comes from running the network: one card for each
frame, the larger the map the larger the card. Each step of the animation is one layer of the network.
Writes book/_static/hero.gif and a still, book/_static/hero.png; the same bytes every time.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

import vdmlib
from vdmlib.viz import COLOURS, INK, MUTED, gif_bytes, use_style

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_static"
QUIET, DONE = ("#EEF0F3", "#CBD1D8"), ("#C3CDD7", "#6E7B89")  # face and edge of a card
ACTIVE = {
    "space": ("#BFDDEE", COLOURS["space"]),
    "time": ("#FDF0D5", COLOURS["time"]),
    "neutral": ("#9AA3AC", "#3A424A"),
}
LAYERS = {
    "Conv2d": ("neutral", "convolution"),
    "ResBlock": ("neutral", "ResNet block: space, time, timestep and fps"),
    "SpatialTransformer": ("space", "spatial transformer: pixels of a frame, and the text"),
    "TemporalTransformer": ("time", "temporal transformer: one pixel through all frames"),
    "Downsample": ("neutral", "halve height and width"),
    "Upsample": ("neutral", "double height and width"),
}


@dataclass
class Stack:
    """A block of the network and where it is drawn."""

    name: str
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    x: float
    y: float
    skip: int | None = None  # decoder: the encoder block it is handed

    def draw(self, ax, layer: str | None, done: bool) -> tuple[float, float]:
        """Draw all frames, the first in front; returns how far the stack reaches to the left and to the right."""
        frames, _, height, width = self.shape[1:]
        w, h = 0.15 * np.sqrt(width), 0.15 * np.sqrt(height) * 0.8
        shift = 0.0065 * np.sqrt(width)
        face, edge = ACTIVE[LAYERS[layer][0]] if layer else DONE if done else QUIET
        left = self.x - (w + shift * (frames - 1)) / 2
        for f in reversed(range(frames)):
            corner = (left + shift * f, self.y - h / 2 + 0.014 * f)
            ax.add_patch(Rectangle(corner, w, h, facecolor=face, edgecolor=edge, lw=0.5))
        if layer == "SpatialTransformer":
            ax.add_patch(Rectangle((left, self.y - h / 2), w, h, facecolor=COLOURS["space"]))
            for line in np.linspace(0, 1, 9)[1:-1]:
                ax.plot([left + w * line] * 2, [self.y - h / 2, self.y + h / 2], color="white", lw=0.5)
            for line in np.linspace(0, 1, 6)[1:-1]:
                ax.plot([left, left + w], [self.y + h * (line - 0.5)] * 2, color="white", lw=0.5)
        if layer == "TemporalTransformer":
            along = np.arange(frames)
            for a, b in ((0.2, 0.25), (0.5, 0.5), (0.8, 0.75)):
                line = (left + w * a + shift * along, self.y + h * (b - 0.5) + 0.014 * along)
                ax.plot(*line, color=COLOURS["time"], lw=1.6, marker=".", markersize=2.5)
        return left - 0.06, left + w + shift * (frames - 1) + 0.06


def stacks_of(rows: list[vdmlib.shapes.BlockRow]) -> list[Stack]:
    """The blocks in the order in which they run, encoder down on the left, decoder up on the right."""
    encoder = [row for row in rows if row.part == "encoder"]
    decoder = [row for row in rows if row.part == "decoder"]
    initial = tuple(layer for row in rows if row.part == "init_attention" for layer in row.layers)
    sizes = sorted({row.output_shape[-1] for row in encoder}, reverse=True)
    stacks, places = [], []
    for i, row in enumerate(encoder):
        level = sizes.index(row.output_shape[-1])
        places.append((4.2 - 0.55 * level, -0.98 * i + sum(0.05 * j for j in range(level))))
        layers = row.layers + (initial if i == 0 else ())
        stacks.append(Stack(row.name, layers, row.output_shape, -places[i][0], places[i][1]))
    middle = next(row for row in rows if row.part == "middle")
    stacks.append(Stack("middle", middle.layers, middle.output_shape, 0, places[-1][1] - 0.9))
    for row, (i, (x, y)) in zip(decoder, reversed(list(enumerate(places))), strict=True):
        # A decoder block is drawn as large as it works, before it doubles the picture.
        shape = (*row.output_shape[:3], *row.input_shape[3:])
        stacks.append(Stack(row.name, row.layers, shape, x, y, skip=i))
    return stacks


def draw(stacks: list[Stack], now: int, layer: str | None) -> bytes:
    """One picture as PNG: blocks before ``now`` are done, block ``now`` is in the given layer."""
    figure, ax = plt.subplots(figsize=(6.4, 7.0), dpi=100)
    figure.subplots_adjust(0, 0, 1, 1)
    middle = next(i for i, stack in enumerate(stacks) if stack.name == "middle")
    reach = [stack.draw(ax, layer if i == now else None, i < now) for i, stack in enumerate(stacks)]
    for i, stack in enumerate(stacks):
        if stack.skip is not None:
            waiting, passing = stack.skip < now <= i, i == now
            colour = COLOURS["skip"] if waiting or passing else QUIET[1]
            start, end = reach[stack.skip][1], reach[i][0]
            ax.plot([start, end], [stack.y, stack.y], color=colour, lw=3.2 if passing else 1.6, zorder=0)
    stack = stacks[min(now, len(stacks) - 1)]
    colour, words = LAYERS[layer] if layer else ("neutral", "predicted noise")
    ax.text(-5.2, 1.0, "noisy latents", fontsize=11, color=MUTED)
    ax.text(5.2, 1.0, "predicted noise", fontsize=11, color=MUTED if layer else INK, ha="right")
    bottom = stacks[middle].y - 0.85
    ax.text(-5.2, bottom, stack.name, fontsize=13, color=INK, weight="bold")
    shape = ", ".join(map(str, stack.shape))
    ax.text(5.2, bottom, f"b f c h w = {shape}", fontsize=11.5, color=INK, ha="right")
    ax.plot([-5.1], [bottom - 0.5], "s", color=COLOURS[colour], markersize=9)
    ax.text(-4.8, bottom - 0.5, words, fontsize=11.5, color=INK, va="center")
    ax.set_xlim(-5.5, 5.5)
    ax.set_ylim(bottom - 0.9, 1.5)
    ax.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches=None, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: book/_static)")
    arguments = parser.parse_args()
    use_style()
    plt.rcParams["savefig.bbox"] = None
    stacks = stacks_of(vdmlib.dimension_table(vdmlib.UNet3DConfig.videocrafter2()))
    pictures = [draw(stacks, i, layer) for i, stack in enumerate(stacks) for layer in stack.layers]
    pictures.append(draw(stacks, len(stacks), None))
    still = next(i for i, (n, layer) in enumerate(
        (n, layer) for n, stack in enumerate(stacks) for layer in stack.layers
    ) if stacks[n].name == "decoder 4" and layer == "SpatialTransformer")  # fmt: skip
    frames = [np.array(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures]
    (arguments.folder / "hero.png").write_bytes(pictures[still])
    (arguments.folder / "hero.gif").write_bytes(gif_bytes(frames, milliseconds=110, poster=still, hold=1200))
    for name in ("hero.png", "hero.gif"):
        path = arguments.folder / name
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
