"""Wrong answers to an assignment fail with a hint that names the fault; right ones pass, the unusual ones included."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from course_answers import answers_to

from vdmlib.course import assignment, try_part
from vdmlib.course.parts import Part, properties_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
NUMBERS = sorted(int(path.stem[-1]) for path in (ROOT / "course/solutions").glob("assignment_*.py"))
TRIED = [(number, tried) for number in NUMBERS for tried in answers_to(number)]


def solutions(number: int) -> dict[str, Any]:
    path = ROOT / f"course/solutions/assignment_{number}.py"
    names: dict[str, Any] = {"__name__": path.stem}
    parts = path.read_text(encoding="utf-8").split("# %% [markdown]\n# ## ")[0]  # what follows is the open part
    exec(compile(parts, str(path), "exec"), names)
    return names


def failing(part: Part, answer: Any, seed: int) -> list[str]:
    """The sentences that fail with this seed, hidden ones included."""
    found = []
    for make in filter(None, (part.properties, part.hidden)):
        for sentence, test in properties_of(make, answer, seed).items():
            with contextlib.suppress(Exception):
                if test():
                    continue
            found.append(sentence)
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_holds_with_every_seed(number):
    names = solutions(number)
    for part in assignment(number).parts:
        for seed in range(4):
            assert failing(part, names[part.name], seed) == [], (part.name, seed)


@pytest.mark.parametrize("number", NUMBERS)
def test_points_hints_and_answers_are_complete(number):
    work = assignment(number)
    assert work.points + sum(points for _, points in work.rubric) == 100
    names = solutions(number)
    for part in work.parts:
        sentences = set(part.properties(names[part.name], 0))
        assert part.hidden is not None and (hidden := set(part.hidden(names[part.name], 1))), part.name
        assert set(part.hints) == sentences | hidden, part.name
        tried = [answer for _, answer in TRIED if answer.part == part.name]
        assert len([answer for answer in tried if answer.fails]) >= 4, f"{part.name}: four wrong answers to try"
        assert len([answer for answer in tried if not answer.fails]) >= 2, f"{part.name}: two unusual right ones"
        assert part.name in {answer.part for answer in tried}


@pytest.mark.parametrize(("number", "tried"), TRIED, ids=lambda value: getattr(value, "part", str(value)))
def test_wrong_answers_fail_with_a_hint_and_right_ones_pass(number, tried, capsys):
    part = assignment(number).part(tried.part)
    torch.manual_seed(0)
    report = try_part(number, tried.part, tried.value)
    out = capsys.readouterr().out
    if tried.fails is None:
        assert report, (tried.about, report.failing)
        assert failing(part, tried.value, 3) == [], tried.about
    elif tried.about == "hidden":
        assert report and tried.fails in part.hints and tried.fails in failing(part, tried.value, 3), report
    else:
        assert not report and tried.fails in report.failing, report
        assert f"hint · {tried.fails}: {part.hints[tried.fails]}" in out
        assert tried.fails in failing(part, tried.value, 3), "another seed lets it through"


def test_what_the_solutions_print_is_kept_out_of_sight():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        solutions(NUMBERS[0])
    assert out.getvalue() == ""
