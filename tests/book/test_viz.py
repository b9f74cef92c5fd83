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
from vdmlib.attention import DualCrossAttention, ImageTokens, SpatialTransformer, TemporalTransformer
from vdmlib.shapes import dimension_table
from vdmlib.unet2d import UNet2D
from vdmlib.viz import style

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


def dots(figure, name):
    """How many dots of a colour lie on layers; the one in the legend is left out."""
    colour = colors.to_rgba(viz.COLOURS[name])
    found = [dot for dot in figure.axes[0].collections if tuple(dot.get_facecolor()[0]) == colour]
    return max(0, len(found) - 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temporal_cross_attention": True},
        {"image_attention": True},
        {"image_attention": True, "temporal_cross_attention": True},
        {"image_attention": True, "temporal_cross_attention": True, "temporal_image_attention": True},
        {"context_channels": None},
        {"temporal_cross_attention": True, "initial_temporal_attention": False},
        {"resample_in_res_blocks": True},
    ],
    ids=lambda options: "+".join(options) or "default",
)
def test_map_says_which_layers_take_text_image_and_embedding(options):
    """Counted in the network itself: which layers have weights for text or image tokens, or for an embedding."""
    config = vdmlib.UNet3DConfig(**{**vars(TINY), **options})
    with torch.device("meta"):
        net = vdmlib.UNet3D(config)
    figure = viz.unet_map(config)
    transformers = [m for m in net.modules() if type(m).__name__ in ("SpatialTransformer", "TemporalTransformer")]

    def asks(transformer, layer):
        names = [name for name, weight in transformer.named_parameters() if weight.shape[-1] == config.context_channels]
        return any(name.endswith(f"{layer}.weight") for name in names)

    assert dots(figure, "text") == sum(asks(transformer, "to_k") for transformer in transformers)
    assert dots(figure, "image") == sum(asks(transformer, "to_k_image") for transformer in transformers)
    assert dots(figure, "embedding") == sum(type(m).__name__ == "ResBlock" for m in net.modules())


def test_map_shows_resnet_blocks_that_change_the_resolution():
    config = vdmlib.UNet3DConfig(**{**vars(TINY), "resample_in_res_blocks": True})
    figure = viz.unet_map(config)
    stripes = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch) and p.get_height() == 0.2]
    with torch.device("meta"):
        net = vdmlib.UNet3D(config)
    assert len(stripes) == 1 + sum(type(m).__name__ == "TemporalConvBlock" for m in net.modules())
    assert {"halves the picture", "doubles the picture"} <= set(written(figure))


def test_map_names_fps_only_where_it_is_embedded():
    assert "takes timestep and fps" in written(viz.unet_map(TINY))
    assert "takes timestep" in written(viz.unet_map(vdmlib.UNet3DConfig(**{**vars(TINY), "use_fps": False})))


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
    for part in viz.HIGHLIGHTS:
        assert drawn(part) not in (nothing, everything), part


def test_unknown_part_is_named():
    with pytest.raises(ValueError, match=r"Unknown highlight \['brain'\]: choose from .*temporal"):
        viz.unet_map(TINY, ("temporal", "brain"))


def test_transformers_are_drawn_as_they_are():
    with_text, without = TemporalTransformer(64, 4, 16, 24), TemporalTransformer(64, 4, 16)
    torch.nn.init.ones_(without.project_out.weight)
    figure = viz.transformer_map([with_text, without], ["text", "none"], frames=3, height=2, width=5, text_tokens=7)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("x: (1, 3, 64, 2, 5)") == words.count("(10, 3, 64)") == 2
    assert words.count("cross-attention") == words.count("text (7, 24)") == words.count("self-attention, again") == 1
    assert words.count("linear, zero at first") == 1, "only the fresh one ends in zeros"
    spatial = viz.transformer_map([SpatialTransformer(64, 4, 16, 24)], ["space"], frames=3, height=2, width=5)
    assert "(3, 10, 64)" in [text.get_text() for text in spatial.axes[0].texts]


def test_a_dual_attention_is_drawn_as_it_is():
    layer = DualCrossAttention(48, 24, 4, 8, ImageTokens(text_tokens=5))
    figure = viz.dual_map(layer, pixels=9, image_tokens=3)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"text: 5 × 24", "image: 3 × 24", "pixels: 9 × 48", "to_out: 32 → 48"} <= set(words)
    boxes = [colors.to_hex(p.get_facecolor()).upper() for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    assert boxes.count(viz.COLOURS["text"]) == boxes.count(viz.COLOURS["image"]) == 2


def test_pixels_of_the_marked_row_are_filled():
    rows = torch.tensor([[[0, 0, 1]], [[2, 1, 1]]])  # f h w
    figure = viz.row_map([rows, rows], ["a", "b"], ["space", "time"], mark=(1, 0, 2))
    for ax, colour in zip(figure.axes, ("space", "time"), strict=True):
        faces = [colors.to_hex(p.get_facecolor()).upper() for p in ax.patches if p.get_fill()]
        assert [face == viz.COLOURS[colour] for face in faces] == [False, False, True, False, True, True]


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
    figure = viz.image_grid(images, titles=["a"], rows=["r", "s"], columns=2, limits=(-1, 1))
    assert [float(ax.images[0].get_array().max()) for ax in figure.axes] == [0, 128, 255, 255]
    assert {"r", "s"} <= set(written(figure))
    wide = viz.image_grid(images, columns=4, limits=(-1, 3))
    assert [float(ax.images[0].get_array().max()) for ax in wide.axes] == [0, 64, 128, 255]


# Numbers of every type, and what lies outside.

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("form", ["tensor", "list", "with a gradient"])
def test_numbers_of_any_float_type(dtype, form):
    values = (2 * torch.eye(4) - 1).expand(3, 4, 4).to(dtype)
    if form == "with a gradient":
        values = torch.nn.Parameter(values) if dtype.itemsize > 1 else values
    values = list(values) if form == "list" else values
    assert viz.heatmap(values, numbers="g").axes[0].images[0].get_array().max() == 1
    assert viz.labelled_heatmap(values[0], list("abcd"), list("abcd"))
    assert viz.image_grid(values).axes[0].images[0].get_array().max() == 255
    assert viz.picture_map([(1, 1, values, "", "")])
    assert viz.animate(values).data.startswith(b"GIF89a")
    assert viz.to_bytes(values).shape == (3, 4, 4)
    assert viz.image_slider(list(values), list("abc"), "x")
    assert "<td>1.0</td>" in viz.table(["a", "b"], [["row", values[0][0, 0]]]).data


@pytest.mark.parametrize(
    "draw",
    [
        viz.image_grid,
        viz.animate,
        viz.gif_bytes,
        viz.to_bytes,
        lambda pictures: viz.picture_map([(1, 1, pictures, "", "")]),
        lambda pictures: viz.image_slider(list(pictures), ["a", "b"], "x"),
    ],
    ids=["image_grid", "animate", "gif_bytes", "to_bytes", "picture_map", "image_slider"],
)
def test_pixels_outside_are_refused_with_what_was_found(draw):
    pictures = torch.zeros(2, 3, 4, 4)
    pictures[:, 0, 0, :2] = torch.tensor([-1.0, 1.003])  # rounding
    draw(pictures)
    pictures[1, 0, 0, 1] = 254
    with pytest.raises(ValueError, match=r"runs from -1 to 254, but pixels are fractions in -1 \.\.\. 1: .*clamp"):
        draw(pictures)
    with pytest.raises(ValueError, match="not finite"):
        draw(pictures.fill_(float("nan")))


MAPS = [np.eye(2), np.zeros((3, 4))]
MISTAKES = {
    "no maps": (lambda: viz.heatmap([]), ValueError, "maps is empty"),
    "a mark outside": (lambda: viz.heatmap(MAPS, mark=(2, 0)), ValueError, r"mark has \(2, 0\) for a map of \(2, 2\)"),
    "a mark of one number": (
        lambda: viz.heatmap(MAPS, mark=(1,)),
        ValueError,
        r"mark has \(1,\).*pass \(row, column\)",
    ),
    "a mark too few": (lambda: viz.heatmap(MAPS, mark=[(0, 0)]), ValueError, "mark has 1 entries for 2 maps"),
    "titles of numbers": (lambda: viz.heatmap(MAPS, [1, 2]), TypeError, r"titles is \[1, 2\]: pass strings"),
    "signed in words": (lambda: viz.heatmap(MAPS, signed="no"), ValueError, "signed is 'no': use True or False"),
    "numbers that fill the page": (lambda: viz.heatmap(MAPS, numbers=".1000f"), ValueError, r"numbers is '\.1000f'"),
    "a map without numbers": (lambda: viz.heatmap([torch.zeros(2, 2, device="meta")]), TypeError, "on meta: pass real"),
    "limits that are equal": (
        lambda: viz.image_grid(np.zeros((1, 2, 2)), limits=(1, 1)),
        ValueError,
        r"limits is \(1, 1\)",
    ),
    "limits in words": (lambda: viz.image_grid(np.zeros((1, 2, 2)), limits="ab"), ValueError, "limits is 'ab'"),
    "a size in words": (lambda: viz.image_grid(np.zeros((1, 2, 2)), size="7"), ValueError, "size is '7': use a number"),
    "rows too many": (lambda: viz.image_grid(np.zeros((1, 2, 2)), rows=["a", "b"]), ValueError, "rows is .* 1 rows"),
    "a tensor of one axis": (lambda: viz.tensor_row([("x", (3,))]), ValueError, r"'x' has the shape \(3,\)"),
    "an empty tensor": (lambda: viz.tensor_row([("x", (0, 4, 4))]), ValueError, "'x' has the shape .*from 1"),
    "a colour that is none": (lambda: viz.tensor_row([("x", (1, 2, 3))], colour="bleu"), ValueError, "'bleu'"),
    "several numbers in a cell": (lambda: viz.table(["a"], [[torch.zeros(3)]]), ValueError, r"shape \(3,\): pass one"),
    "no pictures to turn": (lambda: viz.image_slider([], [], "x"), ValueError, "pictures is empty"),
    "a pause that GIF cannot count": (
        lambda: viz.gif_bytes(np.zeros((2, 4, 4)), hold=10**6),
        ValueError,
        "hold is 1000000",
    ),
    "pixels as large as a page": (
        lambda: viz.gif_bytes(np.zeros((2, 4, 4)), scale=10**4),
        ValueError,
        "scale is 10000",
    ),
    "a slider along a number": (
        lambda: viz.image_slider(MAPS, ["a", "b"], 5),
        TypeError,
        r"description is \[5\]: pass",
    ),
    "no rows of pixels": (lambda: viz.row_map([], [], [], (0, 0, 0)), ValueError, "rows is empty"),
    "a pixel outside": (
        lambda: viz.row_map([np.zeros((1, 2, 2))], ["a"], ["time"], (0, 2, 0)),
        ValueError,
        r"mark is \(0, 2, 0\) in an array of \(1, 2, 2\)",
    ),
    "memory in words": (lambda: viz.memory_over_time(["1"], [0], ["a"]), ValueError, "live or waiting is '1'"),
    "blocks that are numbers": (
        lambda: viz.memory_over_time([1], [0], [2]),
        TypeError,
        r"blocks is \[2\]: pass strings",
    ),
    "a layer too few": (
        lambda: viz.memory_over_time([1], [0], ["a"], (), ["", ""]),
        ValueError,
        "layers has 2 entries",
    ),
    "a layer that has no colour": (
        lambda: viz.memory_over_time([1], [0], ["a"], (), ["norm"]),
        ValueError,
        r"layers has \['norm'\]: use ''",
    ),
    "a mark after the end": (lambda: viz.memory_over_time([1], [0], ["a"], [(1, "x")]), ValueError, "mark is 1"),
    "a mark without words": (lambda: viz.memory_over_time([1], [0], ["a"], [0]), TypeError, "mark has 0: pass pairs"),
    "a network without blocks": (lambda: viz.unet_map([]), ValueError, "net is empty"),
    "half a network": (
        lambda: viz.unet_map([row for row in dimension_table(TINY, 4, 8, 8) if row.part == "encoder"]),
        ValueError,
        r"4 encoder, 0 middle and 0 decoder",
    ),
    "a box in words": (lambda: style.box("a", 0, 1, 1, "red", 0), ValueError, "x is 'a'"),
    "no transformers": (lambda: viz.transformer_map([], []), ValueError, "transformers is empty"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_drawn_is_said_in_one_sentence_and_leaves_no_figure(name):
    call, kind, says = MISTAKES[name]
    with pytest.raises(kind, match=says) as error:
        call()
    assert str(error.value).endswith(".") and "\n" not in str(error.value) and not plt.get_fignums()


def test_to_bytes_turns_pixels_to_the_order_of_picture_files():
    frames = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    data = viz.to_bytes(frames)
    assert data.dtype == torch.uint8 and data.shape == (2, 4, 5, 3)
    assert data[0, 0, 0].tolist() == [0, 128, 255]


def test_animate_takes_frames_as_the_library_has_them():
    frames = torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert viz.gif_bytes(frames) == viz.gif_bytes(viz.to_bytes(frames))


class Shown:
    """A class to show."""

    width = 3

    def double(self, x: int) -> int:
        """Twice x.

        More on this.
        """
        # Half of it was too little.
        return 2 * x


def test_source_is_shown_highlighted(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing: shown.append(thing.data))
    viz.source(Shown.double, boom)
    viz.source(Shown, docstrings=False)
    method = 'def double(self, x: int) -> int:\n    """Twice x.\n\n    More on this.\n    """\n    # Half'
    assert shown[0].startswith("```python\n" + method)
    assert "return 2 * x\n\n\ndef boom():" in shown[0] and shown[0].endswith("\n```")
    assert shown[1] == (
        "```python\nclass Shown:\n    width = 3\n\n    def double(self, x: int) -> int:\n"
        "        # Half of it was too little.\n        return 2 * x\n```"
    )


def boom():
    raise AssertionError


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
    counted = viz.table(["what", "n"], [["tensor", torch.tensor(1234)], ["numpy", np.int64(5678)], ["so", True]]).data
    assert "<td>1,234</td>" in counted and "<td>5,678</td>" in counted and "<td>True</td>" in counted


def test_importing_the_library_needs_no_matplotlib():
    code = "import sys, vdmlib; assert not {'matplotlib', 'PIL', 'IPython', 'ipywidgets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_budget_bars_are_as_long_as_what_they_stand_for():
    parameters = {"a": {"ResNet, space": 3, "temporal convolution": 1}, "b": {"spatial transformer": 6}}
    operations = {"a": {"temporal transformer": 2}, "b": {"halving, doubling": 8}}
    left, right = viz.budget_bars(parameters, operations, ("weights", "work")).axes
    for ax, counts in ((left, parameters), (right, operations)):
        drawn = sorted((round(bar.get_y() + bar.get_height() / 2), bar.get_width()) for bar in ax.patches)
        assert drawn == sorted((i, n) for i, block in enumerate(counts.values()) for n in block.values())
    assert [text.get_text().strip() for text in left.texts] == ["40%", "60%"]
    assert left.get_ylim()[0] > left.get_ylim()[1]  # The first block is on top.
    with pytest.raises(ValueError, match="Unknown kinds \\['rest'\\]"):
        viz.budget_bars({"a": {"rest": 1}}, {}, ("", ""))


def test_memory_is_drawn_as_it_was_counted():
    blocks = ["a 0", "a 0", "", "b 0", "b 1", "b 1"]
    live, waiting = [1e9, 3e9, 1e9, 2e9, 1e9, 0], [0, 1e9, 1e9, 1e9, 0, 0]
    ax = viz.memory_over_time(live, waiting, blocks, [(1, "most")]).axes[0]
    tops = [area.get_datalim(ax.transData).ymax for area in ax.collections]
    assert tops == [3, 1]
    assert [text.get_text() for text in ax.texts] == ["a", "b", "most"]
    with pytest.raises(ValueError, match="have 6, 5 and 6 entries"):
        viz.memory_over_time(live, waiting[1:], blocks)


def test_memory_has_the_colour_of_the_layer_that_computes():
    live, layers = [1e9, 4e9, 2e9], ["attention over time", "feed-forward", ""]
    above, strip = viz.memory_over_time(live, [0, 0, 0], ["a"] * 3, (), layers, {"weights": 6e9}).axes
    tops = {area.get_label(): area.get_datalim(above.transData).ymax for area in above.collections}
    assert tops == {"attention over time": 1, "feed-forward": 4, "other work": 2, "waiting": 0}
    colours = {area.get_label(): colors.to_hex(area.get_facecolor()[0]) for area in above.collections}
    assert colours["attention over time"] == style.COLOURS["time"].lower() and len(set(colours.values())) == 4
    assert [(bar.get_x(), bar.get_width()) for bar in strip.patches] == [(0, 6), (6, 4)]
    assert [text.get_text() for text in strip.texts] == ["weights 6.00", "peak 4.00"]


def test_a_roofline_has_its_corner_where_both_limits_meet():
    cards, work = {"slow": (65e12, 300e9), "fast": (989e12, 3350e9)}, {"one": (1e12, 1e10), "two": (4e12, 1e10)}
    ax = viz.roofline(cards, work, {"a run": (200, 30e12)}).axes[0]
    roofs = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert [line.get_ydata()[-1] for line in roofs] == [65, 989]
    assert [line.get_ydata()[0] for line in roofs] == pytest.approx([0.3, 3.35])
    corners = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert corners == pytest.approx([65e12 / 300e9, 989e12 / 3350e9])
    upright = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2]
    assert upright == [100, 400]
    assert {text.get_text().strip() for text in ax.texts} == {"slow", "fast", "one", "two", "a run"}
