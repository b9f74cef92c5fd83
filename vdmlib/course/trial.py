"""The process in which a student's code is executed and tried: cells one by one, then part by part."""

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
from tqdm import tqdm

import vdmlib

from . import confine
from .answers import plain_answer, refusal
from .guard import keep
from .parts import Assignment, Part
from .watch import watch

MESSAGE = 300  # characters of an error that are passed on


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

    def __init__(self, job: Job, tell: Callable[[list[Any]], None], restore: Callable[[], list[str]]):
        self.job, self.tell, self.restore = job, tell, restore
        self.refuse = refusal()

    def run(self, assignment: Assignment):
        """All cells, then all parts."""
        page = self.execute()
        replaced = sorted(set(self.restore()))
        names = dict(vars(page))
        table = names.get("ADAPTERS")
        given = {**names, **(table if isinstance(table, dict) else {})}
        for name in replaced[:5]:
            self.tell(["unusual", f"replaces {name}"])
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
        plain = plain_answer(answer, self.restore, self.refuse)
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
            finally:
                self.restore()
            tests = {str(sentence): test for sentence, test in tests.items()}
            self.tell(["tests", part.name, group, seed, list(tests)])
            for sentence, test in tests.items():
                self.try_test([part.name, group, seed, sentence], test)

    def try_test(self, where: list[Any], test: Callable[[], object]):
        """One property with one seed."""
        if ["test", *where] in self.job.skipped:
            return
        self.tell(["start", "test", *where])
        _seed(where[2])
        is_stub, reason = False, ""
        try:
            result = test()
            holds = self.refuse(result) is None and bool(result)
        except BaseException as error:
            holds, reason, is_stub = False, _said(error), isinstance(error, NotImplementedError)
        if replaced := self.restore():
            holds, reason = False, f"while it was tried, it replaced {replaced[0]}"
        self.tell(["result", *where, holds, reason, is_stub])


def put_checks_away(assignment: Assignment) -> Callable[[], list[str]]:
    """From now on, what is imported as the checks is an empty room; returns what :func:`guard.keep` does."""
    room, board = types.ModuleType("vdmlib.course"), types.ModuleType("vdmlib.course.leaderboard")
    room.__dict__.update(try_part=_nothing, ASSIGNMENTS=(), leaderboard=board, __path__=[])
    board.__dict__.update(leaderboard=_nothing)
    vdmlib.course = room  # pyright: ignore[reportAttributeAccessIssue] an import has put it there
    restore = keep()
    own = {part.properties.__module__ for part in assignment.parts}
    for name in [name for name in sys.modules if name.startswith("vdmlib.course") or name in own]:
        del sys.modules[name]
    sys.modules |= {room.__name__: room, board.__name__: board}
    return restore


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


def start(
    assignment: Assignment,
    restore: Callable[[], list[str]],
    job: Job,
    files: Iterable[tuple[str, bytes]],
    folder: Path,
    pipes: tuple[int, int, bytes],
):
    """In a new process: limits, walls, then the trial; never returns.

    Args:
        assignment: its parts, imported before any of the student's code.
        restore: puts back what a student's code replaces.
        job: what to do.
        files: (path, content), written into the folder.
        folder: an empty one, for this process alone.
        pipes: file descriptors for what is told, and for the number of the process; how each line begins.
    """
    try:
        results, announce, mark = pipes
        for path, content in files:
            (target := folder / path).parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        done = confine.isolate(str(folder), job.covered, announce)
        os.chdir(folder)  # afterwards: it may be another one by now, the only one that can be written
        confine.limit(job.megabytes, job.seconds * 20)
        confine.drop_rights(folder, [os.__file__, torch.__file__, __file__, sys.executable])
        os.close(announce)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), MPLBACKEND="Agg", HF_HUB_OFFLINE="1")
        sys.path.insert(0, str(folder))
        sys.argv, tqdm.monitor_interval = ["submission"], 0  # its progress bars would start a thread
        encode, write = json.JSONEncoder().encode, os.write

        def tell(message: list[Any]):
            line = mark + encode(message).encode() + b"\n"
            while line:
                line = line[write(results, line) :]

        tell(["confined", done])
        checks = {part.properties.__code__.co_filename for part in assignment.parts}
        trial = Trial(job, tell, restore)
        watch([*job.covered, *checks], lambda what: tell(["unusual", f"tries {what}"]))
        trial.run(assignment)
    finally:
        os._exit(0)
