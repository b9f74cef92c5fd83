"""Whether the library, PyTorch and Python are still as they were before a student's code was executed."""

import builtins
import sys
import types
from sys import setprofile, settrace
from typing import Any

# What checks use: what is replaced in these, or in their classes, would change what a check finds.
_ROOTS = ("math", "cmath", "operator", "itertools", "functools", "random", "inspect", "copy", "re", "types")
_TOOLS = ("os", "json", "json.encoder", "linecache", "threading", "contextlib", "dataclasses", "collections")
_DEEP = ("vdmlib", "torch.nn", "torch.optim", "torch.testing", "torch.autograd", "einops")
_FLAT = ("torch", "torch.functional", "torch._tensor", "torch.linalg", "torch.random", "torch.fft", "torch.special")
_CODE = ("__code__", "__defaults__", "__kwdefaults__", "__wrapped__")


class Guard:
    """A copy of what names mean now, that finds what was replaced since and puts it back."""

    def __init__(self):
        self._builtins: Any = vars(builtins)
        self._rooms = [module.__dict__ for name, module in sys.modules.items() if name.startswith("vdmlib.")]
        self._saved_builtins = dict(self._builtins)
        self._saved: dict[str, tuple[Any, dict[str, Any]]] = {}
        for name, module in list(sys.modules.items()):
            if isinstance(module, types.ModuleType) and _is_watched(name):
                self._save(name, module)
        self._codes = self._functions()

    def _save(self, name: str, module: types.ModuleType):
        self._saved[name] = module, _callables(module)
        for value in list(vars(module).values()):
            if isinstance(value, type) and _is_watched(value.__module__) and value.__flags__ & (1 << 9):
                self._saved[f"{value.__module__}.{value.__qualname__}"] = value, _callables(value)

    def _functions(self) -> dict[int, tuple[Any, str, list[Any]]]:
        found = {}
        for where, (_, names) in self._saved.items():
            for name, value in names.items():
                function = getattr(value, "__func__", value)
                if isinstance(function, types.FunctionType):
                    found[id(function)] = function, f"{where}.{name}", [getattr(function, a, None) for a in _CODE]
        return found

    def restore(self) -> list[str]:
        """Put back what was replaced, and say what it was, such as ``torch.allclose``."""
        settrace(None)  # or a student's code could change all that follows
        setprofile(None)
        replaced, now = [], self._builtins
        for name, value in self._saved_builtins.items():  # first, and without them: the rest needs them
            if name not in now or now[name] is not value:
                replaced.append(f"builtins.{name}")
                now[name] = value
        for room in self._rooms:  # where a new name would stand before Python's own
            for name in [name for name in room if name in now and name[0] != "_"]:
                replaced.append(f"{room['__name__']}.{name}")
                del room[name]
        return replaced + self._restore_named() + self._restore_inner()

    def _restore_named(self) -> list[str]:
        replaced = []
        for where, (owner, names) in self._saved.items():
            now = vars(owner)
            for name, value in names.items():
                if now.get(name) is not value:
                    replaced.append(f"{where}.{name}")
                    setattr(owner, name, value)
            if isinstance(owner, type):
                replaced += _drop_new(owner, names, where)
        return replaced

    def _restore_inner(self) -> list[str]:
        """What is imported under the names of the library, and what is inside functions."""
        replaced = []
        for name in ("vdmlib", "torch"):
            if sys.modules.get(name) is not self._saved[name][0]:
                replaced.append(name)
                sys.modules[name] = self._saved[name][0]
        for function, name, code in self._codes.values():
            for attribute, value in zip(_CODE, code, strict=True):
                if getattr(function, attribute, None) is not value:
                    replaced.append(name)
                    setattr(function, attribute, value)
        return replaced


def _drop_new(owner: type, names: dict[str, Any], where: str) -> list[str]:
    """A new __eq__ on a class is a replaced one."""
    now = vars(owner)
    new = [name for name in now if name not in names and name.startswith("__") and callable(now[name])]
    for name in new:
        delattr(owner, name)
    return [f"{where}.{name}" for name in new]


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
