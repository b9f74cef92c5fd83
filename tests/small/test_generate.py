"""The small model: what it is told, what it makes of it, and what it refuses."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_sentence import refuses
from tiny_training import DENOISERS, TinyStage, tiny
from torch import nn

from vdmlib import small
from vdmlib.attention import DualCrossAttention
from vdmlib.small import data, judge

RED, BLUE = "a red 7 moving left slowly", "a blue 1 moving up quickly"
PICTURE = torch.full((3, 64, 64), -0.9)


def pipeline(kind: str = "t2v") -> small.Pipeline:
    """Untrained and tiny, in double precision, with nothing left at zero."""
    torch.manual_seed(0)
    stage = TinyStage(tiny(kind)).double()
    for parameter in stage.trained.parameters():
        nn.init.normal_(parameter, std=0.1)
    return small.Pipeline(stage.trained.eval(), stage.autoencoder, {"sampling_steps": 2})


def test_clips_follow_the_seed():
    model = pipeline()
    first = model.generate([RED])
    assert first.shape == (1, 8, 3, 64, 64) and first.abs().max() <= 1
    assert torch.equal(first, model.generate([RED])) and torch.equal(first, model.generate([RED], seed=0))
    assert not torch.equal(first, model.generate([RED], seed=1))
    assert not torch.equal(*(model.generate([RED], seed=None) for _ in range(2)))


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_clip_does_not_depend_on_what_is_made_beside_it(kind, eta):
    model, picture = pipeline(kind), {} if kind == "t2v" else {"first_frame": PICTURE}
    alone = model.generate([RED], 10, seed=1, eta=eta, **picture)
    both = model.generate([RED, BLUE], [10, 16], seed=1, eta=eta, **picture)
    torch.testing.assert_close(both[:1], alone, atol=1e-9, rtol=0)
    # The second one has the stream of the next seed.
    torch.testing.assert_close(both[1:], model.generate([BLUE], 16, seed=2, eta=eta, **picture), atol=1e-9, rtol=0)
    assert (both[0] - both[1]).abs().max() > 1e-3


CAPTIONS = ["", RED, BLUE, "a green 3", "moving"]


@settings(max_examples=8)
@given(
    st.integers(0, 2**63 - 4),
    st.lists(st.tuples(st.sampled_from(CAPTIONS), st.floats(0.1, 100)), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_one_seed_is_one_clip_alone_or_anywhere_in_a_batch(seed, asked, eta):
    model = tiny_model()
    captions, rates = [caption for caption, _ in asked], [fps for _, fps in asked]
    together = model.generate(captions, rates, seed=seed, eta=eta, frames=2)
    for i, (caption, fps) in enumerate(asked):
        alone = model.generate([caption], fps, seed=seed + i, eta=eta, frames=2)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-9, rtol=0)


@cache
def tiny_model() -> small.Pipeline:
    return pipeline()


def test_the_cards_settings_are_used_unless_others_are_given():
    model, steps = pipeline(), []
    model.generate([RED], callback=steps.append)
    assert len(steps) == 2
    model.generate([RED], callback=steps.append, steps=5)
    assert len(steps) == 2 + 5


@pytest.mark.parametrize(
    "fps",
    [10, 10.0, [10, 10], (10, 10.0), torch.tensor([10.0, 10.0]), torch.tensor(10), np.array([10, 10]), np.float32(10)],
)
@pytest.mark.usefixtures("unchecked")
def test_frame_rates_are_one_number_or_one_for_each_caption_in_any_form(fps):
    model = pipeline()
    assert torch.equal(model.generate([RED, BLUE], fps), model.generate([RED, BLUE], [10, 10]))


def test_frame_rates_reach_the_clip_they_belong_to():
    model = pipeline()
    slow, mixed = model.generate([RED, RED], 10), model.generate([RED, RED], [10, 16])
    assert torch.equal(slow[0], mixed[0]) and not torch.equal(slow[1], mixed[1])


def test_one_picture_serves_all_captions():
    model = pipeline("i2v")
    one = model.generate([RED, BLUE], first_frame=PICTURE)
    for same in (PICTURE[None], PICTURE.expand(2, -1, -1, -1)):
        torch.testing.assert_close(model.generate([RED, BLUE], first_frame=same), one, atol=1e-9, rtol=0)
    other = torch.stack([PICTURE, -PICTURE])
    assert not torch.equal(model.generate([RED, BLUE], first_frame=other)[1], one[1])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["i2v", "i2v_attention"])
def test_one_frames_latents_serve_all_captions_in_a_notebook_too(kind):
    config = tiny(kind)
    model, frame = small.VideoModel(config.unet, image_tokens=config.image_tokens), torch.randn(1, 8, 8, 8)
    x, t, fps = torch.randn(3, 2, 8, 8, 8), torch.full((3,), 500), torch.full((3,), 10.0)
    tokens = data.tokenize([RED, BLUE, RED])
    assert torch.equal(model(x, t, tokens, fps, frame), model(x, t, tokens, fps, frame.expand(3, -1, -1, -1)))


def generate(kind: str = "t2v", captions=(RED,), **given):
    return lambda: pipeline(kind).generate(list(captions) if isinstance(captions, tuple) else captions, **given)


@cache
def untrained(kind: str) -> small.VideoModel:
    return small.VideoModel(tiny(kind).unet)


def context(kind: str, captions: int, *frames: torch.Tensor):
    return lambda: untrained(kind).context(data.tokenize([RED] * captions), *frames)


def denoised(frame: torch.Tensor, clips: int = 3):
    def call():
        x = torch.zeros(clips, 2, 8, 8, 8)
        t, fps, given = torch.full((clips,), 500), torch.full((clips,), 10.0), torch.zeros(clips, 8, 8, 8)
        tokens = untrained("i2v").context(data.tokenize([RED] * clips), given)
        untrained("i2v").denoiser(frame)(x, t, context=tokens, fps=fps)

    return call


BAD = {
    "latents for text to video": (context("t2v", 1, torch.zeros(1, 8, 8, 8)), ValueError, "text alone", "kind i2v"),
    "denoiser from text with latents": (
        lambda: untrained("t2v").denoiser(torch.zeros(1, 8, 8, 8)), ValueError, "text alone", "kind i2v",
    ),
    "no latents": (context("i2v", 1), ValueError, "first_frame is None", "pass its latents"),
    "latents of two for three": (context("i2v", 3, torch.zeros(2, 8, 8, 8)), ValueError, "2 images", "3 prompts"),
    "latents of no picture": (context("i2v", 3, torch.zeros(0, 8, 8, 8)), ValueError, "(0, 8, 8, 8)", "encode"),
    "pixels for latents": (context("i2v", 1, torch.zeros(1, 3, 64, 64)), ValueError, "(1, 3, 64, 64)", "encode"),
    "path for latents": (context("i2v", 1, "horse.png"), TypeError, "first_frame is of type str", "tensor"),
    "two beside three": (denoised(torch.zeros(2, 8, 8, 8)), ValueError, "(2, 8, 8, 8)", "x (3, 2, 8, 8, 8)", "one for"),
    "small ones beside": (denoised(torch.zeros(3, 8, 4, 4)), ValueError, "(3, 8, 4, 4)", "same height"),
    "unknown word": (generate(captions=("a violet 7",)), ValueError, "'a violet 7' cannot be read", "pink, left"),
    "a caption": (generate(captions=RED), TypeError, "captions is the text", "put it into a list"),
    "no captions": (generate(captions=()), ValueError, "captions is empty"),
    "numbers": (generate(captions=(7,)), TypeError, "captions is [7]", "one string"),
    "no rate": (generate(fps=0), ValueError, "fps is 0", "from 0.1 to 1000"),
    "negative rate": (generate(fps=-8), ValueError, "fps is -8", "from 0.1 to 1000"),
    "huge rate": (generate(fps=1e6), ValueError, "fps is 1000000.0", "from 0.1 to 1000"),
    "rate not a number": (generate(fps=float("nan")), ValueError, "fps is nan", "from 0.1 to 1000"),
    "rate as text": (generate(fps="10"), ValueError, "fps is '10'", "from 0.1 to 1000"),
    "rate left out": (generate(fps=None), ValueError, "fps is None", "from 0.1 to 1000"),
    "one bad rate": (generate(captions=(RED, BLUE), fps=[10, -1]), ValueError, "fps is -1", "from 0.1 to 1000"),
    "too many rates": (generate(fps=[10, 16]), ValueError, "fps has shape (2,)", "one for each"),
    "rates in a table": (generate(fps=torch.ones(1, 1)), ValueError, "fps is [1.0]", "from 0.1 to 1000"),
    "picture for text to video": (generate(first_frame=PICTURE), ValueError, "text alone", "kind i2v"),
    "no picture": (generate("i2v"), ValueError, "starts from a picture", "first_frame is None"),
    "two pictures for one caption": (
        generate("i2v", first_frame=PICTURE.expand(2, -1, -1, -1)), ValueError, "2 images", "1 prompts",
    ),
    "two pictures for three captions": (
        generate("i2v", (RED, BLUE, RED), first_frame=PICTURE.expand(2, -1, -1, -1)),
        ValueError, "2 images", "3 prompts",
    ),
    "small picture": (generate("i2v", first_frame=PICTURE[:, :32, :32]), ValueError, "(3, 32, 32)", "64 × 64"),
    "wide picture": (generate("i2v", first_frame=torch.zeros(1, 3, 64, 128)), ValueError, "(1, 3, 64, 128)", "64 × 64"),
    "grey picture": (generate("i2v", first_frame=torch.zeros(1, 64, 64)), ValueError, "(1, 64, 64)", "(3, 64, 64)"),
    "channels last": (generate("i2v", first_frame=torch.zeros(64, 64, 3)), ValueError, "(64, 64, 3)", "(3, 64, 64)"),
    "no pictures": (generate("i2v", first_frame=torch.zeros(0, 3, 64, 64)), ValueError, "(0, 3, 64, 64)"),
    "picture as a path": (generate("i2v", first_frame="horse.png"), TypeError, "first_frame is of type str", "tensor"),
    "picture in bytes": (generate("i2v", first_frame=PICTURE.byte()), ValueError, "torch.uint8", "divide bytes"),
    "picture up to 255": (generate("i2v", first_frame=200 + PICTURE), ValueError, "runs from 199 to 199", "-1 ... 1"),
    "picture with nan": (generate("i2v", first_frame=PICTURE * float("nan")), ValueError, "not finite"),
    "no frames": (generate(frames=0), ValueError, "frames is 0", "from 1"),
    "half a frame": (generate(frames=1.5), ValueError, "frames is 1.5", "whole number"),
    "seed as text": (generate(seed="1"), ValueError, "seed is '1'", "whole number"),
    "negative seed": (generate(seed=-1), ValueError, "seed is -1", "from 0"),
    "steps": (generate(steps=7), ValueError, "steps is 7", "use one of 1, 2, 4"),
    "eta": (generate(eta=2), ValueError, "eta is 2", "from 0 to 1"),
    "guidance": (generate(guidance_scale=float("inf")), ValueError, "guidance_scale is inf", "finite"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", BAD)
def test_what_the_model_cannot_use_is_refused_in_one_sentence(name):
    refuses(*BAD[name])


@pytest.mark.parametrize("channels, name", [(8, "attention"), (16, "beside the noise")])
def test_the_given_frame_is_used_through_attention_and_beside_the_noise(channels, name):
    torch.manual_seed(0)
    model = small.VideoModel(replace(tiny("i2v").unet, in_channels=channels, attention_factors=(1,))).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 8, 8, 8, 8), torch.tensor([500, 500])
    tokens, fps = data.tokenize(["a red 7", "a blue 1"]), torch.tensor([10.0, 16.0])
    frame = torch.randn(2, 8, 8, 8)
    changed = frame.clone()
    changed[0] += 1
    difference = (model(x, t, tokens, fps, changed) - model(x, t, tokens, fps, frame)).abs().amax((1, 2, 3, 4))
    assert difference[0] > 1e-5 and difference[1] == 0, name
    with pytest.raises(ValueError, match=r"starts from a picture, but first_frame is None"):
        model(x, t, tokens, fps)


def test_a_frame_beside_the_noise_needs_no_attention_to_it():
    model = small.VideoModel(replace(tiny("i2v").unet, image_attention=False, temporal_image_attention=False))
    assert model.takes_frame and model.image_encoder is None
    x = torch.randn(1, 8, 8, 8, 8)
    assert model(x, torch.tensor([5]), data.tokenize([RED]), torch.tensor([10.0]), x[:, 0]).shape == x.shape


def attentive() -> small.VideoModel:
    """Tiny, with the picture through dual cross-attention alone, in space and in time."""
    torch.manual_seed(0)
    config = tiny("i2v_attention")
    return small.VideoModel(replace(config.unet, attention_factors=(1,)), image_tokens=config.image_tokens).eval()


def test_a_fresh_image_branch_adds_nothing_and_a_trained_one_nothing_without_a_picture():
    model = attentive()
    assert model.takes_frame and not model.beside_noise
    x, t, fps = torch.randn(2, 8, 8, 8, 8), torch.tensor([500, 900]), torch.tensor([10.0, 16.0])
    tokens, frame = data.tokenize([RED, BLUE]), torch.randn(2, 8, 8, 8)
    for parameter in (model.unet.conv_out.weight, *(p for n, p in model.named_parameters() if "project_out" in n)):
        nn.init.normal_(parameter, std=0.1)
    assert model.context(tokens, frame).shape == (2, data.CAPTION_TOKENS + 64, 16)
    assert torch.equal(model(x, t, tokens, fps, frame), model(x, t, tokens, fps, -frame))
    for name, parameter in model.named_parameters():
        if "to_v_image" in name:
            nn.init.normal_(parameter)
    shown = model(x, t, tokens, fps, frame)
    some = model(x, t, tokens, fps, frame, shown=torch.tensor([True, False]))
    none = model(x, t, tokens, fps, -frame, shown=torch.tensor([False, False]))
    torch.testing.assert_close(some[0], shown[0])
    torch.testing.assert_close(some[1], none[1])
    assert (shown - none).abs().amax((1, 2, 3, 4)).min() > 1e-3
    for layer in model.modules():
        if isinstance(layer, DualCrossAttention):
            layer.image_scale = 0.0
    torch.testing.assert_close(model(x, t, tokens, fps, frame), none)


def test_a_given_frame_is_so_many_tokens_or_so_many():
    with pytest.raises(ValueError, match=r"^image_tokens is 32, but must be one of 16, 64\b"):
        small.VideoModel(tiny("i2v").unet, image_tokens=32)


# What is shipped


def test_the_shipped_model_follows_its_prompts():
    prompts = [
        data.Prompt(0, "red", "left", "quickly", 10),
        data.Prompt(1, "blue", "right", "quickly", 10),
        data.Prompt(7, "green", "up", "quickly", 10),
        data.Prompt(4, "yellow", "down", "quickly", 10),
    ]
    video = small.load_pretrained().generate([p.caption for p in prompts], 10, steps=10)
    seen = judge.read_clip(video)
    assert [(direction, colour) for direction, colour, _ in seen] == [(p.direction, p.colour) for p in prompts]
    assert all(speed > 1.5 for *_, speed in seen)


@pytest.mark.parametrize("kind", ["i2v", "i2v_attention"])
def test_the_shipped_models_go_on_from_a_given_picture(kind):
    prompts = [data.Prompt(3, "pink", "left", "quickly", 10), data.Prompt(8, "green", "up", "quickly", 10)]
    handwriting = data.draw_glyphs(prompts, "test", torch.Generator().manual_seed(0))
    given = data.clips_of(prompts, handwriting).video[:, 0]
    video = small.load_pretrained(kind).generate([p.caption for p in prompts], 10, given, steps=10)
    assert [answer[:2] for answer in judge.read_clip(video)] == [(p.direction, p.colour) for p in prompts]
    kept = judge.kept_handwriting(video, given)
    assert kept["given"] > kept["another"] + 0.2
