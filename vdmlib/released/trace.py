"""What the released code computed, block by block, with weights that anyone can make again (chapter 8).

The numbers were recorded with ``UNetModel`` of ``lvdm/modules/networks/openaimodel3d.py`` in float32 on a CPU: the 25
blocks of VideoCrafter2 at a tenth of its width. No weights are stored, since each is made from its name.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from ..checks import check_tensor
from ..configuration import UNet3DConfig
from .names import released_names

FILE = Path(__file__).with_name("trace.safetensors")


@dataclass(frozen=True)
class Trace:
    """One run of the released network.

    Attributes:
        config: which network it was.
        seed: of its weights, see :func:`made_weight`.
        inputs: ``x`` (b f c h w), ``timesteps`` (b,), ``context`` (b m c), ``fps`` (b,).
        outputs: under the names of :meth:`vdmlib.UNet3D.named_blocks`, and "embedding" for the timestep's, the
            :func:`excerpt` of what left each block; under "output" all of the result, (b f c h w).
        rounding: of each output, how far other kernels, or inputs nudged by 1e-7, moved the released code itself, as a
            share of the output's root mean square.
    """

    config: UNet3DConfig
    seed: int
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    rounding: dict[str, float]

    def weights(self) -> dict[str, Tensor]:
        """The network's weights under their released names, float32."""
        names = dict(released_names(self.config).values())
        return {name: made_weight(name, shape, self.seed) for name, shape in names.items()}


def recorded_trace() -> Trace:
    """The run that comes with the library."""
    with safe_open(FILE, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, the file is no mapping

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    rounding = about["rounding"]
    outputs = under("out/")
    return Trace(
        UNet3DConfig.from_videocrafter(about["config"]),
        about["seed"],
        under("in/"),
        {name: outputs[name] for name in rounding},  # In the order in which they were made.
        rounding,
    )


def excerpt(values: Tensor) -> Float[Tensor, " n"]:
    """Mean, standard deviation, and 64 numbers at even distances, of a tensor in the order ``b f c h w``."""
    check_tensor("values", values)
    flat = values.flatten()
    return torch.cat([torch.stack([values.mean(), values.std()]), flat[:: max(1, flat.numel() // 64)][:64]])


def made_weight(name: str, shape: tuple[int, ...] | list[int], seed: int) -> Tensor:
    """A parameter's values from its released name, its shape and a seed: the same bits on every machine, none zero."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([(zlib.crc32(name.encode()) << 32) | (seed & 0xFFFFFFFF)], dtype=np.uint64))
        count = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
        bits = _mix(start + count * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    uniform = bits.astype(np.float64) * 2.0**-23 - 1.0
    offset, amplitude = _distribution(name, shape)
    return torch.from_numpy((offset + amplitude * uniform).astype(np.float32).reshape(tuple(shape)))


def _mix(z: np.ndarray) -> np.ndarray:
    # The finaliser of SplitMix64.
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _distribution(name: str, shape: tuple[int, ...] | list[int]) -> tuple[float, float]:
    if name.endswith("embeddings_table") or len(shape) == 0:
        return 0.0, 0.5 * 3**0.5
    if name.endswith("latents"):
        return 0.0, 3**0.5
    if len(shape) == 1:
        return (1.0 if name.endswith("weight") else 0.0), 0.1 * 3**0.5
    return 0.0, float((3 / np.prod(shape[1:])) ** 0.5)
