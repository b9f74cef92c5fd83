"""The map one can walk: data of the real networks as a piece of HTML, which _static/walk.js brings to life.

`book_extension` puts it in the place of the line `{{ walk }}` of a page. Nothing is typed here that a network knows:
shapes, parameters, operations, released names and what differs come from networks on the meta device.
"""

import functools
import html
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import links
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vdmlib
from vdmlib.attention import SpatialTransformer, TemporalTransformer
from vdmlib.embeddings import EmbeddingMLP
from vdmlib.released.names import unet_names
from vdmlib.resnet import Downsample, ResBlock, Upsample
from vdmlib.shapes import BlockRow, count_parameters
from vdmlib.temporal import TemporalConvBlock

FRAMES, HEIGHT, WIDTH = 16, 40, 64
NETWORKS = {  # Each constructor of `UNet3DConfig`, its name on the button, and what it is.
    "videocrafter2": ("VideoCrafter2", "text to video"),
    "videocrafter1_i2v": ("VideoCrafter1 I2V", "image to video"),
    "videocrafter1_t2v_512": ("VideoCrafter1 T2V 512", "text to video, 320 × 512"),
    "videocrafter1_t2v_1024": ("VideoCrafter1 T2V 1024", "text to video, 576 × 1024"),
    "dynamicrafter_512": ("DynamiCrafter", "image to video, 320 × 512"),
    "small": ("a small one", "VideoCrafter2's arrangement, a fifth as wide"),
}
NOTEBOOK_PLACE = "<!-- the map one can walk -->"
CHOSEN = "decoder 5"  # It meets a skip connection, has every kind of layer, and doubles.
# For each kind of layer: its letter on the map, its class in the library, its name, and where it is taught.
KINDS = {
    "convolution": ("C", nn.Conv2d, "Convolution", "08_unet3d.html#from-the-plan-to-the-network"),
    "embedding": ("E", EmbeddingMLP, "Two linear layers", "04_embeddings.html#two-numbers-one-vector"),
    "resnet": ("R", ResBlock, "ResNet block", "05_resnet.html#the-block"),
    "time": ("t", TemporalConvBlock, "Temporal convolution", "03_temporal_axis.html#the-block-step-by-step"),
    "spatial": ("S", SpatialTransformer, "Spatial transformer", "06_st_attention.html#first-over-space-then-over-time"),
    "temporal": (
        "T", TemporalTransformer, "Temporal transformer", "06_st_attention.html#first-over-space-then-over-time",
    ),
    "down": ("↓", Downsample, "Halving", "05_resnet.html#one-block-four-shapes"),
    "up": ("↑", Upsample, "Doubling", "05_resnet.html#one-block-four-shapes"),
}  # fmt: skip
IMAGE_LINK = ("chapter 7 (the picture)", "07_dual_cross_attention.html#the-layer")
POSITIONS_LINK = ("relative positions", "06_st_attention.html#an-order-for-the-set-relative-positions")
TABLE_LINK = ("chapter 8", "08_unet3d.html#the-dimension-table")
# What a setting that differs from VideoCrafter2's means; None where the sentence of another one says it.
DIFFERENCES = {
    "in_channels": "The first convolution takes {new} channels instead of {old}: the noisy latents and those of the "
    "given frame side by side.",
    "image_attention": "Every spatial transformer has a second pair of keys and values, for the tokens of a picture.",
    "image_tokens_per_frame": "Each frame asks {new} image tokens of its own; no weight differs for that.",
    "default_fps": "Where no frame rate is given, it takes {new} instead of {old}; no weight differs for that.",
    "dropout": "In training, a share of {new} of the numbers in a ResNet block is dropped; no weight differs for that.",
    "temporal_convolution": "No ResNet block has a temporal convolution.",
    "relative_positions": "Instead, every temporal transformer has learned relative positions: they tell it the order "
    "of the frames.",
    "use_fps": "It is not told the frame rate.",
    "model_channels": "Every level has a fifth of the channels, {new} on the first instead of {old}. The blocks are "
    "the same, and every layer has other shapes.",
    "head_channels": None,
    "context_channels": "A word of the text is {new} numbers instead of {old}.",
}


def data() -> dict[str, Any]:
    """All that the map shows: the networks by name, the texts of their layers, and which block is chosen first."""
    plain = shapes_of_layers(vdmlib.UNet3DConfig.videocrafter2())
    networks = {name: network(name, plain) for name in NETWORKS}
    return {
        "networks": networks,
        "kinds": {kind: kind_data(kind) for kind in KINDS},
        "chosen": CHOSEN,
        "table": TABLE_LINK,
    }


def kind_data(kind: str) -> dict[str, Any]:
    """What is said of a kind of layer in every network: letter, name, links."""
    letter, made_of, title, chapter = KINDS[kind]
    return {"letter": letter, "title": title, "links": [chapter_link(chapter), *source_links(made_of)]}


def chapter_link(address: str) -> tuple[str, str]:
    return f"chapter {int(address[:2])}", address


def source_links(made_of: type) -> list[tuple[str, str]]:
    """Where a class of the library stands: in these pages, and in the repository."""
    if made_of.__module__.split(".")[0] != "vdmlib":
        made_of = vdmlib.UNet3D  # PyTorch's own layers stand in its constructor.
    path = made_of.__module__.replace(".", "/")
    line = inspect.getsourcelines(made_of)[1]
    return [
        (f"source of {made_of.__name__}", f"../_modules/{path}.html#{made_of.__name__}"),
        ("on GitHub", f"{links.address()}/blob/main/{path}.py#L{line}"),
    ]


def network(name: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """One network: what it is, what all of it holds and costs, what differs from VideoCrafter2, and its blocks."""
    config = getattr(vdmlib.UNet3DConfig, name)()
    net, flop = counted(config)
    rows = {row.name: row for row in vdmlib.dimension_table(config, FRAMES, HEIGHT, WIDTH)}
    blocks = [embedding_block(net, flop, config)]
    blocks += [block(label, module, rows, config, flop, net) for label, module in net.named_blocks().items()]
    for each in blocks:
        each["layers"] = with_differences(each["layers"], each.pop("places"), shapes_of_layers(config), plain)
    for what, words in (("parameters", "holds as many parameters"), ("flop", "costs as many operations")):
        most = max(blocks, key=lambda each: each[what])
        most["notes"].append(f"No other block of this network {words}.")
    title, about = NETWORKS[name]
    parameters = count_parameters(net)
    return {
        "title": title,
        "about": f"{about}; here with {FRAMES} frames of {HEIGHT} × {WIDTH} latents",
        "parameters": parameters,
        "flop": flop["UNet3D"],
        "differences": differences(config),
        "partly": partly_lit({"blocks": blocks}),
        "blocks": blocks,
    }


@functools.cache
def counted(config: vdmlib.UNet3DConfig) -> tuple[vdmlib.UNet3D, dict[str, int]]:
    """A network without memory for its weights, and the operations of each of its modules in one pass.

    A multiplication and an addition count as two, as in chapter 8. The picture of an image-to-video network is 16
    tokens, or as many for each frame.
    """
    tokens = config.text_tokens
    if config.image_attention:
        tokens += (config.image_tokens_per_frame or 0) * FRAMES or 16
    with torch.device("meta"), torch.no_grad():
        net = vdmlib.UNet3D(config).eval()
        x, context = (
            torch.empty(1, FRAMES, config.in_channels, HEIGHT, WIDTH),
            torch.empty(1, tokens, config.context_channels),
        )
        with FlopCounterMode(display=False) as counter:
            net(x, torch.zeros(1), context=context)
    return net, {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}


def kind_of(layer: nn.Module) -> str:
    return next(kind for kind, (_, made_of, *_) in KINDS.items() if type(layer) is made_of)


@functools.cache
def shapes_of_layers(config: vdmlib.UNet3DConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """For each layer on the map, by its name here: the released name and shape of every parameter in it."""
    net = counted(config)[0]
    places = {name: module for name, module in net.named_modules() if type(module) in {k[1] for k in KINDS.values()}}
    longest_first = sorted((place for place in places if depth_is_shown(place)), key=len, reverse=True)
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for ours, (theirs, shape) in unet_names(net).items():
        place = next((place for place in longest_first if ours.startswith(place + ".")), None)
        if place is not None:
            found.setdefault(place, {})[theirs] = shape
    return found


def depth_is_shown(place: str) -> bool:
    """Layers of blocks, temporal convolutions in them, and the embedding's two halves; not what is further inside."""
    return re.fullmatch(r"(\w+coder_blocks\.\d+|middle)\.\w+(\.temporal)?|embedding\.\w+|conv_out", place) is not None


def released_place(names: Mapping[str, Any]) -> str:
    """What the released names of a layer's parameters have in common, such as ``input_blocks.1.0``."""
    first, *rest = (name.split(".") for name in names)
    common = first[:-1]
    for parts in rest:
        while parts[: len(common)] != common:
            common = common[:-1]
    return ".".join(common)


def layers_of(label: str, module: nn.Module, net: vdmlib.UNet3D) -> dict[str, nn.Module]:
    """The layers of a block by their names in the network, a temporal convolution after the block that holds it."""
    names = {inner: name for name, inner in net.named_modules()}
    shown = list(module.children()) if isinstance(module, nn.ModuleDict) else [module]
    if label == "embedding":
        shown = [half for half in (net.embedding.timestep_mlp, net.embedding.fps_mlp) if half is not None]
    shown = [
        inner for layer in shown for inner in (layer, getattr(layer, "temporal", None)) if isinstance(inner, nn.Module)
    ]
    return {names[layer]: layer for layer in shown if type(layer) is not nn.Identity}


def layer_data(place: str, layer: nn.Module, flop: Mapping[str, int], config: vdmlib.UNet3DConfig) -> dict[str, Any]:
    parameters, work = count_parameters(layer), flop.get(f"UNet3D.{place}", 0)
    inside = getattr(layer, "temporal", None)
    if isinstance(inside, TemporalConvBlock):  # It has its own line.
        parameters -= count_parameters(inside)
        work -= flop[f"UNet3D.{place}.temporal"]
    kind = kind_of(layer)
    text, extra = layer_text(kind, place, config)
    theirs = released_place(shapes_of_layers(config)[place])
    return {"kind": kind, "text": text, "links": extra, "name": theirs, "parameters": parameters, "flop": work}


def layer_text(kind: str, place: str, config: vdmlib.UNet3DConfig) -> tuple[str, list[tuple[str, str]]]:
    """One sentence or two on a layer, as this network has it, and links that it has besides those of its kind."""
    texts = {
        "convolution": "Reads 3 × 3 places of one frame.",
        "embedding": "Makes a vector of waves into one that the ResNet blocks understand.",
        "resnet": "Two convolutions on every frame by itself. Between them the embedding is added, so that the block "
        "knows how much noise there is.",
        "time": "Four convolutions over three frames each, at one place. They see which frame comes before which.",
        "spatial": "All places of a frame look at each other, then at the words.",
        "temporal": "Each place looks through all frames, twice. To it, frames have no order.",
        "down": "A convolution that moves in steps of two: half the height, half the width.",
        "up": "Every place becomes 2 × 2, then a convolution goes over them.",
    }
    if place.endswith("fps_mlp"):
        return "The same for the frame rate. Both vectors are added.", []
    if kind == "spatial" and config.image_attention:
        text = (
            "All places of a frame look at each other, then at the words and, with other keys and values, at a picture."
        )
        return text, [IMAGE_LINK]
    if kind == "temporal" and config.relative_positions:
        text = "Each place looks through all frames, twice. Learned relative positions tell which comes before which."
        return text, [POSITIONS_LINK]
    return texts[kind], []


def partly_lit(network: Mapping[str, Any]) -> bool:
    """Whether some layers differ from VideoCrafter2's and others do not: then it is said of each that does."""
    return len({layer["lit"] for block in network["blocks"] for layer in block["layers"]}) > 1


def with_differences(layers: dict[str, dict], places: set[str], ours: Mapping, plain: Mapping) -> list[dict[str, Any]]:
    """The layers of a block, with those that VideoCrafter2 has in it besides; ``lit``: the weights differ."""
    for place, layer in layers.items():
        layer["lit"] = ours[place] != plain.get(place)
    gone = [place for place in plain if place.rpartition(".")[0] in places and place not in ours]
    result = list(layers.items())
    for place in gone:
        kind = "embedding" if place.startswith("embedding") else "time"
        layer = {
            "kind": kind,
            "name": released_place(plain[place]),
            "gone": True,
            "lit": True,
            "parameters": 0,
            "flop": 0,
        }
        before = [i for i, (there, _) in enumerate(result) if there == place.rpartition(".")[0]]
        result.insert(before[0] + 1 if before else len(result), (place, layer))
        if before:
            result[before[0]][1]["lit"] = True
    return [layer for _, layer in result]


def block(
    label: str,
    module: nn.Module,
    rows: Mapping[str, BlockRow],
    config: vdmlib.UNet3DConfig,
    flop: Mapping,
    net: vdmlib.UNet3D,
) -> dict[str, Any]:
    row = rows[label]
    layers = layers_of(label, module, net)
    places = {name for name, inner in net.named_modules() if inner is module} | set(layers)
    described = {place: layer_data(place, layer, flop, config) for place, layer in layers.items()}
    if label == "out":  # The norm before it belongs to no block: the dimension table counts it here.
        described["conv_out"]["parameters"] = row.parameters
        described["conv_out"]["text"] = "After GroupNorm and SiLU, reads 3 × 3 places of one frame."
    return {
        "name": label,
        "input": row.input_shape,
        "skip": row.skip_channels,
        "output": row.output_shape,
        "parameters": row.parameters,
        "flop": sum(layer["flop"] for layer in described.values()),
        "released": released_block(described),
        "sentence": sentence(row, rows),
        "notes": notes(row, config),
        "layers": described,
        "places": places,
    }


def embedding_block(net: vdmlib.UNet3D, flop: Mapping[str, int], config: vdmlib.UNet3DConfig) -> dict[str, Any]:
    layers = layers_of("embedding", net.embedding, net)
    described = {place: layer_data(place, layer, flop, config) for place, layer in layers.items()}
    width = next(p for p in net.embedding.timestep_mlp[-1].parameters()).shape[0]
    told = "The timestep and the frame rate become" if config.use_fps else "The timestep becomes"
    listeners = sum(isinstance(module, ResBlock) for module in net.modules())
    return {
        "name": "embedding",
        "input": (1, FRAMES),
        "skip": 0,
        "output": (1, FRAMES, width),
        "parameters": count_parameters(net.embedding),
        "flop": flop["UNet3D.embedding"],
        "released": released_block(described),
        "sentence": f"{told} one vector of {width} numbers for each frame.",
        "notes": [f"All {listeners} ResNet blocks are given it, and add a projection of their own to every channel."],
        "layers": described,
        "places": {"embedding"},
    }


def released_block(layers: Mapping[str, dict]) -> str:
    """The released name of a block: how the names of its layers begin."""
    names = (re.match(r"(?:in|out)put_blocks\.\d+|\w+", layer["name"]) for layer in layers.values())
    return ", ".join(dict.fromkeys(name[0] for name in names if name))


def sentence(row: BlockRow, rows: Mapping[str, BlockRow]) -> str:
    """What a block does to the shape."""
    (_, _, c, h, w), (_, _, c2, h2, w2) = row.input_shape, row.output_shape
    size, after = f"{h} × {w}", f"{h2} × {w2}"
    makes = f"makes {c2} of them" if c2 != c else "leaves as many"
    if row.part == "decoder":
        number = int(row.name.split()[1])
        kept = skip_of(row.name, rows)
        below, over = "the middle" if number == 0 else f"decoder {number - 1}", row.skip_channels
        text = f"Takes {c - over} channels from {below} and {over} that {kept} has kept, and makes {c2} of them"
        return f"{text}, at {size}; then it doubles to {after}." if h2 > h else f"{text}, at {size}."
    if h2 < h:
        return f"Halves {size} to {after} and keeps the {c} channels."
    if row.name == "init_attention":
        return f"Takes {c} channels and leaves as many, at {size}: no shape changes."
    return f"Takes {c} channels and {makes}, at {size}."


def skip_of(decoder: str, rows: Mapping[str, BlockRow]) -> str:
    """The encoder block whose result a decoder block is given."""
    last = sum(row.part == "encoder" for row in rows.values()) - 1
    return f"encoder {last - int(decoder.split()[1])}"


def notes(row: BlockRow, config: vdmlib.UNet3DConfig) -> list[str]:
    """What is worth seeing in a block."""
    (_, frames, _, h, w), (_, _, c2, h2, _) = row.input_shape, row.output_shape
    on_a_path, has_attention = row.part in ("encoder", "decoder"), "SpatialTransformer" in row.layers
    worth = {
        "It lifts the latents to the width of the network. What it makes is not what the skip connection keeps.": (
            row.name == "encoder 0" and config.initial_temporal_attention
        ),
        "A table of shapes does not show it, and the skip connection keeps what it makes.": row.name
        == "init_attention",
        "A block of its own, with no embedding, no attention, and nothing over time.": h2 < h,
        "Doubling is the last layer inside the block, where halving is a block of its own.": h2 > h,
        "What the skip connection brings comes from a halving, and has the channels of the level above.": (
            row.part == "decoder" and h2 > h and c2 != row.skip_channels
        ),
        "No transformer on this level, although the middle has them at the same size.": (
            on_a_path and "ResBlock" in row.layers and not has_attention
        ),
        f"In space, {h * w} places of a frame look at each other; in time, each looks through {frames} frames.": (
            has_attention
        ),
        "The smallest map, between the way down and the way up.": row.part == "middle",
        "The answer has the shape of the latents: what to take away from each number of the video.": row.name == "out",
        "The article whose table chapter 8 looks at has 2560 channels here, where the network has 1920.": (
            row.name == "decoder 5" and config == vdmlib.UNet3DConfig.videocrafter2()
        ),
    }
    return [note for note, holds in worth.items() if holds]


def differences(config: vdmlib.UNet3DConfig) -> list[str]:
    """In which settings a network differs from VideoCrafter2, one sentence each."""
    plain = vdmlib.UNet3DConfig.videocrafter2()
    found = []
    for field in fields(config):
        old, new = getattr(plain, field.name), getattr(config, field.name)
        if new != old and (text := DIFFERENCES[field.name]):
            found.append(text.format(old=old, new=new))
    return found


def shape_text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def tables(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """What the map draws, as plain tables that open: one for each network."""
    folded = (
        f"<details><summary>{name}'s blocks as a table</summary>\n"
        f'<div class="walk-table" tabindex="0" role="region" aria-label="{name}\'s blocks as a table">'
        f"{table(each)}</div>\n</details>"
        for each in networks.values()
        for name in [each["title"].removeprefix("a ")]
    )
    return "\n".join(folded)


def table(network: Mapping[str, Any]) -> str:
    """The blocks of a network as a plain table, with what differs from VideoCrafter2 in words."""
    some_differ = partly_lit(network)
    header = ("block", "in", "out", "layers", "10⁶ parameters", "10⁹ operations", "released name")
    lines = []
    for each in network["blocks"]:
        layers = ", ".join(
            KINDS[layer["kind"]][2].lower() + (" (differs)" if some_differ and layer["lit"] else "")
            for layer in each["layers"]
            if "gone" not in layer
        )
        cells = (shape_text(each["input"]), shape_text(each["output"]), layers,
                 f"{each['parameters'] / 1e6:.1f}", f"{each['flop'] / 1e9:.0f}", each["released"])  # fmt: skip
        line = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{each["name"]}</th>{line}</tr>')
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


LEGEND = (
    ("convolution", "C", "convolution"),
    ("resnet", "R", "ResNet block"),
    ("resnet time", "R", "with temporal convolution"),
    ("spatial", "S", "spatial transformer"),
    ("temporal", "T", "temporal transformer"),
    ("down", "↓", "halves"),
    ("up", "↑", "doubles"),
    ("embedding", "E", "timestep and frame rate"),
)


@functools.cache
def page_part() -> str:
    """The map as HTML: the table for everyone, and for whoever runs scripts what they need to draw it."""
    content = data()
    buttons = "".join(
        f'<label><input type="radio" name="walk-network" value="{name}"{" checked" if name == "videocrafter2" else ""}>'
        f"<span>{title}</span></label>"
        for name, (title, _) in NETWORKS.items()
    )
    cells = "".join(f'<span><i class="walk-cell {kind}">{letter}</i> {text}</span>' for kind, letter, text in LEGEND)
    plain = content["networks"]["videocrafter2"]
    # A "</script>" inside would end the element.
    numbers = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    places = "".join(f'<span class="walk-place" id="{anchor(block["name"])}"></span>' for block in plain["blocks"])
    return f"""<div class="walk">{places}
<div class="walk-live" hidden>
<fieldset class="walk-networks"><legend>Network</legend>{buttons}</fieldset>
<div class="walk-about" aria-live="polite"></div>
<div class="walk-stage">
<div class="walk-left">
<div class="walk-map" role="radiogroup" aria-label="Blocks of the U-Net"></div>
<p class="walk-legend">{cells}<span><i class="walk-line"></i> skip connection</span></p>
<p class="walk-keys">With a keyboard: up and down follow a path, left and right cross a skip connection.</p>
</div>
<section class="walk-card" aria-label="The chosen block"></section>
</div>
<ul class="walk-layers" aria-label="Layers of the chosen block"></ul>
</div>
{tables(content["networks"])}
<script type="application/json" class="walk-data">{numbers}</script>
</div>"""


def anchor(block: str) -> str:
    """The address of a block on the map's pages, as in ``map.html#decoder-5``."""
    return re.sub("[ _]", "-", block)


def fill(page: str) -> str:
    """The page, Markdown or notebook, with the map in its place.

    In a notebook the place is a comment, which shows nothing where the notebook is read without this book.
    """
    part = f"```{{raw}} html\n{page_part()}\n```"
    if page.startswith("{"):
        return page.replace(NOTEBOOK_PLACE, json.dumps(part, ensure_ascii=False)[1:-1])
    return page.replace("{{ walk }}", part)
