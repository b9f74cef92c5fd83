"""What a student's code may not do while it runs: look into frames and memory, start processes, read the checks."""

import collections
import dataclasses
import enum
import logging
import os
import sys
import sysconfig
import typing
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch

_LOOKS = ("sys._getframe", "sys._current_", "sys.settrace", "sys.setprofile", "sys.monitoring.", "gc.get_", "ctypes.")
_STARTS = ("os.fork", "os.exec", "os.posix_spawn", "os.system", "os.kill", "subprocess.", "code.__new__", "marshal.")
_OPENS = ("open", "os.listdir", "os.scandir", "os.chdir", "os.symlink", "os.link")
_ATTRIBUTES = {
    "object.__getattr__": ("tb_frame", "gi_frame", "cr_frame", "ag_frame"),
    "object.__setattr__": ("__code__", "__defaults__", "__kwdefaults__"),
}
_NAMERS = (collections, dataclasses, enum, typing)  # they look where a class is made, and hand the frame to nobody


def watch(covered: Iterable[str], tell: Callable[[str], None]):
    """From now on, refuse this to code that belongs to no library, and tell of it; Python cannot take this back.

    Args:
        covered: files and folders that nobody may open.
        tell: is given what is refused, such as ``"sys._getframe"``, before it is.
    """
    is_students, names_a_library = _judges()
    is_hidden, events, attributes, opens = _hides(covered), _LOOKS + _STARTS, _ATTRIBUTES, _OPENS
    frame_of, failure = sys._getframe, PermissionError
    made = ("compile", "code.", "marshal.")  # an import does these, too

    def concerns(event: str, arguments: tuple[Any, ...]) -> str:
        if event.startswith(events):
            return event
        if event in attributes:
            return arguments[1] if arguments[1] in attributes[event] else ""
        if event == "compile":
            return "the name of a library's file" if names_a_library(arguments[1]) else ""
        return "a file of the checks or of the system" if event in opens and any(map(is_hidden, arguments[:2])) else ""

    def hook(event: str, arguments: tuple[Any, ...]):
        if event == "sys._getframe" and arguments[0].f_code is own:  # this hook's own question, below
            return
        what = concerns(event, arguments)
        students = bool(what) and is_students(frame_of(0).f_back, event.startswith(made))
        if students:
            tell(what)
        if students or (what and event in opens):  # a library may open them to show a line of code, and does without
            raise failure(f"{what} is not for answers: do without.")

    own = hook.__code__
    sys.addaudithook(hook)


def _judges() -> tuple[Callable[[FrameType | None, bool], bool], Callable[[Any], bool]]:
    """Whether a frame acts for a student's code, and whether a file name belongs to Python or to a library."""
    paths, above = sysconfig.get_paths(), os.path.dirname
    ours, pytorch = above(above(__file__)), above(above(torch.__file__))  # beside which the other packages lie
    library = tuple(path + os.sep for path in (paths["purelib"], paths["platlib"], ours, pytorch))
    python = ("<frozen", *(path + os.sep for path in (paths["stdlib"], paths["platstdlib"], above(os.__file__))))
    namers, log = {module.__file__ for module in _NAMERS}, logging.__file__

    def is_students(frame: FrameType | None, is_direct: bool) -> bool:
        if frame is None or frame.f_code.co_filename in namers:
            return False
        if frame.f_code.co_filename == log and frame.f_back and frame.f_back.f_code.co_filename == log:
            return False  # it looks for the line that a message comes from
        while frame and not is_direct and frame.f_code.co_filename.startswith(python):
            if frame.f_code.co_filename.startswith(library):
                return False
            frame = frame.f_back
        return frame is not None and not frame.f_code.co_filename.startswith(library + python)

    def names_a_library(name: Any) -> bool:
        return isinstance(name, str) and name.startswith(library + python)

    return is_students, names_a_library


def _hides(covered: Iterable[str]) -> Callable[[Any], bool]:
    """Whether a path is covered, or leads to what the system tells of processes."""
    real, end = os.path.realpath, os.sep
    hidden = tuple(real(path) + end for path in covered)

    def is_hidden(path: Any) -> bool:
        if isinstance(path, bytes):
            path = path.decode("utf-8", "replace")
        if not isinstance(path, str):
            return False
        whole = real(path) + end
        return whole.startswith((*hidden, "/proc/")) or "proc" in path.split("/")

    return is_hidden
