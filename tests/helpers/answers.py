"""Wrong and right answers to the exercises of a chapter, tried with the chapter's own checks.

The answers to ``book/02_unet2d.ipynb`` stand in ``tests/book/answers/02_unet2d.py``. They may use every name that the
notebook has defined above the check. Each is a function or class with the name of the one it replaces::

    from answers import right, wrong

    @wrong("ex-unet2d-sizes", "hard-codes the example", fails="of the sizes up to 572, 25 fit")
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from exercise_cells import Exercise, exercises, names_of, needed_of

__all__ = ["FOLDER", "KINDS", "exercises", "labels", "problems", "right", "wrong"]

FOLDER = Path(__file__).resolve().parents[1] / "book" / "answers"
# What a wrong answer does. Every exercise is tried with each of these.
KINDS = ("ignores an argument", "hard-codes the example", "has the classic bug", "has the right shape and nothing else")
_collected: list["Answer"] = []


@dataclass(frozen=True)
class Answer:
    """``kind`` is one of ``KINDS``, or ``None`` for a right answer; ``about`` says what is special about it.

    ``fails`` is the sentence of the check that names its fault to the learner, the nearest that there is.
    """

    label: str
    kind: str | None
    about: str
    value: Any
    fails: str = ""

    def __str__(self) -> str:
        line = getattr(self.value, "__code__", None)
        where = f" (line {line.co_firstlineno})" if line else ""
        return f"{self.value.__name__}{where}, which {self.kind or 'is right'}{': ' * bool(self.about)}{self.about}"


def wrong(label: str, kind: str, about: str = "", fails: str = "") -> Callable:
    """Mark an answer that the check of this exercise has to refuse, with this sentence among those that fail."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of wrong answer: use one of {', '.join(map(repr, KINDS))}.")
    return _collect(label, kind, about, fails)


def right(label: str, about: str) -> Callable:
    """Mark an unusual answer that the check has to accept; ``about`` says what is unusual."""
    return _collect(label, None, about)


def _collect(label: str, kind: str | None, about: str, fails: str = "") -> Callable:
    def decorate(value):
        _collected.append(Answer(label, kind, about, value, fails))
        return value

    return decorate


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
    needed = set.union(*(names_of(source)[1] for source in (exercise.stub, exercise.check, exercise.solution)))
    bound, used = names_of(ast.unparse(tree))
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

    asked = names_of(exercise.stub)[0]
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
        report = _check(exercise, names)
        yield from _blame(str(answer), report, expected=answer.kind is None)
        if answer.kind and report.failing and answer.fails not in report.failing:
            yield f"{answer}: its fault is not named: {answer.fails!r} is not among {report.failing}"
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
