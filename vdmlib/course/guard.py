"""Whether the library, PyTorch and Python are still as they were before a student's code was executed."""

import builtins
import gc
import signal
import sys
import types
from _thread import _count as count_threads
from collections.abc import Callable
from sys import setprofile, settrace
from typing import Any

import torch

# What checks use: what is replaced in these, or in their classes, would change what a check finds.
_ROOTS = ("math", "cmath", "operator", "itertools", "functools", "random", "inspect", "copy", "re", "types")
_TOOLS = ("os", "json", "json.encoder", "linecache", "threading", "contextlib", "dataclasses", "collections")
_DEEP = ("vdmlib", "torch.nn", "torch.optim", "torch.testing", "torch.autograd", "einops")
_FLAT = ("torch", "torch.functional", "torch._tensor", "torch.linalg", "torch.random", "torch.fft", "torch.special")
_CODE = ("__code__", "__defaults__", "__kwdefaults__", "__wrapped__")
_MODES = ("function", "dispatch")
Watched = dict[str, tuple[Any, dict[str, Any]]]


def keep() -> Callable[[], list[str]]:
    """Remember what names mean now.

    Returns:
        A function that puts back what was replaced since, and says what that was, such as ``torch.allclose``. It uses
        nothing but what it has kept for itself: a class, or a name of this module, a student's code could change.
    """
    watched = _watched()
    steps = (_keep_builtins(), _keep_names(watched), _keep_insides(watched), _keep_libraries(), _keep_state())

    def restore() -> list[str]:
        settrace(None)  # or a student's code could change all that follows
        setprofile(None)
        return [name for step in steps for name in step()]

    return restore


def _keep_builtins() -> Callable[[], list[str]]:
    now: Any = vars(builtins)
    saved = dict(now)
    rooms = [module.__dict__ for name, module in sys.modules.items() if name.startswith("vdmlib.")]

    def restore() -> list[str]:
        replaced = []
        for name, value in saved.items():  # first, and without them: the rest needs them
            if name not in now or now[name] is not value:
                replaced.append(f"builtins.{name}")
                now[name] = value
        for room in rooms:  # where a new name would stand before Python's own
            for name in [name for name in room if name in now and name[0] != "_"]:
                replaced.append(f"{room['__name__']}.{name}")
                del room[name]
        return replaced

    return restore


def _watched() -> Watched:
    """Modules and classes by their names, with what can be called in them."""
    found: Watched = {}
    for where, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and _is_watched(where):
            found[where] = module, _callables(module)
            for value in list(vars(module).values()):
                if isinstance(value, type) and _is_watched(value.__module__) and value.__flags__ & (1 << 9):
                    found[f"{value.__module__}.{value.__qualname__}"] = value, _callables(value)
    return found


def _keep_names(saved: Watched) -> Callable[[], list[str]]:
    ours = "vdmlib."
    classes = {where: owner for where, (owner, _) in saved.items() if isinstance(owner, type)}
    own = {where: {*vars(kind)} for where, kind in classes.items()}
    inherited = {where: {name for above in kind.__mro__[1:] for name in vars(above)} for where, kind in classes.items()}

    def is_new(where: str, name: str, value: Any) -> bool:
        """What hides something inherited replaces it, as __eq__ does; and no class of the library gets new names."""
        is_ours, is_special = where.startswith(ours) and name[:1] != "_", name[:2] == "__" and callable(value)
        return is_ours or is_special or name in inherited[where]

    def restore() -> list[str]:
        replaced = []
        for where, (owner, names) in saved.items():
            now = vars(owner)
            for name, value in names.items():
                if now.get(name) is not value:
                    replaced.append(f"{where}.{name}")
                    setattr(owner, name, value)
            if where in classes:
                for name in [name for name in now if name not in own[where] and is_new(where, name, now[name])]:
                    replaced.append(f"{where}.{name}")
                    delattr(owner, name)
        return replaced

    return restore


def _keep_libraries() -> Callable[[], list[str]]:
    modules = sys.modules
    libraries = {name: modules[name] for name in ("vdmlib", "torch")}

    def restore() -> list[str]:
        replaced = [name for name, module in libraries.items() if modules.get(name) is not module]
        modules.update(libraries)
        return replaced

    return restore


def _keep_insides(watched: Watched) -> Callable[[], list[str]]:
    """What is inside of functions."""
    attributes, codes = _CODE, {}
    for where, (_, names) in watched.items():
        for name, value in names.items():
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                codes[id(function)] = function, f"{where}.{name}", [getattr(function, a, None) for a in attributes]

    def restore() -> list[str]:
        replaced = []
        for function, name, code in codes.values():
            for attribute, value in zip(attributes, code, strict=True):
                if getattr(function, attribute, None) is not value:
                    replaced.append(name)
                    setattr(function, attribute, value)
        return replaced

    return restore


def _keep_state() -> Callable[[], list[str]]:
    """What could act later: timers, threads, what is run with the collection of garbage, modes of PyTorch."""
    count, threads, disable = count_threads, count_threads(), gc.disable
    alarm, timers = signal.setitimer, (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    modes = [[getattr(torch._C, f"_{verb}_torch_{kind}_stack") for verb in ("len", "pop")] for kind in _MODES]
    set_dtype, dtype = torch.set_default_dtype, torch.get_default_dtype()

    def restore() -> list[str]:
        disable()
        for timer in timers:
            alarm(timer, 0)
        found = ["one thread with several"] if count() > threads else []
        for length, pop in modes:
            while length():
                pop()
                found.append("the mode of torch")
        set_dtype(dtype)
        return found

    return restore


def _is_watched(name: str) -> bool:
    return name in (*_ROOTS, *_TOOLS, *_FLAT) or any(name == root or name.startswith(f"{root}.") for root in _DEEP)


def _callables(owner: Any) -> dict[str, Any]:
    """What can be called, or is a module, a property or a static method, by name."""
    kinds = (types.ModuleType, property, staticmethod, classmethod)
    by_torch = str(getattr(owner, "__module__", "")).startswith("torch.optim")  # it wraps step of what is made first
    skipped = ("__dict__", "__weakref__", "__annotate__", "__annotations_cache__", "_")
    return {
        name: value
        for name, value in list(vars(owner).items())
        if name not in skipped and not (by_torch and name == "step") and (callable(value) or isinstance(value, kinds))
    }
