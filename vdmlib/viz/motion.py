"""What moves: animations, and sliders that work with no kernel behind them."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..checks import check_list, check_number, check_one_each, check_texts
from ..media import write_gif
from .pictures import as_pixels


def image_slider(pictures: Sequence[Any], labels: Sequence[str], description: str):
    """A slider that changes the picture, with no kernel behind it: in the page, in Jupyter, and on Colab.

    Args:
        pictures: figures, PNG bytes, or (h, w) or (3, h, w) from -1 to 1.
        labels: what the slider says at each picture.
        description: what the slider moves along.

    Raises:
        ValueError: for pixels outside -1 ... 1.
    """
    import ipywidgets

    check_list("pictures", pictures, needs_one=True)
    check_one_each("labels", labels, len(pictures), "pictures")
    check_texts("description", [description])
    slider = ipywidgets.SelectionSlider(
        options=[(label, i) for i, label in enumerate(labels)],
        description=description,
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": "560px"},
    )
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
    # The link lives as long as the box, which takes attributes of any name.
    box.link = link  # pyright: ignore[reportAttributeAccessIssue]
    return box


def animate(frames: Any, milliseconds: int = 120, scale: int = 1, poster: int | None = -1, hold: int = 1500):
    """A GIF of frames, the same bytes every time.

    Args:
        frames: (f, h, w) or (f, 3, h, w) from -1 to 1; bytes, (f, h, w) or (f, h, w, 3); or figures.
        milliseconds: how long each frame stays; the last stays for ``hold``.
        scale: each pixel becomes so many on a side.
        poster: this frame comes first as well, so that a page that does not move shows something worth seeing.

    Raises:
        ValueError: for pixels outside -1 ... 1.
    """
    from IPython.display import Image

    return Image(data=gif_bytes(frames, milliseconds, scale, poster, hold), format="gif")


def gif_bytes(frames: Any, milliseconds: int = 120, scale: int = 1, poster: int | None = -1, hold: int = 1500) -> bytes:
    """The bytes of :func:`animate`, to be written to a file."""
    from PIL import Image

    for name, value, most in (("milliseconds", milliseconds, 655_350), ("scale", scale, 64), ("hold", hold, 655_350)):
        check_number(name, value, 1, most, whole=True)  # GIF counts to 65,535 hundredths of a second.
    pictures = [_paletted(frame) for frame in _pictures(frames)]
    pictures = [p.resize((p.width * scale, p.height * scale), Image.Resampling.NEAREST) for p in pictures]
    times = [milliseconds] * (len(pictures) - 1) + [hold]
    if poster is not None:
        check_number("poster", poster, -len(pictures), len(pictures) - 1, whole=True)
        pictures, times = [pictures[poster], *pictures], [hold, *times]
    buffer = io.BytesIO()
    write_gif(pictures, buffer, times)
    return buffer.getvalue()


def _pictures(frames: Any) -> list:
    """Figures or pixels as pictures of Pillow's, grey or RGB."""
    from PIL import Image

    if isinstance(frames, list | tuple) and frames and isinstance(frames[0], Figure):
        return [Image.open(io.BytesIO(_png(figure))).convert("RGB") for figure in frames]
    return [Image.fromarray(frame) for frame in as_pixels(frames)]


def _paletted(picture):
    """A picture in few colours, which makes a small file."""
    from PIL import Image

    if picture.mode == "RGB":
        return picture.quantize(128, dither=Image.Dither.NONE)
    return picture.point(lambda grey: round(grey / 255 * 31) * 255 // 31)  # 32 greys: half the bytes


def _png(picture: Any) -> bytes:
    if isinstance(picture, bytes):
        return picture
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    else:
        plt.imsave(buffer, as_pixels([picture])[0], format="png", cmap="gray", vmin=0, vmax=255)
    return buffer.getvalue()
