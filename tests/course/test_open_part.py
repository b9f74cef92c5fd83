"""The open part for a class: numbers from each student's own sampler, and a table for a person's points."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from vdmlib.course import open_part
from vdmlib.course.assignment_3 import ASSIGNMENT
from vdmlib.course.leaderboard import leaderboard
from vdmlib.small import load_classifier, load_pretrained
from vdmlib.small.data import Prompt, all_prompts
from vdmlib.small.judge import right_answers

ROOT = Path(__file__).parents[2]
GREY = """
import torch

def passes(net, prompts, times):
    for _ in range(times):  # of a frame of four places, which count as any others
        x, words = torch.zeros(len(prompts), 1, 8, 2, 2), torch.zeros(len(prompts), 1, 64)
        net(x, torch.zeros(len(prompts)).long(), context=words)

def make_clips(pipeline, prompts, seed):
    passes(pipeline.video_model.unet, prompts, {times})
    return torch.zeros(len(prompts), 8, 3, 64, 64)
"""
COPIES = "import copy\n" + GREY.replace("(pipeline.video_model.unet,", "(copy.deepcopy(pipeline.video_model.unet),")


def hand_in(folder: Path, **cells: str):
    folder.mkdir()
    for name, source in cells.items():
        notebook = {"cells": [{"cell_type": "code", "source": source}]}
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


CLIPS = torch.zeros(2, 8, 3, 64, 64)


def passing(net: torch.nn.Module, times: int = 1, clips: int = 2):
    names: dict = {}
    exec(GREY.format(times=times), names)
    names["passes"](net, range(clips), times)


@pytest.mark.parametrize(
    ("make_clips", "error", "said"),
    [
        (lambda pipeline, prompts, seed: None, TypeError, "NoneType came, but a tensor with a clip for each prompt"),
        (lambda pipeline, prompts, seed: CLIPS[:1], ValueError, "1 clips came for 2 prompts"),
        (lambda pipeline, prompts, seed: CLIPS, ValueError, "0 passes for 2 clips"),
        (
            lambda pipeline, prompts, seed: passing(load_pretrained("t2v").video_model.unet, 17) or CLIPS,
            ValueError,
            "17 passes for a clip, but 16 are allowed",
        ),
        (
            lambda pipeline, prompts, seed: (
                passing(pipeline.video_model.unet),
                right_answers(load_classifier(), CLIPS, prompts),
                CLIPS,
            )[-1],
            ValueError,
            "The judge's classifier was asked while clips were made",
        ),
    ],
)
def test_what_is_no_way_of_sampling_is_refused_in_a_sentence(make_clips, error, said):
    with pytest.raises(error, match=said):
        leaderboard(make_clips, clips=2)


def test_clips_that_fail_are_numbered_by_what_the_judge_asks():
    score = leaderboard(lambda pipeline, prompts, seed: passing(pipeline.video_model.unet) or CLIPS, clips=2)
    assert (score.share, score.clips) == (0.0, 2) and set(score.wrong) == {"digit", "direction", "speed", "colour"}
    assert all(set(numbers) <= {0, 1} for numbers in score.wrong.values()) and score.wrong["direction"] == [0, 1]


def test_prompts_are_drawn_with_replacement_as_the_docstring_says():
    seen: list[Prompt] = []
    leaderboard(
        lambda pipeline, prompts, seed: (
            seen.extend(prompts)
            or passing(pipeline.video_model.unet, clips=len(prompts))
            or torch.zeros(len(prompts), 2, 3, 64, 64)
        ),
    )
    assert (len(seen), len(set(seen)), len(all_prompts("unseen"))) == (40, 34, 80)


def test_a_class_is_judged_and_a_persons_table_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    hand_in(tmp_path / "class", grey=GREY.format(times=16), greedy=COPIES.format(times=17), other="x = 1")
    open_part.main([str(tmp_path / "class"), "--seed", "5", "--out", str(tmp_path)])
    found = rows(tmp_path / "leaderboard.csv")
    assert (found["grey"]["share"], found["grey"]["error"], found["grey"]["clips"]) == ("0.000", "0.075", "40")
    assert "17 passes for a clip, but 16 are allowed" in found["greedy"]["what went wrong"]
    assert found["greedy"]["share"] == "" and found["other"]["what went wrong"] == "there is no make_clips"
    rubric = rows(tmp_path / "rubric.csv")
    assert set(rubric) == {"grey", "greedy", "other"} and len(rubric["grey"]) == 1 + len(ASSIGNMENT.rubric)
    (tmp_path / "rubric.csv").write_text("mine")
    monkeypatch.setattr(open_part, "run_all", lambda programs, *_: [({}, 0.0)] * len(programs))
    open_part.main([str(tmp_path / "class"), "--seed", "5", "--out", str(tmp_path)])
    assert "left as it is" in capsys.readouterr().out
    assert (tmp_path / "rubric.csv").read_text() == "mine"
