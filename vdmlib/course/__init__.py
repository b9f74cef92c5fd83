"""Coursework: assignments across chapters, in parts that are checked while a student works and graded afterwards.

The contents of assignment N stand in ``vdmlib.course.assignment_N`` and are imported when they are asked for.
"""

from ..exercises import Report
from . import parts
from .parts import ASSIGNMENTS, Assignment, Part, assignment

__all__ = ["ASSIGNMENTS", "Assignment", "Part", "assignment", "try_part"]


def try_part(number: int, name: str, answer: object) -> Report:
    """What a student asks while working: print what holds, what fails, and a hint for what fails; never raises.

    Args:
        number: of the assignment.
        name: of the part, such as ``"fold_frames"``.
        answer: the student's function or class.

    Returns:
        What holds and what fails; false for a stub that raises ``NotImplementedError``, and for an unknown name.
    """
    try:
        part = assignment(number).part(name)
    except ValueError as error:
        print(error)
        return Report()
    return parts.try_part(f"Assignment {number} · {name}", part, answer)
