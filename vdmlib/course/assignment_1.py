"""Assignment 1, a 2D U-Net becomes a video U-Net: its parts and their properties (chapters 2, 3 and 5)."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from .inputs import Inputs, same
from .parts import Assignment, Part, Properties


def _one_by_one(layer: Any, x: Tensor) -> Tensor:
    return torch.stack([torch.stack([layer(frame[None])[0] for frame in video]) for video in x])


def _per_frame(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    batch, frames = inputs.between(2, 3), inputs.between(4, 6)
    x = inputs.normal(batch, frames, 3, 6, 8)
    same_size = inputs.fill(nn.Conv2d(3, 3, 3, padding=1))
    smaller = inputs.fill(nn.Conv2d(3, 5, 3, stride=2, padding=1))

    def called() -> int:
        layer = nn.BatchNorm2d(3).double()  # it counts its calls, and is no function of this module
        answer(layer, x)
        return int(layer.num_batches_tracked or 0)

    def strided() -> bool:
        other = x.transpose(0, 1).contiguous().transpose(0, 1)
        return same(answer(same_size, other), _one_by_one(same_size, other))

    return {
        "each frame is as if it were alone": lambda: same(answer(same_size, x), _one_by_one(same_size, x)),
        "the layer may change channels and sides": lambda: same(answer(smaller, x), _one_by_one(smaller, x)),
        "the layer is called once": lambda: called() == 1,
        "a video that lies otherwise in memory is welcome": strided,
    }


def _per_frame_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    layer, x = inputs.fill(nn.Conv2d(4, 2, 1)), inputs.normal(1, 1, 4, 3, 5)
    return {"one video of one frame": lambda: same(answer(layer, x), _one_by_one(layer, x))}


def _video_as(answer: Any, convolution: nn.Conv2d, x: Tensor, frames: int = 3) -> Tensor:
    return answer(convolution, frames)(x.transpose(1, 2)).transpose(1, 2)


def _inflate(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    x = inputs.normal(2, inputs.between(4, 6), 3, 8, 6)
    plain = inputs.fill(nn.Conv2d(3, 4, 3, padding=1))
    strided = inputs.fill(nn.Conv2d(3, 4, 3, stride=2, padding=1))
    bare = inputs.fill(nn.Conv2d(3, 4, (1, 5), padding=(0, 2), bias=False))

    def as_pictures(convolution: nn.Conv2d, frames: int = 3) -> bool:
        return same(_video_as(answer, convolution, x, frames), _one_by_one(convolution, x))

    def owns() -> bool:
        convolution = copy.deepcopy(plain)
        inflated = answer(convolution, 3)
        with torch.no_grad():
            for weight in inflated.parameters():
                weight.zero_()
        return all(torch.equal(a, b) for a, b in zip(convolution.parameters(), plain.parameters(), strict=True))

    return {
        "a Conv3d whose kernel is as long as asked": lambda: (
            isinstance(answer(plain, 5), nn.Conv3d) and answer(plain, 5).weight.shape[2] == 5
        ),
        "at first every frame is as the picture's convolution makes it": lambda: as_pictures(plain),
        "five frames long, too": lambda: as_pictures(plain, 5),
        "strides and paddings are kept": lambda: as_pictures(strided) and as_pictures(bare),
        "without a bias there is none": lambda: answer(bare, 3).bias is None,
        "the convolution for pictures keeps its weights": owns,
    }


def _inflate_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x = inputs.normal(1, 5, 4, 9, 9)
    grouped = inputs.fill(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2))

    def trained() -> bool:
        inflated = answer(inputs.fill(nn.Conv2d(4, 4, 1)), 3)
        inflated(x.transpose(1, 2)).square().sum().backward()
        return all(weight.grad is not None and bool(weight.grad.any()) for weight in inflated.parameters())

    return {
        "groups and dilation are kept": lambda: same(_video_as(answer, grouped, x), _one_by_one(grouped, x)),
        "it can be trained": trained,
    }


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    b, f, c, h, w = x.shape
    rows = x.permute(0, 3, 4, 2, 1).reshape(b * h * w, c, f)
    out = F.conv1d(rows, weight, bias, padding=weight.shape[-1] // 2)
    return out.reshape(b, h, w, -1, f).permute(0, 4, 3, 1, 2)


def _temporal_conv(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    frames = inputs.between(5, 7)
    x, weight, bias = inputs.normal(2, frames, 3, 2, 4), inputs.normal(3, 3, 3), inputs.normal(3)
    wide, wide_bias = inputs.normal(5, 3, 3), inputs.normal(5)
    mixed = inputs.normal(3, 3, 1)

    def agrees(weight: Tensor, bias: Tensor | None, some: slice) -> bool:
        found, wanted = answer(x, weight, bias), _convolved(x, weight, bias)
        return found.shape == wanted.shape and same(found[:, some], wanted[:, some])

    def still() -> bool:
        calm = x[:, :1].expand(-1, frames, -1, -1, -1)
        symmetric = weight + weight.flip(-1)
        found = answer(calm, symmetric, bias)[:, 1:-1]
        return same(found, _convolved(calm, symmetric, bias)[:, 1:-1])

    return {
        "in the middle: the sum over frames and channels": lambda: agrees(weight, bias, slice(1, -1)),
        "before the first and after the last frame lie zeros": lambda: agrees(weight, bias, slice(None)),
        "a still video with the same taps forth and back": still,
        "more channels out than in": lambda: agrees(wide, wide_bias, slice(None)),
        "one tap only mixes the channels": lambda: agrees(mixed, bias, slice(None)),
        "without a bias": lambda: agrees(weight, None, slice(None)),
    }


def _temporal_conv_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x, weight, bias = inputs.normal(1, 4, 2, 3, 3), inputs.normal(4, 2, 5), inputs.normal(4)
    return {
        "five taps": lambda: same(answer(x, weight, bias), _convolved(x, weight, bias)),
        "a video shorter than the kernel": lambda: same(
            answer(x[:, :2], weight, bias), _convolved(x[:, :2], weight, bias)
        ),
    }


def _add_embedding(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    frames = inputs.between(3, 4)
    h = inputs.normal(frames, frames, 5, 2, 3)  # as many videos as frames: they are easily mixed up
    weight, bias = inputs.normal(5, 6), inputs.normal(5)
    of_video, of_frame = inputs.normal(frames, 6), inputs.normal(frames, frames, 6)

    def wanted(embedding: Tensor) -> Tensor:
        added = F.silu(embedding) @ weight.T + bias
        added = added[:, None] if embedding.ndim == 2 else added
        return h + added[..., None, None]

    def agrees(embedding: Tensor) -> bool:
        return same(answer(h.clone(), embedding, weight, bias), wanted(embedding))

    def kept() -> bool:
        given = h.clone()
        answer(given, of_video, weight, bias)
        return torch.equal(given, h)

    return {
        "zeros add the bias, to every pixel": lambda: agrees(torch.zeros_like(of_video)),
        "large negative numbers are all but silent": lambda: agrees(torch.full_like(of_video, -60.0)),
        "one embedding for each video": lambda: agrees(of_video),
        "one embedding for each frame": lambda: agrees(of_frame),
        "what was given is not overwritten": kept,
    }


def _add_embedding_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    h, embedding = inputs.normal(2, 3, 4, 1, 1), inputs.normal(2, 7)
    weight, bias = inputs.normal(4, 7), inputs.normal(4)
    wanted = h + (F.silu(embedding) @ weight.T + bias)[:, None, :, None, None]
    return {"pictures of one pixel": lambda: same(answer(h, embedding, weight, bias), wanted)}


def _quiet(block: nn.Module) -> nn.Module:
    """As it is trained, but without dropout, which the answer may have."""
    for module in block.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    return block


def _moved(block: nn.Module, x: Tensor, which: tuple[int, int, int], by: Tensor) -> Tensor:
    """b f h w: where the output moves if one pixel (video, frame, column) does."""
    other = x.clone()
    video, frame, column = which
    other[video, frame, :, 0, column] += by
    return (block(other) - block(x)).abs().amax(dim=2) > 1e-9


def _temporal_residual(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    channels = 8 * inputs.between(1, 2)
    x = inputs.normal(2, inputs.between(5, 6), channels, 3, 4)

    def fresh() -> bool:
        torch.manual_seed(seed)
        return same(answer(channels).double()(x), x)

    def changed(which: tuple[int, int, int]) -> Tensor:
        return _moved(inputs.fill(_quiet(answer(channels))), x, which, inputs.normal(channels))

    def learns() -> bool:
        torch.manual_seed(seed)
        block = _quiet(answer(channels)).double()
        for _ in range(2):
            block.zero_grad()
            (block(x) - 2 * x.roll(1, dims=1)).square().mean().backward()
            with torch.no_grad():
                for weight in block.parameters():
                    if weight.grad is not None:
                        weight -= 0.1 * weight.grad
        return bool(_moved(block, x, (0, 2, 0), torch.ones(channels).double())[0, [1, 3], 0, 0].any())

    def adds() -> bool:
        added = inputs.fill(answer(channels))(x) - x
        return bool(added.abs().amax() > 1e-6)

    return {
        "a fresh block changes nothing": fresh,
        "a trained one lets neighbouring frames hear each other": lambda: bool(
            changed((0, 2, 0))[0, [1, 3], 0, 0].all()
        ),
        "every pixel hears only itself": lambda: not changed((0, 2, 0))[:, :, :, 1:].any(),
        "the videos of a batch do not hear each other": lambda: not changed((0, 2, 0))[1].any(),
        "it learns to hear them, although it began with zeros": learns,
        "with other weights it adds something": adds,
    }


def _temporal_residual_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    x = inputs.normal(1, 2, 8, 2, 2)
    return {
        "two frames": lambda: same(answer(8).double()(x), x),
        "a single frame": lambda: same(answer(8).double()(x[:, :1]), x[:, :1]),
        "it has weights of its own": lambda: sum(p.numel() for p in answer(8).parameters()) > 0,
    }


def _load_picture_weights(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed)
    taps = 2 * inputs.between(1, 2) + 1

    def video() -> dict[str, Tensor]:
        return {
            "conv.weight": torch.ones(4, 3, taps, 3, 3, dtype=torch.double),
            "conv.bias": torch.zeros(4, dtype=torch.double),
            "linear.weight": torch.zeros(2, 4, dtype=torch.double),
            "time.weight": torch.full((4, 4, 3, 1, 1), 0.5, dtype=torch.double),
        }

    picture = {
        "conv.weight": inputs.normal(4, 3, 3, 3),
        "conv.bias": inputs.normal(4),
        "linear.weight": inputs.normal(2, 4),
        "head.weight": inputs.normal(2, 2),
    }

    def loaded() -> dict[str, Tensor]:
        return answer(video(), picture)[0]

    def inflated() -> bool:
        weight = loaded()["conv.weight"]
        wanted = torch.zeros_like(video()["conv.weight"])
        wanted[:, :, taps // 2] = picture["conv.weight"]
        return same(weight, wanted)

    def untouched() -> bool:
        given, kept = video(), {name: value.clone() for name, value in picture.items()}
        answer(given, picture)
        return all(torch.equal(given[k], v) for k, v in video().items()) and all(
            torch.equal(picture[k], v) for k, v in kept.items()
        )

    def refused(name: str, *shape: int) -> bool:
        try:
            answer(video(), picture | {name: torch.zeros(shape, dtype=torch.double)})
        except ValueError as error:
            return name in str(error)
        return False

    return {
        "what fits is copied": lambda: all(
            same(loaded()[name], picture[name]) for name in ("conv.bias", "linear.weight")
        ),
        "a kernel for pictures is the middle tap of one for videos": inflated,
        "what only the video has stays": lambda: same(loaded()["time.weight"], video()["time.weight"]),
        "and is named": lambda: sorted(answer(video(), picture)[1]) == ["time.weight"],
        "what only the picture has is left out": lambda: set(loaded()) == set(video()),
        "the given weights are not changed": untouched,
        "what does not fit is refused by name, with a ValueError": lambda: (
            refused("linear.weight", 2, 5) and refused("linear.weight", 4, 2) and refused("conv.weight", 4, 1, 3, 3)
        ),
    }


def _load_hidden(answer: Any, seed: int) -> Properties:
    inputs = Inputs(seed + 50)
    video = {"a": torch.zeros(2, 2, 1, 1, 1).double(), "b": torch.ones(3).double()}
    picture = {"a": inputs.normal(2, 2, 1, 1)}
    return {
        "a kernel of one tap": lambda: same(answer(video, picture)[0]["a"][:, :, 0], picture["a"]),
        "no weights for pictures at all": lambda: sorted(answer(video, {})[1]) == ["a", "b"],
    }


ASSIGNMENT = Assignment(
    1,
    "A 2D U-Net becomes a video U-Net",
    (2, 3, 5),
    (
        Part(
            "per_frame",
            10,
            30,
            _per_frame,
            _per_frame_hidden,
            {
                "each frame is as if it were alone": (
                    "which axes lie side by side when they become one? Number the frames of two videos, and "
                    "look where the numbers go."
                ),
                "the layer may change channels and sides": (
                    "take the new sizes from what the layer returns, not from x."
                ),
                "the layer is called once": ("a loop calls it for every frame. Make the frames part of the batch."),
                "a video that lies otherwise in memory is welcome": ("view wants neighbours in memory; what does not?"),
                "one video of one frame": ("axes of length 1 stay: no `squeeze`, and sizes from x itself."),
            },
        ),
        Part(
            "inflate",
            20,
            60,
            _inflate,
            _inflate_hidden,
            {
                "a Conv3d whose kernel is as long as asked": (
                    "the kernel's first side is over time, and `frames` says how long."
                ),
                "at first every frame is as the picture's convolution makes it": (
                    "which taps may be other than zero if a frame is to hear itself alone? Look at the first "
                    "and the last frame, too, at the bias, and at the dtype."
                ),
                "five frames long, too": (
                    "as many frames go out as come in: how much padding over time does a kernel of `frames` "
                    "need, and where is its middle?"
                ),
                "strides and paddings are kept": ("what else does the Conv2d know besides its weights? Print it."),
                "without a bias there is none": "`convolution.bias` may be None.",
                "the convolution for pictures keeps its weights": ("two layers share one tensor. Copy the numbers."),
                "groups and dilation are kept": ("a convolution has more settings than kernel, stride and padding."),
                "it can be trained": (
                    "the new weights are parameters of the new layer, with a gradient, and a copy of the old ones."
                ),
            },
        ),
        Part(
            "temporal_conv",
            20,
            60,
            _temporal_conv,
            _temporal_conv_hidden,
            {
                "in the middle: the sum over frames and channels": (
                    "weight is (out, in, taps). Tap 0 looks at the frame before; which index is summed over?"
                ),
                "before the first and after the last frame lie zeros": (
                    "the middle frames are those to get right first; at the ends a tap that points outside "
                    "adds nothing, and does not wrap around."
                ),
                "a still video with the same taps forth and back": "here only the sum over channels matters.",
                "more channels out than in": "how many channels has the result? Not those of x.",
                "one tap only mixes the channels": "a kernel of one tap needs no padding.",
                "without a bias": "bias may be None.",
                "five taps": (
                    "how many frames lie on each side of the middle tap? It follows from the weight's last axis."
                ),
                "a video shorter than the kernel": (
                    "then most taps look at the zeros outside; pad first, cut afterwards."
                ),
            },
            without=r"\b(?:F|torch|nn|functional)\.[cC]onv",
        ),
        Part(
            "add_embedding",
            15,
            40,
            _add_embedding,
            _add_embedding_hidden,
            {
                "zeros add the bias, to every pixel": "a number for each channel: which axes does it lack?",
                "large negative numbers are all but silent": ("what stands before the linear layer in a ResNet block?"),
                "one embedding for each video": (
                    "a video's embedding is the same for all its frames. Videos and frames are equally many "
                    "here: which axis did you add to?"
                ),
                "one embedding for each frame": "an embedding with three axes has one vector for each frame.",
                "what was given is not overwritten": "x += ... writes into what was given.",
                "pictures of one pixel": (
                    "name the axes that are added; what fits by chance of sizes may be the wrong one."
                ),
            },
        ),
        Part(
            "TemporalResidual",
            20,
            60,
            _temporal_residual,
            _temporal_residual_hidden,
            {
                "a fresh block changes nothing": ("x plus what? Which layer decides that this is zero, bias included?"),
                "a trained one lets neighbouring frames hear each other": (
                    "over which axis does the convolution go, and to both sides? Is x brought to the order that the "
                    "layer wants?"
                ),
                "every pixel hears only itself": (
                    "a kernel over space, or a norm over pixels as in chapter 3's block, or axes in the wrong order."
                ),
                "the videos of a batch do not hear each other": ("a norm over the batch, or videos laid end to end."),
                "it learns to hear them, although it began with zeros": (
                    "zero times zero has no gradient on either side: only one layer may begin with zeros, and "
                    "nothing may be detached."
                ),
                "with other weights it adds something": "a block that returns x in any case is no block.",
                "two frames": ("a video may be shorter than the kernel; the padding takes care of it."),
                "a single frame": ("axes of length 1 stay, and the padding takes care of the rest."),
                "it has weights of its own": (
                    "layers are made in `__init__` and kept as attributes, so that an optimizer finds them."
                ),
            },
        ),
        Part(
            "load_picture_weights",
            15,
            50,
            _load_picture_weights,
            _load_hidden,
            {
                "what fits is copied": "a name in both with one shape: take the picture's.",
                "a kernel for pictures is the middle tap of one for videos": (
                    "four axes against five: which place along the third, and what stands in the others?"
                ),
                "what only the video has stays": "new layers keep the numbers with which they were made.",
                "and is named": "return the names that the picture network had nothing for.",
                "what only the picture has is left out": (
                    "the result has the names of the video network and no others."
                ),
                "the given weights are not changed": (
                    "work on copies; writing into a tensor of the dictionary changes it for everybody."
                ),
                "what does not fit is refused by name, with a ValueError": (
                    "neither the same shape nor a kernel with one more axis: say which name."
                ),
                "a kernel of one tap": ("which tap is the middle one of a single tap? Count it from the length."),
                "no weights for pictures at all": ("then everything stays, and every name is told."),
            },
        ),
    ),
)
