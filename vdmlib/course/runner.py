"""Runs submissions in processes of their own, with limits, and puts together what they tell.

``python -m vdmlib.course.runner ASSIGNMENT`` imports PyTorch and the checks once, reads one job a line, and forks a
process for each. It executes nothing of a student's itself, and believes nothing but short lines of JSON.
"""

import base64
import functools
import importlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import torch

from . import parts
from .parts import Assignment
from .submissions import Program
from .trial import Job, put_checks_away, start

STARTS = 8  # of processes for one submission: each ends by a crash or by a limit
STEPS = 20  # limits of one step, that all steps of a submission may take together
LONGEST = 1_000_000  # bytes that a process may tell


def find_assignment(name: str) -> Assignment:
    """The assignment with this number, or ``ASSIGNMENT`` of the module with this name.

    Raises:
        ValueError, ImportError: there is none.
    """
    if name.isdigit():
        return parts.assignment(int(name))
    found = getattr(importlib.import_module(name), "ASSIGNMENT", None)
    if not isinstance(found, Assignment):
        raise ValueError(f"ASSIGNMENT of {name} is {type(found).__name__}: make it an Assignment from vdmlib.course.")
    return found


class Runner:
    """One server process, as the grader sees it: a job in, what was found out."""

    def __init__(self, assignment: str):
        # This very library, and then what is imported here: where the command is started, another vdmlib may lie.
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-m", __name__, assignment]
        self._process = subprocess.Popen(command, stdin=-1, stdout=-1, env=environment, start_new_session=True)

    def run(self, job: Job, files: Mapping[str, bytes]) -> dict[str, Any]:
        """What was found: errors of cells, and for each part its groups of properties.

        Raises:
            RuntimeError: the server itself has ended.
        """
        message = {**vars(job), "files": {path: base64.b64encode(data).decode() for path, data in files.items()}}
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise RuntimeError("The process that runs submissions has ended: grade again.") from None

    def close(self):
        """End the server."""
        self._process.communicate()


def run_all(programs: Sequence[Program], assignment: str, job: Job, jobs: int) -> list[tuple[dict[str, Any], float]]:
    """Run programs, several at the same time.

    Args:
        programs: of the submissions; those with a fault are not run.
        assignment: as :func:`find_assignment` takes it.
        job: what is the same for all of them.
        jobs: how many run at the same time, with one thread each.

    Returns:
        For each what was found, with what it was not kept from among the unusual; and the seconds that it took.
    """
    runners: Queue[Runner] = Queue()
    for _ in range(min(jobs, len(programs))):
        runners.put(Runner(assignment))

    def one(program: Program) -> tuple[dict[str, Any], float]:
        begin, runner, found = time.monotonic(), runners.get(), {}
        if program.cells:
            try:
                found = runner.run(replace(job, cells=list(program.cells)), program.files)
            except RuntimeError as error:
                runner, found = Runner(assignment), {"unusual": [str(error)]}
            missing = {"network", "processes", "files"} - set(found.get("confined", ()))
            found["unusual"] = [*found["unusual"], *(f"not kept from {what}" for what in sorted(missing))]
        runners.put(runner)
        return found, time.monotonic() - begin

    try:
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, programs))
    finally:
        while not runners.empty():
            runners.get().close()


def covered(*paths: Path) -> list[str]:
    """What a submission must not see: these, the checks, and solutions beside the library."""
    library = Path(__file__).parents[1]
    return [str(path.resolve()) for path in (*paths, library / "course", library.parent / "course")]


class Found:
    """What the processes of one submission have told so far."""

    def __init__(self, job: Job):
        self.job, self.parts, self.cells = job, {}, {}
        self.confined: list[str] = []
        self.unusual: dict[str, None] = {}
        self.skipped: list[list[Any]] = []
        self.step: list[Any] = []
        self.is_over = False

    def group(self, part: str, group: str) -> dict[str, Any]:
        """Of one part, the visible or the hidden properties."""
        groups = self.parts.setdefault(part, {"missing": None, "groups": {}})["groups"]
        return groups.setdefault(group, {"tests": {}, "broken": "", "stub": False})

    def take(self, message: Any):
        """Write down what a process tells; what makes no sense raises."""
        kind, *rest = message
        getattr(self, f"_take_{kind}")(*rest)

    def _take_confined(self, done: list[str]):
        self.confined = [str(word) for word in done]

    def _take_unusual(self, what: str):
        if len(self.unusual) < 20:
            self.unusual[str(what)] = None

    def _take_start(self, *step: Any):
        self.step = list(step)

    def _take_cell(self, number: int, error: str):
        self.cells[int(number)] = str(error)

    def _take_missing(self, part: str, names: list[str]):
        self.parts[part] = {"missing": [str(name) for name in names], "groups": {}}

    def _take_broken(self, part: str, group: str, error: str, is_stub: bool):
        self.group(part, group).update(broken=str(error), stub=bool(is_stub))

    def _take_tests(self, part: str, group: str, seed: int, sentences: list[str]):
        tests = self.group(part, group)["tests"]
        for sentence in sentences:
            tests.setdefault(sentence, {}).setdefault(str(seed), None)

    def _take_result(self, part: str, group: str, seed: int, sentence: str, *result: Any):
        holds, reason, is_stub = result
        tests = self.group(part, group)["tests"]
        if tests[sentence][str(seed)] is None:  # the first word counts
            tests[sentence][str(seed)] = [holds is True, str(reason)]
            self.group(part, group)["stub"] |= bool(is_stub)

    def _take_end(self):
        self.is_over = True

    def died(self, reason: str):
        """A process ended in the middle of a step: the step has failed, and the next process leaves it out."""
        kind, *rest = self.step or ["nothing"]
        if self.step in self.skipped or kind == "nothing":
            self.is_over = True
        self.skipped.append(self.step)
        if kind == "cell":
            self.cells[rest[0]] = reason
        elif kind == "make":
            self.group(rest[0], rest[1])["broken"] = reason
        elif kind == "test":
            part, group, seed, sentence = rest
            self._take_result(part, group, seed, sentence, False, reason, False)


def run_job(job: Job, files: Mapping[str, bytes], begin: Callable[..., None]) -> dict[str, Any]:
    """Start processes until every part has been tried, too many have ended, or all of it has taken too long."""
    found, latest = Found(job), time.monotonic() + STEPS * job.seconds
    for _ in range(STARTS):
        found.step = []
        with tempfile.TemporaryDirectory(prefix="submission-", ignore_cleanup_errors=True) as folder:
            run_once(replace(job, skipped=found.skipped), files, begin, (Path(folder), latest), found)
        if found.is_over or time.monotonic() > latest:
            break
    cells = {str(number): error for number, error in found.cells.items()}
    return {"cells": cells, "parts": found.parts, "confined": found.confined, "unusual": [*found.unusual]}


def run_once(
    job: Job, files: Mapping[str, bytes], begin: Callable[..., None], bounds: tuple[Path, float], found: Found
):
    """One process, in a folder and up to a time, until it says that it is over, ends, or comes to a limit."""
    folder, latest = bounds
    (results, told), (numbers, announce), mark = os.pipe(), os.pipe(), secrets.token_bytes(16).hex().encode()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.close(results)
        os.close(numbers)
        begin(job, files.items(), folder, (told, announce, mark))
    os.close(told)
    os.close(announce)
    try:
        reason = listen(results, mark, job.seconds, latest, found)
    finally:
        end(child, numbers)
        os.close(results)
        os.close(numbers)
    if not found.is_over:
        found.died(reason)


def listen(results: int, mark: bytes, seconds: float, latest: float, found: Found) -> str:
    """Take down what is told, in lines that begin with the mark; returns why no more is coming."""
    buffer, told, deadline = b"", 0, time.monotonic() + seconds
    while not found.is_over:
        deadline = min(deadline, latest)
        if not select.select([results], [], [], max(0.0, deadline - time.monotonic()))[0]:
            is_last = time.monotonic() >= latest
            return (
                f"{'all of it' if is_last else 'it'} took longer than {seconds * (STEPS if is_last else 1):g} seconds"
            )
        data = os.read(results, 65536)
        told += len(data)
        if not data:
            return "it ended the process: by an exit, a crash, or for want of memory"
        *lines, buffer = (buffer + data).split(b"\n")
        if told > LONGEST:
            return "it told too much"
        for line in lines:
            deadline = time.monotonic() + seconds
            try:
                found.take(json.loads(line.removeprefix(mark)) if line.startswith(mark) else None)
            except Exception:  # Whoever writes here what makes no sense is not listened to.
                return "it wrote where only results are written"
    return ""


def end(child: int, numbers: int):
    """End a process and all that it has started."""
    os.set_blocking(numbers, False)
    try:
        inner = [int(line) for line in os.read(numbers, 100).split()]
    except (BlockingIOError, ValueError):
        inner = []
    for kill, number in [(os.kill, pid) for pid in inner] + [(os.killpg, child), (os.kill, child)]:
        try:
            kill(number, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    os.waitpid(child, 0)


def warm_up():
    """Let PyTorch do what it does late: the first optimizer replaces functions of PyTorch's own."""
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)  # no backward pass: its threads would not come through a fork
        kind([weight], lr=0.1).step()


def main():
    """Serve jobs from standard input until it ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a submission may send it, where the system lets it see this process
    torch.set_num_threads(1)
    warm_up()
    assignment = find_assignment(sys.argv[1])
    begin = functools.partial(start, assignment, put_checks_away(assignment))
    for line in sys.stdin.buffer:
        message = json.loads(line)
        files = {path: base64.b64decode(data) for path, data in message.pop("files").items()}
        print(json.dumps(run_job(Job(**message), files, begin)), flush=True)


if __name__ == "__main__":
    main()
