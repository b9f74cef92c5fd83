"""What makes a network faster and smaller while it is not trained, and changes no result (chapters 6, 8 and 11)."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

KeysValues = tuple[Tensor, ...]

# On a CPU so many tokens at a time pass fastest, if their rows are short (the frames of a video): what is computed of
# them on the way stays in its cache. Long rows (the pixels of a picture) are work enough one by one.
CPU_TOKENS = 1024
CPU_ROW = 32

# The names that wrapped modules add to those of their weights: DistributedDataParallel and AveragedModel, DeepSpeed,
# torch.compile, FSDP, and FSDP's activation checkpointing. And what AveragedModel counts besides.
WRAPPING_MODULES = {"module", "_forward_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
WRAPPING_COUNTERS = {"n_averaged"}


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


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without what PyTorch wraps around one: DataParallel, AveragedModel, torch.compile, ..."""
    while isinstance(inner := getattr(network, "_orig_mod", getattr(network, "module", None)), nn.Module):
        network = inner
    return network


def bare_name(name: str) -> str:
    """A weight's name as the network itself gave it, without those of what it was wrapped into when it was saved."""
    return ".".join(piece for piece in name.split(".") if piece not in WRAPPING_MODULES)


def in_chunks(
    layer: Callable[[Tensor], Tensor], x: Float[Tensor, "rows ... c"], tokens_at_once: int | None = None
) -> Float[Tensor, "rows ... c2"]:
    """``layer(x)`` for a layer that looks at one row of tokens at a time: the same in less memory.

    Takes whole rows of about ``tokens_at_once`` tokens together; ``None`` stands for as many as is fastest. While
    gradients are recorded, which keeps every activation anyway, all rows are taken at once.
    """
    row = x.shape[1:-1].numel()
    if tokens_at_once is None:
        tokens_at_once = CPU_TOKENS if x.device.type == "cpu" and row <= CPU_ROW else len(x) * row
    at_once = max(1, tokens_at_once // row)
    if len(x) <= at_once or torch.is_grad_enabled():
        return layer(x)
    result = layer(x[:at_once])
    out = result.new_empty(len(x), *result.shape[1:])
    out[:at_once] = result
    for start in range(at_once, len(x), at_once):
        del result  # Or it would still be there while the next one is made.
        result = layer(x[start : start + at_once])
        out[start : start + at_once] = result
    return out
