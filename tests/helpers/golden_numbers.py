"""Reader of the golden numbers in ``tests/golden``: figures made by running the released model code.

Layouts in the files are the released ones: videos ``b c t h w``, frames ``(b t) c h w``.

How exact a test has to be is said here too. What holds exactly in theory (a batch against single videos, slices
against the whole) is computed in float64 and held to ``EXACT``; what is compared with a golden number, which was
computed in float32, is held to ``MARGIN`` times the rounding noise that was measured when the number was made. Blocks
are computed in float64 for that, so that only the number's own rounding is left: in float32, and on a processor whose
kernels add up in another order, a norm over four nearly equal values magnifies the last digit a thousand times.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vdmlib.released.trace import made_weight

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
            weights = {name: made_weight(name, shape, self.meta["seed"]) for name, shape in self.meta["shapes"].items()}
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
