"""What can be traded for less memory, and what is said when it runs out (chapter 11)."""

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..attention import Attention, FeedForward
from ..checks import check_bool, check_choice, check_number
from ..devices import dtype_name
from ..inference import CPU_TOKENS
from ..unet3d import UNet3D

Phase = Literal["loading", "encoding", "denoising", "decoding"]


@dataclass(frozen=True)
class MemoryOptions:
    """What to trade for less memory. The defaults are the fastest; results differ by rounding only.

    Attributes:
        guidance_in_one_batch: both halves of the guidance in one call of the network; off, one after the other.
        decode_frames: how many frames the autoencoder decodes at once.
        sliced_attention: self-attention and feed-forward layers over a few thousand tokens at a time.
        offload: weights wait on the CPU and visit the device: ``"networks"``, each network while it runs;
            ``"blocks"``, besides that each block of the U-Net by itself, which is slow and fits almost anywhere.
    """

    guidance_in_one_batch: bool = True
    decode_frames: int = 4
    sliced_attention: bool = False
    offload: Literal["networks", "blocks"] | None = None

    def __post_init__(self):
        check_bool("guidance_in_one_batch", self.guidance_in_one_batch)
        check_bool("sliced_attention", self.sliced_attention)
        check_number("decode_frames", self.decode_frames, 1, whole=True)
        check_choice("offload", self.offload, (None, "networks", "blocks"))

    def next_saving(self, phase: Phase, offload: bool = True) -> "MemoryOptions | None":
        """The same options with one more that saves memory in this phase, the cheapest first; ``None`` after all.

        ``offload=False`` leaves the weights where they are, for a run on the CPU itself.
        """
        if phase == "denoising" and self.guidance_in_one_batch:
            return replace(self, guidance_in_one_batch=False)
        if phase == "decoding" and self.decode_frames > 1:
            return replace(self, decode_frames=1)
        if offload and self.offload is None:
            return replace(self, offload="networks")
        if phase == "denoising" and not self.sliced_attention:
            return replace(self, sliced_attention=True)
        if phase == "denoising" and self.offload == "networks":
            return replace(self, offload="blocks")
        return None

    def difference(self, other: "MemoryOptions") -> str:
        """What ``other`` sets differently, as it is written in code."""
        return ", ".join(f"{k}={v!r}" for k, v in vars(other).items() if v != getattr(self, k))


FASTEST = MemoryOptions()


# Two frames of 40 × 64 latents: enough to keep a GPU busy with attention.
SLICE_TOKENS = 2 * 40 * 64
# A GPU would have too little to do with the few tokens that a CPU's cache holds.
GPU_WIDE_ELEMENTS = 2**26
ALL_TOKENS = 2**62


def slice_layers(net: UNet3D, options: MemoryOptions, device: torch.device) -> None:
    """Let attention and feed-forward layers take as many tokens at a time as options and device want.

    The device decides and not the tensors that come, since an estimate for a GPU computes on a CPU's fake tensors.
    """
    for layer in net.modules():
        if isinstance(layer, Attention):
            on_gpu, least = ALL_TOKENS, SLICE_TOKENS
        elif isinstance(layer, FeedForward):
            on_gpu, least = max(1, GPU_WIDE_ELEMENTS // layer.widen.out_features), CPU_TOKENS
        else:
            continue
        fastest = None if device.type == "cpu" else on_gpu
        layer.tokens_at_once = least if options.sliced_attention else fastest


@contextmanager
def lend(module: nn.Module, device: torch.device | str) -> Iterator[nn.Module]:
    """The module with its tensors on the device; afterwards it has its old ones again, nothing is copied back."""
    home = [(kind, name, tensor) for kind in tensors_of(module) for name, tensor in kind.items() if tensor is not None]
    try:
        for kind, name, tensor in home:
            visitor = tensor.detach().to(device)
            kind[name] = nn.Parameter(visitor, requires_grad=False) if isinstance(tensor, nn.Parameter) else visitor
        yield module
    finally:
        for kind, name, tensor in home:
            kind[name] = tensor


def tensors_of(module: nn.Module) -> Iterator[dict[str, Any]]:
    """The dictionaries of parameters and of buffers of a module and all modules in it."""
    for owner in module.modules():
        yield owner._parameters
        yield owner._buffers


@contextmanager
def lend_by_block(net: UNet3D, device: torch.device | str) -> Iterator[UNet3D]:
    """The U-Net as if it were on the device, though each block is there only while it runs."""
    with ExitStack() as stack:
        for block in net.named_blocks().values():
            stack.enter_context(_visiting(block, device))
        for layer in (net.embedding, net.norm_out):
            stack.enter_context(lend(layer, device))
        yield net


@contextmanager
def _visiting(block: nn.Module, device: torch.device | str) -> Iterator[None]:
    # No hooks: with them a network keeps what layers have returned, for whoever looks at it.
    forward = block.forward

    def visit(*inputs: Any) -> Any:
        with lend(block, device):
            return forward(*inputs)

    block.forward = visit
    try:
        yield
    finally:
        del block.forward


@contextmanager
def memory_explained(
    phase: Phase, device: torch.device, dtype: torch.dtype, memory: MemoryOptions, size: str = "the weights"
) -> Iterator[None]:
    """Turn "out of memory" into a sentence that names the option to try next, and let go of what was computed."""
    check_choice("phase", phase, get_args(Phase))
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
            f"Memory ran out while {phase} {size} in {dtype_name(dtype)}: {_advice(phase, device, dtype, memory)}. "
            f"({reason})"
        ) from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    # Besides the allocator, the driver and NVIDIA's libraries run out, and each says it in its own way.
    signs = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(sign in str(error).lower() for sign in signs)


def _advice(phase: Phase, device: torch.device, dtype: torch.dtype, memory: MemoryOptions) -> str:
    on_cpu = device.type == "cpu"
    if dtype == torch.float32:
        # A CPU computes in bfloat16 what it is slow at in float16.
        return f"load the model with dtype=torch.{'bfloat16' if on_cpu else 'float16'}, which halves everything"
    options = memory.next_saving(phase, offload=not on_cpu)
    if options is not None:
        return f"try memory=vdmlib.MemoryOptions({FASTEST.difference(options)}) next"
    if phase == "loading":
        return "close other programs, or use a machine with more memory"
    return "make the video smaller, with fewer frames or less height and width"
