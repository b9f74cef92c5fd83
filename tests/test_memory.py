"""The count of bytes against what PyTorch's allocator reports, and the estimate against whole runs."""

import pytest
import torch
from gpu_check import allocated_peak
from synthetic_checkpoints import synthetic_weights

import vdmlib
from vdmlib import MemoryOptions, Release, estimate_memory
from vdmlib.memory import TensorLedger, peak_bytes
from vdmlib.releases import build_parts, checkpoint_names

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


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    release = Release.tiny("i2v")
    parts = build_parts(release)
    stored = synthetic_weights(release)
    for part, names in checkpoint_names(release, parts).items():
        for ours, parameter in getattr(parts, part).named_parameters():
            parameter.copy_(stored[names[ours][0]].reshape(parameter.shape))
    return vdmlib.VideoCrafterPipeline(parts, release, "cpu")


@pytest.mark.parametrize(
    "options",
    [
        MemoryOptions(guidance_in_one_batch=False, decode_frames=1),
        MemoryOptions(decode_frames=4),
    ],
    ids=["in turn", "decoding four"],
)
def test_estimate_is_the_measured_peak_of_a_run(pipe, options):
    pipe.memory = options
    size = dict(frames=4, height=128, width=128)

    def run():
        pipe("a cat", image=torch.zeros(3, 28, 28), steps=1, seed=0, progress=False, **size)

    estimate = estimate_memory(pipe.release, options, torch.float32, **size)
    assert max(estimate.activations.values()) == pytest.approx(allocated_peak(run), rel=TOLERANCE)


def test_options_save_what_they_promise(monkeypatch):
    monkeypatch.setattr(vdmlib.FeedForward, "CHUNK_ELEMENTS", 2**16)  # Else nothing else counts in so small a network.
    release = Release.tiny("i2v")

    def estimate(**options):
        return estimate_memory(release, MemoryOptions(**options), height=128)

    plain, in_turn = estimate(), estimate(guidance_in_one_batch=False, decode_frames=1, offload="parts")
    assert in_turn.activations["denoising"] < 0.7 * plain.activations["denoising"]
    assert in_turn.activations["decoding"] < 0.5 * plain.activations["decoding"]
    assert in_turn.resident["denoising"] == plain.weights["unet"] < plain.resident["denoising"]
    assert plain.resident["decoding"] == sum(plain.weights.values()) > in_turn.resident["decoding"]
    monkeypatch.setattr("vdmlib.memory.SLICE_TOKENS", 128)
    sliced = estimate(sliced_attention=True, offload="blocks")
    assert sliced.activations["denoising"] < plain.activations["denoising"]
    assert sliced.resident["denoising"] < 0.6 * in_turn.resident["denoising"]
    assert sliced.peak < plain.peak


def test_videocrafter2_fits_a_t4():
    """Weights as in the released file, and with guidance under 12 GB at 16 × 320 × 512 in float16."""
    estimate = estimate_memory(Release.videocrafter2())
    # The text encoder's last block, its projection and its logit scale are not needed.
    text = 354_032_641 - (12 * 1024**2 + 13 * 1024) - 1024**2 - 1
    expected = {"unet": 1_413_284_420, "autoencoder": 83_653_863, "text_encoder": text}
    assert estimate.weights == {name: 2 * parameters for name, parameters in expected.items()}
    assert estimate.peak < 5e9
