"""How the library answers what it cannot use."""

from collections.abc import Callable

import pytest


def refuses(call: Callable[[], object], kind: type[Exception], *named: str):
    """In one sentence, of exactly this type, that names what it should."""
    with pytest.raises(kind) as error:
        call()
    message = str(error.value)
    assert all(fragment in message for fragment in named), message
    assert message.endswith(".") and "\n" not in message and type(error.value) is kind
