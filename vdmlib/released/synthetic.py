"""Checkpoint files like the released ones, of random numbers, for where nobody downloads gigabytes (chapter 11).

Example::

    path = tiny_checkpoint("somewhere", "t2v")                # a few megabytes, in a moment
    pipe = vdmlib.VideoCrafterPipeline.from_checkpoint(path, "t2v")

Such a model goes through all the code that a released one goes through, and shows coloured noise.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checks import check_choice
from .names import SCHEDULE, checkpoint_names, unused_names
from .releases import RELEASES, Kind, Release, skeleton

_APART = 31  # Numbers between the beginnings of two tensors in the row that all are cut from.


class SyntheticWeights(Mapping[str, Tensor]):
    """All that a released file holds, under the released names; each tensor is made when it is asked for.

    Each tensor is cut out of one long row of random numbers, at a place of its own. So no two are alike, and comparing
    a loaded weight with the one asked for again shows whether it arrived where it belongs.

    Args:
        release: whose names and shapes.
        seed: of the row of numbers.
        shared: leave the numbers as they are, so that all tensors share one memory and a file of a full-size model has
            200 MB; else they are scaled by the number of inputs, which keeps activations of order one.
    """

    def __init__(self, release: Release, seed: int = 0, shared: bool = False):
        self.seed, self.shared = seed, shared
        self.shapes = dict(pair for names in checkpoint_names(skeleton(release)).values() for pair in names.values())
        self.shapes |= unused_names(release) | dict.fromkeys(sorted(SCHEDULE), (1000,)) | {"scale_arr": (1400,)}
        self._starts = {name: _APART * i for i, name in enumerate(self.shapes)}

    @cached_property
    def _row(self) -> Tensor:
        longest = max(torch.Size(shape).numel() for shape in self.shapes.values())
        row = torch.randn(longest + _APART * len(self), generator=torch.Generator().manual_seed(self.seed))
        return row.mul_(0.02) if self.shared else row

    @cached_property
    def _around_one(self) -> Tensor:
        return 1 + 0.1 * self._row[: 2 * _APART * len(self)]

    def __getitem__(self, name: str) -> Tensor:
        shape, start = torch.Size(self.shapes[name]), self._starts[name]
        of_norm = len(shape) == 1 and name.endswith("weight")
        value = (self._around_one if of_norm else self._row)[start : start + shape.numel()].reshape(shape)
        if self.shared:
            return value
        inputs = max(1, shape[1:].numel()) if len(shape) > 1 else 100
        return value.clone() if of_norm else value * inputs**-0.5

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def tiny_checkpoint(folder: str | Path, kind: Kind = "t2v", seed: int = 0) -> Path:
    """Write a tiny model, ``Release.tiny(kind)``, as ``model.ckpt`` into a folder that is there; returns the path.

    ``from_checkpoint`` recognises it by its names and sizes, as it does with the released ones.

    Raises:
        ValueError, FileNotFoundError: an unknown kind; no such folder.
    """
    check_choice("kind", kind, RELEASES)
    return write(Path(folder) / "model.ckpt", SyntheticWeights(Release.tiny(kind), seed))


def write(path: Path, weights: Mapping[str, Any]) -> Path:
    """As the released files are, nested under ``state_dict``; or as ``.safetensors``, where the path ends so."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}: create it first, or write somewhere else.")
    if path.suffix == ".safetensors":
        save_file(dict(weights), path)
    else:
        torch.save({"state_dict": dict(weights)}, path)
    return path
