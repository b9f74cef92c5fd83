"""Checkpoint files with exactly the names and shapes of the released ones, and numbers drawn at random."""

from pathlib import Path

import torch
from torch import Tensor

from vdmlib.releases import SCHEDULE, Release, checkpoint_names, unused_names


def synthetic_weights(release: Release, seed: int = 0) -> dict[str, Tensor]:
    """Under the released names: weights of every part, what a file holds besides, and the schedule's buffers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for part in checkpoint_names(release).values() for name, shape in part.values()}
    shapes |= unused_names(release)
    weights = {}
    for name, shape in shapes.items():
        fan_in = max(1, torch.Size(shape[1:]).numel()) if len(shape) > 1 else 100
        weights[name] = torch.randn(shape, generator=generator) * fan_in**-0.5
        if len(shape) == 1 and name.endswith("weight"):
            weights[name] += 1
    return weights | {name: torch.zeros(1000) for name in SCHEDULE}


def write(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": weights}, path)
    return path
