"""The open part of assignment 3 for a class: ``python -m vdmlib.course.open_part SUBMISSIONS --seed N``.

Each student's make_clips makes a clip for each of 40 captions, in processes of its own as when it is graded. Beside
leaderboard.csv, best first, comes rubric.csv, where a person writes points; once it is there, it is left alone.
"""

import argparse
import csv
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from . import assignment_3, submissions
from .feedback import cell
from .leaderboard import all_right, judged, share_with_error
from .parts import Assignment, Part, Properties
from .runner import covered, run_all
from .trial import Job

NAME = f"{__package__}.open_part"
CLIPS = 40  # for each seed


def _clips(make_clips: Any, seed: int) -> Properties:
    """Each clip shows all that its caption says."""
    right = all_right(judged(make_clips, CLIPS, seed)).tolist()
    return {f"clip {number}": functools.partial(bool, holds) for number, holds in enumerate(right, 1)}


ASSIGNMENT = Assignment(3, "The open part", assignment_3.ASSIGNMENT.chapters, (Part("make_clips", 0, 0, _clips),))


def numbers(found: Mapping[str, Any], fault: str) -> tuple[str, str, int, str]:
    """The share of clips that are right, its error, how many there were, and what went wrong."""
    report = found.get("parts", {}).get("make_clips", {"groups": {}})
    group = report["groups"].get("properties", {"tests": {}, "broken": ""})
    right = [bool(result and result[0]) for by_seed in group["tests"].values() for result in by_seed.values()]
    if fault or group["broken"] or not right:
        return "", "", len(right), fault or group["broken"] or "there is no make_clips"
    share, error = share_with_error(torch.tensor(right))
    return f"{share:.3f}", f"{error:.3f}", len(right), ""


def judge(folder: Path, out: Path, job: Job, jobs: int = 2) -> None:
    """Write the leaderboard, best first, and the table for a person's points where there is none yet."""
    handed_in = submissions.find(folder)
    programs = [submissions.program(one, ["make_clips"]) for one in handed_in]
    rows = []
    for one, program, (found, _) in zip(handed_in, programs, run_all(programs, NAME, job, jobs), strict=True):
        share, error, clips, fault = numbers(found, program.fault)
        rows.append([cell(one.name), share, error, clips, cell(fault), cell(*found.get("unusual", ()))])
    rows.sort(key=lambda row: row[1], reverse=True)
    head = ["student", "share", "error", "clips", "what went wrong", "look at"]
    write(out / "leaderboard.csv", [head, *rows])
    rubric = [f"{what} (of {points})" for what, points in assignment_3.ASSIGNMENT.rubric]
    if (out / "rubric.csv").exists():
        print("rubric.csv is there already and is left as it is")
    else:
        write(out / "rubric.csv", [["student", *rubric], *([cell(one.name), *[""] * len(rubric)] for one in handed_in)])


def write(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """As CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(f"wrote {path}")


def main(arguments: list[str] | None = None):
    """Entry point; ``--help`` tells the options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", type=Path, help="a folder of notebooks, zips and folders, or a zip of a class")
    parser.add_argument("--seed", type=int, nargs="+", required=True, help="of captions and noise; keep it to yourself")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder for both tables (default: this one)")
    parser.add_argument("--seconds", type=float, default=300.0, help="limit of each cell, and of 40 clips")
    parser.add_argument("--megabytes", type=int, default=4000, help="limit of each submission's memory")
    options = parser.parse_args(arguments)
    try:
        hidden = covered(options.submissions, options.out / "leaderboard.csv", options.out / "rubric.csv")
        judge(options.submissions, options.out, Job([], options.seed, options.seconds, options.megabytes, hidden))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
