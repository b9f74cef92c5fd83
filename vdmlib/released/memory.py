"""Less memory, and how much a run needs, counted tensor by tensor before anything is allocated (chapter 10)."""

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..attention import FeedForward
from ..unet3d import UNet3D
from .encoders import decode_latents, encode_text
from .releases import Release, build_parts

Stage = Literal["loading", "encoding", "denoising", "decoding"]


@dataclass(frozen=True)
class MemoryOptions:
    """What to trade for less memory. The defaults are the fastest; results differ by rounding only.

    Attributes:
        guidance_in_one_batch: both halves of the guidance in one call of the network; off, one after the other.
        decode_frames: how many frames the autoencoder decodes at once.
        sliced_attention: self-attention and feed-forward layers over a few thousand tokens at a time.
        offload: weights wait on the CPU and visit the device: ``"parts"``, each network while it runs;
            ``"blocks"``, besides that each block of the U-Net by itself, which is slow and fits almost anywhere.
    """

    guidance_in_one_batch: bool = True
    decode_frames: int = 4
    sliced_attention: bool = False
    offload: Literal["parts", "blocks"] | None = None

    def __post_init__(self):
        for name in ("guidance_in_one_batch", "sliced_attention"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}: use True or False.")
        if isinstance(self.decode_frames, bool) or not isinstance(self.decode_frames, int) or self.decode_frames < 1:
            raise ValueError(f"decode_frames is {self.decode_frames!r}: use a whole number of frames from 1.")
        if self.offload not in (None, "parts", "blocks"):
            raise ValueError(f"offload is {self.offload!r}: use None, 'parts' or 'blocks'.")

    def next(self, stage: Stage, offload: bool = True) -> "MemoryOptions | None":
        """The same options with one more that saves memory in this stage, the cheapest first; ``None`` after all.

        ``offload=False`` leaves the weights where they are, for a run on the CPU itself.
        """
        if stage == "denoising" and self.guidance_in_one_batch:
            return replace(self, guidance_in_one_batch=False)
        if stage == "decoding" and self.decode_frames > 1:
            return replace(self, decode_frames=1)
        if offload and self.offload is None:
            return replace(self, offload="parts")
        if stage == "denoising" and not self.sliced_attention:
            return replace(self, sliced_attention=True)
        if stage == "denoising" and self.offload == "parts":
            return replace(self, offload="blocks")
        return None

    def changes(self, other: "MemoryOptions") -> str:
        """What ``other`` sets differently, as it is written in code."""
        return ", ".join(f"{k}={v!r}" for k, v in vars(other).items() if v != getattr(self, k))


FASTEST = MemoryOptions()


# Two frames of 40 × 64 latents: enough to keep a GPU busy with attention.
SLICE_TOKENS = 2 * 40 * 64
# A CPU is fastest with the few thousand tokens of FeedForward.CHUNK_ELEMENTS; a GPU would have too little to do.
GPU_CHUNK_ELEMENTS = 2**26


def slice_layers(net: UNet3D, options: MemoryOptions, device: torch.device) -> None:
    """Let attention and feed-forward layers take as much at a time as options and device want."""
    net.slice_attention(SLICE_TOKENS if options.sliced_attention else None)
    small = options.sliced_attention or device.type == "cpu"
    for module in net.modules():
        if isinstance(module, FeedForward):
            module.CHUNK_ELEMENTS = FeedForward.CHUNK_ELEMENTS if small else GPU_CHUNK_ELEMENTS


@contextmanager
def lent(module: nn.Module, device: torch.device | str) -> Iterator[nn.Module]:
    """The module with its tensors on the device; afterwards it has its old ones again, nothing is copied back."""
    home = [(kind, name, tensor) for kind in _tensors(module) for name, tensor in kind.items() if tensor is not None]
    try:
        for kind, name, tensor in home:
            visitor = tensor.detach().to(device)
            kind[name] = nn.Parameter(visitor, requires_grad=False) if isinstance(tensor, nn.Parameter) else visitor
        yield module
    finally:
        for kind, name, tensor in home:
            kind[name] = tensor


def _tensors(module: nn.Module) -> Iterator[dict[str, Tensor | None]]:
    """The dictionaries of parameters and of buffers of a module and all modules in it."""
    for owner in module.modules():
        yield owner._parameters
        yield owner._buffers


@contextmanager
def lent_by_block(net: UNet3D, device: torch.device | str) -> Iterator[UNet3D]:
    """The U-Net as if it were on the device, though each block is there only while it runs."""
    with ExitStack() as stack:
        for block in unet_blocks(net):
            stack.enter_context(_visiting(block, device))
        for layer in (net.embedding, net.norm_out, net.conv_out):
            stack.enter_context(lent(layer, device))
        yield net


@contextmanager
def _visiting(block: nn.Module, device: torch.device | str) -> Iterator[None]:
    visit = ExitStack()

    def arrive(module, inputs):
        visit.enter_context(lent(module, device))

    def leave(module, inputs, output):
        visit.close()

    hooks = [block.register_forward_pre_hook(arrive), block.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def unet_blocks(net: UNet3D) -> list[nn.Module]:
    return [*net.encoder_blocks, net.middle, *net.decoder_blocks]


class TensorLedger(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive while it is active: each storage once, from birth to death.

    ``on_cpu`` also counts that a CPU's convolution copies its weights while it runs, into a layout of its own and, if
    need be, into that of its input before; beside a short and small video that is more than all activations.
    """

    def __init__(self, on_cpu: bool = False):
        super().__init__()
        self.on_cpu = on_cpu
        self.bytes = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            self._meet(leaf, new=False)
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            self._meet(leaf, new=True)
        if self.on_cpu and func is torch.ops.aten.convolution.default and math.prod(args[1].shape[2:]) > 1:
            copies = 1 if args[0].is_contiguous() else 2
            self.peak = max(self.peak, self.bytes + copies * args[1].nbytes)
        return result

    def _meet(self, leaf: object, new: bool) -> None:
        if not isinstance(leaf, Tensor) or (key := leaf.untyped_storage()._cdata) in self._known:
            return
        storage = leaf.untyped_storage()
        size = storage.nbytes() if new else 0  # What was there before, such as weights, is not counted.

        def forget(_):
            del self._known[key]
            self.bytes -= size

        self._known[key] = weakref.ref(storage, forget)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def peak_bytes(run: Callable[[], object], on_cpu: bool = False) -> int:
    """The most bytes that the tensors made inside ``run`` take at one moment; see :class:`TensorLedger`."""
    with TensorLedger(on_cpu) as ledger:
        run()
    return ledger.peak


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: of each part's weights, and in each stage the weights on the device and the peak of everything else."""

    weights: dict[str, int]
    resident: dict[Stage, int]
    activations: dict[Stage, int]

    @property
    def peak(self) -> int:
        """The most that is needed at once, and so what the device must have."""
        return max(self.resident[stage] + self.activations[stage] for stage in self.resident)


def estimate_memory(
    release: Release,
    options: MemoryOptions = FASTEST,
    dtype: torch.dtype = torch.float16,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    prompts: int = 1,
    guidance: bool = True,
    device: torch.device | str = "cuda",
) -> MemoryEstimate:
    """What a run of :class:`vdmlib.VideoCrafterPipeline` on a device needs, without memory, weights or that device.

    Every stage runs on fake tensors, which have shapes and lifetimes but no contents, and all of them are counted.
    Kernels are taken to be fused as the CPU's are. What a GPU's libraries take as working space, and copies where one
    of them wants another layout, come on top.
    """
    frames, height, width = frames or release.frames, height or release.height, width or release.width
    with torch.device("meta"):
        parts = build_parts(release)
    weights = {name: sum(p.numel() for p in part.parameters()) * dtype.itemsize for name, part in parts.named().items()}
    device = torch.device(device)
    on_cpu = device.type == "cpu"
    both = 2 if guidance else 1
    calls = both if options.guidance_in_one_batch else 1
    with FakeTensorMode(), torch.no_grad():
        for part in parts.named().values():
            _make_fake(part, dtype)
        slice_layers(parts.unet, options, device)

        def draw(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype)

        ids = torch.zeros(prompts + 1, release.text_encoder.tokens, dtype=torch.long)
        encoding = [peak_bytes(lambda: encode_text(parts.text_encoder, ids), on_cpu)]
        tokens = release.text_encoder.tokens
        if release.kind == "i2v":
            side = release.image_encoder.image_size
            picture = draw(prompts + 1, 3, side, side)
            encoding.append(peak_bytes(lambda: parts.resampler(parts.image_encoder(picture)), on_cpu))
            tokens += release.resampler.queries
        factor = release.autoencoder.downsampling
        shape = (frames, release.unet.in_channels, height // factor, width // factor)
        prompt = draw(calls * prompts, tokens, release.unet.context_channels)

        def step():
            x = draw(prompts, *shape, dtype=torch.float32)
            # Where the two halves take turns, the keys and values of the first stay while the second runs.
            kept = [parts.unet.prepare_context(prompt) for _ in range(both // calls)]
            for cache in kept:
                doubled = torch.cat([x] * calls).to(dtype)
                result = parts.unet(doubled, torch.zeros(len(doubled)), context=cache, fps=release.fps)
            return x, result.float()

        activations = {
            "encoding": max(encoding),
            "denoising": peak_bytes(step, on_cpu),
            "decoding": peak_bytes(
                lambda: decode_latents(parts.autoencoder, draw(prompts, *shape), options.decode_frames), on_cpu
            ),
        }
    return MemoryEstimate(weights, _resident(weights, parts.unet, options, dtype), activations)


def _make_fake(part: nn.Module, dtype: torch.dtype) -> None:
    for kind in _tensors(part):
        for name, tensor in kind.items():
            if tensor is not None:
                fake = torch.empty(tensor.shape, dtype=dtype)
                kind[name] = nn.Parameter(fake, requires_grad=False) if isinstance(tensor, nn.Parameter) else fake


def _resident(weights: dict[str, int], net: UNet3D, options: MemoryOptions, dtype: torch.dtype) -> dict[Stage, int]:
    if options.offload is None:
        return dict.fromkeys(("encoding", "denoising", "decoding"), sum(weights.values()))
    unet = weights["unet"]
    if options.offload == "blocks":
        blocks = [sum(p.numel() for p in block.parameters()) * dtype.itemsize for block in unet_blocks(net)]
        unet = unet - sum(blocks) + max(blocks)
    images = weights.get("image_encoder", 0) + weights.get("resampler", 0)
    return {"encoding": max(weights["text_encoder"], images), "denoising": unet, "decoding": weights["autoencoder"]}
