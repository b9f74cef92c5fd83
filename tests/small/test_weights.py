"""Weights and cards: written whole or not at all, read back only as they were written; what a run may start from."""

import json
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from full_disk import disk_with_room_for
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_training import run, tiny, weights

from vdmlib import small
from vdmlib.autoencoder import psnr
from vdmlib.small import data, judge, training
from vdmlib.small.weights import WEIGHTS, has_piece, read_weights, start_from


@pytest.fixture(scope="module")
def result():
    return run(tiny(steps=2))


def save(result: training.Result, folder, **changes):
    card = training.card_of(tiny(), result) | changes
    small.save_weights(folder / "t2v.safetensors", result.model, card)


def test_weights_come_back_as_they_were_and_a_changed_file_is_refused(result, tmp_path):
    save(result, tmp_path)
    loaded = small.load_video_model("t2v", tmp_path).state_dict()
    assert loaded.keys() == weights(result).keys()
    for name, value in weights(result).items():
        torch.testing.assert_close(loaded[name], value, atol=1e-3, rtol=1e-3)
    path = tmp_path / "t2v.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match=r"t2v\.safetensors has the hash .*: fetch the file again"):
        small.load_video_model("t2v", tmp_path)


def test_of_a_partly_trained_model_only_the_trained_parts_are_saved(tmp_path):
    torch.manual_seed(0)
    small.save_weights(tmp_path / "t2v.safetensors", small.VideoModel(tiny().unet), {})
    parts = ("image", "blocks.0.convolution", "conv_out")
    config = tiny("i2v", init_from=str(tmp_path / "t2v.safetensors"), trained_parts=parts)
    result = run(config)
    path = tmp_path / "i2v.safetensors"
    small.save_weights(path, result.model, training.card_of(config, result), parts)
    assert set(load_file(path)) == {name for name in weights(result) if has_piece(name, parts)}
    loaded = small.load_video_model("i2v", tmp_path).state_dict()
    for name, value in weights(result).items():
        torch.testing.assert_close(loaded[name], value, atol=1e-3, rtol=1e-3)
    # What it was made from is another file now.
    small.save_weights(tmp_path / "t2v.safetensors", small.VideoModel(tiny().unet), {})
    with pytest.raises(ValueError, match="hash"):
        small.load_video_model("i2v", tmp_path)


@pytest.mark.parametrize(
    "room, log", [(1000, 1), (700_000, 60_000)], ids=["for nothing", "for the weights, not for the card"]
)
def test_a_full_disk_destroys_neither_weights_nor_card(room, log, result, tmp_path):
    save(result, tmp_path, log=[1])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2 and len(before[tmp_path / "t2v.safetensors"]) < 700_000
    with disk_with_room_for(room), pytest.raises(OSError, match="what was there is as before: make room") as error:
        save(result, tmp_path, log=log * [0.12345678])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    small.load_video_model("t2v", tmp_path)


def test_weights_that_cannot_be_written_where_they_should_be_are_explained(result, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="cannot be written"):
        save(result, tmp_path / "file")


@pytest.mark.parametrize(
    "name, kind, says",
    [
        ("i2v", FileNotFoundError, r"vdmlib\.train i2v"),
        ("t3v", ValueError, "name is 't3v', but must be one of t2v, i2v, i2v_attention"),
        (None, ValueError, "name is None, but must be one of t2v, i2v, i2v_attention"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_weights_that_are_not_there_are_named(name, kind, says, tmp_path):
    with pytest.raises(kind, match=says):
        small.load_pretrained(name, tmp_path)


def test_a_card_that_is_not_complete_is_named(result, tmp_path):
    save(result, tmp_path)
    card = tmp_path / "t2v.json"
    card.write_text(card.read_text()[:-20])
    with pytest.raises(ValueError, match=r"t2v\.json is no card that can be read .*: fetch or write it again\.$"):
        small.load_video_model("t2v", tmp_path)


def test_a_card_of_another_version_is_named(result, tmp_path):
    save(result, tmp_path)
    card = tmp_path / "t2v.json"
    card.write_text(card.read_text().replace('"model_channels"', '"width"'))
    with pytest.raises(ValueError, match=r"The card of t2v in .* is of another version .*'width'.*: train it again\.$"):
        small.load_video_model("t2v", tmp_path)


def test_a_model_that_sees_the_picture_through_attention_alone_comes_back_too(tmp_path):
    config = tiny("i2v_attention", steps=1)
    result = run(config)
    small.save_weights(tmp_path / "i2v_attention.safetensors", result.model, training.card_of(config, result))
    loaded = small.load_video_model("i2v_attention", tmp_path)
    assert loaded.state_dict().keys() == weights(result).keys() and not loaded.beside_noise


@st.composite
def bundles(draw) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes of a module's weights, scalars and empty ones among them."""
    kinds = ["float16", "float32", "float64", "bfloat16", "int64", "int32", "uint8", "bool"]
    names = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=8)
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    kept = names.filter(lambda name: not hasattr(torch.nn.Module(), name) and name != "__metadata__")
    return draw(st.dictionaries(kept, st.tuples(st.sampled_from(kinds), shapes), min_size=1, max_size=4))


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(bundles(), st.dictionaries(TEXT, JSON, max_size=4), st.booleans())
def test_any_weights_and_any_card_come_back_bit_for_bit(bundle, card, turned):
    """Floating point numbers as the nearest half-precision ones, everything else unchanged."""
    model, draw = torch.nn.Module(), torch.Generator().manual_seed(0)
    for name, (kind, shape) in bundle.items():
        value = (1000 * torch.randn(shape, generator=draw, dtype=torch.float64)).to(getattr(torch, kind))
        model.register_buffer(name, value.mT if turned and value.ndim > 1 else value)
        model.register_buffer(f"{name} again", model.get_buffer(name))  # Shared, as tied layers have it.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        small.save_weights(path, model, card)
        read = small.read_card("weights", folder)
        assert {**read, "sha256": 0} == {**card, "sha256": 0} and len(list(Path(folder).iterdir())) == 2
        found = read_weights(path, read["sha256"])
    expected = {n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrap", [torch.nn.DataParallel, torch.optim.swa_utils.AveragedModel, partial(torch.compile, backend="eager")]
)
def test_weights_of_a_wrapped_network_are_the_networks(wrap, tmp_path):
    torch.manual_seed(0)
    model = small.VideoModel(tiny().unet)
    wrapped = wrap(model)
    card = training.card_of(tiny(), training.Result(model, [], True, []))
    small.save_weights(tmp_path / "t2v.safetensors", wrapped, card)
    loaded = small.load_video_model("t2v", tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert isinstance(small.Pipeline(wrapped, small.load_autoencoder()).video_model, small.VideoModel)


def test_a_card_that_was_another_files_gets_its_own_hash(result, tmp_path):
    save(result, tmp_path, sha256="of another file", note="kept")
    assert small.read_card("t2v", tmp_path)["note"] == "kept"
    small.load_video_model("t2v", tmp_path)


@pytest.mark.parametrize("entry", [{1, 2}, torch.zeros(2), Path("x"), {(1, 2): 3}])
def test_a_card_that_no_file_can_hold_is_refused_and_nothing_is_written(entry, result, tmp_path):
    says = r"The card cannot be written \(.*\): use numbers, texts, lists and mappings only\.$"
    with pytest.raises(TypeError, match=says):
        save(result, tmp_path, entry=entry)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused_in_one_sentence(result, tmp_path):
    save(result, tmp_path)
    says = r"t2v\.safetensors does not fit this network in \d+ weights, such as .*: pass"
    with pytest.raises(ValueError, match=says) as e:
        small.weights.load_weights("t2v", judge.DigitClassifier(), tmp_path)
    assert "\n" not in str(e.value)


# Starting from other weights


def test_image_to_video_starts_from_text_to_video(tmp_path):
    torch.manual_seed(0)
    model = small.VideoModel(tiny().unet)
    small.save_weights(tmp_path / "t2v.safetensors", model, {})
    torch.manual_seed(1)
    other = small.VideoModel(tiny("i2v").unet)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_from(other, tmp_path / "t2v.safetensors")
    for name, value in model.state_dict().items():
        mine = other.state_dict()[name]
        narrow = mine[:, : value.shape[1]] if mine.shape != value.shape else mine
        torch.testing.assert_close(narrow, value, atol=1e-3, rtol=1e-3)
        assert mine.shape == value.shape or mine[:, value.shape[1] :].abs().max() == 0


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_forward_module.module."])
def test_weights_of_a_network_that_was_wrapped_when_it_was_saved_are_the_networks(prefix, tmp_path, recwarn):
    """DistributedDataParallel, torch.compile, both, DeepSpeed; AveragedModel counts, too."""
    given, model = small.VideoModel(tiny().unet).state_dict(), small.VideoModel(tiny().unet)
    wrapped = {prefix + name: value for name, value in given.items()} | {"n_averaged": torch.tensor(5)}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    start_from(torch.nn.DataParallel(model) if prefix == "module." else model, tmp_path / "wrapped.safetensors")
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items()) and not recwarn.list


def test_weights_that_fit_in_part_are_copied_with_a_word(tmp_path):
    model = small.VideoModel(tiny().unet)
    given = {name: value + 1 for name, value in list(model.state_dict().items())[:3]}
    save_file(given | {"foreign": torch.zeros(1)}, tmp_path / "part.safetensors")
    rest = len(model.state_dict()) - 3
    says = (
        rf"^1 weights in .*part\.safetensors are not in this model, and {rest} of the model, which stay as they are, "
        r"not in the file \(such as foreign\): see whether the two belong together\.$"
    )
    with pytest.warns(UserWarning, match=says):
        start_from(model, tmp_path / "part.safetensors")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in given.items())


def test_weights_of_another_kind_or_size_are_refused_and_nothing_is_copied(tmp_path):
    model = small.VideoModel(tiny().unet)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wide = small.VideoModel(replace(tiny().unet, model_channels=64))
    save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    save_file({"foreign": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for stem, says in (
        ("wide", "start from weights of the same width"),
        ("foreign", "has none of this model's weights"),
        ("text", "is no .safetensors file"),
        ("missing", "There are no weights"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            start_from(model, tmp_path / f"{stem}.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# What is shipped


def test_the_shipped_files_are_small_and_have_cards():
    shipped = {path.stem for path in WEIGHTS.glob("*.safetensors")}
    assert shipped == {"autoencoder", "judge", "t2v", "i2v", "i2v_attention"}
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 10_000_000
    for name in shipped:
        card = small.read_card(name)
        assert card["command"].startswith("python -m vdmlib.train") and card["log"], name
        assert json.loads(small.weights.card_text(card)) == card


def test_the_shipped_autoencoder_and_classifier_are_as_good_as_their_cards_say():
    clips = data.MovingDigits("test", "all", seed=5).batch(range(40))
    with torch.no_grad():
        assert psnr(small.load_autoencoder()(clips.video).clamp(-1, 1), clips.video) > 32
        right = judge.right_answers(small.load_classifier(), clips.video, clips.prompts)
    assert right["digit"].float().mean() > 0.85
