"""The tool that measures what of a given picture is in the clips."""

import json
import shutil

import pytest
import small_picture as tool
import torch

from vdmlib import small
from vdmlib.attention import DualCrossAttention
from vdmlib.small import data
from vdmlib.small.weights import WEIGHTS

PROMPT = data.Prompt(9, "pink", "left", "quickly", 16)


def test_captions_are_whole_hidden_or_of_another_digit_and_colour():
    assert [tool.caption(PROMPT, words) for words in tool.WORDS] == [
        "a pink 9 moving left quickly",
        "a <empty> <empty> moving left quickly",
        "a yellow 2 moving left quickly",
    ]
    assert data.tokenize([tool.caption(PROMPT, "hidden")])[0, 1:3].tolist() == [0, 0]


def test_real_clips_are_like_their_own_picture_and_less_like_others():
    trial = tool.Trial(clips=40, seed=1)
    own, another = trial.measure(trial.given), trial.measure(trial.another_hand)
    assert own["like given"][0] > 0.98 and own["given − another hand"][0] > 0.2
    assert another["given − another hand"][0] < -0.2
    assert own["like another digit"][0] < another["like given"][0] < own["like given"][0]
    assert own["colour"][0] == own["direction"][0] == 1 and own["colour of other words"][0] == 0
    for mean, error in own.values():
        assert -1 <= mean <= 1 and 0 <= error < 0.1


def test_the_scale_reaches_every_image_branch_and_the_card_gets_the_table(tmp_path, capsys):
    for name in ("i2v", "t2v", "autoencoder"):
        for suffix in ("json", "safetensors"):
            shutil.copy(WEIGHTS / f"{name}.{suffix}", tmp_path)
    before = json.loads((tmp_path / "i2v.json").read_text())
    quick = ["--clips", "3", "--scales", "0", "1", "--words", "hidden", "--steps", "1", "--guidance", "1"]
    tool.main(["i2v", "--weights", str(tmp_path), *quick])
    card = small.read_card("i2v", tmp_path)
    found = card.pop("picture")
    assert card == before
    assert list(found["rows"])[-2:] == ["hidden words, scale 0", "hidden words, scale 1"]
    assert "| hidden words, scale 1 |" in capsys.readouterr().out


def test_the_scale_is_set_in_every_layer():
    model = small.VideoModel(small.small_unet(image_attention=True, temporal_image_attention=True), image_tokens=64)
    tool.set_image_scale(model, 0.5)
    scales = [layer.image_scale for layer in model.modules() if isinstance(layer, DualCrossAttention)]
    assert scales == [0.5] * 14


def test_a_share_has_a_standard_error():
    assert tool.share(torch.tensor([True, False, True, False])) == pytest.approx([0.5, 0.2887], abs=1e-3)
