"""Wrong and right answers to the exercises of a chapter, tried with the chapter's own checks.

The answers to ``book/02_unet2d.ipynb`` stand in ``tests/book/answers/02_unet2d.py``. They may use every name that the
notebook has defined above the check. Each is a function or class with the name of the one it replaces::

    from answers import right, wrong

    @wrong("ex-unet2d-sizes", "hard-codes the example")
    def original_size(n):
        return {572: 388, 188: 4}.get(n)

    @right("ex-unet2d-sizes", "in closed form")
    def original_size(n):
        return n - 184 if n % 16 == 12 and n > 184 else None

Where an exercise asks for several functions, those that an answer leaves out are the solution's.

A check runs without the rest of its notebook: only those statements above it are executed that it needs, found by the
names that they use and define. So trying an exercise takes a second, and trains nothing.
"""

import ast
import contextlib
import io
import re
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import torch

FOLDER = Path(__file__).resolve().parents[1] / "book" / "answers"
# What a wrong answer does. Every exercise is tried with each of these.
KINDS = ("ignores an argument", "hard-codes the example", "has the classic bug", "has the right shape and nothing else")
_collected: list["Answer"] = []


@dataclass(frozen=True)
class Answer:
    """``kind`` is one of ``KINDS``, or ``None`` for a right answer; ``about`` says what is special about it."""

    label: str
    kind: str | None
    about: str
    value: Any

    def __str__(self) -> str:
        line = getattr(self.value, "__code__", None)
        where = f" (line {line.co_firstlineno})" if line else ""
        return f"{self.value.__name__}{where}, which {self.kind or 'is right'}{': ' * bool(self.about)}{self.about}"


def wrong(label: str, kind: str, about: str = "") -> Callable:
    """Mark an answer that the check of this exercise has to refuse."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of wrong answer: use one of {', '.join(map(repr, KINDS))}.")
    return _collect(label, kind, about)


def right(label: str, about: str) -> Callable:
    """Mark an unusual answer that the check has to accept; ``about`` says what is unusual."""
    return _collect(label, None, about)


def _collect(label: str, kind: str | None, about: str) -> Callable:
    def decorate(value):
        _collected.append(Answer(label, kind, about, value))
        return value

    return decorate


@dataclass
class Exercise:
    """An exercise with a check: the sources of its cells, and of all cells above its check."""

    label: str
    above: list[str]
    stub: str
    check: str = ""
    solution: str = ""

    @property
    def check_name(self) -> str:
        names = [name for name in sorted(_names(self.check)[0]) if name.startswith("check_")]
        if len(names) != 1:
            raise AssertionError(f"{self.label}: the second cell defines {names or 'no check'}, not one check_…")
        return names[0]


def exercises(path: Path) -> list[Exercise]:
    """The exercises of a notebook that have code: a stub, a check and, in the solution, what the stub has defined."""
    found: dict[str, Exercise] = {}
    above: list[str] = []
    for place, label, source in _places(path):
        exercise = found.get(label)
        if place == "exercise" and exercise is None:
            found[label] = Exercise(label, list(above), source)
        elif place == "exercise" and not exercise.check:
            exercise.check = source
        elif place == "solution" and exercise and _names(source)[0] & _names(exercise.stub)[0]:
            exercise.solution += source + "\n"
        above.append(source)
    return list(found.values())


def _places(path: Path) -> Iterator[tuple[str, str, str]]:
    """For every code cell: whether it stands in an exercise, in a solution or elsewhere, of which label; its source."""
    place = label = ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            yield place, label, _python(cell.source)
            continue
        for line in cell.source.splitlines():
            if line.startswith(("```{exercise-start}", "```{solution-start}")):
                place, label = line.removeprefix("```{").split("-")[0], line.split()[-1]
            elif line.startswith(":label: ") and place == "exercise":
                label = line.split()[-1]
            elif line.startswith(("```{exercise-end}", "```{solution-end}")):
                place = ""


def _python(cell: str) -> str:
    """A cell without IPython's commands, which install packages on Colab."""
    return re.sub(r"^(\s*)[%!].*", r"\1pass", cell, flags=re.MULTILINE)


# Which statements a check needs ---------------------------------------------------------------------------------


def needed_of(cells: list[str], needed: set[str]) -> list[str]:
    """The statements of these cells that define the needed names, with what they need themselves, in order.

    A statement counts that binds a needed name, or that changes one: ``net.eval()``, ``table["x"] = 1``,
    ``Net.forward = forward``. What a function uses may also be defined after it.
    """
    statements = [node for cell in cells for node in ast.parse(cell).body]
    imports = [ast.unparse(node) for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = set().union(*(_names(source)[0] for source in imports))
    later: set[str] = set()
    while True:
        kept, wanted, called = [], needed | later, set()
        for node in reversed(statements):
            source = ast.unparse(node)
            bound, used = _names(source)
            if not wanted & (bound | (_changed(node) - imported)):
                continue
            kept.append(source)
            if isinstance(node, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                wanted -= bound  # An earlier definition counts only if something above needs it.
            wanted |= used
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                called |= used
        if called <= later:
            return kept[::-1]
        later |= called


def _names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a piece of Python binds, and those that it uses, at once or when it is called."""
    bound, used = set(), set()
    tables = [symtable.symtable(source, "cell", "exec")]
    for table in tables:
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() != "module" and not symbol.is_global():
                continue
            if symbol.is_assigned() or symbol.is_imported():
                bound.add(symbol.get_name())
            if symbol.is_referenced():
                used.add(symbol.get_name())
    return bound, used


def _changed(node: ast.stmt) -> set[str]:
    """The names of the objects that a statement changes, as far as one sees it."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [node.value.func]
    names = set()
    for target in targets:
        if isinstance(target, ast.Attribute | ast.Subscript):
            while isinstance(target, ast.Attribute | ast.Subscript | ast.Call):
                target = target.func if isinstance(target, ast.Call) else target.value
            names |= {target.id} if isinstance(target, ast.Name) else set()
    return names


# Trying ---------------------------------------------------------------------------------------------------------


def labels(file: Path) -> list[str]:
    """The labels of the exercises that a file of answers is for."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return sorted({label for node in tree.body if (label := _label(node))})


def _label(node: ast.stmt) -> str | None:
    for decorator in getattr(node, "decorator_list", []):
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") in ("right", "wrong"):
            return ast.literal_eval(decorator.args[0])
    return None


def problems(exercise: Exercise, file: Path) -> Iterator[str]:
    """Try the stub, the solution and every answer; a sentence for each thing that is not as it should be."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if _label(node) in (None, exercise.label)]
    needed = set.union(*(_names(source)[1] for source in (exercise.stub, exercise.check, exercise.solution)))
    bound, used = _names(ast.unparse(tree))
    names: dict[str, Any] = {"__name__": exercise.label}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in needed_of(exercise.above, needed | (used - bound)):
            exec(compile(source, exercise.label, "exec"), names)
        exec(compile(exercise.stub, exercise.label, "exec"), names)
        exec(compile(exercise.check, exercise.label, "exec"), names)
        report = _check(exercise, names)
        if report or report.failing:
            yield "the stub does not end in “not yet”"
        exec(compile(exercise.solution, exercise.label, "exec"), names)
    yield from _blame("the solution", _check(exercise, names), expected=True)

    asked = _names(exercise.stub)[0]
    solution = {name: names[name] for name in asked}
    marks = {name: names[name] for name in ("right", "wrong") if name in names}
    _collected.clear()
    exec(compile(tree, str(file), "exec"), names)
    names.update(marks)  # A chapter may have these names, too.
    tried = list(_collected)
    for answer in tried:
        if answer.value.__name__ not in asked:
            yield f"{answer} is none of {sorted(asked)}"
        names.update(solution)
        names[answer.value.__name__] = answer.value
        yield from _blame(str(answer), _check(exercise, names), expected=answer.kind is None)
    for kind in KINDS:
        if not any(answer.kind == kind for answer in tried):
            yield f"no answer that {kind}"
    if sum(answer.kind is None for answer in tried) < 2:
        yield "fewer than two unusual right answers"


def _check(exercise: Exercise, names: dict[str, Any]):
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        return names[exercise.check_name]()


def _blame(who: str, report, expected: bool) -> Iterator[str]:
    if bool(report) != expected:
        yield f"{who} is {'accepted' if report else 'refused: ' + '; '.join(report.failing)}"
    elif not expected and not report.failing:
        yield f"{who} is taken for a stub"
    elif report.errors:
        yield f"{who} does not run: {report.errors}"
