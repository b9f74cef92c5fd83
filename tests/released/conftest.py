"""Tiny checkpoints and the pipelines made of them, once for all tests of the released models."""

import copy
from functools import cache
from pathlib import Path

import pytest
from tiny_pipelines import KINDS

from vdmlib import MemoryOptions, VideoCrafterPipeline
from vdmlib.released.synthetic import tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint_files(tmp_path_factory) -> dict[str, Path]:
    return {kind: tiny_checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@cache
def loaded(path: Path, kind: str) -> VideoCrafterPipeline:
    return VideoCrafterPipeline.from_checkpoint(path, kind, device="cpu")


@cache
def in_float64(path: Path, kind: str) -> VideoCrafterPipeline:
    pipe = loaded(path, kind)
    networks = copy.deepcopy(pipe.networks)
    for network in networks.named().values():
        network.double()
    return VideoCrafterPipeline(networks, pipe.release, "cpu")


@pytest.fixture
def pipes(checkpoint_files):
    made = {kind: loaded(path, kind) for kind, path in checkpoint_files.items()}
    yield made
    for pipe in made.values():
        pipe.memory = MemoryOptions()


@pytest.fixture
def exact_pipes(checkpoint_files):
    """In float64: what changes nothing changes at most the rounding of the finished pixels to float32."""
    made = {kind: in_float64(path, kind) for kind, path in checkpoint_files.items()}
    yield made
    for pipe in made.values():
        pipe.memory = MemoryOptions()
