"""Encoders, tokenizer and autoencoder against golden numbers of open_clip, kornia and the released code."""

import pytest
import torch
from einops import rearrange
from golden_numbers import MARGIN, case, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from vdmlib.released.encoders import (
    LATENT_SCALE,
    AutoencoderConfig,
    ImageEncoderConfig,
    TextEncoderConfig,
    build_vae,
    decode_latents,
    encode_pixels,
    encode_text,
    image_encoder,
    prepare_image,
    text_encoder,
    tokenizer,
)
from vdmlib.released.names import autoencoder_names


def test_token_ids():
    golden = case("clip", "tokens")
    prompts, expected = golden.meta["config"]["prompts"], golden.outputs()["ids"].long()
    with pytest.warns(UserWarning, match="one has 100: it does not see .word word"):
        result = tokenizer(TextEncoderConfig())(prompts)
    wrong = [p for p, ours, theirs in zip(prompts, result, expected, strict=True) if not torch.equal(ours, theirs)]
    assert not wrong and len(prompts) > 20


@torch.no_grad()
def test_text_encoder_is_open_clips_without_its_last_block():
    golden = case("clip", "text/penultimate")
    config, weights = golden.meta["config"], golden.weights()
    encoder = text_encoder(
        TextEncoderConfig(config["width"], config["layers"], config["heads"], config["vocab_size"])
    ).eval()
    last = f"transformer.resblocks.{config['layers'] - 1}."
    left_out = {n for n in weights if n.startswith(last)} | {"text_projection", "logit_scale"}
    encoder.load_state_dict({name: value for name, value in weights.items() if name not in left_out})
    assert golden.error(encode_text(encoder, golden.inputs()["tokens"])) < MARGIN


@torch.no_grad()
def test_image_encoder_gives_all_tokens_of_open_clips():
    golden = case("clip", "image/all_tokens")
    config = golden.meta["config"]
    encoder = image_encoder(
        ImageEncoderConfig(
            config["width"],
            config["layers"],
            config["width"] // config["head_width"],
            config["image_size"],
            config["patch_size"],
        )
    ).eval()
    weights = {n.removeprefix("visual."): v for n, v in golden.weights().items() if n.startswith("visual.")}
    encoder.load_state_dict({n: v for n, v in weights.items() if n != "proj" and not n.startswith("ln_post")})
    assert golden.error(encoder(golden.inputs()["image"])) < MARGIN


@pytest.mark.parametrize("golden", [pytest.param(c, id=c.name) for c in cases("clip", "preprocess")])
def test_pictures_are_prepared_as_released(golden):
    result = prepare_image(golden.inputs()["image"], golden.meta["config"]["size"])
    assert golden.error(result) < MARGIN


def released_autoencoder(golden):
    config, weights = golden.meta["config"]["ddconfig"], golden.weights()
    sizes = AutoencoderConfig(
        tuple(m * config["ch"] for m in config["ch_mult"]), config["num_res_blocks"], config["z_channels"]
    )
    vae = build_vae(sizes).eval()
    names = autoencoder_names(vae)
    assert {theirs: list(shape) for theirs, shape in names.values()} == golden.meta["shapes"]
    vae.load_state_dict({n: weights[names[n][0]].reshape(p.shape) for n, p in vae.named_parameters()})
    return vae


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "released_topology_ch32"])
def test_autoencoder(name):
    golden = case("autoencoder", name)
    vae, x = released_autoencoder(golden), golden.inputs()
    distribution = vae.encode(x["image"]).latent_dist
    for field in ("mean", "logvar", "std"):
        assert golden.error(getattr(distribution, field), field) < MARGIN
    mean = encode_pixels(vae, rearrange(x["image"], "f c h w -> 1 f c h w"))
    assert golden.error(rearrange(mean, "1 f c h w -> f c h w") / LATENT_SCALE, "mean") < MARGIN
    assert golden.error(vae.decode(x["z"]).sample, "decoded") < MARGIN


@torch.no_grad()
@pytest.mark.parametrize("frames_at_once", [None, 1])
def test_latents_to_pixels_and_back(frames_at_once):
    golden = case("ddim", "latents_to_pixels")
    vae, x, expected = released_autoencoder(golden), golden.inputs(), golden.outputs()
    pixels = decode_latents(vae, rearrange(x["z"], "b c f h w -> b f c h w"), frames_at_once)
    assert golden.error(rearrange(pixels, "b f c h w -> b c f h w"), "pixels") < MARGIN
    first = rearrange(expected["pixels"][:, :, :1], "b c f h w -> b f c h w")
    latent = encode_pixels(vae, first, rearrange(x["noise"], "b c h w -> b 1 c h w"))
    assert golden.error(rearrange(latent, "b 1 c h w -> b c h w"), "latent_of_frame0") < MARGIN


ANY_TEXT = st.text(st.characters(), max_size=60) | st.text(max_size=6).map(lambda text: text * 40)
# What CLIP's cleaning takes together with its neighbours, or takes for one of its own signs, is left out.
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&<"), max_size=40)


@pytest.mark.filterwarnings("ignore:The model sees")
@settings(max_examples=60)
@given(st.lists(ANY_TEXT, min_size=1, max_size=3), st.sampled_from([5, 77]))
def test_any_text_becomes_so_many_tokens_the_same_alone_and_among_others(texts, length):
    tokenize = tokenizer(TextEncoderConfig(tokens=length))
    rows = tokenize(texts)
    assert rows.shape == (len(texts), length) and ((rows >= 0) & (rows < 49408)).all()
    for text, row in zip(texts, rows, strict=True):
        assert torch.equal(tokenize([text])[0], row)
        assert row[0] == 49406 and (row == 49407).any()
        end = int((row == 49407).nonzero()[-1])  # Nothing comes after the last sign for the end.
        assert not row[end + 1 :].any()


@settings(max_examples=60)
@given(PLAIN, PLAIN)
def test_words_beside_each_other_are_the_tokens_of_both(first, second):
    tokenize = tokenizer(TextEncoderConfig(tokens=200))

    def ids(text: str) -> list[int]:
        row = tokenize([text])[0].tolist()
        return row[1 : row.index(49407)]

    assert ids(f"{first} {second}") == ids(first) + ids(second)
    assert ids(first.upper()) == ids(first) == ids(f"  {first} ")


def test_what_the_model_does_not_see_is_quoted():
    tokenize, words = tokenizer(TextEncoderConfig()), "a b c d e f g h " * 9 + "i j k"
    assert tokenize([words])[0, 75].item() != 0 and tokenize([words])[0, 76].item() == 49407
    with pytest.warns(
        UserWarning, match=r"sees 75 tokens of a prompt, but this one has 77: it does not see 'fog here'\."
    ):
        cut = tokenize(["short", f"{words} fog here"])
    assert torch.equal(cut[1:], tokenize([words]))
