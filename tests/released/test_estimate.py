"""The count of bytes against what PyTorch's allocator reports, and the estimate against whole runs."""

import contextlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from instruments import allocated_peak
from plain_process import computed

import vdmlib
from vdmlib.attention import Attention, FeedForward, RelativeAttention
from vdmlib.released.estimate import TensorLedger, alike_computed_once, peak_bytes

pytestmark = pytest.mark.usefixtures("unchecked")  # Checks of shapes are slow on fake tensors.

TOLERANCE = 0.1  # Of the measured peak. The estimate leaves out latents, tokens and the sampler's arithmetic.


def test_each_storage_counts_once_from_birth_to_death():
    before = torch.zeros(1000)
    with TensorLedger() as ledger:
        first = before + 1
        assert ledger.bytes == 4000
        view = first.reshape(10, 100).t()
        before.add_(1)
        assert ledger.bytes == 4000  # Views and what was there before are not new.
        del first
        assert ledger.bytes == 4000
        second = view.double()
        assert ledger.bytes == 12000
        del view
        assert ledger.bytes == 8000
    del second
    assert ledger.peak == 12000


@torch.no_grad()
def test_ledger_is_the_allocators_account_of_a_u_net():
    net = vdmlib.UNet3D(vdmlib.UNet3DConfig.tiny()).eval()
    x, context = torch.randn(2, 4, 4, 16, 32), torch.randn(2, 77, 24)

    def run():
        return net(x, torch.tensor([1, 500]), context=context, fps=8)

    run()
    assert peak_bytes(run) == pytest.approx(allocated_peak(run), rel=0.01)


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_ledger_counts_the_weights_that_a_cpu_copies(layout):
    """Two small frames in a wide layer, as a full-size network has."""
    convolution, x = torch.nn.Conv2d(320, 320, 3, padding=1), torch.randn(2, 320, 4, 4).to(memory_format=layout)

    def run():
        return convolution(x)

    run()
    assert peak_bytes(run, on_cpu=True) == pytest.approx(allocated_peak(run), rel=0.05)
    assert peak_bytes(run) < 0.05 * peak_bytes(run, on_cpu=True)


@pytest.fixture(scope="module")
def pipe():
    release = vdmlib.Release.tiny("i2v")
    return vdmlib.VideoCrafterPipeline(vdmlib.released.releases.build_networks(release), release, "cpu")


@pytest.mark.parametrize(
    "options",
    [dict(guidance_in_one_batch=False, decode_frames=1), dict(decode_frames=4)],
    ids=["in turn", "decoding four"],
)
def test_estimate_is_the_measured_peak_of_a_run(pipe, options):
    pipe.memory = vdmlib.MemoryOptions(**options)
    size = dict(frames=4, height=128, width=128)

    def run():
        pipe("a cat", image=torch.zeros(3, 28, 28), steps=1, seed=0, progress=False, **size)

    expected = vdmlib.estimate_memory(pipe.release, pipe.memory, torch.float32, device="cpu", **size)
    assert max(expected.activations.values()) == pytest.approx(allocated_peak(run), rel=TOLERANCE)


AT_FULL_SIZE = """
from vdmlib import MemoryOptions, Release, estimate_memory

release = getattr(Release, sys.argv[1])()
size = dict(zip(("frames", "height", "width"), map(int, sys.argv[2:]), strict=True))
whole = estimate_memory(release, MemoryOptions(), torch.float32, device="cpu", **size)
half = estimate_memory(release, MemoryOptions(), torch.float16, **size)
result = dict(weights=whole.weights, activations=whole.activations, half_weights=half.weights, half_peak=half.peak)
"""


@cache
def at_full_size(model: str) -> dict[str, Any]:
    """Of 16 frames of 320 × 512, in float32 on a CPU, and in half precision on a GPU."""
    return computed(AT_FULL_SIZE, model, "16", "320", "512")


@pytest.mark.parametrize("model", ["videocrafter2", "videocrafter1_i2v"])
def test_estimate_is_the_measured_peak_at_full_size(model):
    """Measured once, on a CPU in float32, by the commands in ``tests/measured/README.md``."""
    measured = json.loads((Path(__file__).parents[1] / f"measured/{model}_cpu.json").read_text())
    assert measured["video"] == [16, 320, 512]
    (row,), needed = measured["rows"], at_full_size(model)
    assert sum(needed["weights"].values()) / 1e9 == pytest.approx(measured["weights GB"], rel=1e-3)
    assert max(needed["activations"].values()) / 1e9 == pytest.approx(row["peak GB"], rel=0.02)
    assert needed["half_peak"] < 0.55e9 * (measured["weights GB"] + row["peak GB"]) < 12e9


@torch.no_grad()
@pytest.mark.parametrize("kind, first", [(FeedForward, "widen"), (Attention, "to_q"), (RelativeAttention, "to_q")])
def test_of_slices_of_equal_size_one_is_computed_and_all_are_counted(kind, first):
    layer, x = kind(64), torch.zeros(25, 10, 64)
    layer.tokens_at_once = 48  # The last slice is smaller than the others.
    calls = []
    getattr(layer, first).register_forward_hook(lambda *_: calls.append(0))

    def counted(shortcut):
        calls.clear()
        with TensorLedger(on_cpu=True) as ledger, shortcut(layer, ledger):
            result = layer(x)
        return ledger.peak, ledger.bytes, result.shape, result.stride()

    everything = counted(lambda *_: contextlib.nullcontext())
    assert len(calls) >= 6
    assert counted(alike_computed_once) == everything and len(calls) == 2
    assert counted(lambda *_: contextlib.nullcontext()) == everything and len(calls) >= 6


def test_options_save_what_they_promise(monkeypatch):
    # Beside so small a network they are then as large as they are beside a full-size one.
    monkeypatch.setattr(vdmlib.released.memory, "GPU_WIDE_ELEMENTS", 2**17)
    for room in (vdmlib.inference, vdmlib.released.memory):
        monkeypatch.setattr(room, "CPU_TOKENS", 256)
    release = vdmlib.Release.tiny("i2v")

    def of(device="cuda", **options):
        return vdmlib.estimate_memory(release, vdmlib.MemoryOptions(**options), height=128, device=device)

    plain, in_turn = of(), of(guidance_in_one_batch=False, decode_frames=1, offload="networks")
    assert in_turn.activations["denoising"] < 0.7 * plain.activations["denoising"]
    assert in_turn.activations["decoding"] < 0.5 * plain.activations["decoding"]
    assert in_turn.resident["denoising"] == plain.weights["unet"] < plain.resident["denoising"]
    assert plain.resident["decoding"] == sum(plain.weights.values()) > in_turn.resident["decoding"]
    assert of(device="cpu").activations["denoising"] <= plain.activations["denoising"]
    monkeypatch.setattr(vdmlib.released.memory, "SLICE_TOKENS", 128)
    sliced = of(sliced_attention=True, offload="blocks")
    assert sliced.activations["denoising"] < plain.activations["denoising"]
    assert sliced.resident["denoising"] < 0.6 * in_turn.resident["denoising"]
    assert sliced.peak < plain.peak


def test_videocrafter2_fits_a_t4():
    """Weights as in the released file, and with guidance under 12 GB at 16 × 320 × 512 in float16."""
    needed = at_full_size("videocrafter2")
    # The text encoder's last block, its projection and its logit scale are not needed.
    text = 354_032_641 - (12 * 1024**2 + 13 * 1024) - 1024**2 - 1
    expected = {"unet": 1_413_284_420, "autoencoder": 83_653_863, "text_encoder": text}
    assert needed["half_weights"] == {name: 2 * parameters for name, parameters in expected.items()}
    assert needed["half_peak"] < 5e9


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(frames=0), "frames is 0"),
        (dict(height=300), "height is 300"),
        (dict(width=0), "width is 0"),
        (dict(prompts=0), "prompts is 0"),
        (dict(dtype="half"), "dtype is 'half'"),
    ],
)
def test_sizes_that_no_video_can_have(changes, expected):
    with pytest.raises(ValueError, match=expected):
        vdmlib.estimate_memory(vdmlib.Release.tiny(), **changes)


def test_arguments_of_another_kind():
    with pytest.raises(TypeError, match=r"release is 'tiny': pass one such as Release\.videocrafter2\(\)"):
        vdmlib.estimate_memory("tiny")
    with pytest.raises(TypeError, match=r"options is 'blocks': pass one such as MemoryOptions\(decode_frames=1\)"):
        vdmlib.estimate_memory(vdmlib.Release.tiny(), "blocks")
