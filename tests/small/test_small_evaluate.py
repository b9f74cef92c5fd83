"""The tool that judges a small model and writes the verdict into its card."""

import json
import shutil

import pytest
import small_evaluate as tool

from vdmlib import small
from vdmlib.small import judge
from vdmlib.small.weights import WEIGHTS

# Forty clips, since a Fréchet distance needs more of them than it has dimensions.
QUICK = ["--clips", "40", "--validation-clips", "40", "--reference-clips", "40"]
QUICK += ["--guidance", "1", "--eta", "0", "--steps", "1"]


@pytest.fixture
def folder(tmp_path):
    for suffix in ("json", "safetensors"):
        shutil.copy(WEIGHTS / f"t2v.{suffix}", tmp_path)
    return tmp_path


def test_floor_and_ceilings_belong_to_the_prompts_of_their_column(folder):
    options = tool.parser().parse_args(["t2v", "--weights", str(folder), *QUICK])
    evaluation = tool.Evaluation("t2v", folder, options)
    bounds, classifier = evaluation.bounds(eta=0.0), small.load_classifier()
    assert list(bounds) == ["seen combinations", "unseen combinations"]
    for title, column in bounds.items():
        prompts = evaluation.prompts[title]
        assert {prompt.held_out for prompt in prompts} == {title == "unseen combinations"}
        right = judge.right_answers(classifier, evaluation.real_clips[title], prompts)
        for measure, answers in right.items():
            assert column["ceiling: real"][measure] == pytest.approx(answers.float().mean().item()), (title, measure)
        assert column["ceiling: real"]["everything"] > 0.8 > 0.3 > column["floor: untrained"]["everything"]


def test_the_card_gets_the_verdict_and_keeps_all_else(folder, capsys, monkeypatch):
    monkeypatch.setattr(judge, "wrong_condition_losses", lambda *_, **__: {"correct": {500: 0.1}})  # It takes its time.
    before = (folder / "t2v.json").read_text()
    tool.main(["t2v", "--weights", str(folder), *QUICK])
    old, new = json.loads(before), small.read_card("t2v", folder)
    assert (new["guidance_scale"], new["eta"], new["sampling_steps"]) == (1.0, 0.0, 1)
    assert list(new["judge"]) == list(new["bounds"]) == ["seen combinations", "unseen combinations"]
    assert new["judge_by_sampling"].keys() == old["judge_by_sampling"].keys() | {"1 steps, guidance 1, eta 0"}
    for kept in ("sha256", "command", "config", "log", "steps", "parameters"):
        assert new[kept] == old[kept]
    assert "| ceiling: real, unseen |" in capsys.readouterr().out
