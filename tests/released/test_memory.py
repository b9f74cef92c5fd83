"""Memory options: nothing but rounding changes, weights are where they are used, and what runs out is explained."""

import weakref
from functools import cache

import pytest
import torch
from meta_device import MetaForGPU
from tiny_pipelines import KINDS, ONE_ROUNDING, difference, sample, tensors, tiny_networks
from torch import nn
from torch.utils._pytree import tree_leaves

from vdmlib import MemoryOptions, Release, VideoCrafterPipeline
from vdmlib.released import encoders, pipeline
from vdmlib.released.memory import lend, lend_by_block


@cache
def sampled_without(pipe: VideoCrafterPipeline) -> torch.Tensor:
    """Any options: the same video for all tests."""
    return sample(pipe)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        MemoryOptions(guidance_in_one_batch=False),
        MemoryOptions(decode_frames=1),
        MemoryOptions(sliced_attention=True),
        MemoryOptions(offload="networks"),
        MemoryOptions(False, 1, True, "blocks"),
    ],
    ids=lambda options: MemoryOptions(decode_frames=5).difference(options),
)
def test_memory_options_change_nothing(kind, options, exact_pipes, monkeypatch):
    monkeypatch.setattr("vdmlib.released.memory.SLICE_TOKENS", 64)  # Smaller slices than these tiny pictures.
    pipe = exact_pipes[kind]
    expected, weights = sampled_without(pipe), list(pipe.networks.unet.parameters())
    pipe.memory = options
    result = sample(pipe)
    assert difference(result, expected) <= ONE_ROUNDING
    assert all(now is before for now, before in zip(pipe.networks.unet.parameters(), weights, strict=True))


def test_offloaded_weights_are_on_the_device_while_they_are_used_and_only_then():
    """On the meta device, which refuses to compute with a weight that was left behind."""
    networks = tiny_networks()
    net, inputs = networks.unet, (torch.zeros(1, 4, 4, 8, 16), torch.zeros(1), torch.zeros(1, 77, 24))
    x, timesteps, context = (t.to("meta") for t in inputs)
    before, away = list(net.parameters()), []
    # Blocks of several layers, which can be looked at just before they run and then in their first layer.
    blocks = [block for block in net.named_blocks().values() if isinstance(block, nn.ModuleDict)]
    firsts = [next(layer for layer in block.modules() if not list(layer.children())) for block in blocks]

    def count(*_):
        away.append(sum(any(p.is_meta for p in block.parameters()) for block in blocks))

    hooks = [layer.register_forward_pre_hook(count) for layer in (*blocks, *firsts)]
    with lend_by_block(net, "meta") as unet:
        assert unet(x, timesteps, context=unet.prepare_context(context), fps=8).is_meta
    assert away == [0, 1] * len(blocks)
    assert all(a is b for a, b in zip(net.parameters(), before, strict=True))
    with lend(networks.text_encoder, "meta") as encoder:
        assert encoders.encode_text(encoder, torch.zeros(1, 77, dtype=torch.long, device="meta")).is_meta
    with pytest.raises(ZeroDivisionError), lend_by_block(net, "meta"):
        1 / 0  # noqa: B018, it raises
    assert not any(t.is_meta for network in networks.named().values() for t in tensors(network))
    for hook in hooks:
        hook.remove()
    assert not any("forward" in vars(module) for module in net.modules())


def devices_of(result: object) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [MemoryOptions(), MemoryOptions(False, 1, True, "blocks")], ids=["fastest", "least"]
)
def test_on_another_device_everything_is_there_when_it_is_used(kind, options):
    pipe = VideoCrafterPipeline(tiny_networks(kind), Release.tiny(kind), "meta", options)
    layers = {layer for network in pipe.networks.named().values() for layer in network.modules()}
    computed_on = set()
    for layer in layers:
        layer.register_forward_hook(lambda *given: computed_on.update(devices_of(given[2])))
    with MetaForGPU():
        video = sample(pipe)
    assert video.shape == (1, 4, 3, 64, 128) and video.device.type == "cpu"
    assert computed_on == {"meta"}
    home = "meta" if options.offload is None else "cpu"
    assert {t.device.type for network in pipe.networks.named().values() for t in tensors(network)} == {home}


def test_what_is_left_behind_is_noticed():
    """The test above can fail: a layer that stays on the CPU while the network runs ends it."""
    pipe = VideoCrafterPipeline(tiny_networks(), Release.tiny(), "meta")
    pipe.networks.unet.register_forward_pre_hook(lambda unet, *_: unet.norm_out.to_empty(device="cpu") and None)
    with MetaForGPU(), pytest.raises(RuntimeError, match="device"):
        sample(pipe)


# What runs out of memory in each phase: a method of one of the networks.
PHASES = {
    "loading": ("unet", "to"),
    "encoding": ("text_encoder", "forward"),
    "denoising": ("unet", "forward"),
    "decoding": ("autoencoder", "decode"),
}
EXPECTED = {
    "loading": ["offload='networks'"],
    "encoding": ["offload='networks'"],
    "denoising": ["guidance_in_one_batch=False", "offload='networks'", "sliced_attention=True", "offload='blocks'"],
    "decoding": ["decode_frames=1", "offload='networks'"],
}
LAST = {"loading": "use a machine with more memory"}


@pytest.fixture
def half_networks():
    networks = tiny_networks()
    for network in networks.named().values():
        network.half()
    return networks


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_out_of_memory_names_the_option_to_try_next(phase, device, half_networks, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    pipe, advice = VideoCrafterPipeline(half_networks, Release.tiny(), device), []
    network, method = PHASES[phase]
    monkeypatch.setattr(getattr(pipe.networks, network), method, full)
    what = "the weights" if phase == "loading" else "1 × 4 frames of 64 × 128"
    expected = rf"^Memory ran out while {phase} {what} in float16"
    while True:
        with MetaForGPU(), pytest.raises(torch.cuda.OutOfMemoryError, match=expected) as caught:
            sample(pipe)
        assert "\n" not in str(caught.value)
        options = pipe.memory.next_saving(phase, offload=device != "cpu")
        if options is None:
            assert LAST.get(phase, "make the video smaller") in str(caught.value)
            break
        assert f"MemoryOptions({MemoryOptions().difference(options)})" in str(caught.value)
        advice.append(pipe.memory.difference(options))
        pipe.memory = options
    # On the CPU itself there is nowhere else for weights to wait.
    assert advice == [option for option in EXPECTED[phase] if device != "cpu" or "offload" not in option]
    monkeypatch.setattr(pipe, "dtype", torch.float32)
    expected = "bfloat16" if device == "cpu" else r"torch\.float16"
    with MetaForGPU(), pytest.raises(torch.cuda.OutOfMemoryError, match=expected):
        sample(pipe)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("unable to mmap 16 bytes from file <model.ckpt>: Cannot allocate memory (12)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[-30:] or "MemoryError",
)
def test_memory_that_runs_out_elsewhere_is_recognised(error, checkpoint_files, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "load_release", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"while loading the weights in float32: load .*bfloat16"):
        VideoCrafterPipeline.from_checkpoint(checkpoint_files["t2v"], device="cpu", release=Release.tiny())


def test_an_error_about_memory_keeps_none_of_it(pipes, monkeypatch):
    """A notebook holds on to the last error, and the advice is to try again there."""
    activations = []

    def full(x, *_, **__):
        hidden = x + 1
        activations.append(weakref.ref(hidden))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(pipes["t2v"].networks.unet, "forward", full)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        sample(pipes["t2v"])
    assert caught.value.__cause__ is not None and activations[0]() is None


def test_other_runtime_errors_pass_unchanged(pipes, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(pipes["t2v"].networks.unet, "forward", broken)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        sample(pipes["t2v"])
