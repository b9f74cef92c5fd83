"""The tool that finds out where a given picture turns up in the clip."""

import json
import shutil

import given_frame as tool
import pytest
import torch

from vdmlib import small
from vdmlib.small import data
from vdmlib.small.weights import WEIGHTS

CLIPS = data.MovingDigits("test").batch(range(6))


class Copies:
    """A model that puts the given picture into a frame of its choice, and another clip's frames elsewhere."""

    def __init__(self, place: int):
        self.place = place

    def generate(self, captions, fps, given, **settings):
        assert len(captions) == len(fps) == len(given) and settings == {"steps": 3}
        video = CLIPS.video.roll(1, 0).clone()
        video[:, self.place] = 0.9 * given
        return video


def test_decibels_are_of_a_range_of_two():
    given = torch.zeros(1, 3, 8, 8)
    made = torch.stack([given + 0.2, given + 0.02], dim=1)
    assert tool.decibels(made, given)[0].tolist() == pytest.approx([20, 40], abs=1e-3)


def test_it_is_found_where_it_was_put():
    found = tool.examine(Copies(5), CLIPS.prompts, CLIPS.video, steps=3)
    assert found["likest"] == [[0, 0, 0, 0, 0, 1, 0, 0]] * data.FRAMES
    assert all(max(row) == row[5] > 20 for row in found["decibels"])
    assert all(0 <= share <= 1 for right in found["right"] for share in right.values())


def test_the_shipped_model_comes_first_and_each_run_says_what_it_was_given(tmp_path):
    folder = tmp_path / "random"
    folder.mkdir()
    for name in ("i2v", "t2v", "autoencoder"):
        for suffix in ("json", "safetensors"):
            shutil.copy(WEIGHTS / f"{name}.{suffix}", folder)
    card = small.read_card("i2v", folder)
    card["config"]["given_frame"], card["command"] = "random", "another"
    (folder / "i2v.json").write_text(json.dumps(card))
    tool.main([str(folder), "--clips", "2", "--steps", "1", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    first, second = found["runs"]
    assert (first["given_frame"], second["given_frame"], second["command"]) == ("first", "random", "another")
    assert first["decibels"] == second["decibels"]  # the same weights, clips and noise
    assert set(small.read_card("given_frame")) == set(found)
