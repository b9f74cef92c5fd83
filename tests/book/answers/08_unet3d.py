"""Wrong and right answers to the exercises of chapter 8."""

import re

from answers import right, wrong

import vdmlib


def by_stack(width, multipliers, res_blocks, first=True, halvings=True, last_halves=False, one_more=1, swap=False):
    """The stack, with the faults that the wrong answers have."""
    stack = [width] if first else []
    for level, multiplier in enumerate(multipliers):
        halves = halvings and (last_halves or level < len(multipliers) - 1)
        stack += [multiplier * width] * (res_blocks + halves)
    c, pairs = stack[-1], []
    for multiplier in reversed(multipliers):
        for _ in range(res_blocks + one_more):
            if stack:
                pairs.append((stack.pop(), c) if swap else (c, stack.pop()))
            c = multiplier * width
    return pairs


@wrong("ex-unet3d-stack", "ignores an argument", fails="one block on a level")
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, multipliers, 2)


@wrong(
    "ex-unet3d-stack",
    "ignores an argument",
    "takes every first level for as wide as the width",
    fails="three blocks, and a first level that is wider than the width",
)
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, (1, *multipliers[1:]), res_blocks)


@wrong("ex-unet3d-stack", "hard-codes the example", fails="one level")
def decoder_inputs(width, multipliers, res_blocks):
    skips = [4, 4, 4, 4, 4, 2, 2, 2, 1, 1, 1, 1]
    before = [4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 1, 1]
    return [(b * width, s * width) for b, s in zip(before, skips, strict=True)]


@wrong("ex-unet3d-stack", "has the classic bug", "forgets that halvings leave something, too", fails="VideoCrafter2")
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, multipliers, res_blocks, halvings=False)


@wrong("ex-unet3d-stack", "has the classic bug", "the last level halves as well", fails="VideoCrafter2")
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, multipliers, res_blocks, last_halves=True)


@wrong("ex-unet3d-stack", "has the classic bug", "forgets the first convolution", fails="one level")
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, multipliers, res_blocks, first=False)


@wrong("ex-unet3d-stack", "has the classic bug", "the skip connection first", fails="VideoCrafter2")
def decoder_inputs(width, multipliers, res_blocks):
    return by_stack(width, multipliers, res_blocks, swap=True)


@wrong("ex-unet3d-stack", "has the classic bug", "skips of the same level", fails="VideoCrafter2")
def decoder_inputs(width, multipliers, res_blocks):
    c, pairs = multipliers[-1] * width, []
    for m in reversed(multipliers):
        for _ in range(res_blocks + 1):
            pairs.append((c, m * width))
            c = m * width
    return pairs


@wrong("ex-unet3d-stack", "has the right shape and nothing else", fails="VideoCrafter2")
def decoder_inputs(width, multipliers, res_blocks):
    return [(width, width)] * (len(multipliers) * (res_blocks + 1))


@right("ex-unet3d-stack", "lists, zipped")
def decoder_inputs(width, multipliers, res_blocks):
    out = [m * width for m in reversed(multipliers) for _ in range(res_blocks + 1)]
    left = [width]
    for n, m in enumerate(multipliers):
        left.extend([m * width] * (res_blocks + (n + 1 < len(multipliers))))
    return [list(pair) for pair in zip([left[-1], *out[:-1]], left[::-1], strict=True)]


@right("ex-unet3d-stack", "asks a network of the library")
def decoder_inputs(width, multipliers, res_blocks):
    config = vdmlib.UNet3DConfig(
        model_channels=width,
        channel_multipliers=multipliers,
        res_blocks=res_blocks,
        attention_factors=(),
        head_channels=32,
    )
    rows = vdmlib.dimension_table(config, 1, 2 ** len(multipliers), 2 ** len(multipliers))
    return [(r.input_shape[2] - r.skip_channels, r.skip_channels) for r in rows if r.part == "decoder"]


def is_temporal_transformer(name, names):
    place = re.match(r"((?:in|out)put_blocks\.\d+|middle_block)\.2\.", name)
    return bool(place) and f"{place[0]}proj_in.weight" in names


@wrong(
    "ex-unet3d-temporal", "ignores an argument", "does not look at the other names", fails="no temporal transformers"
)
def is_temporal(name, names):
    numbered = re.match(r"(?:(?:in|out)put_blocks\.\d+|middle_block)\.2\.", name)
    return name.startswith("init_attn") or "temopral" in name or bool(numbered)


@wrong("ex-unet3d-temporal", "hard-codes the example", fails="no temporal transformers")
def is_temporal(name, names):
    blocks = {*(f"input_blocks.{i}.2." for i in (1, 2, 4, 5, 7, 8)), *(f"output_blocks.{i}.2." for i in range(3, 12))}
    numbered = name.startswith((*blocks, "middle_block.2."))
    return name.startswith("init_attn") or "temopral" in name or numbered


@wrong("ex-unet3d-temporal", "has the classic bug", "forgets init_attn", fails="VideoCrafter1, with relative positions")
def is_temporal(name, names):
    return "temopral" in name or is_temporal_transformer(name, names)


@wrong("ex-unet3d-temporal", "has the classic bug", "any 2 in the name", fails="VideoCrafter1, with relative positions")
def is_temporal(name, names):
    return name.startswith("init_attn") or "temopral" in name or ".2." in name


@wrong("ex-unet3d-temporal", "has the classic bug", "spells it correctly", fails="VideoCrafter2")
def is_temporal(name, names):
    return name.startswith("init_attn") or "temporal" in name or is_temporal_transformer(name, names)


@wrong(
    "ex-unet3d-temporal", "has the classic bug", "forgets the middle", fails="VideoCrafter1, with relative positions"
)
def is_temporal(name, names):
    inside = not name.startswith("middle_block.2") and is_temporal_transformer(name, names)
    return name.startswith("init_attn") or "temopral" in name or inside


@wrong(
    "ex-unet3d-temporal",
    "has the classic bug",
    "takes the spatial transformers",
    fails="VideoCrafter1, with relative positions",
)
def is_temporal(name, names):
    spatial = re.match(r"(?:(?:in|out)put_blocks\.\d+|middle_block)\.1\.", name)
    return name.startswith("init_attn") or "temopral" in name or bool(spatial)


@wrong(
    "ex-unet3d-temporal",
    "has the classic bug",
    "transformers only by names that no other layer has",
    fails="VideoCrafter1, with relative positions",
)
def is_temporal(name, names):
    place = re.search(r"\.2\.(?:proj_|transformer)", name)
    return name.startswith("init_attn") or "temopral" in name or bool(place)


@wrong("ex-unet3d-temporal", "has the right shape and nothing else", fails="VideoCrafter1, with relative positions")
def is_temporal(name, names):
    return "attn" in name


@right("ex-unet3d-temporal", "pieces of the name, and a set of places")
def is_temporal(name, names):
    places = {n.rsplit(".proj_in", 1)[0] for n in names if ".proj_in." in n}
    pieces = name.split(".")
    longest = next((".".join(pieces[:k]) for k in (2, 3) if ".".join(pieces[:k]) in places), "")
    return pieces[0] == "init_attn" or "temopral_conv" in pieces or (longest.endswith(".2") and longest != "2")


@right("ex-unet3d-temporal", "the second transformer of each block")
def is_temporal(name, names):
    if "init_attn" in name or "temopral" in name:
        return True
    block = re.match(r"(?:input_blocks\.\d+|output_blocks\.\d+|middle_block)\.", name)
    if block is None:
        return False
    end = ".proj_in.weight"
    places = (n.removesuffix(end) for n in names if n.startswith(block[0]) and n.endswith(end))
    transformers = sorted(int(place.removeprefix(block[0])) for place in places)
    return len(transformers) == 2 and name.startswith(f"{block[0]}{transformers[1]}.")
