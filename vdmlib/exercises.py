"""Checks for the exercises: which property holds, which fails, and what to do next."""

from collections.abc import Callable, Mapping


def check(exercise: str, properties: Mapping[str, Callable[[], object]]) -> bool:
    """Try the properties one by one and print what holds and what fails; never raises.

    Args:
        exercise: the name that is printed above.
        properties: a sentence that should be true → a function without arguments that tests it, and that returns
            something true, or returns something false or raises where the property fails.

    Returns:
        Whether all properties hold.
    """
    print(exercise)
    holding = 0
    for sentence, test in properties.items():
        try:
            holds, reason = bool(test()), ""
        except NotImplementedError as error:
            print(f"  not yet · {error}")
            return False
        except Exception as error:
            holds, reason = False, f" ({type(error).__name__}: {error})"
        holding += holds
        print(f"  {'holds' if holds else 'FAILS'} · {sentence}{reason}")
    print(f"  {holding} of {len(properties)} properties hold.")
    return holding == len(properties)
