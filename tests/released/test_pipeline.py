"""The pipeline around the denoiser, on tiny models that go through the code of the full-size ones."""

import copy
import dataclasses
import warnings
import weakref
from functools import cache
from pathlib import Path

import pytest
import torch
from einops import repeat
from golden_numbers import ROUNDING

import vdmlib
from vdmlib import MemoryOptions, Release, VideoCrafterPipeline, media
from vdmlib.released import encoders, pipeline
from vdmlib.released.memory import lend, lend_by_block, unet_blocks
from vdmlib.released.releases import build_networks
from vdmlib.released.synthetic import tiny_checkpoint

PICTURE = torch.linspace(-1, 1, 3 * 40 * 50).reshape(3, 40, 50)
KINDS = ["t2v", "i2v"]


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    return {kind: tiny_checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@cache
def loaded(path: Path, kind: str) -> VideoCrafterPipeline:
    return VideoCrafterPipeline.from_checkpoint(path, kind, device="cpu", release=Release.tiny(kind))


@cache
def in_float64(pipe: VideoCrafterPipeline) -> VideoCrafterPipeline:
    networks = copy.deepcopy(pipe.networks)
    for network in networks.named().values():
        network.double()
    return VideoCrafterPipeline(networks, pipe.release, "cpu")


@pytest.fixture
def pipes(files):
    made = {kind: loaded(path, kind) for kind, path in files.items()}
    yield made
    for pipe in made.values():
        pipe.memory = MemoryOptions()


@pytest.fixture
def exact_pipes(files):
    """In float64, where what changes nothing changes no more than the last rounding, of pixels to float32."""
    made = {kind: in_float64(loaded(path, kind)) for kind, path in files.items()}
    yield made
    for pipe in made.values():
        pipe.memory = MemoryOptions()


ONE_ROUNDING = 2 * ROUNDING  # Of pixels, which are at most 1.


def difference(video: torch.Tensor, other: torch.Tensor) -> float:
    return float((video - other).abs().max())


def tensors(network: torch.nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def sample(pipe: VideoCrafterPipeline, prompt="a cat", **changes) -> torch.Tensor:
    image = PICTURE if pipe.release.kind == "i2v" else None
    return pipe(prompt, **{"image": image, "steps": 2, "seed": 1, "progress": False, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_the_video_and_every_condition_matters(kind, pipes):
    pipe = pipes[kind]
    first = sample(pipe)
    assert first.shape == (1, 4, 3, 64, 128) and first.isfinite().all() and -1 <= first.min() < first.max() <= 1
    assert torch.equal(first, sample(pipe))
    changes = dict(seed=2, prompt="a dog", negative_prompt="blur", fps=9, guidance_scale=3, eta=0)
    if kind == "i2v":
        changes["image"] = -PICTURE
    for name, value in changes.items():
        assert not torch.equal(first, sample(pipe, **{name: value})), name
    assert not torch.equal(sample(pipe, seed=None), sample(pipe, seed=None))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_pipeline_is_its_networks_put_together_by_hand(kind, exact_pipes):
    pipe, prompts = exact_pipes[kind], ["a cat", "two dogs"]
    release, networks = pipe.release, pipe.networks
    text = encoders.encode_text(networks.text_encoder, encoders.tokenizer(release.text_encoder)([*prompts, ""]))
    context, uncond = text[:2], repeat(text[2], "n c -> 2 n c")
    if kind == "i2v":
        size = release.image_encoder.image_size
        grey = torch.zeros(1, 3, size, size)  # What the released scripts pass for "no picture".
        prepare = lambda picture: encoders.prepare_image(picture, size).double()  # noqa: E731
        see = lambda picture: networks.resampler(networks.image_encoder(prepare(picture)))  # noqa: E731
        shown, nothing = see(PICTURE[None]), see(grey)
        context = torch.cat([context, repeat(shown, "1 n c -> 2 n c")], dim=1)
        uncond = torch.cat([uncond, repeat(nothing, "1 n c -> 2 n c")], dim=1)
        assert context.shape[1] == 77 + release.resampler["queries"]
    streams = [torch.Generator().manual_seed(seed) for seed in (5, 6)]  # One for each video.
    noise = torch.cat([torch.randn(1, 3, 4, 8, 16, generator=stream) for stream in streams]).double()
    latents = vdmlib.sample_ddim(
        networks.unet, release.schedule, noise, context, uncond, 12.0, release.fps, 2, 1.0, streams, progress=False
    )
    pixels = encoders.decode_latents(networks.autoencoder, latents)
    result = sample(pipe, prompts, seed=5, frames=3)
    assert difference(result, pixels.clamp(-1, 1)) <= ONE_ROUNDING
    assert pixels.min() < -0.5 and pixels.max() > 0.5


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
    expected, weights = sample(pipe), list(pipe.networks.unet.parameters())
    pipe.memory = options
    result = sample(pipe)
    assert difference(result, expected) <= ONE_ROUNDING
    assert all(now is before for now, before in zip(pipe.networks.unet.parameters(), weights, strict=True))


def test_half_precision_stays_close(files, pipes):
    half = VideoCrafterPipeline.from_checkpoint(
        files["t2v"], device="cpu", dtype="bfloat16", release=Release.tiny("t2v")
    )
    assert {p.dtype for network in half.networks.named().values() for p in network.parameters()} == {torch.bfloat16}
    settings = {"steps": 1, "guidance_scale": 1.0, "eta": 0.0}
    difference = (sample(half, **settings) - sample(pipes["t2v"], **settings)).abs() / 2  # Of black to white.
    assert 0 < difference.mean() < 0.02


def test_offloaded_weights_are_on_the_device_while_they_are_used_and_only_then():
    """On the meta device, which refuses to compute with a weight that was left behind."""
    networks = build_networks(Release.tiny("t2v"))
    net, inputs = networks.unet, (torch.zeros(1, 4, 4, 8, 16), torch.zeros(1), torch.zeros(1, 77, 24))
    x, timesteps, context = (t.to("meta") for t in inputs)
    before, away = list(net.parameters()), []

    def count(*_):
        away.append(sum(any(p.is_meta for p in block.parameters()) for block in unet_blocks(net)))

    hooks = [block.register_forward_pre_hook(count) for block in unet_blocks(net)]
    with lend_by_block(net, "meta") as unet:
        for hook in [block.register_forward_pre_hook(count) for block in unet_blocks(net)]:
            hooks.append(hook)
        assert unet(x, timesteps, context=unet.prepare_context(context), fps=8).is_meta
    assert away == [0, 1] * len(unet_blocks(net))
    assert all(a is b for a, b in zip(net.parameters(), before, strict=True))
    with lend(networks.text_encoder, "meta") as encoder:
        assert encoders.encode_text(encoder, torch.zeros(1, 77, dtype=torch.long, device="meta")).is_meta
    with pytest.raises(ZeroDivisionError), lend_by_block(net, "meta"):
        1 / 0  # noqa: B018
    assert not any(t.is_meta for network in networks.named().values() for t in tensors(network))
    for hook in hooks:
        hook.remove()
    assert not any(block._forward_pre_hooks or block._forward_hooks for block in unet_blocks(net))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [MemoryOptions(), MemoryOptions(False, 1, True, "blocks")], ids=["fastest", "least"]
)
def test_on_another_device_everything_is_there_when_it_is_used(kind, options, monkeypatch):
    """The meta device stands in for a GPU: it, too, refuses to compute with what was left on the CPU."""
    pipe = VideoCrafterPipeline(build_networks(Release.tiny(kind)), Release.tiny(kind), "meta", options)
    decode, seen = encoders.decode_latents, {}
    monkeypatch.setattr(pipe, "_check_finite", lambda what, values: seen.update({what: values.device.type}))
    monkeypatch.setattr(pipeline, "decode_latents", lambda *given: torch.zeros_like(decode(*given), device="cpu"))
    assert sample(pipe).shape == (1, 4, 3, 64, 128)
    assert seen == {"latents": "meta", "pixels": "cpu"}
    home = "meta" if options.offload is None else "cpu"
    assert {t.device.type for network in pipe.networks.named().values() for t in tensors(network)} == {home}
    pipe.networks.unet.norm_out.to_empty(device="cpu")
    monkeypatch.setattr(pipe, "_place", lambda: None)
    if options.offload is None:
        with pytest.raises(RuntimeError, match="device"):
            sample(pipe)


PHASES = {"loading": "_place", "encoding": "text_encoder", "denoising": "unet", "decoding": "autoencoder"}
EXPECTED = {
    "loading": ["offload='networks'"],
    "encoding": ["offload='networks'"],
    "denoising": ["guidance_in_one_batch=False", "offload='networks'", "sliced_attention=True", "offload='blocks'"],
    "decoding": ["decode_frames=1", "offload='networks'"],
}
LAST = {"loading": "use a machine with more memory"}


@pytest.fixture
def half_networks():
    networks = build_networks(Release.tiny())
    for network in networks.named().values():
        network.half()
    return networks


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_out_of_memory_names_the_option_to_try_next(phase, device, half_networks, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    pipe, advice = VideoCrafterPipeline(half_networks, Release.tiny(), device), []
    monkeypatch.setattr(pipe, "_check_finite", lambda *_: None)
    # What is on the meta device cannot come back from there.
    monkeypatch.setattr(pipe, "_place", full if phase == "loading" else lambda: None)
    if phase != "loading":
        network = getattr(pipe.networks, PHASES[phase])
        monkeypatch.setattr(network, "decode" if phase == "decoding" else "forward", full)
    what = "the weights" if phase == "loading" else "1 × 4 frames of 64 × 128"
    while True:
        with pytest.raises(torch.cuda.OutOfMemoryError, match=f"while {phase} {what} in float16") as caught:
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
    with pytest.raises(torch.cuda.OutOfMemoryError, match="bfloat16" if device == "cpu" else r"torch\.float16"):
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
def test_memory_that_runs_out_elsewhere_is_recognised(error, files, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "load_release", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"while loading the weights in float32: load .*bfloat16"):
        VideoCrafterPipeline.from_checkpoint(files["t2v"], device="cpu", release=Release.tiny())


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


def test_weights_that_overflow_are_reported(pipes, monkeypatch):
    networks = pipes["t2v"].networks
    monkeypatch.setattr(networks.autoencoder.decoder, "forward", lambda z, *_: z[:, :3] / 0)
    with pytest.raises(ArithmeticError, match="The pixels are not finite"):
        sample(pipes["t2v"])
    monkeypatch.setattr(networks.unet, "forward", lambda x, *_, **__: x * float("nan"))
    with pytest.raises(ArithmeticError, match=r"The latents are not finite .* too large for float32"):
        sample(pipes["t2v"])


def test_callback_sees_every_step(pipes):
    steps = []
    sample(pipes["t2v"], steps=5, callback=steps.append)
    assert [s.timestep for s in steps] == [801, 601, 401, 201, 1] and steps[0].x.shape == (1, 4, 4, 8, 16)


def test_compiled_weights_stay_where_they_are(pipes):
    pipe = VideoCrafterPipeline(pipes["t2v"].networks, pipes["t2v"].release, "cpu", MemoryOptions(offload="networks"))
    with pytest.raises(ValueError, match="compiled weights cannot move"):
        pipe.compile()
    pipe = VideoCrafterPipeline(build_networks(Release.tiny()), Release.tiny(), "cpu")
    pipe.compile(backend="eager").memory = MemoryOptions(offload="networks")
    with pytest.raises(ValueError, match="the U-Net is compiled"):
        sample(pipe)


def test_channels_last_weights_are_the_same_weights():
    net = build_networks(Release.tiny()).unet
    before = [p.clone() for p in net.parameters()]
    pipeline.channels_last_weights(net)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    convolution = net.encoder_blocks[1]["resnet"].conv_in
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_prompt_is_the_same_video_alone_and_among_others(exact_pipes):
    """Its noise is its own, also the noise put back in: a batch holds what single runs with the next seeds make."""
    for eta in (0.0, 1.0):
        settings = dict(eta=eta, frames=3, width=64)
        together = sample(exact_pipes["t2v"], ["a cat", "a dog", "a cat"], seed=1, **settings)
        for i, prompt in enumerate(("a cat", "a dog", "a cat")):
            alone = sample(exact_pipes["t2v"], prompt, seed=1 + i, **settings)
            assert difference(together[i : i + 1], alone) <= ONE_ROUNDING
        assert (together[0] - together[2]).abs().mean() > 0.01, "one prompt twice is two videos"


@pytest.mark.parametrize("form", ["one", "two", "two sizes"])
def test_one_picture_for_every_prompt_or_one_for_each(form, exact_pipes):
    other = -PICTURE if form == "two" else PICTURE[:, :20]
    image = PICTURE if form == "one" else [PICTURE, other]
    settings = dict(frames=2, width=64, eta=0.0)
    together = sample(exact_pipes["i2v"], ["a cat", "a cat"], image=image, **settings)
    for i, picture in enumerate((PICTURE, PICTURE if form == "one" else other)):
        alone = sample(exact_pipes["i2v"], "a cat", image=picture, seed=1 + i, **settings)
        assert difference(together[i : i + 1], alone) <= ONE_ROUNDING


def test_what_a_model_does_not_see_of_a_prompt_is_said(pipes):
    words = " ".join(["cat"] * 73)
    settings = dict(steps=1, frames=1, width=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(pipes["t2v"], f"{words} and hat", **settings)  # 75 words of one token each: just seen.
    with pytest.warns(UserWarning, match=r"sees 75 tokens of a prompt, but this one has 78: .* 'in the moon'\.") as cut:
        sample(pipes["t2v"], ["a cat", f"{words} and hat in the moon"], **settings)
    assert len(cut) == 1 and "\n" not in str(cut[0].message)
    with pytest.warns(UserWarning, match="it does not see 'fog'"):
        sample(pipes["t2v"], negative_prompt=f"{words} and hat fog", **settings)


def test_levels_can_be_listed(pipes):
    steps = []
    sample(pipes["t2v"], steps=range(999, 0, -300), callback=steps.append)
    assert [s.timestep for s in steps] == [999, 699, 399, 99]


def test_the_settings_of_a_release_are_made_alike_everywhere():
    make = pipeline.SamplingSettings.of
    assert make(Release.videocrafter2()) == pipeline.SamplingSettings()
    i2v = make(Release.videocrafter1_i2v(), fps=None, frames=8)
    assert (i2v.fps, i2v.frames, i2v.height, i2v.width) == (8, 8, 320, 512)
    large = make(Release.videocrafter1_t2v_1024(), steps=25)
    assert (large.steps, large.height, large.width) == (25, 576, 1024)
    with pytest.raises(dataclasses.FrozenInstanceError):
        large.steps = 50


def test_a_torchvision_that_does_not_fit_is_named(monkeypatch):
    def unfit(name):
        raise RuntimeError("PyTorch and torchvision were compiled with different CUDA versions.")

    monkeypatch.setattr(media, "import_module", unfit)
    with pytest.raises(ImportError, match=r"needs the package open_clip, .*torchvision were compiled with"):
        media.require("open_clip")


def test_without_the_packages_one_sentence_says_what_to_install(monkeypatch, files, tmp_path):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(media, "import_module", absent)
    for needs, use in {
        "diffusers": lambda: build_networks(Release.tiny()),
        "open_clip": lambda: encoders.tokenizer(encoders.TextEncoderConfig()),
        "huggingface_hub": lambda: VideoCrafterPipeline.from_checkpoint("owner/name", device="cpu"),
    }.items():
        with pytest.raises(ImportError, match=rf"needs the package {needs}, .*pip install 'vdmlib\[pipeline\]'\.$"):
            use()
