"""The open part for a class: numbers from each student's own sampler, and a table for a person's points."""

import csv
import json
import os
from pathlib import Path

from vdmlib.course import open_part
from vdmlib.course.assignment_3 import ASSIGNMENT

ROOT = Path(__file__).parents[2]
NOISE = "import torch\ndef make_clips(pipeline, prompts, seed):\n    return torch.zeros(len(prompts), 8, 3, 64, 64)"
GREEDY = (
    "import torch\n\ndef make_clips(pipeline, prompts, seed):\n    net = pipeline.video_model.unet\n"
    "    for hook in net._forward_hooks.values():\n        for _ in range(17):\n"
    "            hook(net, (), torch.zeros(len(prompts)))\n    return torch.zeros(len(prompts), 8, 3, 64, 64)"
)


def hand_in(folder: Path, **cells: str):
    folder.mkdir()
    for name, source in cells.items():
        notebook = {"cells": [{"cell_type": "code", "source": source}]}
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_a_class_is_judged_and_a_persons_table_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    hand_in(tmp_path / "class", grey=NOISE, greedy=GREEDY, other="x = 1")
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
