"""Tiny checkpoints and the pipelines made of them, once for all tests of the released models."""

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


@pytest.fixture
def pipes(checkpoint_files):
    made = {kind: loaded(path, kind) for kind, path in checkpoint_files.items()}
    yield made
    for pipe in made.values():
        pipe.memory = MemoryOptions()
