"""Where a pipeline runs and in what numbers, and what it says when memory runs out (chapter 10)."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import nn

from .released.memory import FASTEST, MemoryOptions, Stage

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: torch.device | str | None) -> torch.device:
    """A device that is there; by default the GPU if there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device is {str(device)!r}, which this machine or this build of PyTorch does not have: use 'cpu', or "
            f"'cuda' where there is an NVIDIA GPU. ({(str(error).splitlines() or ['unknown'])[0][:100]})"
        ) from None
    return device


def choose_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """A dtype that the device computes in; by default float16 on a GPU and float32 on a CPU."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise ValueError(f"dtype is {dtype!r}: use {', '.join(DTYPES)}.")
    if chosen == torch.bfloat16 and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(f"dtype is bfloat16, but {torch.cuda.get_device_name(device)} has none: use float16.")
    return chosen


def channels_last_weights(module: nn.Module) -> None:
    """Lay out the weights of convolutions as their inputs are, so that no call on a GPU has to do it again.

    On a CPU it makes no difference: oneDNN brings weights into a layout of its own in any case.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
        elif isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last_3d)


def compile_network(network: nn.Module, **options: Any) -> None:
    """``network.compile(**options)``, with each call of einops as one step.

    The compiler would else spend most of its time on reading what einops does inside.
    """
    for function in (rearrange, repeat, einsum):
        torch.compiler.allow_in_graph(function)
    network.compile(**options)


@contextmanager
def memory_explained(
    stage: Stage, device: torch.device, dtype: torch.dtype, memory: MemoryOptions, size: str = "the weights"
) -> Iterator[None]:
    """Turn "out of memory" into a sentence that names the option to try next, and let go of what was computed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        # A notebook keeps the last error, and with it every tensor of the call that failed.
        traceback.clear_frames(error.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise torch.cuda.OutOfMemoryError(
            f"Memory ran out while {stage} {size} in {dtype_name(dtype)}: {_advice(stage, device, dtype, memory)}. "
            f"({reason})"
        ) from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    # Besides the allocator, the driver and NVIDIA's libraries run out, and each says it in its own way.
    signs = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(sign in str(error).lower() for sign in signs)


def _advice(stage: Stage, device: torch.device, dtype: torch.dtype, memory: MemoryOptions) -> str:
    on_cpu = device.type == "cpu"
    if dtype == torch.float32:
        # A CPU computes in bfloat16 what it is slow at in float16.
        return f"load the model with dtype=torch.{'bfloat16' if on_cpu else 'float16'}, which halves everything"
    options = memory.next(stage, offload=not on_cpu)
    if options is not None:
        return f"try memory=vdmlib.MemoryOptions({FASTEST.changes(options)}) next"
    if stage == "loading":
        return "close other programs, or use a machine with more memory"
    return "make the video smaller, with fewer frames or less height and width"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
