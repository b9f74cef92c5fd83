"""A student's function or class as checks call it: it keeps what it is given, and what it returns is plain."""

import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any

from torch import Tensor, nn

OVERWRITTEN = "it changes a tensor that it is given: work on a copy"

# With these of its own, a result could say of itself what a check wants to hear.
_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__float__", "__int__")
_CONTAINERS = ("__len__", "__iter__", "__contains__", "__getitem__", "__index__", "__array__")
_DISGUISES = ("__torch_function__", "__getattribute__", "__getattr__", "__class__", "__instancecheck__")


def plain_answer(
    answer: Any, restore: Callable[[], list[str]] = list, refuse: Callable[[Any], None] = lambda value: None
) -> Any:
    """A function that calls the answer, and makes instances of it if it is a class.

    It raises where the answer changes a tensor that it is given, replaces something, or returns what is refused.

    Args:
        answer: a student's; what cannot be called comes back as it is.
        restore: puts back what an answer has replaced, and says what that was; called whenever one returns.
        refuse: raises for a result that is not plain, as :func:`refusal` does.
    """
    if not callable(answer):
        return answer
    faults = _faults(restore, refuse)  # a generator hides what it needs; a function would show it to who finds it
    next(faults)
    return functools.wraps(answer, updated=())(functools.partial(_call, faults.send, answer))


def _faults(
    restore: Callable[[], list[str]], refuse: Callable[[Any], None]
) -> Generator[Exception | None, tuple[Any, list[tuple[Tensor, Tensor]]], None]:
    """Takes what an answer has returned, and what it was given beside a copy of it; says what is wrong with it."""
    fault = None
    while True:
        result, given = yield fault
        replaced, fault = restore(), None
        try:
            if not isinstance(result, nn.Module):
                refuse(result)
            if any(now.shape != copy.shape or not _equal(now, copy) for now, copy in given):
                raise ValueError(OVERWRITTEN)
            if replaced:
                raise RuntimeError(f"it replaced {replaced[0]}")
        except Exception as error:
            fault = error


def _call(check: Callable, function: Callable, *arguments: Any, **named: Any) -> Any:
    given = [(tensor, tensor.detach().clone()) for tensor in _tensors([arguments, named])]
    result = function(*arguments, **named)
    if fault := check((result, given)):
        raise fault
    if isinstance(result, nn.Module) and getattr(type(result), "_checked_by", None) is not check:
        _watch_calls(result, check)
    return result


def _watch_calls(module: nn.Module, check: Callable):
    """Let every call of the module be checked."""
    kind = type(module)

    def call(*arguments: Any, **named: Any) -> Any:
        return _call(check, kind.__call__, *arguments, **named)

    names = {"__call__": call, "__module__": kind.__module__, "_checked_by": check}
    object.__setattr__(module, "__class__", type(kind.__name__, (kind,), names))


def refusal() -> Callable[[Any], None]:
    """What raises a ``TypeError`` for a value of a class that is not there yet, if it could lie about itself."""
    known = _classes()
    lies, vars_of = {*_COMPARISONS, *_CONTAINERS, *_DISGUISES}, type.__dict__["__dict__"].__get__
    plain = (Tensor, int, float, complex, str, bytes)

    def refuse(value: Any) -> None:
        inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        if isinstance(inside, tuple | list | set | frozenset) and len(inside) < 10_000:
            for inner in inside:
                refuse(inner)
        for kind in type.mro(type(value)):
            own = set() if id(kind) in known else lies & set(vars_of(kind))
            if own or (id(kind) not in known and isinstance(value, plain)):
                what = f"has its own {min(own)}" if own else "is a kind of its own"
                raise TypeError(f"it returns a {kind.__name__}, which {what}: return plain values")
        if isinstance(value, Tensor) and value.__dict__:
            raise TypeError("it returns a tensor with attributes of its own: return a plain one")

    return refuse


def _classes() -> dict[int, type]:
    """All that there are now, by identity: what is equal to what, a class can decide for itself."""
    found, new = {}, [object]
    while new:
        kind = new.pop()
        if id(kind) not in found:
            found[id(kind)] = kind
            new += type.__subclasses__(kind)
    return found


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, dict | list | tuple):
        for inner in given.values() if isinstance(given, dict) else given:
            yield from _tensors(inner)


def _equal(tensor: Tensor, copy: Tensor) -> bool:
    return bool(((tensor == copy) | (copy != copy)).all())  # what is no number is not equal to itself
