"""The parts of an assignment: what a student writes, what has to hold, and the hint where it does not."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ..checks import check_choice, check_number
from ..exercises import Report, check
from .answers import OVERWRITTEN, plain_answer

# A sentence that should be true → a function that tests it: true if it holds, false or an error if not.
Properties = Mapping[str, Callable[[], object]]
ASSIGNMENTS = (1, 2, 3)
LEARNER = 0  # the seed of what students try themselves; grading uses others


@dataclass(frozen=True)
class Part:
    """One function or class that a student writes.

    Attributes:
        name: of the function or class, such as ``"fold_frames"``.
        points: that it is worth, shared equally by its properties; where there are hidden ones, they share half.
        minutes: that it takes.
        properties: (answer, seed) → what has to hold; a test draws its inputs from the seed, and 0 is the learner's.
            The answer comes as a function; where the student wrote a class, it makes instances.
        hidden: the same, tried by the grader only.
        hints: sentence → a hint that names the fault and does not give the answer.
        without: a pattern of names that the answer must not use; where it does, a person is told.
    """

    name: str
    points: int
    minutes: int
    properties: Callable[[object, int], Properties]
    hidden: Callable[[object, int], Properties] | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
    without: str = ""

    def hint(self, sentence: str, reason: str = "") -> str:
        """For a sentence that fails; none where the reason says it all, unless the sentence is about what is given."""
        return "" if OVERWRITTEN in reason and "given" not in sentence else self.hints.get(sentence, "")

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"name is {self.name!r}, but must be that of a function or class: use letters, digits, _.")
        check_number("points", self.points, 0, whole=True)
        check_number("minutes", self.minutes, 0, whole=True)


@dataclass(frozen=True)
class Assignment:
    """Parts with points, and what a person judges.

    Attributes:
        number: of the assignment, from 1.
        title: what it is about.
        chapters: that it spans.
        parts: that are graded by their properties.
        rubric: (what is judged, points) of the open part, graded by a person.
        open_minutes: that the open part takes.
    """

    number: int
    title: str
    chapters: tuple[int, ...]
    parts: tuple[Part, ...]
    rubric: tuple[tuple[str, int], ...] = ()
    open_minutes: int = 0

    def __post_init__(self):
        names = [part.name for part in self.parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"Several parts are called {', '.join(twice)}: give each a name of its own.")

    @property
    def points(self) -> int:
        """Of all parts, without the rubric's."""
        return sum(part.points for part in self.parts)

    def part(self, name: str) -> Part:
        """The part with this name.

        Raises:
            ValueError: there is none.
        """
        check_choice("part", name, (part.name for part in self.parts))
        return next(part for part in self.parts if part.name == name)


def assignment(number: int) -> Assignment:
    """The assignment with this number, imported when it is asked for.

    Raises:
        ValueError: there is none with this number.
    """
    check_choice("assignment", number, ASSIGNMENTS)
    return importlib.import_module(f"{__package__}.assignment_{number}").ASSIGNMENT


def try_part(title: str, part: Part, answer: object) -> Report:
    """Print which properties of a part hold for an answer, with the learner's seed, and hints; never raises.

    Args:
        title: printed above.
        part: that is tried.
        answer: the student's function or class.

    Returns:
        What holds and what fails; false for a stub that raises ``NotImplementedError``.
    """
    with torch.random.fork_rng(devices=[]):  # the student's own random numbers go on as if nothing had been tried
        torch.manual_seed(LEARNER)
        report = check(title, properties_of(part.properties, plain_answer(answer), LEARNER))
    for sentence in report.failing:
        if hint := part.hint(sentence, str(report.errors.get(sentence, ""))):
            print(f"  hint · {sentence}: {hint}")
    return report


def properties_of(make: Callable[[object, int], Properties], answer: object, seed: int) -> Properties:
    """The properties; if an answer fails while they are made, the one property that it can be used at all."""
    try:
        return make(answer, seed)
    except Exception as caught:
        error = caught

    def fails():
        raise error

    return {"it can be called": fails}
