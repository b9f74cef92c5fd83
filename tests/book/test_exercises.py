"""What a learner reads below an exercise, and that the checks refuse wrong answers and accept right ones."""

import functools
from pathlib import Path

import answers
import nbformat
import pytest
from execute_notebooks import notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import vdmlib
from vdmlib.exercises import check

CHAPTERS = [path for path in notebooks() if path.stem[:2].isdigit()]
EXERCISES = {(path.stem, exercise.label): exercise for path in CHAPTERS for exercise in answers.exercises(path)}


def boom():
    raise TypeError("no such thing")


def stub():
    raise NotImplementedError("Write f(x).")


def test_all_hold(capsys):
    report = check("Exercise 9", {"one is one": lambda: 1 == 1, "two is true": lambda: 2})
    assert report and report.holding == ("one is one", "two is true")
    assert capsys.readouterr().out == (
        "Exercise 9\n  holds · one is one\n  holds · two is true\n  2 of 2 properties hold.\n"
    )


def test_every_property_is_tried(capsys):
    report = check("E", {"false": lambda: False, "raises": boom, "holds": lambda: True})
    assert not report and report.failing == ("false", "raises") and list(report.errors) == ["raises"]
    assert capsys.readouterr().out == (
        "E\n  FAILS · false\n  FAILS · raises (TypeError: no such thing)\n  holds · holds\n  1 of 3 properties hold.\n"
    )


def test_a_stub_is_not_a_mistake(capsys):
    report = check("E", {"first": stub, "second": boom})
    assert not report and not report.failing
    assert capsys.readouterr().out == "E\n  not yet · Write f(x).\n"


# The chapters' own checks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_exercises_and_answers_to_try(path: Path):
    labels = [label for stem, label in EXERCISES if stem == path.stem]
    assert len(labels) >= 2, "a chapter has two exercises with a check or more, and one for discussion"
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert text.count("```{exercise-start}") > len(labels), "no exercise without code, for discussion"
    file = answers.FOLDER / f"{path.stem}.py"
    assert file.exists(), f"the answers to try are missing: write {file.name}"
    assert answers.labels(file) == sorted(labels)


@pytest.fixture
def networks_once(monkeypatch):
    """What chapter 8's checks ask of networks is the same for each answer, and takes seconds."""
    for module, name in ((vdmlib, "dimension_table"), (vdmlib.checkpoints, "released_names")):
        monkeypatch.setattr(module, name, functools.cache(getattr(module, name)))


@pytest.mark.usefixtures("networks_once")
@pytest.mark.parametrize("case", EXERCISES, ids="-".join)
def test_the_check_refuses_wrong_answers_and_accepts_right_ones(case: tuple[str, str]):
    stem, _ = case
    assert list(answers.problems(EXERCISES[case], answers.FOLDER / f"{stem}.py")) == []


# That the machinery finds what it is there for ------------------------------------------------------------------

CHECK = """
from vdmlib.exercises import check

def check_double():
    return check("E", {"twice 3": lambda: double(3, 2) == 6, "thrice 5": lambda: double(5, 3) == base(15)})

_ = check_double()
"""
ANSWERS = """
from answers import right, wrong

@wrong("ex-a", "ignores an argument", fails="thrice 5")
def double(x, n):
    return 2 * x

@wrong("ex-a", "hard-codes the example", fails="thrice 5")
def double(x, n):
    return 6

@wrong("ex-a", "has the classic bug", fails="twice 3")
def double(x, n):
    return x**n

@wrong("ex-a", "has the right shape and nothing else", fails="twice 3")
def double(x, n):
    return 0

@right("ex-a", "a sum")
def double(x, n):
    return sum([x] * n)

@right("ex-a", "from the other side")
def double(x, n):
    return n * x
"""


def notebook(folder: Path, check_cell: str = CHECK, stub: str = "raise NotImplementedError('Write it.')") -> Path:
    cells = [
        new_code_cell("%pip install something\nimport math\nunused = 1 / 0"),
        new_code_cell("table = {}\nfor i in range(3):\n    1 / 0"),
        new_code_cell("def base(x):\n    return offset + x"),
        new_code_cell("offset = 1\noffset = 0\nprint(unused)"),
        new_markdown_cell("```{exercise-start} A title\n:label: ex-a\n```\nText."),
        new_code_cell(f"def double(x, n):\n    {stub}"),
        new_code_cell(check_cell),
        new_markdown_cell("```{exercise-end}\n```\n\n```{solution-start} ex-a\n:class: dropdown\n```"),
        new_code_cell("def double(x, n):\n    return n * x\n\n_ = check_double()"),
        new_code_cell("1 / 0  # something else in the solution"),
        new_markdown_cell("```{solution-end}\n```"),
    ]
    path = folder / "00_sample.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def found(folder: Path, text: str = ANSWERS, **options) -> list[str]:
    (folder / "answers.py").write_text(text)
    [exercise] = answers.exercises(notebook(folder, **options))
    return list(answers.problems(exercise, folder / "answers.py"))


def test_a_good_exercise_has_no_problems(tmp_path):
    assert found(tmp_path) == []
    assert answers.labels(tmp_path / "answers.py") == ["ex-a"]


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("a wrong answer is accepted", lambda text: text.replace("return 2 * x", "return n * x", 1)),
        ("a right answer is refused", lambda text: text.replace("sum([x] * n)", "sum([x] * 2)")),
        ("does not run", lambda text: text.replace("return x**n", "return y")),
        ("is taken for a stub", lambda text: text.replace("return x**n", "raise NotImplementedError")),
        ("its fault is not named: 'twice 5'", lambda text: text.replace('fails="thrice 5"', 'fails="twice 5"', 1)),
        ("no answer that has the classic bug", lambda text: text.replace("has the classic bug", "ignores an argument")),
        ("fewer than two unusual right answers", lambda text: text[: text.index('@right("ex-a", "from')]),
        ("is none of ['double']", lambda text: text.replace("def double(x, n):\n    return 6", "def twice(x):\n    0")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_answers_are_found(tmp_path, problem, change):
    problems = found(tmp_path, change(ANSWERS))
    words = {"a wrong answer is accepted": "is accepted", "a right answer is refused": "is refused: twice"}
    words["a right answer is refused"] = "is refused: thrice 5"
    assert any(words.get(problem, problem) in sentence for sentence in problems), problems


def test_bad_checks_and_stubs_are_found(tmp_path):
    lenient = CHECK.replace('"thrice 5": lambda: double(5, 3) == base(15)', "")
    assert len([p for p in found(tmp_path, check_cell=lenient) if p.endswith("is accepted")]) == 2
    assert any("the solution is refused" in p for p in found(tmp_path, check_cell=CHECK.replace("== 6", "== 7")))
    assert "the stub does not end in “not yet”" in found(tmp_path, stub="return 2 * x")


def test_an_unknown_kind_of_wrong_answer_is_named(tmp_path):
    with pytest.raises(ValueError, match="'is silly' is no kind of wrong answer: use one of 'ignores an argument'"):
        answers.wrong("ex-a", "is silly")
