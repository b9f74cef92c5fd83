"""Bad inputs to the pipeline: each ends in one clear sentence and the right kind of exception, before any work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vdmlib
from vdmlib.released.releases import build_networks
from vdmlib.released.synthetic import tiny_checkpoint

pytestmark = pytest.mark.usefixtures("unchecked")

PICTURE = torch.zeros(3, 20, 30)


@pytest.fixture(scope="module")
def pipes():
    releases = {kind: vdmlib.Release.tiny(kind) for kind in ("t2v", "i2v")}
    return {k: vdmlib.VideoCrafterPipeline(build_networks(r), r, "cpu") for k, r in releases.items()}


CALLS = {
    "no prompt": ("t2v", dict(prompt=None), TypeError, "prompt is None"),
    "number as prompt": ("t2v", dict(prompt=5), TypeError, "prompt is 5"),
    "bytes as prompt": ("t2v", dict(prompt=b"a cat"), TypeError, "pass a string"),
    "no prompts in the list": ("t2v", dict(prompt=[]), TypeError, r"prompt is \[\]"),
    "numbers among the prompts": ("t2v", dict(prompt=["a cat", 3]), TypeError, "with one string for each video"),
    "no negative prompt": ("t2v", dict(negative_prompt=None), TypeError, "negative_prompt is None"),
    "a list of negative prompts": ("t2v", dict(negative_prompt=["a"]), TypeError, "one string for all videos"),
    "a picture for text to video": ("t2v", dict(image=PICTURE), ValueError, "leave it out"),
    "no picture for image to video": ("i2v", dict(), ValueError, "image is None"),
    "three pictures for one prompt": ("i2v", dict(image=torch.zeros(3, 3, 8, 8)), ValueError, "3 images .* 1 prompts"),
    "a missing picture": ("i2v", dict(image="nowhere.png"), FileNotFoundError, r"no picture nowhere\.png"),
    "a folder as picture": ("i2v", dict(image="."), FileNotFoundError, "no picture"),
    "a number as picture": ("i2v", dict(image=7), TypeError, "image is a int"),
    "a list as picture": ("i2v", dict(image=[[1, 2], [3, 4]]), TypeError, "image is a list"),
    "a picture without colours": ("i2v", dict(image=torch.zeros(20, 30)), ValueError, r"shape \(20, 30\)"),
    "a picture with four colours": ("i2v", dict(image=torch.zeros(4, 20, 30)), ValueError, r"shape \(1, 4, 20, 30\)"),
    "an empty picture": ("i2v", dict(image=torch.zeros(3, 0, 30)), ValueError, "2 pixels or more"),
    "a picture of one pixel": ("i2v", dict(image=torch.zeros(3, 1, 1)), ValueError, "2 pixels or more"),
    "a picture with NaN": ("i2v", dict(image=PICTURE * float("nan")), ValueError, "not finite, .* in -1 ... 1"),
    "a picture from 0 to 255": ("i2v", dict(image=PICTURE + 128), ValueError, "from 128 to 128, .*divide bytes by"),
    "a picture from -2 to 2": (
        "i2v",
        dict(image=torch.linspace(-2, 2, 192).reshape(3, 8, 8)),
        ValueError,
        r"from -2 to 2, .*\.clamp\(-1, 1\)",
    ),
    "a picture of whole numbers": ("i2v", dict(image=torch.ones(3, 8, 8).long()), ValueError, "image is torch.int64"),
    "pictures of which one is nothing": ("i2v", dict(image=[PICTURE, None]), TypeError, "image is a NoneType"),
    "no picture in a list": ("i2v", dict(image=[]), ValueError, "image is an empty list"),
    "two pictures for one prompt": ("i2v", dict(image=[PICTURE, PICTURE]), ValueError, "2 images .* 1 prompts"),
    "an array of fractions": ("i2v", dict(image=np.zeros((8, 8, 3))), ValueError, "of float64: pass bytes"),
    "an array of words": ("i2v", dict(image=np.array(["a", "b"])), ValueError, "image is an array .*: pass bytes"),
    "an array with colours first": ("i2v", dict(image=np.zeros((3, 8, 8), np.uint8)), ValueError, "pass bytes"),
    "fps of zero": ("t2v", dict(fps=0), ValueError, "fps is 0"),
    "negative fps": ("t2v", dict(fps=-8), ValueError, "fps is -8"),
    "endless fps": ("t2v", dict(fps=float("inf")), ValueError, "fps is inf"),
    "fps in words": ("t2v", dict(fps="24"), ValueError, "fps is '24'"),
    "no steps": ("t2v", dict(steps=0), ValueError, "steps is 0"),
    "30 steps": ("t2v", dict(steps=30), ValueError, "steps is 30, .* become 31: use one of 1, 2, 4, 5, 8, 10"),
    "levels beyond the last": ("t2v", dict(steps=[1, 1000]), ValueError, r"from 1 to 1000, .* 0 \.\.\. 999"),
    "too many steps": ("t2v", dict(steps=2000), ValueError, "steps is 2000"),
    "half a step": ("t2v", dict(steps=2.5), ValueError, "steps is 2.5: .*whole numbers"),
    "steps as a truth value": ("t2v", dict(steps=True), ValueError, "steps is True"),
    "guidance of NaN": ("t2v", dict(guidance_scale=float("nan")), ValueError, "guidance_scale is nan"),
    "negative guidance": ("t2v", dict(guidance_scale=-1), ValueError, "guidance_scale is -1"),
    "no guidance": ("t2v", dict(guidance_scale=None), ValueError, "guidance_scale is None"),
    "eta above one": ("t2v", dict(eta=1.5), ValueError, "eta is 1.5: use a number from 0 to 1"),
    "eta below zero": ("t2v", dict(eta=-0.1), ValueError, "eta is -0.1"),
    "negative seed": ("t2v", dict(seed=-1), ValueError, "seed is -1"),
    "seed in words": ("t2v", dict(seed="lucky"), ValueError, "seed is 'lucky'"),
    "seed beyond 63 bits": ("t2v", dict(seed=2**64), ValueError, "seed is 18446744073709551616"),
    "no frames": ("t2v", dict(frames=0), ValueError, "frames is 0"),
    "negative frames": ("t2v", dict(frames=-16), ValueError, "frames is -16"),
    "height no multiple of 64": ("t2v", dict(height=300), ValueError, "height is 300.*: 320 fits"),
    "width no multiple of 64": ("t2v", dict(width=500), ValueError, "width is 500.*: 512 fits"),
    "no height": ("t2v", dict(height=0), ValueError, "height is 0"),
    "width in words": ("t2v", dict(width="512"), ValueError, "width is '512'"),
    "height beyond reason": ("t2v", dict(height=64000), ValueError, "height is 64000"),
}


def one_sentence(error: Exception) -> None:
    message = str(error)
    assert "\n" not in message and 30 < len(message) < 400, message
    assert message[-1] in ".)" and (": " in message or "must be one of" in message), message


@pytest.mark.parametrize("case", CALLS)
def test_call(case, pipes, monkeypatch):
    kind, changes, kind_of_error, expected = CALLS[case]

    def ran(*_, **__):
        raise AssertionError("work began")

    monkeypatch.setattr(pipes[kind].networks.text_encoder, "forward", ran)
    with pytest.raises(kind_of_error, match=expected) as caught:
        pipes[kind](**{"prompt": "a cat", "progress": False, **changes})
    one_sentence(caught.value)


def test_a_frame_rate_for_a_model_without_one_is_said_to_change_nothing(pipes, monkeypatch):
    pipe, prompt = pipes["t2v"], dict(prompt="a cat", progress=False, steps=1, frames=1, height=64, width=64, seed=0)
    release = replace(pipe.release, unet=replace(pipe.release.unet, use_fps=False))
    monkeypatch.setattr(pipe, "release", release)
    with pytest.warns(UserWarning, match=r"^fps is 8, but this model is told no frame rate: it changes nothing\.$"):
        pipe(fps=8, **prompt)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("inputs"))


LOADS = {
    "unknown kind": (dict(kind="v2v"), ValueError, "kind is 'v2v', but must be one of t2v, i2v"),
    "kind of another release": (dict(kind="i2v"), ValueError, "pass the same"),
    "unknown device": (dict(device="gpu"), ValueError, "device is 'gpu'"),
    "a number as device": (dict(device=1.5), ValueError, "device is '1.5'"),
    "no such GPU": (dict(device="cuda:7"), ValueError, "device is 'cuda:7'"),
    "unknown dtype": (dict(dtype="half"), ValueError, "dtype is 'half', but must be one of float32, float16, bfloat16"),
    "whole numbers as dtype": (dict(dtype=torch.int8), ValueError, r"dtype is torch\.int8"),
    "a number as dtype": (dict(dtype=16), ValueError, "dtype is 16"),
}


@pytest.mark.parametrize("case", LOADS)
def test_load(case, checkpoint):
    changes, kind_of_error, expected = LOADS[case]
    given = {"kind": "t2v", "device": "cpu", "release": vdmlib.Release.tiny(), **changes}
    with pytest.raises(kind_of_error, match=expected) as caught:
        vdmlib.VideoCrafterPipeline.from_checkpoint(checkpoint, **given)
    one_sentence(caught.value)


def test_bfloat16_on_a_card_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(ValueError, match=r"Tesla T4 has none: use float16\.") as caught:
        vdmlib.devices.choose_dtype("bfloat16", torch.device("cuda"))
    one_sentence(caught.value)


OPTIONS = {
    "no frames to decode": (dict(decode_frames=0), "decode_frames is 0"),
    "half a frame": (dict(decode_frames=0.5), "decode_frames is 0.5"),
    "unknown offload": (dict(offload="disk"), "offload is 'disk', but must be one of None, networks, blocks"),
    "guidance in words": (dict(guidance_in_one_batch="no"), "guidance_in_one_batch is 'no': use True or False"),
    "a number for slicing": (dict(sliced_attention=2), "sliced_attention is 2"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_memory_options(case):
    changes, expected = OPTIONS[case]
    with pytest.raises(ValueError, match=expected) as caught:
        vdmlib.MemoryOptions(**changes)
    one_sentence(caught.value)


def test_a_file_that_is_no_picture(pipes, tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match=r"picture\.png is no picture that can be read") as caught:
        pipes["i2v"]("a cat", image=path)
    one_sentence(caught.value)
