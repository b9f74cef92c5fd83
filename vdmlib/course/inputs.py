"""What answers are tried on: numbers drawn from a seed, and how they are compared."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Inputs:
    """Random numbers in double precision; the same for the same seed."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(7919 * seed + 1)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.double)

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def fill(self, module: Network) -> Network:
        """The module in double precision, with a random number for each of its weights."""
        module = module.double()
        with torch.no_grad():
            for weight in module.parameters():
                weight.copy_(self.normal(*weight.shape) / max(1, weight[:1].numel() if weight.ndim else 1) ** 0.5)
        return module


def same(found: Tensor, wanted: Tensor, atol: float = 1e-5) -> bool:
    """Of one shape, and equal but for rounding, which may be that of float32."""
    return found.shape == wanted.shape and torch.allclose(found.double(), wanted.double(), rtol=1e-4, atol=atol)
