"""Checks for the exercises: which property holds, which fails, and what to do next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What a check found; true if every property holds.

    Attributes:
        holding: the sentences that hold.
        failing: the sentences that fail.
        errors: what was raised, for each sentence that failed by an exception.
    """

    holding: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    errors: Mapping[str, Exception] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.holding) and not self.failing


def check(exercise: str, properties: Mapping[str, Callable[[], object]]) -> Report:
    """Try the properties one by one and print what holds and what fails; never raises.

    Args:
        exercise: the name that is printed above.
        properties: a sentence that should be true → a function without arguments that tests it, and that returns
            something true, or returns something false or raises where the property fails.

    Returns:
        What holds and what fails; false for a stub that raises ``NotImplementedError``.
    """
    print(exercise)
    holding, failing, errors = [], [], {}
    for sentence, test in properties.items():
        try:
            holds, reason = bool(test()), ""
        except NotImplementedError as error:
            print(f"  not yet · {error}")
            return Report()
        except Exception as error:
            holds, reason = False, f" ({type(error).__name__}: {error})"
            errors[sentence] = error
        (holding if holds else failing).append(sentence)
        print(f"  {'holds' if holds else 'FAILS'} · {sentence}{reason}")
    print(f"  {len(holding)} of {len(properties)} properties hold.")
    return Report(tuple(holding), tuple(failing), errors)
