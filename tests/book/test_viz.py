"""The drawing helpers: what they draw comes from the real objects."""

import io
import subprocess
import sys

import ipywidgets
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import colors
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

import vdmlib
from vdmlib import viz
from vdmlib.unet2d import UNet2D

TINY = vdmlib.UNet3DConfig.tiny()


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    assert not plt.get_fignums()


def cells(figure, colour):
    """The layers drawn in a colour; the legend's smaller boxes are left out."""
    return [
        patch for patch in figure.axes[0].patches
        if isinstance(patch, FancyBboxPatch) and patch.get_height() > 0.6
        and colors.to_hex(patch.get_facecolor()).lower() == colour.lower()
    ]  # fmt: skip


def arrows(figure, name="skip"):
    return [
        patch for patch in figure.axes[0].patches
        if isinstance(patch, FancyArrowPatch)
        and colors.to_hex(patch.get_edgecolor()).lower() == viz.COLOURS[name].lower()
    ]  # fmt: skip


def written(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_palette_is_okabe_and_itos():
    assert viz.COLOURS == {
        "space": "#0072B2", "time": "#E69F00", "text": "#009E73", "image": "#CC79A7", "embedding": "#D55E00",
        "skip": "#56B4E9", "neutral": "#7B838C",
    }  # fmt: skip


def test_map_of_videocrafter2_counts_what_it_has():
    config = vdmlib.UNet3DConfig.videocrafter2()
    figure = viz.unet_map(config)
    layers = [layer for row in vdmlib.dimension_table(config) for layer in row.layers]
    assert len(arrows(figure)) == 12
    assert len(cells(figure, viz.COLOURS["space"])) == layers.count("SpatialTransformer") == 16
    assert len(cells(figure, viz.COLOURS["time"])) == layers.count("TemporalTransformer") == 17
    assert len(cells(figure, viz.COLOURS["neutral"])) == layers.count("ResBlock") + 1
    texts = written(figure)
    for shape in ("320 × 40 × 64", "640 × 20 × 32", "1280 × 10 × 16", "1280 × 5 × 8"):
        assert shape in texts
    assert texts.count("(1, 16, 4, 40, 64)") == 2


def test_map_shows_what_a_configuration_leaves_out():
    bare = vdmlib.UNet3DConfig(**{**vars(TINY), "temporal_attention": False, "initial_temporal_attention": False})
    assert not cells(viz.unet_map(bare), viz.COLOURS["time"])
    assert "takes an image" not in written(viz.unet_map(TINY))
    image = vdmlib.UNet3DConfig(**{**vars(TINY), "image_attention": True})
    assert "takes an image" in written(viz.unet_map(image))


def test_map_for_an_input_of_another_size():
    assert str((1, TINY.temporal_length, 4, 16, 24)) in written(viz.unet_map(TINY, size=(16, 24)))


def test_map_of_unet2d():
    figure = viz.unet_map(UNet2D(widths=(16, 32, 64, 64)))
    assert len(arrows(figure)) == 4
    assert len(cells(figure, viz.COLOURS["space"])) == 9
    assert {"16 × 16 × 16", "32 × 8 × 8", "64 × 4 × 4", "64 × 2 × 2"} <= set(written(figure))
    assert not arrows(viz.unet_map(UNet2D(skip_connections=False)))


def test_rows_of_a_table_are_drawn_like_the_network():
    rows = vdmlib.dimension_table(TINY, frames=4, height=10, width=16)
    assert len(arrows(viz.unet_map(rows))) == len(arrows(viz.unet_map(TINY))) == 4


@pytest.mark.parametrize(
    ("highlight", "bright", "faint"),
    [("temporal", "time", "space"), ("spatial", "space", "time"), (("resnet", "skips"), "neutral", "time")],
)
def test_highlight_lights_its_part_alone(highlight, bright, faint):
    figure = viz.unet_map(TINY, highlight)
    assert cells(figure, viz.COLOURS[bright])
    assert not cells(figure, viz.COLOURS[faint])
    assert bool(arrows(figure)) == ("skips" in highlight)


def test_every_part_lights_something_and_not_everything():
    config = vdmlib.UNet3DConfig(**{**vars(TINY), "image_attention": True})

    def drawn(highlight):
        buffer = io.BytesIO()
        viz.unet_map(config, highlight).savefig(buffer, format="raw", dpi=30)
        return buffer.getvalue()

    nothing, everything = drawn(()), drawn(None)
    for part in viz.PARTS:
        assert drawn(part) not in (nothing, everything), part


def test_unknown_part_is_named():
    with pytest.raises(ValueError, match=r"Unknown part \['brain'\]: choose from .*temporal"):
        viz.unet_map(TINY, ("temporal", "brain"))


def test_tensor_row_labels_shapes():
    texts = written(viz.tensor_row([("x", torch.zeros(1, 16, 4, 40, 64)), ("y", (1, 2, 3, 4, 5))], ["f"]))
    assert "(1, 16, 4, 40, 64)" in texts and "(1, 2, 3, 4, 5)" in texts and "f" in texts


def test_heatmaps_share_one_scale_and_write_their_numbers():
    figure = viz.heatmap([np.eye(2), np.full((3, 3), 4.0)], ["a", "b"], numbers="g", mark=[(0, 1), None])
    images = [ax.images[0] for ax in figure.axes]
    assert [image.get_clim() for image in images] == [(0, 4), (0, 4)]
    assert written(figure) == ["1", "0", "0", "1"] + ["4"] * 9
    signed = viz.heatmap([np.eye(2)], signed=True, bar="change")
    assert signed.axes[0].images[0].get_clim() == (-1, 1)


def test_labelled_heatmap_names_rows_and_columns():
    figure = viz.labelled_heatmap(torch.tensor([[0.0, 1.0]]), ["row"], ["a", "b"])
    assert written(figure) == ["0.00", "1.00"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b"]


def test_image_grid_keeps_order_and_limits():
    images = torch.stack([torch.full((1, 4, 4), value) for value in (-1.0, 0.0, 1.0, 3.0)])
    figure = viz.image_grid(images, titles=["a"], rows=["r", "s"], columns=2)
    assert [float(ax.images[0].get_array().max()) for ax in figure.axes] == [0, 0.5, 1, 1]
    assert {"r", "s"} <= set(written(figure))


def test_picture_map_draws_every_card_to_one_scale():
    decks = [(1, 1, torch.zeros(3, 3, 8, 8), "video", "(3, 8, 8)"), (3, 1, torch.zeros(1, 2, 4), "code", "")]
    figure = viz.picture_map(decks, [((1.5, 1), (2.5, 1), "encoder", "text")], size=(4, 2), pixel=0.05)
    images = figure.axes[0].images
    assert [image.get_array().shape[:2] for image in images] == [(8, 8)] * 3 + [(2, 4)]
    assert {"video", "(3, 8, 8)", "code", "encoder"} <= set(written(figure))
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in images]
    assert widths == pytest.approx([0.4] * 3 + [0.2])
    assert len(arrows(figure, "text")) == 1


def test_gif_is_the_same_every_time_and_starts_with_its_poster():
    frames = torch.linspace(-1, 1, 4).reshape(4, 1, 1).expand(4, 6, 8)
    data = viz.gif_bytes(frames, milliseconds=100, scale=3, hold=700)
    assert data == viz.gif_bytes(frames, milliseconds=100, scale=3, hold=700)
    with Image.open(io.BytesIO(data)) as gif:
        assert gif.size == (24, 18) and gif.n_frames == 5
        values, times = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            values.append(gif.convert("L").getpixel((0, 0)))
            times.append(gif.info["duration"])
    assert values[0] == values[-1] == 255 and values[1:] == sorted(values[1:])
    assert times == [700, 100, 100, 100, 700]
    assert viz.animate(frames).data.startswith(b"GIF89a")


def test_gif_of_colours_and_figures():
    colour = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    colour[0, ..., 0] = 200
    with Image.open(io.BytesIO(viz.gif_bytes(colour, poster=None))) as gif:
        assert gif.convert("RGB").getpixel((0, 0)) == (200, 0, 0)
    assert viz.gif_bytes([viz.unet_map(TINY, part) for part in ("skips", "temporal")], poster=None)


def test_slider_turns_pages_without_a_kernel():
    box = viz.image_slider([np.zeros((4, 4)), b"\x89PNG", viz.unet_map(TINY)], ["one", "two", "three"], "Step")
    slider, pages = box.children
    assert slider.description == "Step"
    assert [label for label, _ in slider.options] == ["one", "two", "three"]
    assert all(bytes(page.value).startswith(b"\x89PNG") for page in pages.children)
    assert isinstance(box.link, ipywidgets.Widget)
    assert box.link.source == (slider, "index") and box.link.target == (pages, "selected_index")


def test_slider_on_old_ipywidgets_falls_back_to_tabs(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack")
    pages = viz.image_slider([np.zeros((4, 4))] * 2, ["one", "two"], "Step").children[1]
    assert isinstance(pages, ipywidgets.Tab)
    assert [pages.get_title(i) for i in range(2)] == ["one", "two"]


def test_table_escapes_and_groups():
    html = viz.table(["block", "n"], [["a<b", 1234567], ["c", (1, 2)]]).data
    assert "<th>a&lt;b</th><td>1,234,567</td>" in html and "<th>c</th><td>(1, 2)</td>" in html
    assert html.count("<tr>") == 3


def test_importing_the_library_needs_no_matplotlib():
    code = "import sys, vdmlib; assert not {'matplotlib', 'PIL', 'IPython', 'ipywidgets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
