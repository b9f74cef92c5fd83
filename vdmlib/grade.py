"""Grade submissions: ``python -m vdmlib.grade SUBMISSIONS --assignment 1 --out grades.csv``.

SUBMISSIONS is a folder of notebooks, zips and folders; each is a student's. Or it is the one zip that a course platform
makes of them. A notebook defines functions and classes
under the names of the parts; a zip or folder may hold an adapters.py that does, or a dictionary ADAPTERS there.

Beside grades.csv come grades.md (how the class did) and grades/NAME.md (a page for each student). A second run grades
what is new or changed. The checks are those of this installation; what a submission changes in its own does not count.

Each submission is executed in processes of its own, with limits on time, memory and output. On Linux, where the system
permits it, they have no network, see no other process, and cannot see submissions, grades and solutions; the column
"look at" says where that was refused. Results are believed only from the checks, but these run beside the student's
code: who reads and writes memory can still deceive them, and "look at" names what such code would use.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .checks import check_folder, check_new_file, check_number
from .course import feedback, gradescope, submissions
from .course.feedback import Grade
from .course.parts import LEARNER, Assignment
from .course.runner import covered, find_assignment, run_all
from .course.submissions import Submission
from .course.trial import Job

LIBRARY = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """How submissions are graded.

    Attributes:
        assignment: its number, or the name of a module with ``ASSIGNMENT``.
        seed: of the inputs, besides the learner's; a secret one lets nobody learn the answers by heart.
        seconds, megabytes: limits of each cell and test, and of each submission's memory; all that a submission does
            may take twenty times these seconds.
        jobs: how many are graded at the same time, with one thread each.
    """

    assignment: str = "1"
    seed: int = 2718
    seconds: float = 60.0
    megabytes: int = 4000
    jobs: int = 2

    def __post_init__(self):
        check_number("seed", self.seed, 1, 2**31, whole=True)
        check_number("seconds", self.seconds, 1)
        check_number("megabytes", self.megabytes, 100, whole=True)
        check_number("jobs", self.jobs, 1, 64, whole=True)


def grade(folder: str | Path, out: str | Path, settings: Settings, as_one: bool = False) -> list[Grade]:
    """Grade a folder of submissions, and write table, statistics and pages.

    Args:
        folder: of the submissions, or one of them.
        out: the table, a CSV file; everything else is written beside it.
        settings: how.
        as_one: the folder is one student's, however many notebooks are in it.

    Returns:
        A grade for each submission, in the order of their names.

    Raises:
        FileNotFoundError: there are no submissions.
        ValueError, ImportError: there is no such assignment, or the table has another ending.
        OSError: nothing can be written there.
    """
    assignment, out = find_assignment(settings.assignment), check_new_file("out", out, ".csv")
    pages = out.with_suffix("")
    handed_in = submissions.find(folder, pages, as_one)
    check_folder(pages)
    known, checks = _read_state(pages), _hash_of_checks(settings, assignment)
    keys = [hashlib.sha256(f"{checks} {s.name} {s.hash}".encode()).hexdigest() for s in handed_in]
    new = [s for s, key in zip(handed_in, keys, strict=True) if key not in known]
    fresh = iter(_run(new, assignment, settings, covered(Path(folder), pages)))
    grades = [known[key] if key in known else next(fresh) for key in keys]
    state = {key: grade.as_mapping() for key, grade in zip(keys, grades, strict=True)}
    (pages / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for grade, name in zip(grades, _file_names(grades), strict=True):
        (pages / f"{name}.md").write_text(grade.page, encoding="utf-8")
    out.write_text(feedback.table(grades, assignment), encoding="utf-8")
    out.with_suffix(".md").write_text(feedback.class_statistics(grades, assignment), encoding="utf-8")
    print(f"{len(new)} graded, {len(grades) - len(new)} as before; wrote {out}, {out.with_suffix('.md')} and {pages}/")
    return grades


def _run(new: Sequence[Submission], assignment: Assignment, settings: Settings, hidden: list[str]) -> list[Grade]:
    """Grade these, several at the same time."""
    programs = [submissions.program(submission, [part.name for part in assignment.parts]) for submission in new]
    job = Job([], [LEARNER, settings.seed], settings.seconds, settings.megabytes, hidden)
    results = run_all(programs, settings.assignment, job, settings.jobs)
    return [
        feedback.grade_of(submission, program, found, assignment, seconds)
        for submission, program, (found, seconds) in zip(new, programs, results, strict=True)
    ]


def _hash_of_checks(settings: Settings, assignment: Assignment) -> str:
    """Of all that a grade depends on besides the submission."""
    made = {
        sys.modules[f.__module__].__file__ for part in assignment.parts for f in (part.properties, part.hidden) if f
    }
    digest = hashlib.sha256(f"{replace(settings, jobs=1)} {torch.__version__}".encode())
    for path in [*sorted(LIBRARY.rglob("*.py")), *sorted(map(str, made))]:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _read_state(pages: Path) -> dict[str, Grade]:
    try:
        state = json.loads((pages / "state.json").read_text(encoding="utf-8"))
        return {key: Grade(**grade) for key, grade in state.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _file_names(grades: Sequence[Grade]) -> list[str]:
    """A file name for each page, from the student's name; no two are one."""
    names: list[str] = []
    for grade in grades:
        name = stem = re.sub(r"[^\w.@ -]+", "_", grade.name).strip(" .") or "submission"
        number = 2
        while name.casefold() in (taken.casefold() for taken in names):
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m vdmlib.grade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", nargs="?", help="a folder of notebooks, zips and folders, or a zip of a class")
    parser.add_argument("--assignment", default=default.assignment, help="its number, or a module with ASSIGNMENT")
    parser.add_argument("--out", default="grades.csv", help="the table (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the inputs; keep it to yourself")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="limit of each cell and test")
    parser.add_argument("--megabytes", type=int, default=default.megabytes, help="limit of each submission's memory")
    parser.add_argument("--gradescope", metavar="ZIP", help="grade nothing: write the zip for Gradescope's autograder")
    parser.add_argument("--results", metavar="FILE", help="SUBMISSIONS are one student's: write results.json, too")
    parser.add_argument("--jobs", type=int, default=default.jobs, help="submissions graded at the same time")
    return parser


def main(arguments: list[str] | None = None):
    """Entry point; ``--help`` tells the options."""
    options = parser().parse_args(arguments)
    try:
        if not hasattr(os, "fork"):
            raise OSError("Submissions are run in forked processes, which Windows has not: use Linux, macOS or WSL.")
        names = ("assignment", "seed", "seconds", "megabytes", "jobs")
        settings = Settings(**{name: getattr(options, name) for name in names})
        if options.gradescope:
            find_assignment(settings.assignment)
            words = [f"--{name} {getattr(settings, name)}" for name in names[:-1]]
            gradescope.write_zip(Path(options.gradescope), words)
            print(f"wrote {options.gradescope}")
            return
        if options.submissions is None:
            raise ValueError("SUBMISSIONS is missing: pass the folder of the submissions.")
        if options.results:
            check_new_file("results", options.results, ".json")
        grades = grade(options.submissions, options.out, settings, as_one=bool(options.results))
        if options.results:
            gradescope.write_results(Path(options.results), grades, find_assignment(settings.assignment))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command begins again")


if __name__ == "__main__":
    main()
