"""The coursework, made from the chapters: `make course` writes course/student, course/assignments and course/solutions.

A student's notebook has the exercises of one chapter: their text, their hints, the stubs, the checks, and of the
chapter's code only what those need. A solution notebook is the same with the solutions. The chapters are the only
source, so whoever mends an exercise mends it there. An assignment has one source, too:
course/solutions/assignment_K.py.
"""

import argparse
import ast
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

import course_figures
import links
import nbformat
from course_figures import as_seen
from execute_notebooks import KERNELSPEC, LANGUAGE_INFO, notebooks
from exercise_cells import names_of, needed_statements, python_of
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vdmlib.course import Assignment, assignment

ROOT = links.ROOT
COURSE = ROOT / "course"
SOLUTIONS = COURSE / "solutions"


# Reading ----------------------------------------------------------------------------------------------------------


@dataclass
class Piece:
    """A part of an exercise: its `place` is exercise, stub, check, hint or solution."""

    place: str
    source: str

    @property
    def is_code(self) -> bool:
        return self.place in ("stub", "check", "code")


@dataclass
class Task:
    """An exercise as it stands in its chapter."""

    title: str
    label: str = ""
    pieces: list[Piece] = field(default_factory=list)

    def sources(self, *places: str) -> list[str]:
        return [piece.source for piece in self.pieces if piece.place in places]

    @property
    def minutes(self) -> int:
        found = re.search(r"· (\d+) minutes", "\n".join(self.sources("exercise")))
        return int(found[1]) if found else 0


@dataclass
class Chapter:
    """A chapter's title, its code without that of its exercises, and the exercises."""

    path: Path
    title: str
    code: list[str]
    tasks: list[Task]

    @property
    def number(self) -> int:
        return int(self.path.stem[:2])


FENCE = re.compile(r"```\{(exercise|solution)-(start|end)\}\s*(.*)")


def read(path: Path) -> Chapter:
    """A chapter's exercises."""
    cells = nbformat.read(path, as_version=4).cells
    chapter = Chapter(path, cells[0].source.splitlines()[0].removeprefix("# "), [], [])
    place = ""
    for cell in cells:
        if cell.cell_type == "code":
            _read_code(chapter, place, cell.source)
        else:
            place = _read_text(chapter, place, cell.source)
    return chapter


def _read_code(chapter: Chapter, place: str, source: str) -> None:
    if place == "solution":
        chapter.tasks[-1].pieces.append(Piece("code", source))
    elif place == "exercise":
        seen = chapter.tasks[-1].sources("stub")
        chapter.tasks[-1].pieces.append(Piece("check" if seen else "stub", source))
    else:
        chapter.code.append(_quiet(python_of(source)))


def _quiet(source: str) -> str:
    """A cell without its loops that print, whose names nobody needs afterwards."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.For) and "print(" in ast.unparse(node):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


def _read_text(chapter: Chapter, place: str, text: str) -> str:
    """Add a text cell to the exercise that it belongs to; returns where the next cell stands."""
    lines: list[str] = []

    def end() -> None:
        source = "\n".join(lines).strip()
        lines.clear()
        if place == "hint":
            hints = re.findall(r"^:::\{dropdown\} Hint.*?^:::$", source, re.DOTALL | re.MULTILINE)
            source = "\n\n".join(hints)
        if source and place:
            chapter.tasks[-1].pieces.append(Piece(place, source))

    for line in text.splitlines():
        if found := FENCE.match(line):
            end()
            kind, edge, rest = found.groups()
            if (kind, edge) == ("exercise", "start"):
                chapter.tasks.append(Task(rest.strip()))
            place = kind if edge == "start" else "hint" if kind == "exercise" else ""
        elif line.startswith((":label: ", ":class: ")) and not lines:
            if line.startswith(":label: "):
                chapter.tasks[-1].label = line.split()[-1]
        elif not (line == "```" and not lines):
            lines.append(line)
    end()
    return place


# Text that any Markdown reader can show ---------------------------------------------------------------------------


def site(url: str) -> str:
    owner, name = links.owner_and_name(url)
    return f"https://{owner}.github.io/{name}"


@functools.cache
def _places() -> dict[str, str]:
    """The chapter in which each equation and figure stands."""
    found = {}
    for path in notebooks():
        for label in re.findall(r"\b(?:eq|fig)-[\w-]+", path.read_text(encoding="utf-8")):
            found.setdefault(label, set()).add(path.stem)
    labels = {}
    for label, stems in found.items():
        for stem in sorted(stems):
            text = (ROOT / "book" / f"{stem}.ipynb").read_text(encoding="utf-8")
            if re.search(rf"\$\$ \({label}\)|\"name\": \"{label}\"|:name: {label}\b", text):
                labels[label] = stem
    return labels


@functools.cache
def _references() -> dict[str, tuple[str, str]]:
    """Who and when, for each entry of the book's list of references."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    found = {}
    for key, body in re.findall(r"@\w+\{([^,]+),(.*?)^\}", text, re.DOTALL | re.MULTILINE):
        authors = re.search(r"author\s*=\s*\{(.*?)\}[,\n]", body, re.DOTALL)[1]
        names = [name.split(",")[0].strip("{} \n") for name in re.split(r"\s+and\s+", authors)]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        found[key] = who, re.search(r"year\s*=\s*\{?(\d{4})", body)[1]
    return found


def plain(text: str, url: str) -> str:
    """MyST as plain Markdown: references become links to the book, what folds becomes a `<details>`."""

    several = len(set(re.findall(r"\{eq\}`([\w-]+)`", text))) > 1

    def place(found: re.Match) -> str:
        role, label = found.groups()
        anchor = f"equation-{label}" if role == "eq" else label
        word = "the formula" if role == "eq" else "the figure"
        before = found.string[: found.start()]
        if several and role == "eq":
            word = "this one" if "{eq}" in before else "this formula"
        if not before.strip() or re.search(r"[.:?]\s+$|\n\n$|\{dropdown\}.*\n$", before):
            word = word.capitalize()
        return f"[{word}]({site(url)}/book/{_places()[label]}.html#{anchor})"

    def cited(found: re.Match) -> str:
        items = [_references()[key.strip()] for key in found[2].split(",")]
        if found[1] == "t":
            return ", ".join(f"{who} ({year})" for who, year in items)
        return "(" + "; ".join(f"{who}, {year}" for who, year in items) + ")"

    def folded(found: re.Match) -> str:
        return f"<details><summary>{found[1]}</summary>\n\n{found[2].strip()}\n\n</details>"

    text = re.sub(r"(?:\bequation )?\{(eq|numref)\}`([\w-]+)`", place, text)
    text = re.sub(r"\{cite:([tp])\}`([^`]+)`", cited, text)
    text = re.sub(r"^\$\$ \([\w-]+\)$", "$$", text, flags=re.MULTILINE)
    text = re.sub(r"\]\((?:book/)?([\w-]+)\.(?:ipynb|md)(#[\w-]+)?\)", rf"]({site(url)}/book/\1.html\2)", text)
    text = re.sub(r"^:::\{dropdown\} (.*?)\n(.*?)^:::$", folded, text, flags=re.DOTALL | re.MULTILINE)
    if left := re.search(r"\{[\w:-]+\}`|^:::|^```\{", text, re.MULTILINE):
        raise ValueError(f"{text[left.start() :][:60]!r} has no form in plain Markdown yet: teach it to `plain`.")
    return text


# Writing ----------------------------------------------------------------------------------------------------------


def needed_code(chapter: Chapter, solutions: bool) -> list[str]:
    """Of each of the chapter's cells what its exercises need, as it stands there, comments included.

    A student needs what an answer needs; a teacher also what a solution shows besides.
    """
    needed = set()
    for task in chapter.tasks:
        asked = set().union(*(names_of(source)[0] for source in task.sources("stub")))
        for source in task.sources("stub", "check"):
            needed |= names_of(source)[1]
        for source in task.sources("code"):
            bound, used = names_of(source)
            needed |= used if solutions or bound & asked else set()
    code = chapter.code[1:]  # the first cell installs the library
    statements = needed_statements(code, needed)
    for _, node in statements:
        needed |= names_of(ast.unparse(node))[1]
    kept: dict[int, list[ast.stmt]] = {}
    for number, node in statements:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            kept.setdefault(number, []).append(node)
    imports = _imports([node for _, node in statements], needed)
    return [imports, *(_lines(code[number], nodes) for number, nodes in kept.items())]


def _imports(statements: list[ast.stmt], needed: set[str]) -> str:
    """The imports among some statements, with only those names that are needed."""
    lines = []
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name for name in node.names if (name.asname or name.name).split(".")[0] in needed]
            if names:
                node.names = names
                lines.append(ast.unparse(node))
    return "\n".join(dict.fromkeys(lines))


def _lines(source: str, nodes: list[ast.stmt]) -> str:
    """The lines of some statements, with the comments above each, and gaps around functions and classes."""
    lines, parts = source.splitlines(), []
    for node in nodes:
        start = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))]) - 1
        while start and lines[start - 1].startswith("#"):
            start -= 1
        text = "\n".join(lines[start : node.end_lineno])
        if parts:
            large = isinstance(node, ast.FunctionDef | ast.ClassDef) or parts[-1].lstrip("@# ").startswith(
                ("def ", "class ")
            )
            parts.append("\n\n\n" if large else "\n")
        parts.append(text)
    return "".join(parts)


def chapter_notebook(chapter: Chapter, url: str, solutions: bool) -> NotebookNode:
    """The exercises of a chapter as a notebook of their own, with or without solutions."""
    folder = "solutions" if solutions else "student"
    path = f"course/{folder}/{chapter.path.name}"
    page = f"{site(url)}/book/{chapter.path.stem}.html"
    cells = [
        new_markdown_cell(_chapter_head(chapter, links.colab_link(path, url), page, solutions)),
        _hidden(links.colab_cell(url)),
        new_code_cell("import torch\n\n_ = torch.manual_seed(0)"),
        new_markdown_cell("## From the chapter\n\nWhat the exercises use, as the chapter built it. Run it and go on."),
    ]
    cells += [_hidden(source, "From the chapter") for source in needed_code(chapter, solutions)]
    for number, task in enumerate(chapter.tasks, start=1):
        cells += _task_cells(number, task, url, solutions, course_figures.markdown(chapter.path, task.label))
    for cell, names in lacking(chapter, cells):
        link = links.colab_link(f"book/{chapter.path.name}", url)
        who = f"{', '.join(f'`{name}`' for name in names)} {'is' if len(names) == 1 else 'are'}"
        cell.source += f"\n\n*({who} in [the chapter's notebook]({link}).)*"
    return notebook_of(cells)


def lacking(chapter: Chapter, cells: list[NotebookNode]) -> Iterator[tuple[NotebookNode, list[str]]]:
    """The text cells that ask for what the chapter defines and these cells do not, with the names."""
    own = set().union(*(names_of(python_of(cell.source))[0] for cell in cells if cell.cell_type == "code"))
    missing = set().union(*(names_of(source)[0] for source in chapter.code)) - own
    for cell in cells:
        spans = re.findall(r"`([^`\n]+)`", cell.source) if cell.cell_type == "markdown" else []
        if names := sorted({name for span in spans for name in _asked(span, missing)}):
            yield cell, names


def _asked(span: str, missing: set[str]) -> set[str]:
    """Names that a piece of Python in a text takes something from, calls, or calls with; a class by its name alone."""
    try:
        tree = ast.parse(span, mode="eval").body
    except SyntaxError:
        return set()
    asked = {span} if isinstance(tree, ast.Name) and re.fullmatch(r"[A-Z]\w*[a-z]\w*", span) else set()
    for node in ast.walk(tree):
        inner = node.func if isinstance(node, ast.Call) else getattr(node, "value", None)
        name = inner.id if isinstance(inner, ast.Name) and isinstance(node, ast.Call | ast.Subscript) else ""
        asked |= {name}
        if isinstance(node, ast.Call) and name in missing:
            asked |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return asked & missing


def _chapter_head(chapter: Chapter, colab: str, page: str, solutions: bool) -> str:
    minutes = sum(task.minutes for task in chapter.tasks)
    return (
        f"# {'Solutions' if solutions else 'Exercises'} · {chapter.title}\n\n[Open in Colab]({colab})\n\n"
        f"The exercises of [chapter {chapter.number}]({page}), which you have read: about {minutes} minutes.\n"
        f"{FOR_TEACHERS if solutions else FOR_STUDENTS}"
    )


FOR_TEACHERS = "For teachers, and for people who study alone and have tried. `make course` writes it from the chapter."
FOR_STUDENTS = """\
Write each answer into the cell that raises `NotImplementedError`, and run it and the cell below it, which says which
properties of your answer hold and which fail. Save a copy first: in Colab, *File → Save a copy in Drive*."""


def _task_cells(number: int, task: Task, url: str, solutions: bool, figure: str) -> Iterator[NotebookNode]:
    heading = f"## Exercise {number} · {task.title}\n\n"
    has_code = bool(task.sources("stub"))
    for piece in task.pieces:
        if piece.place == "exercise":
            yield new_markdown_cell(heading + plain(piece.source, url))
            if heading and figure:
                yield new_markdown_cell(figure)
            heading = ""
        elif piece.place == "hint":
            yield new_markdown_cell(plain(piece.source, url))
        elif piece.place == "stub":
            yield new_code_cell(piece.source)
        elif piece.place == "check":
            yield _hidden(piece.source, "The check")
        elif solutions:
            yield (
                new_code_cell(piece.source)
                if piece.is_code
                else new_markdown_cell(f"**Solution.** {plain(piece.source, url)}")
            )
    if not has_code and not solutions:
        yield new_markdown_cell("*Your answer:*")


def _hidden(source: str, title: str = "") -> NotebookNode:
    """A cell that is folded: in Jupyter by its metadata, in Colab by its title."""
    source = f"# @title {title}\n{source}" if title else source
    return new_code_cell(source, metadata={"cellView": "form", "jupyter": {"source_hidden": True}})


def notebook_of(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook without outputs, whose bytes depend on its text alone."""
    for position, cell in enumerate(cells):
        cell.id = sha1(f"{position} {cell.source}".encode()).hexdigest()[:8]
    return new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO})


def stored(notebook: NotebookNode) -> str:
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


# Assignments ------------------------------------------------------------------------------------------------------


def parts_of(source: str) -> Iterator[tuple[str, str]]:
    """The cells of an assignment's source: (markdown, code, or the name of a part), and the text."""
    for cell in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        kind, _, text = cell.partition("\n")
        if kind == " [markdown]":
            yield "markdown", _uncommented(text)
        elif name := kind.strip().removeprefix("[part]").strip():
            yield name, text.strip()
        else:
            yield "code", text.strip()


def _uncommented(text: str) -> str:
    return "\n".join(re.sub("^# ?", "", line) for line in text.strip().splitlines())


def cut(text: str) -> tuple[str, str]:
    """The question above a part, which stands in comments, and its code."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return _uncommented("\n".join(lines[:first])), "\n".join(lines[first:])


def stub_of(code: str) -> str:
    """A function or class with its head and docstring, and nothing else in it."""
    [node] = ast.parse(code).body
    lines = code.splitlines()

    def head(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
        said = ast.get_docstring(node) is not None
        end = node.body[0].end_lineno if said else node.body[0].lineno - 1
        return [*lines[node.lineno - 1 : end]]

    found = head(node)
    if isinstance(node, ast.FunctionDef):
        call = f"{node.name}({', '.join(argument.arg for argument in node.args.args)})"
        return "\n".join([*found, f'    raise NotImplementedError("Write {call}.")'])
    for method in node.body:
        if isinstance(method, ast.FunctionDef):
            found += ["", *head(method), f'        raise NotImplementedError("Write {node.name}.{method.name}.")']
    return "\n".join(found)


def assignment_notebook(work: Assignment, source: str, url: str, solutions: bool) -> NotebookNode:
    """An assignment, with stubs for its parts or with the solutions."""
    place = f"solutions/assignment_{work.number}" if solutions else f"assignments/{work.number}/assignment"
    title = f"# Assignment {work.number} · {work.title}{' · solutions' if solutions else ''}"
    colab = f"[Open in Colab]({links.colab_link(f'course/{place}.ipynb', url)})"
    cells, number = [], 0
    for kind, text in parts_of(source):
        if kind == "markdown" and not cells:
            how = "" if solutions else f"\n\n{HOW_TO_WORK}"
            cells += [new_markdown_cell(f"{title}\n\n{colab}\n\n{text}{how}"), _hidden(links.colab_cell(url))]
        elif kind == "markdown":
            cells.append(new_markdown_cell(text))
        elif kind == "code":
            cells.append(new_code_cell(text))
        else:
            part, number = work.part(kind), number + 1
            question, code = cut(text)
            worth = f"{part.points} points · about {part.minutes} minutes"
            cells.append(new_markdown_cell(f"## Part {number} · `{kind}`\n\n{worth}\n\n{question}"))
            cells.append(new_code_cell(code.rstrip() if solutions else stub_of(code)))
            cells.append(new_code_cell(f'_ = try_part({work.number}, "{kind}", {kind})'))
    if work.rubric:
        worth = f"{sum(points for _, points in work.rubric)} points · about {work.open_minutes} minutes"
        cells.append(new_markdown_cell(f"## What the open part is graded by\n\n{worth}\n\n{rubric_table(work)}"))
    return notebook_of(cells)


HOW_TO_WORK = """\
Write each part into the cell that raises `NotImplementedError`, under the name that it has, and run it and the cell
below it, which says which properties hold, which fail, and where to look. Grading tries the same with other numbers and
a few properties more, which share half of a part's points. Cells of your own are welcome anywhere. Save a copy first:
in Colab, *File → Save a copy in Drive*; hand in what *File → Download → Download .ipynb* gives."""


def rubric_table(work: Assignment) -> str:
    rows = "\n".join(f"| {criterion} | {points} |" for criterion, points in work.rubric)
    return f"| criterion | points |\n|---|---|\n{rows}"


def hours(minutes: int) -> str:
    """In halves, the last one begun: 4½."""
    whole, half = divmod(math.ceil(minutes / 30), 2)
    return f"{whole}{'½' * half}"


def readme(work: Assignment, url: str) -> str:
    """What stands beside an assignment: its parts, time and points."""
    chapters = " and ".join(filter(None, [", ".join(map(str, work.chapters[:-1])), str(work.chapters[-1])]))
    rows = "\n".join(
        f"| {number} | `{part.name}` | {part.points} | {part.minutes} |" for number, part in enumerate(work.parts, 1)
    )
    minutes, rubric = sum(part.minutes for part in work.parts), sum(points for _, points in work.rubric)
    text = f"# Assignment {work.number} · {work.title}\n\nOn chapters {chapters} of [the book]({site(url)}/). "
    text += f"{work.points + rubric} points; the parts take about {hours(minutes)} hours after the chapters"
    text += f", the open part about {hours(work.open_minutes)}.\n\n" if rubric else ".\n\n"
    text += f"| part | you write | points | minutes |\n|---|---|---|---|\n{rows}\n\n"
    if rubric:
        text += f"The open part, {rubric} points, read by a person:\n\n{rubric_table(work)}\n\n"
    return text + FILES_INSTEAD


FILES_INSTEAD = """\
Work in `assignment.ipynb`: each part has a cell that says what holds, what fails and where to look. Whoever likes files
better than a notebook hands in a folder or a zip with the code and `adapters.py`, which says which function is which
part. The minutes are estimates.
"""
ADAPTERS = '''"""Assignment {number}: which of your functions is which part. Only for answers in files of your own.

Take away the # before the parts that you have, and put your names in. Hand this file in together with the files that it
imports from, as a folder or a zip. A notebook needs none of this.
"""

{lines}
'''


def adapters(work: Assignment) -> str:
    """The file in which a student says where the parts are."""
    lines = "\n".join(f"# from my_code import my_function as {part.name}" for part in work.parts)
    return ADAPTERS.format(number=work.number, lines=lines)


def assignment_files(url: str) -> dict[str, str]:
    written = {}
    for path in sorted(SOLUTIONS.glob("assignment_*.py")):
        work, source = assignment(int(path.stem.split("_")[1])), path.read_text(encoding="utf-8")
        folder = f"assignments/{work.number}"
        written[f"{folder}/assignment.ipynb"] = stored(assignment_notebook(work, source, url, solutions=False))
        written[f"{folder}/adapters.py"] = adapters(work)
        written[f"{folder}/README.md"] = readme(work, url)
        written[f"solutions/{path.stem}.ipynb"] = stored(assignment_notebook(work, source, url, solutions=True))
    return written


def files(url: str | None = None) -> dict[str, str]:
    """What `make course` writes: path below course/ → content."""
    url = url or links.address()
    written = {}
    for path in notebooks():
        if path.stem[:2].isdigit():
            chapter = read(path)
            written[f"student/{path.name}"] = stored(chapter_notebook(chapter, url, solutions=False))
            written[f"solutions/{path.name}"] = stored(chapter_notebook(chapter, url, solutions=True))
    return written | assignment_files(url)


def write(folder: Path = COURSE) -> list[Path]:
    """Write what has changed; notebooks that are made no more are removed."""
    wanted, changed = files(), []
    for path in folder.rglob("*.ipynb"):
        if path.relative_to(folder).as_posix() not in wanted and ".ipynb_checkpoints" not in path.parts:
            path.unlink()
            changed.append(path)
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or as_seen(path.read_text(encoding="utf-8")) != as_seen(text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


# What must not be in a student's hands -----------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return re.findall(r"[\w.]+|[^\w\s]", text)


def grams(text: str, length: int = 12) -> set[tuple[str, ...]]:
    """All runs of so many words and signs."""
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def leaks(student: str, solutions: list[str], allowed: str) -> list[str]:
    """Runs of words of a solution that stand in a student's file and nowhere in what everybody has been given."""
    secret = set().union(*map(grams, solutions)) - grams(allowed)
    return sorted(" ".join(gram) for gram in secret & grams(student))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    for path in (changed := write()):
        print(f"{'wrote' if path.exists() else 'removed'} {path.relative_to(ROOT)}")
    print(f"{len(changed)} files changed")


if __name__ == "__main__":
    main()
