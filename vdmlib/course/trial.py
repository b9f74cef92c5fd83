"""The process in which a student's code is executed and tried: cells one by one, then part by part."""

import functools
import inspect
import json
import linecache
import os
import random
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import vdmlib

from . import confine
from .guard import Guard
from .parts import Assignment, Part

MESSAGE = 300  # characters of an error that are passed on
_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__len__", "__float__")
_DISGUISES = ("__torch_function__", "__array__", "__getattribute__", "__getattr__", "__class__", "__instancecheck__")


@dataclass(frozen=True)
class Job:
    """What is done with one submission.

    Attributes:
        cells: Python, executed one by one; files: written beside them.
        seeds: that each part is tried with; hidden properties with the last one alone.
        seconds, megabytes: limits of each cell and test, and of the whole process.
        covered: folders that the process must not see.
        skipped: cells and tests that ended an earlier process.
    """

    cells: list[str]
    seeds: list[int]
    seconds: float
    megabytes: int
    covered: list[str] = field(default_factory=list)
    skipped: list[list[Any]] = field(default_factory=list)


class Trial:
    """Executes, tries, and tells: every step is announced before it is taken, so that what ends it is known."""

    def __init__(self, job: Job, tell: Callable[[list[Any]], None], guard: Guard):
        self.job, self.tell, self.guard = job, tell, guard

    def run(self, assignment: Assignment):
        """All cells, then all parts."""
        page = self.execute()
        replaced = sorted(set(self.guard.restore()))
        names = dict(vars(page))
        table = names.get("ADAPTERS")
        given = {**names, **(table if isinstance(table, dict) else {})}
        if replaced:
            self.tell(["replaced", replaced[:5]])
        for part in assignment.parts:
            answer = given.get(part.name)
            if callable(answer):
                self.try_part(part, answer)
            else:
                self.tell(["missing", part.name, sorted(n for n, v in names.items() if inspect.isroutine(v))[:200]])
        self.tell(["end"])

    def execute(self) -> types.ModuleType:
        """A module with the names that the cells define; an error in one does not stop the next."""
        page = types.ModuleType("__main__")
        sys.modules["__main__"] = page
        page.__dict__.update(display=_nothing, get_ipython=_nothing)
        for number, cell in enumerate(self.job.cells):
            step = ["cell", number]
            if step in self.job.skipped:
                continue
            self.tell(["start", *step])
            file = f"<cell {number + 1}>"
            linecache.cache[file] = (len(cell), None, cell.splitlines(True), file)
            try:
                exec(compile(cell, file, "exec"), page.__dict__)
            except BaseException as error:
                self.tell(["cell", number, _said(error)])
        return page

    def try_part(self, part: Part, answer: Any):
        """Every property with every seed, the hidden ones with the last."""
        plain = answer if isinstance(answer, type) else _with_plain_results(answer)
        groups = [("properties", part.properties, seed) for seed in self.job.seeds]
        if part.hidden is not None:
            groups.append(("hidden", part.hidden, self.job.seeds[-1]))
        for group, make, seed in groups:
            step = ["make", part.name, group, seed]
            if step in self.job.skipped:
                continue
            self.tell(["start", *step])
            _seed(seed)
            try:
                tests = make(plain, seed)
            except BaseException as error:
                self.tell(["broken", part.name, group, _said(error), isinstance(error, NotImplementedError)])
                continue
            tests = {str(sentence): test for sentence, test in tests.items()}
            self.tell(["tests", part.name, group, seed, list(tests)])
            for sentence, test in tests.items():
                self.try_test([part.name, group, seed, sentence], test)

    def try_test(self, where: list[Any], test: Callable[[], object]):
        """One property with one seed."""
        if ["test", *where] in self.job.skipped:
            return
        self.tell(["start", "test", *where])
        self.guard.restore()
        _seed(where[2])
        is_stub, reason = False, ""
        try:
            result = test()
            holds = _refuse_disguises(result) or bool(result)
        except BaseException as error:
            holds, reason, is_stub = False, _said(error), isinstance(error, NotImplementedError)
        if replaced := self.guard.restore():
            holds, reason = False, f"while it was tried, it replaced {replaced[0]}"
        self.tell(["result", *where, holds, reason, is_stub])


def _put_checks_away() -> Guard:
    """What a student's code imports as the checks is an empty room, where nothing is tried or judged."""
    room, board = types.ModuleType("vdmlib.course"), types.ModuleType("vdmlib.course.leaderboard")
    room.__dict__.update(try_part=_nothing, ASSIGNMENTS=(), leaderboard=board, __path__=[])
    board.__dict__.update(leaderboard=_nothing)
    vdmlib.course = room  # pyright: ignore[reportAttributeAccessIssue] an import has put it there
    guard = Guard()
    for name in [name for name in sys.modules if name.startswith("vdmlib.course")]:
        del sys.modules[name]
    sys.modules |= {room.__name__: room, board.__name__: board}
    return guard


def _nothing(*_: Any, **__: Any):
    """What a notebook shows is shown to nobody here."""


def _seed(seed: int):
    random.seed(seed)
    torch.manual_seed(seed)


def _said(error: BaseException) -> str:
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = ""
    return f"{type(error).__name__}: {message}"[:MESSAGE]


def _with_plain_results(answer: Any) -> Any:
    """The function; what it returns must not be of a kind that says of itself that it is equal to anything."""

    @functools.wraps(answer)
    def call(*arguments: Any, **named: Any):
        result = answer(*arguments, **named)
        _refuse_disguises(result)
        return result

    return call


def _refuse_disguises(value: Any):
    if isinstance(value, tuple | list | set | frozenset) and len(value) < 10_000:
        for inner in value:
            _refuse_disguises(inner)
    if isinstance(value, dict):
        _refuse_disguises([*value.keys(), *value.values()])
    for kind in type.mro(type(value)):
        own = set(vars(kind)) & {*_COMPARISONS, *_DISGUISES}
        if kind.__module__ == "__main__" or not _is_what_it_says(kind):
            own -= {"__eq__"} if "__dataclass_fields__" in vars(kind) else set()
            if own:
                raise TypeError(
                    f"it returns a {kind.__name__}, which has its own {sorted(own)[0]}: return plain values"
                )


def _is_what_it_says(kind: type) -> bool:
    """Whether a class is the one that its module has under its name, and was there before the student's code."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ in _KNOWN and (
        module is None or getattr(module, kind.__name__, kind) is kind or "." in kind.__qualname__
    )


_KNOWN: set[str] = set()


def start(
    job: Job, assignment: Assignment, files: Iterable[tuple[str, bytes]], folder: Path, pipes: tuple[int, int, bytes]
):
    """In a new process: limits, walls, then the trial; never returns.

    Args:
        job: what to do.
        assignment: its parts, imported before any of the student's code.
        files: (path, content), written into the folder.
        folder: an empty one, for this process alone.
        pipes: file descriptors for what is told, and for the number of the process; how each line begins.
    """
    try:
        results, announce, mark = pipes
        for path, content in files:
            (target := folder / path).parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        os.chdir(folder)
        done = confine.isolate(str(folder), job.covered, announce)
        confine.limit(job.megabytes, job.seconds * 20)
        confine.drop_rights(folder, [os.__file__, torch.__file__, __file__, sys.executable])
        os.close(announce)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), MPLBACKEND="Agg", HF_HUB_OFFLINE="1")
        sys.path.insert(0, str(folder))
        sys.argv = ["submission"]
        guard = _put_checks_away()
        _KNOWN.update(sys.modules)

        def tell(message: list[Any]):
            line = mark + json.dumps(message).encode() + b"\n"
            while line:
                line = line[os.write(results, line) :]

        tell(["confined", done])
        Trial(job, tell, guard).run(assignment)
    finally:
        os._exit(0)
