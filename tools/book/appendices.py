"""The parts of two appendices that are made from the library at build time: names, and shapes.

Each function gives Markdown tables; `book_extension` puts them in the place of the line `{{ its name }}` of the page.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import vdmlib
from vdmlib.configuration import RELEASED
from vdmlib.released import names as released

LIBRARY = Path(vdmlib.__file__).parent
FAMILY = {
    "videocrafter2": {},
    "videocrafter1_t2v_512": {},
    "videocrafter1_i2v": {"image_scale": "learned"},  # DynamiCrafter's 256 pixels have the gates.
}
SHORT = {"Conv2d": "C", "ResBlock": "R", "SpatialTransformer": "S", "TemporalTransformer": "T"}
SHORT |= {"Downsample": "↓", "Upsample": "↑"}
NO_BREAK = "\N{NO-BREAK SPACE}"
# "Follows ``UNetModel`` in ``lvdm/...``": a sentence of a docstring that names what is released.
FOLLOWS = re.compile(r"``([A-Z]\w+(?:\.\w+)?)``(?:[^.`]|``[\w=\".]+``)*?\b(?:in|of)\s+``(lvdm/[\w/.]+\.py)``")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    return f"`{text}`"


def classes() -> str:
    """Classes and functions whose docstring says what they follow."""
    return table(["here", "there", "file"], _followers())


def _followers() -> Iterator[tuple[str, str, str]]:
    for path in sorted(LIBRARY.glob("**/*.py")):
        module = ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                for theirs, file in FOLLOWS.findall(" ".join(text.split())):
                    yield f"{{py:obj}}`{node.name} <{module}.{node.name}>`", code(theirs), code(file)


def places() -> str:
    """Where the layers of VideoCrafter2's blocks stand."""
    rows: dict[str, dict[str, str]] = {}
    for block, layer, _, theirs, inside in _pieces(vdmlib.UNet3DConfig.videocrafter2()):
        rows.setdefault(block, {})[layer] = theirs.removesuffix("." + released.released_name(inside))
    return table(
        ["here", "there"],
        (
            (code(f"{block}.{layer}" if layer else block), code(place))
            for block, layers in rows.items()
            for layer, place in layers.items()
        ),
    )


def inside() -> str:
    """What the parts of a layer are called, over the whole family."""
    rows: dict[tuple[str, str], set[str]] = {}
    for name, changes in FAMILY.items():
        config = vdmlib.UNet3DConfig(**(vars(getattr(vdmlib.UNet3DConfig, name)()) | changes))
        for _, layer, kind, _, part in _pieces(config):
            ours, theirs = (re.sub(r"\.?(weight|bias)$", "", n) for n in (part, released.released_name(part)))
            if layer and ours and ours != theirs:
                rows.setdefault((ours, theirs), set()).add(kind)
    lines = ((", ".join(sorted(kinds)), code(ours), code(theirs)) for (ours, theirs), kinds in rows.items())
    return table(["layer", "here", "there"], sorted(lines))


def _pieces(config: vdmlib.UNet3DConfig) -> Iterator[tuple[str, str, str, str, str]]:
    """For every parameter: block, layer, class of the layer, the released name, and the name inside the layer."""
    with torch.device("meta"):
        net = vdmlib.UNet3D(config)
    for ours, (theirs, _) in released.unet_names(net).items():
        found = re.match(r"((?:en|de)coder_blocks\.\d+|middle)\.(\w+)\.(.+)", ours)
        if found:
            block, layer, part = found.groups()
            yield block, layer, type(net.get_submodule(f"{block}.{layer}")).__name__, theirs, part
        else:
            block, _, part = ours.rpartition(".")
            block = re.sub(r"\.\d+$", "", block)
            yield block, "", "", theirs, ours.removeprefix(block + ".")


def settings() -> str:
    """Parameters of a released YAML file, and the fields of `UNet3DConfig` that they become."""
    fields = ((code(field), code(theirs)) for theirs, (field, _) in RELEASED.items() if field != theirs)
    return table(["`UNet3DConfig`", "`unet_config.params`"], fields)


def prefixes() -> str:
    """What stands before the names of each network in a released file."""
    networks = {
        "the U-Net": released.UNET,
        "autoencoder": released.AUTOENCODER,
        "CLIP's text network": released.TEXT,
        "CLIP's picture network (I2V)": released.IMAGE,
        "Resampler (I2V)": released.RESAMPLER,
    }
    return table(["network", "prefix"], ((network, code(prefix)) for network, prefix in networks.items()))


def blocks() -> str:
    """What goes through VideoCrafter2 at 16 frames of 40 × 64, what each block holds, and what it costs."""
    config = vdmlib.UNet3DConfig.videocrafter2()
    with torch.device("meta"), torch.no_grad():
        net = vdmlib.UNet3D(config).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 16, 4, 40, 64), torch.zeros(1), context=torch.empty(1, 77, 1024))
    flop = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    ours = {module: f"UNet3D.{name}" for name, module in net.named_modules()}
    labels, rows = net.named_blocks(), []
    for row in vdmlib.dimension_table(config, frames=16, height=40, width=64):
        block = labels[row.name]
        (_, _, c, h, w), (_, _, c2, h2, w2) = row.input_shape, row.output_shape
        before = f"{c - row.skip_channels} + {row.skip_channels}" if row.skip_channels else c
        size = f"{h} × {w}" if (h, w) == (h2, w2) else f"{h} × {w} → {h2} × {w2}"
        held, done = vdmlib.shapes.count_parameters(block), flop.get(ours[block], 0)
        layers = " ".join(SHORT[layer] for layer in row.layers)
        cells = row.name, f"{before} → {c2}", size, layers, f"{held / 1e6:.1f}", f"{done / 1e9:.0f}"
        rows.append([cell.replace(" ", NO_BREAK) for cell in cells])
    return table(["block", "c", "h × w", "layers", "10⁶ parameters", "10⁹ operations"], rows)


TABLES = {function.__name__: function for function in (classes, places, inside, settings, prefixes, blocks)}


def fill(page: str) -> str:
    """The page with its tables."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda found: TABLES[found[1]](), page, flags=re.MULTILINE)
