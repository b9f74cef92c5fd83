"""Reader of the golden numbers in ``tests/golden``: figures made by running the released model code.

Layouts in the files are the released ones: videos ``b c t h w``, frames ``(b t) c h w``.

How exact a test has to be is said here too. What holds exactly in theory (a batch against single videos, slices
against the whole) is computed in float64 and held to ``EXACT``; what is compared with a golden number, which was
computed in float32, is held to ``MARGIN`` times the rounding noise that was measured when the number was made. Blocks
are computed in float64 for that, so that only the number's own rounding is left: in float32, and on a processor whose
kernels add up in another order, a norm over four nearly equal values magnifies the last digit a thousand times.
"""

import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"

# In float64, relative to the root mean square: some thousand roundings, and a thousandth of what float32 could see.
EXACT = 1e-12

# The most that a result may be off, in units of its noise. In float64 it stays below 1.4, and in float32 below 4 under
# every set of kernels of `make processors`; the mistakes that test_mutations makes on purpose are above 50.
MARGIN = 10

# The noise of numbers that have none recorded, relative to their root mean square. For closed forms it is one
# rounding to float32; for the others, what other kernels have moved them by.
ROUNDING = 2**-24
UNMEASURED = {"schedule": ROUNDING, "timestep_embedding": 5e-6, "clip": 2e-6, "ddim": 5e-6}


@dataclass(frozen=True)
class Case:
    """One run of one released class: constructor arguments, weights, inputs and outputs."""

    group: str
    name: str
    meta: dict

    def _arrays(self, kind: str) -> dict[str, np.ndarray]:
        prefix = f"{self.name}|{kind}|"
        arrays = _open(self.group)[1]
        return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}

    def inputs(self) -> dict[str, Tensor]:
        """Fractions in torch's default type, so that a test in float64 asks for nothing else."""
        return {name: _in_default_type(torch.from_numpy(array)) for name, array in self._arrays("in").items()}

    def outputs(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in self._arrays("out").items()}

    def noise(self, output: str = "y") -> float:
        """How far rounding alone moves an output of the released code, relative to its root mean square."""
        measured = (self.meta.get("noise") or {}).get(output)
        if measured is None:
            return UNMEASURED[self.group]
        return max(measured["kernels"], measured["nudge_1e7"]) / measured["rms"]

    def error(self, result: Tensor, output: str = "y", expected: Tensor | None = None) -> float:
        """max |difference| from an output (or from an excerpt of it), as a multiple of its noise: below ``MARGIN``."""
        return relative_error(result, self.outputs()[output] if expected is None else expected) / self.noise(output)

    def weights(self) -> dict[str, Tensor]:
        """The weights under their released names, in torch's default type."""
        if self.meta["params"] == "inline":
            weights = {name: torch.from_numpy(array) for name, array in self._arrays("sd").items()}
        else:
            weights = {name: recipe(name, shape, self.meta["seed"]) for name, shape in self.meta["shapes"].items()}
        return {name: _in_default_type(weight) for name, weight in weights.items()}


def _in_default_type(tensor: Tensor) -> Tensor:
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


@cache
def _open(group: str):
    arrays = np.load(FOLDER / f"{group}.npz", allow_pickle=False)
    return json.loads(str(arrays["meta"]))["cases"], arrays


def cases(group: str, prefix: str = "") -> list[Case]:
    return [Case(group, name, meta) for name, meta in _open(group)[0].items() if name.startswith(prefix)]


def case(group: str, name: str) -> Case:
    return Case(group, name, _open(group)[0][name])


def relative_error(result: Tensor, expected: Tensor) -> float:
    """max |difference| over the root mean square of the expected tensor; infinite where the shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    result, expected = result.detach().double(), expected.detach().double()
    return float((result - expected).abs().max() / expected.square().mean().sqrt())


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def recipe(name: str, shape: list[int], seed: int) -> Tensor:
    """A parameter's values, from its released name, its shape and a seed; the same bits on every machine."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([(zlib.crc32(name.encode()) << 32) | (seed & 0xFFFFFFFF)], dtype=np.uint64))
        count = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
        bits = _mix(start + count * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    uniform = bits.astype(np.float64) * 2.0**-23 - 1.0
    offset, amplitude = _distribution(name, shape)
    return torch.from_numpy((offset + amplitude * uniform).astype(np.float32).reshape(shape))


def _distribution(name: str, shape: list[int]) -> tuple[float, float]:
    if name.endswith("embeddings_table") or len(shape) == 0:
        return 0.0, 0.5 * 3**0.5
    if name.endswith("latents"):
        return 0.0, 3**0.5
    if len(shape) == 1:
        return (1.0 if name.endswith("weight") else 0.0), 0.1 * 3**0.5
    return 0.0, (3 / np.prod(shape[1:])) ** 0.5
