"""Wrong and right answers to the parts of an assignment, marked where they are written.

``@wrong("per_frame", "the layer is called once")``: this answer fails, and that sentence is among those that do;
``@hidden("per_frame", ...)``: so does this one, where only the grader looks;
``@right("per_frame", "what is unusual about it")``: this one passes, hidden properties included.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tried:
    part: str
    fails: str | None
    about: str
    value: Any


_collected: list[Tried] = []


def wrong(part: str, fails: str) -> Callable:
    return lambda value: _collected.append(Tried(part, fails, "", value)) or value


def hidden(part: str, fails: str) -> Callable:
    return lambda value: _collected.append(Tried(part, fails, "hidden", value)) or value


def right(part: str, about: str) -> Callable:
    return lambda value: _collected.append(Tried(part, None, about, value)) or value


def answers_to(number: int) -> list[Tried]:
    """All of an assignment, from tests/course/answers_to_N.py."""
    module = importlib.import_module(f"answers_to_{number}")
    _collected.clear()
    importlib.reload(module)
    return list(_collected)
