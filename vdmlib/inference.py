"""What makes a network faster and smaller while it is not trained, and changes no result (chapters 6, 8 and 11)."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

KeysValues = tuple[Tensor, ...]


@runtime_checkable
class AsksContext(Protocol):
    """An attention layer, as far as a :class:`ContextCache` needs to know it."""

    def keys_values(self, context: Tensor) -> KeysValues: ...


class ContextCache:
    """Context tokens whose keys and values are computed once for each layer, however often the network runs.

    The context does not change from one sampling step to the next, so a sampler makes one cache a run
    (:meth:`vdmlib.UNet3D.prepare_context`) and passes it as ``context``. Not for training: weights must not change.
    """

    def __init__(self, tokens: Float[Tensor, "b m c"]):
        self.tokens = tokens
        self._of_layer: dict[AsksContext, KeysValues] = {}

    def get(self, attention: AsksContext) -> KeysValues:
        """Keys and values of this layer, computed when it asks for the first time."""
        if attention not in self._of_layer:
            self._of_layer[attention] = attention.keys_values(self.tokens)
        return self._of_layer[attention]


def in_chunks(
    layer: Callable[[Tensor], Tensor], rows: Float[Tensor, "n ..."], at_once: int | None
) -> Float[Tensor, "n ..."]:
    """``layer(rows)`` for a layer that looks at one row at a time, so many rows at once: the same in less memory.

    All at once where ``at_once`` is ``None``, and while gradients are recorded, which keeps every activation anyway.
    """
    if at_once is None or len(rows) <= at_once or torch.is_grad_enabled():
        return layer(rows)
    out = None
    for start in range(0, len(rows), at_once):
        result = layer(rows[start : start + at_once])
        out = result.new_empty(len(rows), *result.shape[1:]) if out is None else out
        out[start : start + at_once] = result
        del result  # Or it would still be there while the next one is made.
    return out
