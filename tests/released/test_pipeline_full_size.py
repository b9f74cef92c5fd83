"""The released models at their full size, without their weights: every name, every shape, and numbers at random.

All tensors of these files share one memory, so a model of 7 GB is a file of 200 MB, of which loading copies nothing.
``tools/measure/gpu_check.py`` does the same with files that are as large as the released ones.
"""

import json
from pathlib import Path

import pytest
import torch
from gpu_check import weights_in_place

import vdmlib
from vdmlib import Release, VideoCrafterPipeline
from vdmlib.released.names import SCHEDULE
from vdmlib.released.synthetic import SyntheticWeights, write

RELEASES = {"t2v": Release.videocrafter2, "i2v": Release.videocrafter1_i2v}
NUMBERS = {"t2v": 1_850_970_924, "i2v": 2_608_871_725}  # In the released files.


@pytest.fixture(scope="module", params=RELEASES)
def loaded(request, tmp_path_factory):
    weights = SyntheticWeights(RELEASES[request.param](), shared=True)
    path = write(tmp_path_factory.mktemp("full size") / "model.ckpt", weights)
    yield VideoCrafterPipeline.from_checkpoint(path, request.param, device="cpu"), weights
    path.unlink()


def test_all_numbers_of_a_file_arrive_at_their_place(loaded):
    pipe, weights = loaded
    kind = pipe.release.kind
    manifest = json.loads((Path(__file__).parents[1] / "manifests" / f"checkpoint_{kind}.json").read_text())
    numbers = {name: torch.Size(shape).numel() for name, shape in weights.shapes.items() if name not in SCHEDULE}
    assert len(weights) == manifest["total_keys"] and sum(numbers.values()) == NUMBERS[kind]
    assert {n: list(weights.shapes[n]) for n in SCHEDULE} == {n: manifest["prefixes"][n]["shape"] for n in SCHEDULE}
    assert pipe.release == RELEASES[kind]()  # Found out from names and shapes.
    parameters = [parameter for network in pipe.networks.named().values() for parameter in network.parameters()]
    assert weights_in_place(pipe, weights) == sum(p.numel() for p in parameters) > 0.97 * NUMBERS[kind]
    assert {(p.dtype, p.device.type, p.requires_grad) for p in parameters} == {(torch.float32, "cpu", False)}


def test_from_a_prompt_to_a_file(loaded, tmp_path):
    pipe, _ = loaded
    image = torch.linspace(-1, 1, 3 * 90 * 160).reshape(3, 90, 160) if pipe.release.kind == "i2v" else None
    seen = {}
    for name, network in pipe.networks.named().items():
        network.register_forward_pre_hook(
            lambda _, inputs, given, name=name: seen.update({name: (inputs[0].shape, given.get("context"))}),
            with_kwargs=True,
        )
    video = pipe("a cat", image=image, steps=1, seed=0, frames=2, height=64, width=64, progress=False)
    # Prompt and empty prompt; picture and grey picture; both halves of the guidance.
    assert seen["text_encoder"][0] == (2, 77)
    tokens = 77
    if image is not None:
        assert seen["image_encoder"][0] == (2, 3, 224, 224) and seen["resampler"][0] == (2, 257, 1280)
        tokens += 16
    assert seen["unet"][0] == (2, 2, 4, 8, 8) and seen["unet"][1].tokens.shape == (2, tokens, 1024)
    assert video.shape == (1, 2, 3, 64, 64) and video.isfinite().all() and video.std() > 0.01
    assert vdmlib.save_video(video, tmp_path / "cat.mp4").stat().st_size > 500
