"""Pipelines of tiny models, untrained, that go through the code of the full-size ones."""

import copy
from functools import cache

import torch
from golden_numbers import ROUNDING

from vdmlib import Release, VideoCrafterPipeline
from vdmlib.released.releases import Networks, build_networks

PICTURE = torch.linspace(-1, 1, 3 * 40 * 50).reshape(3, 40, 50)
KINDS = ["t2v", "i2v"]


ONE_ROUNDING = 2 * ROUNDING  # Of pixels, which are at most 1.


@cache
def _networks(kind: str) -> Networks:
    return build_networks(Release.tiny(kind))


def tiny_networks(kind: str = "t2v") -> Networks:
    """New ones, to be changed: copied, which is faster than to build them again."""
    return copy.deepcopy(_networks(kind))


def difference(video: torch.Tensor, other: torch.Tensor) -> float:
    return float((video - other).abs().max())


def tensors(network: torch.nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def sample(pipe: VideoCrafterPipeline, prompt="a cat", **changes) -> torch.Tensor:
    image = PICTURE if pipe.release.kind == "i2v" else None
    return pipe(prompt, **{"image": image, "steps": 2, "seed": 1, "progress": False, **changes})
