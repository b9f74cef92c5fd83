"""Where a network runs and in what numbers (chapter 11)."""

from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import nn

from .checks import check_dtype

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
            f"device is {str(device)!r}, which this machine or this build of PyTorch does not have "
            f"({(str(error).splitlines() or ['unknown'])[0][:100]}): use 'cpu', or 'cuda' where there is an NVIDIA GPU."
        ) from None
    return device


def choose_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """A dtype that the device computes in; by default float16 on a GPU and float32 on a CPU."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = check_dtype(dtype, DTYPES)
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


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
