"""The coursework is what `make course` writes; a student's copy runs and asks, and nothing leaks."""

import base64
import contextlib
import io
import re
from functools import cache
from pathlib import Path

import links
import nbformat
import pytest
import torch
from course_figures import DATA, FIGURES, as_seen
from exercise_cells import names_of, python_of
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import course

# Their solutions train and sample besides; tests/book/test_exercises.py tries their answers.
SLOW = ("04_embeddings", "10_judging")
SOURCES = sorted(course.SOLUTIONS.glob("assignment_*.py"))
CHAPTERS = [path for path in course.notebooks() if path.stem[:2].isdigit()]


@cache
def written() -> dict[str, str]:
    return course.files()


def sources(name: str) -> list[str]:
    return [cell.source for cell in nbformat.reads(written()[name], as_version=4).cells]


def said(notebook: str) -> str:
    """All text of a notebook: cells, outputs, attachments, metadata."""
    found, left = [], [nbformat.reads(notebook, as_version=4)]
    while left:
        value = left.pop()
        if isinstance(value, str):
            found.append(value)
        else:
            left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return "\n".join(found)


def printed(name: str) -> str:
    """What the code of a notebook prints, run in this process."""
    out, names = io.StringIO(), {"__name__": name}
    with contextlib.redirect_stdout(out):
        for number, cell in enumerate(nbformat.reads(written()[name], as_version=4).cells):
            if cell.cell_type == "code":
                exec(compile(python_of(cell.source), f"{name}, cell {number}", "exec"), names)
    return out.getvalue()


def test_the_coursework_is_what_make_course_writes():
    stored = {path.relative_to(course.COURSE).as_posix(): path for path in course.COURSE.rglob("*") if path.is_file()}
    stored = {name: path for name, path in stored.items() if not name.startswith("solutions/") or path.suffix != ".py"}
    assert set(stored) == set(written()), "run `make course`"
    texts = {name: path.read_text(encoding="utf-8") for name, path in stored.items()}
    assert [name for name, text in texts.items() if as_seen(text) != as_seen(written()[name])] == []


def test_pictures_of_what_is_expected_stand_in_the_students_text():
    shown = {name: DATA.findall(text) for name, text in written().items() if name.startswith("student/")}
    assert sum(map(len, shown.values())) == len(FIGURES) and sum(map(bool, shown.values())) >= 4
    for name, pictures in shown.items():
        assert all(len(picture) < 4000 for picture in pictures)
        texts = [source for source in sources(name) if DATA.search(source)]
        assert all(re.match(r"!\[\w.{40,}\]\(data:", text) and text.endswith("*") for text in texts)


def test_the_same_picture_in_other_bytes_is_the_same_and_another_is_not():
    def text(number: int, level: int) -> str:
        file = io.BytesIO()
        Image.new("L", (40, 30), number).save(file, "PNG", compress_level=level)
        return f"![a](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"

    assert text(3, 0) != text(3, 9) and as_seen(text(3, 0)) == as_seen(text(3, 9)) != as_seen(text(4, 9))


def test_notebooks_have_no_outputs_and_a_link_of_their_own():
    for name, text in written().items():
        if not name.endswith(".ipynb"):
            continue
        notebook = nbformat.reads(text, as_version=4)
        assert all(not cell.get("outputs") for cell in notebook.cells)
        assert links.colab_link(f"course/{name}", links.address()) in notebook.cells[0].source
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_students_notebook_runs_and_every_check_says_not_yet(path: Path):
    torch.manual_seed(0)
    tasks = course.read(path).tasks
    asked = sum(bool(task.sources("check")) for task in tasks)
    out = printed(f"student/{path.name}")
    assert out.count("  not yet · ") == asked and "properties hold" not in out
    text = "\n".join(sources(f"student/{path.name}"))
    assert text.count("## Exercise ") == len(tasks) and text.count("*Your answer:*") == len(tasks) - asked


@pytest.mark.parametrize("path", [path for path in CHAPTERS if path.stem not in SLOW], ids=lambda path: path.stem)
def test_a_solution_notebook_passes_every_check(path: Path):
    torch.manual_seed(0)
    asked = sum(bool(task.sources("check")) for task in course.read(path).tasks)
    out = printed(f"solutions/{path.name}")
    assert out.count("properties hold") == asked and "FAILS" not in out


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_what_an_exercise_asks_for_is_there_or_said_to_be_in_the_chapter(path: Path):
    of_chapter = set().union(*(names_of(source)[0] for source in course.read(path).code))
    for folder in ("student", "solutions"):
        cells = nbformat.reads(written()[f"{folder}/{path.name}"], as_version=4).cells
        there = set().union(*(names_of(python_of(cell.source))[0] for cell in cells if cell.cell_type == "code"))
        for cell in cells:
            text, _, note = cell.source.partition("\n\n*(`")
            asked = set(re.findall(r"`([A-Za-z_]\w*)[\[(]", text)) if cell.cell_type == "markdown" else set()
            assert [name for name in asked & of_chapter - there if name not in re.findall(r"\w+", note)] == []
    if path.stem.startswith("10"):
        assert "`videos` is in [the chapter's notebook]" in "\n".join(sources(f"student/{path.name}"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_an_assignment_runs_with_stubs_and_with_solutions(path: Path):
    work = course.assignment(int(path.stem.split("_")[1]))
    out = printed(f"assignments/{work.number}/assignment.ipynb")
    assert out.count("  not yet · ") == len(work.parts) and "properties hold" not in out
    out = printed(f"solutions/{path.stem}.ipynb")
    assert out.count("properties hold") == len(work.parts) and "FAILS" not in out
    kinds = [kind for kind, _ in course.parts_of(path.read_text(encoding="utf-8"))]
    assert [kind for kind in kinds if kind not in ("markdown", "code")] == [part.name for part in work.parts]


# Nothing leaks ----------------------------------------------------------------------------------------------------


def secrets(path: Path) -> list[str]:
    return [source for task in course.read(path).tasks for source in task.sources("solution", "code")]


@cache
def known() -> str:
    """What everybody has been given: the chapters without their solutions."""
    parts = []
    for path in CHAPTERS:
        cells = nbformat.read(path, as_version=4).cells
        hidden = set(secrets(path))
        text = "\n".join(cell.source for cell in cells if cell.source not in hidden)
        parts.append(re.sub(r"```\{solution-start\}.*?```\{solution-end\}", "", text, flags=re.DOTALL))
    return "\n".join(parts)


def test_no_solution_stands_in_a_students_file():
    solutions = [source for path in CHAPTERS for source in secrets(path)]
    allowed = known()
    for path in SOURCES:
        for kind, text in course.parts_of(path.read_text(encoding="utf-8")):
            if kind in ("markdown", "code"):
                allowed += text
            else:
                question, code = course.cut(text)
                allowed += f"\n{question}\n{course.stub_of(code)}\n"
                solutions.append(code)
    for name, text in written().items():
        if not name.startswith("solutions/"):
            readable = said(text) if name.endswith(".ipynb") else text
            assert course.leaks(readable, solutions, allowed) == [], name


def test_hours_are_rounded_up_to_halves():
    assert [course.hours(minutes) for minutes in (60, 270, 155)] == ["1", "4½", "3"]


def test_a_leak_is_found():
    path = CHAPTERS[0]
    code, words = (next(task.sources(kind)[0] for task in course.read(path).tasks) for kind in ("code", "solution"))
    for secret in (code, words):
        assert course.leaks("text before it " + secret.replace("\n", "\n\n"), [secret], known())
        for place in ({"metadata": {"note": secret}}, {"outputs": [new_output("stream", text=secret)]}):
            hidden = nbformat.writes(new_notebook(cells=[new_code_cell("pass", **place)]))
            assert course.leaks(said(hidden), [secret], known())


# What a chapter may hold -------------------------------------------------------------------------------------------


def test_text_becomes_plain_markdown():
    url = links.address()
    said = course.plain("{eq}`eq-ldm-forward` of {cite:t}`lin2024zerosnr` {cite:p}`yang2025cogvideox`.", url)
    site = course.site(url)
    page = f"{site}/book/01_latent_diffusion.html#equation-eq-ldm"
    assert course.plain(":::{dropdown} Hint\n{eq}`eq-ldm-back` in equation {eq}`eq-ldm-step`\n:::", url) == (
        f"<details><summary>Hint</summary>\n\n[This formula]({page}-back) in [this one]({page}-step)\n\n</details>"
    )
    assert said == (
        f"[The formula]({site}/book/01_latent_diffusion.html#equation-eq-ldm-forward) of Lin et al. (2024) "
        "(Yang et al., 2025)."
    )
    assert course.plain(":::{dropdown} Hint\nLook.\n:::", url) == (
        "<details><summary>Hint</summary>\n\nLook.\n\n</details>"
    )
    with pytest.raises(ValueError, match="no form in plain Markdown yet"):
        course.plain("see {doc}`this`", url)


def test_only_what_an_exercise_needs_is_kept(tmp_path):
    cells = [
        new_markdown_cell("# A chapter"),
        new_code_cell("%pip install something"),
        new_code_cell("import math, os\nunused = 1 / 0\n\n\n# Twice.\ndef base(x):\n    return 2 * x"),
        new_markdown_cell("```{exercise-start} A title\n:label: ex-a\n```\n★☆☆ · 10 minutes\n\nText."),
        new_code_cell("def double(x):\n    raise NotImplementedError('Write it.')"),
        new_code_cell("_ = base(math.pi)"),
        new_markdown_cell(
            "```{exercise-end}\n```\n\n:::{dropdown} Hint\nThink.\n:::\n\n"
            "```{solution-start} ex-a\n:class: dropdown\n```"
        ),
        new_code_cell("def double(x):\n    return base(x)"),
        new_markdown_cell("It was easy.\n\n```{solution-end}\n```\n\n:::{dropdown} 1 · Another\nthing.\n:::"),
    ]
    path = tmp_path / "01_a.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    chapter = course.read(path)
    [task] = chapter.tasks
    places = ["exercise", "stub", "check", "hint", "code", "solution"]
    assert [piece.place for piece in task.pieces] == places
    assert (task.title, task.label, task.minutes) == ("A title", "ex-a", 10)
    assert course.needed_code(chapter, solutions=False) == ["import math", "# Twice.\ndef base(x):\n    return 2 * x"]
    student = course.stored(course.chapter_notebook(chapter, links.address(), solutions=False))
    assert "It was easy" not in student and "return base" not in student and "Think." in student
    assert "It was easy" in course.stored(course.chapter_notebook(chapter, links.address(), solutions=True))
