"""A video model so small that training it takes no time, and runs of it, for tests of training and of programs beside.

Imported by the tests and, with this folder as argument of ``sys.path``, by the processes that they start.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vdmlib.autoencoder import Autoencoder
from vdmlib.small import data, training
from vdmlib.small.settings import CONFIGS, TrainingConfig
from vdmlib.small.stages import DenoiserStage

DENOISERS = ("t2v", "i2v", "i2v_attention")
TINY = dict(model_channels=32, channel_multipliers=(1,), attention_factors=(), context_channels=16)


def tiny(stage: str = "t2v", **changes) -> TrainingConfig:
    """Four steps of four clips; of the image-to-video model nothing is taken from other weights."""
    config = CONFIGS[stage]
    settings = dict(steps=4, batch=4, warmup=2, log_every=1, sample_every=1000, decay=0.5)
    settings |= dict(init_from=None, trained_parts=None)
    return replace(config, unet=replace(config.unet, **TINY), **settings | changes)


class TinyStage(DenoiserStage):
    """No report and no samples: they take longer than the training."""

    def __init__(self, config: TrainingConfig):
        torch.manual_seed(0)
        autoencoder = Autoencoder(channels=(8, 8, 8))
        autoencoder.train().encode(data.MovingDigits().batch(range(8)).video)
        super().__init__(config, autoencoder)

    def report(self, trained):
        return {}

    def sheet(self, trained):
        return None


def run(config: TrainingConfig, folder=None, **settings) -> training.Result:
    return training.train(config, folder, "cpu", progress=False, stage=TinyStage(config), **settings)


def weights(result: training.Result) -> dict[str, torch.Tensor]:
    return result.model.state_dict()


def losses(result: training.Result) -> list[float]:
    return [row["loss"] for row in result.log]


def run_script(path: Path, body: str, *launcher: str, timeout: int = 300, **values) -> subprocess.CompletedProcess:
    """Run a program in a process of its own; ``values`` are its variables."""
    start = ["import os, signal, sys", "import torch", "torch.set_num_threads(1)"]
    start += [f"sys.path.insert(0, {str(Path(__file__).parent)!r})", "from tiny_training import *"]
    start += [f"{name} = {value!r}" for name, value in values.items()]
    path.write_text("\n".join([*start, body]))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
