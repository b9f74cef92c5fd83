"""The pipeline around the denoiser, on tiny models that go through the code of the full-size ones."""

import dataclasses
import warnings

import pytest
import torch
from einops import repeat
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipelines import KINDS, ONE_ROUNDING, PICTURE, difference, sample

import vdmlib
from vdmlib import MemoryOptions, Release, VideoCrafterPipeline, media
from vdmlib.released import encoders, pipeline
from vdmlib.released.releases import build_networks


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
        prepare = lambda picture: encoders.prepare_image(picture, size).double()  # noqa: E731, short enough for one line
        see = lambda picture: networks.resampler(networks.image_encoder(prepare(picture)))  # noqa: E731, short enough for one line
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


def test_half_precision_stays_close(checkpoint_files, pipes):
    half = VideoCrafterPipeline.from_checkpoint(
        checkpoint_files["t2v"], device="cpu", dtype="bfloat16", release=Release.tiny("t2v")
    )
    assert {p.dtype for network in half.networks.named().values() for p in network.parameters()} == {torch.bfloat16}
    settings = {"steps": 1, "guidance_scale": 1.0, "eta": 0.0}
    difference = (sample(half, **settings) - sample(pipes["t2v"], **settings)).abs() / 2  # Of black to white.
    assert 0 < difference.mean() < 0.02


def test_weights_that_overflow_are_reported(pipes, monkeypatch):
    networks = pipes["t2v"].networks
    monkeypatch.setattr(networks.autoencoder.decoder, "forward", lambda z, *_: z[:, :3] / 0)
    with pytest.raises(ArithmeticError, match=r"The pixels .*: the weights are damaged, so download them again\.$"):
        sample(pipes["t2v"])
    monkeypatch.setattr(networks.unet, "forward", lambda x, *_, **__: x * float("nan"))
    monkeypatch.setattr(pipes["t2v"], "dtype", torch.float16)
    with pytest.raises(ArithmeticError, match=r"The latents .* too large for float16, .* dtype=torch\.float32\.$"):
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
    with pytest.raises(ValueError, match="compiled weights cannot move"):
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


def test_one_seed_is_one_video_wherever_in_a_batch(exact_pipes):
    pipe = exact_pipes["t2v"]

    @settings(max_examples=4)
    @given(st.integers(0, 2**63 - 4), st.lists(st.text(max_size=20), min_size=2, max_size=3))
    def same(seed, prompts):
        given_settings = dict(frames=1, width=64, steps=[500, 1])
        together = sample(pipe, prompts, seed=seed, **given_settings)
        for i, prompt in enumerate(prompts):
            alone = sample(pipe, prompt, seed=seed + i, **given_settings)
            assert difference(together[i : i + 1], alone) <= ONE_ROUNDING

    same()


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
    for levels in (range(999, 0, -300), (level for level in (99, 399, 699, 999))):
        sample(pipes["t2v"], steps=levels, callback=steps.append)
    assert [s.timestep for s in steps] == [999, 699, 399, 99] * 2


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


def test_without_the_packages_one_sentence_says_what_to_install(monkeypatch, checkpoint_files, tmp_path):
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
