"""Tiny checkpoints for pages and tests that must do without the released ones."""

import pytest
import torch

import vdmlib
from vdmlib.released.synthetic import SyntheticWeights, tiny_checkpoint, write


def test_a_tiny_checkpoint_goes_where_a_released_one_goes(tmp_path):
    path = tiny_checkpoint(str(tmp_path))
    assert path == tmp_path / "model.ckpt" and path.stat().st_size < 2e7
    pipe = vdmlib.VideoCrafterPipeline.from_checkpoint(tmp_path, "t2v", device="cpu")
    video = pipe("a cat", frames=2, height=64, width=64, steps=[999, 500], seed=0, progress=False)
    assert video.shape == (1, 2, 3, 64, 64) and video.isfinite().all() and video.std() > 0.05


def test_the_same_seed_is_the_same_file(tmp_path):
    release = vdmlib.Release.tiny()
    first, again, other = (write(tmp_path / f"{i}.safetensors", SyntheticWeights(release, seed)).read_bytes()
                           for i, seed in enumerate((1, 1, 2)))  # fmt: skip
    assert first == again != other
    weights = list(SyntheticWeights(release).values())
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i] if a.shape == b.shape)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere: create it first"):
        tiny_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="kind is 'v2v', but must be one of t2v, i2v"):
        tiny_checkpoint(tmp_path, "v2v")
